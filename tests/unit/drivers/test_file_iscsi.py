"""The file driver over iSCSI, with a real tgtd and a real initiator in user space."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from saltstorage import errors
from saltstorage.controller.cinder import logs
from saltstorage.controller.cinder.provider import CinderlibProvider
from saltstorage.providers import BackendConfig, Capability, ProviderVolume
from tests import needs
from tests.tgtd import Host, Tgtd

DRIVER = "saltstorage.drivers.file_iscsi.FileISCSIDriver"
GIB = 2**30

pytestmark = pytest.mark.root


@pytest.fixture
def tgtd(short_dir, free_port, monkeypatch):
    needs.programs("tgtd", "iscsi-inq")
    daemon = Tgtd(short_dir, free_port)
    monkeypatch.setenv("TGT_IPC_SOCKET", daemon.socket)
    daemon.start()
    yield daemon
    daemon.kill()


@pytest.fixture
def make(metadata_dir, tmp_path, free_port):
    made = []

    def make(*, load: bool = True, name: str = "", **options) -> CinderlibProvider:
        config = BackendConfig(
            name=name or f"iscsi-{uuid.uuid4().hex[:8]}",
            options={
                "volume_driver": DRIVER,
                "file_driver_path": str(tmp_path / "volumes"),
                "volumes_dir": str(tmp_path / "targets"),
                "target_ip_address": "127.0.0.1",
                "target_port": free_port,
                **options,
            },
            state_dir=str(metadata_dir / "backends" / "test"),
            database=f"sqlite:///{metadata_dir}/cinderlib.sqlite",
        )
        provider = CinderlibProvider(config)
        made.append(provider)
        if load:
            provider.load()
        return provider

    yield make
    for provider in made:
        provider.close()


@pytest.fixture
def provider(tgtd, make):
    return make()


@pytest.fixture
def volume(provider):
    made = ProviderVolume(id=str(uuid.uuid4()), size=1)
    provider.create_volume(made)
    return made


@pytest.fixture
def one(free_port):
    return Host("one", free_port)


@pytest.fixture
def two(free_port):
    return Host("two", free_port)


def connect(provider, volume, host: Host) -> dict:
    return provider.connect(volume, connection_id(volume, host), host.connector)


def disconnect(provider, volume, host: Host, *, last: bool = True) -> None:
    provider.disconnect(volume, connection_id(volume, host), host.connector, last=last)


def connection_id(volume, host: Host) -> str:
    return str(uuid.uuid5(uuid.UUID(volume.id), host.name))


def left_over(tmp_path: Path, tgtd: Tgtd) -> list[str]:
    """Return the remaining targets, accounts and files."""
    accounts = [line.strip() for line in tgtd.adm("--mode", "account", "--op", "show").stdout.splitlines() if line.startswith(" ")]
    return [*tgtd.show().splitlines(), *accounts, *(str(path) for path in (tmp_path / "targets").rglob("*") if path.is_file())]


@contextlib.contextmanager
def reading(host: Host, info: dict, log: Path):
    """Have the host read all the while, and check that none of its reads fails."""
    process = host.read_on(info, log)

    def progress() -> None:
        before = log.read_bytes().count(b"lba")
        deadline = time.monotonic() + 60
        while log.read_bytes().count(b"lba") < before + 2:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    try:
        progress()
        yield progress
        progress()
    finally:
        process.kill()
        process.wait()


def test_only_the_connected_host_sees_and_enters_the_target(provider, volume, one, two):
    info = connect(provider, volume, one)
    data = info["data"]
    assert info["driver_volume_type"] == "iscsi"
    assert data["target_iqn"].endswith(f":volume-{volume.id}")
    assert (data["auth_method"], data["access_mode"], data["discard"], data["target_discovered"]) == ("CHAP", "rw", True, False)
    assert one.discover() == [data["target_iqn"]]
    assert one.size(info) == GIB
    assert two.discover() == []
    assert two.size(info) is None, "with the right credentials, but another initiator"
    assert one.size(info, password="wrong-password-16") is None
    assert one.size_at(f"iscsi://{data['target_portal']}/{data['target_iqn']}/1") is None, "without CHAP"


def test_another_volume_of_the_host_has_other_credentials(provider, volume, one):
    other = ProviderVolume(id=str(uuid.uuid4()), size=1)
    provider.create_volume(other)
    first, second = connect(provider, volume, one), connect(provider, other, one)
    assert len({info["data"][key] for info in (first, second) for key in ("auth_username", "auth_password")}) == 4
    mixed = {"data": {**second["data"], "auth_username": first["data"]["auth_username"], "auth_password": first["data"]["auth_password"]}}
    assert one.size(mixed) is None
    assert len(one.discover()) == 2


def test_u9_one_of_two_hosts_leaves(provider, volume, one, two, tmp_path):
    """U9, R14: the session of the other goes on; the host that left cannot come back."""
    info = connect(provider, volume, one)
    with reading(one, info, tmp_path / "log"):
        assert connect(provider, volume, two)["data"] == info["data"]
        assert two.size(info) == GIB
        sessions = provider.driver.target.list_targets()[info["data"]["target_iqn"]].sessions
        disconnect(provider, volume, two, last=False)
        assert two.discover() == []
        assert two.size(info) is None
        assert provider.driver.target.list_targets()[info["data"]["target_iqn"]].sessions == sessions
    assert one.size(info) == GIB


def test_the_last_host_leaves_nothing(provider, volume, one, tgtd, tmp_path):
    """Target, account, file and session go, a busy session included; the next host gets other
    credentials.
    """
    info = connect(provider, volume, one)
    process = one.read_on(info, tmp_path / "log")
    try:
        while not provider.driver.target.list_targets()[info["data"]["target_iqn"]].sessions:
            assert process.poll() is None, (tmp_path / "log").read_text()
        disconnect(provider, volume, one)
    finally:
        process.kill()
        process.wait()
    assert left_over(tmp_path, tgtd) == []
    first, second = (answer["data"]["auth_password"] for answer in (info, connect(provider, volume, one)))
    assert first != second
    assert logs.mask(f"{first} {second}") == f"{first} ***", "the engine does not remember what is of no use any more"
    disconnect(provider, volume, one)
    assert provider.delete_volume(volume)
    assert left_over(tmp_path, tgtd) == []
    assert list((tmp_path / "volumes").iterdir()) == []


def test_a_host_taken_off_by_force_is_cut(provider, volume, one, two, tmp_path):
    """U10: its open sessions end, and it cannot log in again; the other host goes on."""
    info = connect(provider, volume, one)
    connect(provider, volume, two)
    with reading(two, info, tmp_path / "log"):
        process = one.read_on(info, tmp_path / "log1")
        try:
            name = info["data"]["target_iqn"]
            while one.initiator not in provider.driver.target.list_targets()[name].sessions.values():
                assert process.poll() is None, (tmp_path / "log1").read_text()
            disconnect(provider, volume, one, last=False)
            assert set(provider.driver.target.list_targets()[name].sessions.values()) == {two.initiator}
        finally:
            process.kill()
            process.wait()


def test_x6_grows_under_a_host_that_reads(provider, volume, one, tmp_path):
    """X6: the new size shows, no read fails, and the host keeps its target and credentials."""
    assert Capability.EXTEND_ONLINE in provider.capabilities()
    info = connect(provider, volume, one)
    with reading(one, info, tmp_path / "log"):
        assert provider.extend_volume(volume, 3) == 3
        assert one.size(info) == 3 * GIB


def test_identity_is_the_volumes_own(provider, volume, one, tgtd):
    """R1: WWN and serial number do not depend on the number that tgtd gives to a target."""
    info = connect(provider, volume, one)
    serial = volume.id.replace("-", "")
    pages = [one.inquiry(info, page) for page in (0x80, 0x83)]
    assert all(serial in page for page in pages)
    assert "Vendor:SALT" in one.inquiry(info)
    tgtd.kill()
    tgtd.start()
    tgtd.adm("--mode", "target", "--op", "new", "--tid", "1", "--targetname", "iqn.2001-01.example:first")
    provider.restore(volume)
    assert provider.driver.target.list_targets()[info["data"]["target_iqn"]].tid == "2"
    assert [one.inquiry(info, page).replace("\x02", "\x01") for page in (0x80, 0x83)] == [page.replace("\x02", "\x01") for page in pages]


def test_r16_targets_come_back_after_a_restart_of_tgtd(provider, volume, one, two, tgtd, tmp_path):
    """R16: the loss is noticed, and the same targets come back for the same hosts."""
    info = connect(provider, volume, one)
    assert provider.exports_intact() is True
    with reading(one, info, tmp_path / "log"):
        tgtd.kill()
        with pytest.raises(errors.UnavailableError):
            provider.exports_intact()
        tgtd.start()
        assert provider.exports_intact() is False
        provider.restore(volume)
    assert provider.exports_intact() is True
    assert one.size(info) == GIB
    assert two.discover() == []
    assert two.size(info) is None
    assert connect(provider, volume, one) == info


def test_tgtd_that_is_down_is_unavailable(provider, volume, one, tgtd):
    tgtd.kill()
    with pytest.raises(errors.UnavailableError, match="tgtd does not answer; start it"):
        connect(provider, volume, one)
    tgtd.start()
    assert one.size(connect(provider, volume, one)) == GIB


def test_r16_targets_come_back_after_a_restart_of_the_controller(make, provider, volume, one, tgtd):
    """R16: another process restores from the metadata alone, the size after a growth included."""
    info = connect(provider, volume, one)
    provider.extend_volume(volume, 2)
    name = provider.config.name
    provider.close()
    shutil.rmtree(Path(provider.config.options["volumes_dir"]))
    tgtd.kill()
    tgtd.start()
    again = make(name=name)
    again.restore(volume)
    assert one.size(info) == 2 * GIB
    assert connect(again, volume, one) == info


def test_tgtds_own_service_restores_from_the_files(provider, volume, one, two, tgtd, tmp_path):
    """As Debian's tgt.service does, with the include that the documentation asks for."""
    info = connect(provider, volume, one)
    tgtd.kill()
    tgtd.start()
    main = tmp_path / "targets.conf"
    main.write_text(f"include {provider.driver.target.folder}/*.conf\n")
    subprocess.run(["tgt-admin", "-e", "-c", str(main)], env=tgtd.env(), check=True)
    assert provider.exports_intact() is True
    assert one.size(info) == GIB
    assert two.discover() == []
    assert two.size(info) is None
    before = tgtd.show()
    provider.restore(volume)
    assert tgtd.show() == before


@pytest.mark.parametrize(
    "damage",
    [
        ("--mode", "target", "--op", "update", "--tid", "1", "--name", "state", "--value", "offline"),
        ("--mode", "logicalunit", "--op", "delete", "--tid", "1", "--lun", "1"),
        ("--mode", "logicalunit", "--op", "update", "--tid", "1", "--lun", "1", "--params", "online=0"),
        ("--mode", "target", "--op", "unbind", "--tid", "1", "--initiator-name", "iqn.2005-03.org.open-iscsi:one"),
    ],
    ids=lambda damage: damage[3] + damage[1],
)
def test_the_remains_of_an_interrupted_call_are_mended(provider, volume, one, tgtd, damage):
    info = connect(provider, volume, one)
    tgtd.adm(*damage)
    assert connect(provider, volume, one) == info
    assert one.size(info) == GIB


def test_an_interrupted_growth_is_finished(provider, volume, one):
    """X7, X10: the file is longer, tgtd does not know."""
    info = connect(provider, volume, one)
    os.truncate(provider.driver.folder / f"volume-{volume.id}", 2 * GIB)
    assert one.size(info) == GIB
    provider.extend_volume(volume, 2)
    assert one.size(info) == 2 * GIB


def test_an_address_that_was_let_in_is_closed(provider, volume, one, two, tgtd):
    """Someone opened the target to an address; the next connect closes it."""
    info = connect(provider, volume, one)
    tgtd.adm("--mode", "target", "--op", "bind", "--tid", "1", "--initiator-address", "ALL")
    assert two.size(info) == GIB
    connect(provider, volume, one)
    assert two.size(info) is None


def test_secrets_are_private(provider, volume, one, tmp_path, caplog):
    """R26, G9."""
    caplog.set_level(logging.DEBUG)
    password = connect(provider, volume, one)["data"]["auth_password"]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and password.encode() in path.read_bytes()[:4096]]
    assert [path.name for path in files] == [f"volume-{volume.id}.conf"]
    assert files[0].stat().st_mode & 0o777 == 0o600
    assert files[0].parent.stat().st_mode & 0o777 == 0o700
    assert password not in caplog.text


def test_a_target_is_open_on_several_portals(tgtd, make, one):
    """For multipath: one target under all addresses."""
    provider = make(target_secondary_ip_addresses="192.0.2.7,2001:db8::7")
    volume = ProviderVolume(id=str(uuid.uuid4()), size=1)
    provider.create_volume(volume)
    data = connect(provider, volume, one)["data"]
    port = provider.config.options["target_port"]
    assert data["target_portals"] == [f"127.0.0.1:{port}", f"192.0.2.7:{port}", f"[2001:db8::7]:{port}"]
    assert data["target_iqns"] == [data["target_iqn"]] * 3
    assert data["target_luns"] == [1] * 3


def test_parallel_connects_get_targets_of_their_own(provider, one):
    """Each target gets its own number."""
    volumes = [ProviderVolume(id=str(uuid.uuid4()), size=1) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(provider.create_volume, volumes))
        infos = list(pool.map(lambda volume: connect(provider, volume, one), volumes))
        assert [one.size(info) for info in infos] == [GIB] * 6
        list(pool.map(lambda volume: disconnect(provider, volume, one), volumes))
    assert one.discover() == []


@pytest.mark.parametrize("name", ["", "one", "iqn.x;touch /tmp/x", "iqn.x\n</target>", "iqn.$(id)", "iqn.ALL x", "iqn." + "x" * 220])
def test_a_hostile_initiator_name_is_refused(provider, volume, name, tmp_path):
    with pytest.raises((errors.InvalidArgumentError, errors.NotFoundError)):
        provider.connect(volume, str(uuid.uuid4()), {"host": "h", "initiator": name})
    assert not list((tmp_path / "targets").rglob("*.conf"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"target_ip_address": ""}, "target_ip_address"),
        ({"target_protocol": "local"}, "target_protocol"),
        ({"target_protocol": "nvmet_tcp"}, "can only be iscsi"),
        ({"target_helper": "iscsictl"}, "must be one of"),
        ({"use_chap_auth": False}, "cannot be turned off"),
        ({"chap_password": "shared-by-all"}, "random credentials"),
        ({"file_driver_path": "/srv/my volumes"}, "letters, digits"),
    ],
)
def test_wrong_options_are_named(make, options, match):
    with pytest.raises(errors.InvalidArgumentError, match=match) as caught:
        make(**options)
    assert "shared-by-all" not in str(caught.value)


def test_options_of_targets_are_refused_by_the_local_driver(make):
    with pytest.raises(errors.InvalidArgumentError, match="FileISCSIDriver"):
        make(volume_driver="saltstorage.drivers.file.FileDriver")


def test_a_missing_tgtd_is_named(make, tmp_path, monkeypatch):
    """G8."""
    monkeypatch.setenv("TGT_IPC_SOCKET", str(tmp_path / "nobody"))
    with pytest.raises(errors.UnavailableError, match="start it"):
        make()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(errors.StorageError, match="install the package tgt"):
        make()


@pytest.mark.skipif(Path("/sys/kernel/config/target").exists(), reason=needs.LIO)
def test_a_kernel_without_lio_is_named(make):
    """G8: when the backend is loaded."""
    with pytest.raises(errors.UnavailableError, match="LIO, the kernel's iSCSI target, failed"):
        make(target_helper="lioadm")


def test_a_directory_that_others_can_enter_is_refused(make, tgtd, tmp_path):
    folder = tmp_path / "targets" / "storage_open"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    with pytest.raises(errors.StorageError, match="chmod 0700"):
        make(name="open")
