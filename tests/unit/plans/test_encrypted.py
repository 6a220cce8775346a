"""Encrypted volumes, with real LUKS.

Tests that need a device mapper run where the kernel has one: here, or in a guest of the lab.
"""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import salt.config

from saltstorage.consumer import boot as booting
from saltstorage.consumer import passphrase
from saltstorage.consumer.consumer import Consumer
from saltstorage.consumer.devices import block, luks
from saltstorage.consumer.devices.links import DeviceLinks
from saltstorage.consumer.host import commands
from saltstorage.errors import FailedPreconditionError, InvalidArgumentError
from saltstorage.flow import flow, volumes
from saltstorage.model import Volume
from tests import needs
from tests.unit.plans.minion import ok

pytestmark = pytest.mark.root

SECRET = "geheim 4711 $(x) 'y"
OTHER_SECRET = "anderes"


has_mapper = functools.partial(needs.has_mapper, "dm-crypt")
needs_mapper = pytest.mark.skipif(not has_mapper(), reason=needs.NO_MAPPER)


class KilledError(BaseException):
    """Stands for SIGKILL: nothing handles it."""


@pytest.fixture
def host(hosts):
    host = hosts(pillar={"storage": {"passphrases": {"data": SECRET, "copy": SECRET}}})
    # Loaded here and not in the background: a guest is slow, and requests do not wait for long.
    host.service.core.provider("local")
    yield host
    for name in ("data", "copy"):
        host.state("unmounted", name)
        done = host.state("disconnected", name)
        assert done["result"] is True, done
    left = [p.read_text() for p in Path("/sys/block").glob("dm-*/dm/name")]
    assert left == []


def say(host, value, name="data"):
    host.opts["pillar"] = {"storage": {"passphrases": {name: value}}}


def mounted(host, **given):
    return host.mounted(**{"encrypted": True, "fstype": "ext4", **given})


def connected(host, **given):
    return host.state("connected", **{"size": 1, "encrypted": True, **given})


def raw(host, name="data"):
    return host.flow.consumer.attachment(name).device


def opened(host, name="data"):
    return host.flow.consumer.mountable(name)


def kind(device):
    """Return what blkid calls the contents of a device."""
    found = subprocess.run(["blkid", "-p", "-o", "value", "-s", "TYPE", device], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def write(host, text="kept"):
    Path(host.mount_point, "file").write_text(text)


def read(host):
    return Path(host.mount_point, "file").read_text()


def refused(done, code):
    assert (done["result"], done["changes"]) == (False, {}), done
    assert done["comment"].startswith(code), done
    return done["comment"]


# Where passphrases are.


@pytest.mark.parametrize("value", [SECRET, "", 5, b"x", "file:///etc/x", "sdb:/x/y", "pillar://a\nb", ["sdb://a/b"]])
def test_g9_a_passphrase_is_never_a_parameter(host, value):
    """Row G9: it is refused without being shown."""
    with pytest.raises(InvalidArgumentError) as caught:
        passphrase.check(value, "data")
    assert str(value) not in str(caught.value) or not str(value)
    comment = refused(connected(host, passphrase=value), "INVALID_ARGUMENT")
    assert not value or str(value) not in comment


@pytest.mark.parametrize("value", [None, "", 90817, "a\nb", "x" * 513, "a\0b", {"a": "b"}])
def test_g1_a_passphrase_that_cannot_be_used_is_refused_before_anything_is_done(host, value):
    if not has_mapper():
        pytest.skip(needs.NO_MAPPER)  # that is refused first
    say(host, value)
    for test in (True, False):
        comment = refused(connected(host, test=test), "FAILED_PRECONDITION")
        assert "pillar://storage:passphrases:data" in comment
        assert not value or str(value) not in comment
    assert host.flow.inventory().volume("web1", "data") is None
    assert host.flow.consumer.attachments() == ([], [])


def test_the_places_of_passphrases(tmp_path, monkeypatch):
    monkeypatch.setenv("STORAGE_TEST", SECRET + "\n")
    pillar = {"storage": {"passphrases": {"a:b": "one", "c": "sdb://osenv/STORAGE_TEST"}}, "deep": {"er": "two"}}
    opts = {**salt.config.minion_config(None), "cachedir": str(tmp_path), "osenv": {"driver": "env"}, "pillar": pillar}

    def read(value, name):
        return passphrase.read(passphrase.direct(passphrase.check(value, name), opts, name), opts, name)

    assert read(None, "a:b") == b"one"
    assert read("pillar://deep:er", "x") == b"two"
    assert read("sdb://osenv/STORAGE_TEST", "x") == SECRET.encode()
    # Pillar that only points to sdb is left out of the record, so it is not needed after a boot.
    assert passphrase.direct(passphrase.check(None, "c"), opts, "c") == "sdb://osenv/STORAGE_TEST"
    assert read(None, "c") == SECRET.encode()
    for wrong in ("sdb://osenv/STORAGE_NONE", "sdb://nothing/x", "sdb://osenv", "pillar://deep:est"):
        with pytest.raises(FailedPreconditionError) as caught:
            read(wrong, "x")
        assert wrong in str(caught.value)


def test_encrypted_on_a_kernel_that_cannot(host):
    if has_mapper():
        pytest.skip(needs.MAPPER)
    comment = refused(connected(host), "FAILED_PRECONDITION")
    assert "device mapper" in comment
    assert host.flow.inventory().volume("web1", "data") is None


def test_a_header_without_a_key_is_unfinished(tmp_path):
    image = tmp_path / "image"
    image.write_bytes(b"")
    os.truncate(image, 64 << 20)
    fast = ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"]
    subprocess.run(["cryptsetup", "luksFormat", "--type=luks2", "-q", "--key-file=-", *fast, image], input=SECRET.encode(), check=True)
    assert luks.unfinished(str(image), timeout=60) is False
    subprocess.run(["cryptsetup", "luksErase", "-q", image], check=True)
    assert luks.unfinished(str(image), timeout=60) is True


# The life of a volume.


@needs_mapper
def test_c4_encrypted_mounted_used_and_connected_again(host, monkeypatch, caplog):
    started = []
    popen = subprocess.Popen

    def recorded(argv, *args, **kwargs):
        started.append(str(argv) + str(kwargs.get("env")))
        return popen(argv, *args, **kwargs)

    monkeypatch.setattr(commands.subprocess, "Popen", recorded)
    caplog.set_level(1)
    dry = mounted(host, test=True)
    assert dry["result"] is None, dry
    done = mounted(host)
    assert done["result"] is True, done
    assert done["changes"]["data"]["new"]["encryption"] == "luks2"
    assert done["changes"]["filesystem"]["new"] == "ext4"
    write(host, "klartext" * 1000)
    os.sync()
    assert (kind(raw(host)), kind(opened(host))) == ("crypto_LUKS", "ext4")
    assert os.path.realpath(host.folder / "dev" / "data") == os.path.realpath(opened(host))
    for test in (False, True):
        again = mounted(host, test=test)
        assert (again["result"], again["changes"]) == (True, {}), again
    with open(raw(host), "rb") as device:
        while part := device.read(1 << 20):
            assert b"klartext" not in part

    ok(host.state("disconnected"))
    assert list(Path("/dev/mapper").glob("storage-*")) == []
    done = mounted(host)
    assert set(done["changes"]) >= {"path", "mount"}, done
    assert "encryption" not in done["changes"]
    assert read(host) == "klartext" * 1000

    # Row G9: nowhere but in pillar.
    assert any("cryptsetup" in each for each in started)
    assert not any("4711" in each for each in (*started, caplog.text, str(done)))
    for path in host.root.rglob("*"):
        if path.is_file() and "volumes" not in path.parts and path.name != "file":
            assert b"4711" not in path.read_bytes(), path


@needs_mapper
def test_a_wrong_passphrase_and_the_right_one(host):
    ok(mounted(host))
    write(host)
    ok(host.state("disconnected"))
    say(host, OTHER_SECRET)
    for _ in range(2):
        comment = refused(mounted(host), "FAILED_PRECONDITION")
        assert "does not open" in comment
        assert OTHER_SECRET not in comment
    assert host.flow.consumer.check("data").state == "locked"
    assert not os.path.lexists(host.folder / "dev" / "data")
    say(host, SECRET)
    dry = mounted(host, test=True)
    assert dry["changes"]["path"]["new"] == str(host.folder / "dev" / "data")
    done = mounted(host)
    assert done["result"] is True, done
    assert read(host) == "kept"


@needs_mapper
def test_c9_killed_when_others_see_it(host, monkeypatch):
    """Row C9: data that somebody wrote to it by then has no signature, and is kept."""
    make = DeviceLinks.make

    def die(links, name, device):
        make(links, name, device)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(DeviceLinks, "make", die)
        with pytest.raises(KilledError):
            connected(host)
    written = b"raw data" * 512
    Path(opened(host)).write_bytes(written)
    ok(connected(host))
    assert block.read(opened(host), 0, len(written)) == written


@needs_mapper
@pytest.mark.parametrize("function", ["connected", "mounted"])
def test_c13_data_that_is_not_encrypted_stays_so(host, function):
    ok(host.mounted(fstype="ext4"))
    write(host)
    for given in ({"test": True}, {}):
        refused(host.state(function, size=1, encrypted=True, **given), "ALREADY_EXISTS")
    assert read(host) == "kept"
    ok(host.state("disconnected"))
    for given in ({"test": True}, {}):
        refused(host.state(function, size=2, encrypted=True, **given), "ALREADY_EXISTS")
    assert host.flow.consumer.attachments() == ([], [])
    assert host.flow.inventory().volume("web1", "data").size == 1
    ok(host.mounted(fstype="ext4"))
    assert read(host) == "kept"


@needs_mapper
def test_c13_raw_data_that_nobody_marked(host):
    ok(host.state("connected", size=1))
    with open(raw(host), "r+b") as device:
        device.write(b"raw data")
        os.fsync(device.fileno())
    ok(host.state("disconnected"))
    for _ in range(2):
        refused(connected(host), "ALREADY_EXISTS")
    with open(raw(host), "rb") as device:
        assert device.read(8) == b"raw data"
    ok(host.state("disconnected"))
    ok(host.state("connected", size=1))


@needs_mapper
@pytest.mark.parametrize("function", ["connected", "mounted"])
def test_c13_encrypted_data_is_not_used_as_if_it_were_not(host, function):
    ok(mounted(host))
    write(host)
    for given in ({"test": True}, {}):
        refused(host.state(function, size=1, **given), "ALREADY_EXISTS")
    ok(host.state("disconnected"))
    for given in ({"test": True}, {}):
        refused(host.state(function, size=2, **given), "ALREADY_EXISTS")
    assert host.flow.consumer.attachments() == ([], [])
    ok(mounted(host))
    assert read(host) == "kept"


@needs_mapper
def test_x6_mapping_and_file_system_grow_while_mounted(host):
    ok(mounted(host))
    write(host)
    done = mounted(host, size=2)
    assert done["result"] is True, done
    assert set(done["changes"]) == {"size", "filesystem"}
    assert os.statvfs(host.mount_point).f_blocks * os.statvfs(host.mount_point).f_frsize > 1.8 * 2**30
    assert ok(mounted(host, size=2))["changes"] == {}
    done = host.state("extended", size=3)
    assert done["result"] is True, done
    assert os.statvfs(host.mount_point).f_blocks * os.statvfs(host.mount_point).f_frsize > 2.8 * 2**30
    assert ok(host.state("extended", size=3))["changes"] == {}
    assert host.state("present", size=4)["changes"] == {"size": {"old": 3, "new": 4}}
    assert read(host) == "kept"


@pytest.fixture
def taken_for_open(host, monkeypatch):
    """A connected volume whose record says that it is encrypted and open.

    It does without a device mapper.
    """
    ok(host.state("connected", size=1))
    device = raw(host)
    records = host.flow.consumer.records
    records.save(records.load("data").replace(encrypted=True, passphrase="pillar://storage:passphrases:data"))
    service = host.service
    service.catalog.update(service.catalog.volume("web1", "data"), encrypted=True, formatted=True)
    mapping = luks.Mapping(device, "CRYPT-LUKS2-x", frozenset({block.number(device)}))
    monkeypatch.setattr(luks, "find", lambda name: mapping)
    monkeypatch.setattr(luks, "require", lambda: None)
    yield host
    monkeypatch.undo()
    records.save(records.load("data").replace(encrypted=False, passphrase=""))


@pytest.mark.parametrize("function", ["present", "connected", "extended"])
def test_x6_without_its_passphrase_nothing_of_an_encrypted_volume_grows(taken_for_open, function):
    host = taken_for_open
    given = {"size": 2, **({"encrypted": True} if function == "connected" else {})}
    say(host, None)
    for test in (True, False):
        comment = refused(host.state(function, test=test, **given), "FAILED_PRECONDITION")
        assert "pillar://storage:passphrases:data" in comment
    assert host.flow.inventory().volume("web1", "data").size == 1
    # A volume that does not grow needs none.
    assert ok(host.state(function, **{**given, "size": 1}))["changes"] == {}
    say(host, SECRET)
    assert host.state(function, test=True, **given)["changes"] == {"size": {"old": 1, "new": 2}}


@needs_mapper
def test_x7_killed_before_the_mapping_grew(host, monkeypatch):
    ok(mounted(host))
    with monkeypatch.context() as patch:
        patch.setattr(luks, "resize", kill)
        with pytest.raises(KilledError):
            mounted(host, size=2)
    dry = mounted(host, size=2, test=True)
    assert dry["result"] is None, dry
    done = mounted(host, size=2)
    assert done["result"] is True, done
    assert os.statvfs(host.mount_point).f_blocks * os.statvfs(host.mount_point).f_frsize > 1.8 * 2**30
    assert ok(mounted(host, size=2))["changes"] == {}


def kill(*args, **kwargs):
    raise KilledError


@needs_mapper
def test_u7_users_of_the_opened_device_keep_it(host):
    ok(mounted(host))
    ok(host.state("unmounted"))
    with open(opened(host), "rb") as device, subprocess.Popen(["sleep", "600"], stdin=device) as process:
        try:
            comment = refused(host.state("disconnected"), "FAILED_PRECONDITION")
            assert f"process {process.pid}" in comment
        finally:
            process.kill()
    assert host.flow.consumer.check("data").ok
    ok(mounted(host))
    elsewhere = host.folder / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["mount", opened(host), elsewhere], check=True)
    assert "elsewhere" in refused(host.state("disconnected"), "FAILED_PRECONDITION")
    assert os.path.ismount(host.mount_point)
    subprocess.run(["umount", elsewhere], check=True)
    ok(host.state("disconnected"))
    assert host.flow.consumer.attachments() == ([], [])


STEPS = ["record attached", "encrypt", "open", "zero", "record opened", "link"]


@needs_mapper
@pytest.mark.parametrize("at", STEPS)
def test_c9_killed_at_a_step_of_encrypting(host, monkeypatch, at):
    """Row C9: the next apply finishes whatever was cut off, and the one after has nothing to do."""

    def die(step):
        if step == at:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(flow, "Consumer", functools.partial(Consumer, on_step=die))
        with pytest.raises(KilledError):
            mounted(host)
    done = mounted(host)
    assert done["result"] is True, done
    write(host)
    assert ok(mounted(host))["changes"] == {}
    attached = host.flow.consumer.records.load("data")
    assert (attached.encrypting, attached.formatting) == (False, False)
    assert read(host) == "kept"


@needs_mapper
@pytest.mark.parametrize("at", ["flush", "record detaching", "unlink", "close", "detach loop", "disconnect", "record detached"])
def test_killed_at_a_step_of_detaching(host, monkeypatch, at):
    ok(mounted(host))
    write(host)
    ok(host.state("unmounted"))

    def die(step):
        if step == at:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(flow, "Consumer", functools.partial(Consumer, on_step=die))
        with pytest.raises(KilledError):
            host.state("disconnected")
    ok(host.state("disconnected"))
    assert opened(host) == ""
    ok(mounted(host))
    assert read(host) == "kept"


@needs_mapper
def test_r19_killed_within_luksformat(host, monkeypatch):
    """The header is there and has no key: that was never open, and is made again."""
    slow = ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=400000000"]
    host.opts["storage"]["consumer"]["luks_format_options"], fast = slow, host.opts["storage"]["consumer"]["luks_format_options"]
    make = luks.make

    def interrupted(device, secret, options, **kwargs):
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            make(device, secret, options, **kwargs)
            os._exit(0)
        while kind(device) != luks.TYPE:
            time.sleep(0.01)
        for name in os.listdir("/proc"):
            with open(f"/proc/{name}/stat") if name.isdigit() else open(os.devnull) as file:
                if re.match(rf"\d+ \(cryptsetup\) \S {child} ", file.read()):
                    os.kill(int(name), signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(luks, "make", interrupted)
        with pytest.raises(KilledError):
            mounted(host)
    assert luks.unfinished(raw(host), timeout=60)
    host.opts["storage"]["consumer"]["luks_format_options"] = fast
    done = mounted(host)
    assert done["result"] is True, done
    write(host)


@needs_mapper
def test_r19_encrypted_before_and_empty_now(host):
    ok(connected(host))
    ok(host.state("disconnected"))
    (image,) = (host.root / "volumes").glob("volume-*")
    os.truncate(image, 0)
    os.truncate(image, 1 << 30)
    for _ in range(2):
        assert "encrypted before" in refused(connected(host), "DATA_LOSS")
    assert not any(image.read_bytes()[: 1 << 20])


@needs_mapper
def test_c13_a_file_system_in_an_encrypted_volume_is_made_once(host):
    ok(connected(host))
    # Raw use of what is open: nothing may be made over it.
    with open(opened(host), "r+b") as device:
        device.write(b"raw data")
        os.fsync(device.fileno())
    refused(mounted(host), "ALREADY_EXISTS")
    with open(opened(host), "rb") as device:
        assert device.read(8) == b"raw data"


@needs_mapper
def test_encrypted_then_grown_then_formatted(host):
    ok(connected(host))
    assert connected(host, size=2)["changes"] == {"size": {"old": 1, "new": 2}}
    done = mounted(host, size=2)
    assert done["result"] is True, done
    assert done["changes"]["filesystem"]["new"] == "ext4"


@needs_mapper
def test_encrypted_by_hand_is_opened(host):
    ok(host.state("connected", size=1))
    subprocess.run(["cryptsetup", "luksFormat", "-q", "--key-file=-", raw(host)], input=SECRET.encode(), check=True)
    ok(host.state("disconnected"))
    done = mounted(host)
    # Its content reads as noise, which may be data: a file system is made by hand.
    refused(done, "ALREADY_EXISTS")
    subprocess.run(["mkfs.ext4", "-q", opened(host)], check=True)
    ok(mounted(host))
    assert host.flow.inventory().volume("web1", "data").encrypted is True


def adopted(host):
    """Let go of the volume and take it over again: then nobody knows what is on it."""
    ok(host.state("disconnected"))
    released = host.service.adoption.unmanage(name="data", owner="web1")
    host.service.adoption.manage(name="data", owner="web1", reference=released["array_name"])
    assert host.flow.inventory().volume("web1", "data").encrypted is None


@needs_mapper
def test_an_adopted_volume_that_is_encrypted(host):
    ok(mounted(host))
    write(host)
    adopted(host)
    say(host, OTHER_SECRET)
    assert "does not open" in refused(mounted(host), "FAILED_PRECONDITION")
    assert host.flow.inventory().volume("web1", "data").encrypted is None
    say(host, SECRET)
    done = mounted(host)
    assert done["result"] is True, done
    assert {"encryption", "filesystem"}.isdisjoint(done["changes"])
    assert read(host) == "kept"
    assert ok(mounted(host))["changes"] == {}
    # From now on it is known.
    ok(host.state("disconnected"))
    refused(host.mounted(fstype="ext4"), "ALREADY_EXISTS")


@needs_mapper
def test_c13_an_adopted_volume_is_never_encrypted(host):
    ok(host.mounted(fstype="ext4"))
    write(host)
    adopted(host)
    for _ in range(2):
        assert "a file system of type ext4" in refused(mounted(host), "ALREADY_EXISTS")
    ok(host.state("disconnected"))
    ok(host.mounted(fstype="ext4"))
    assert read(host) == "kept"


@needs_mapper
def test_r19_an_adopted_volume_that_reads_as_empty(host):
    ok(host.state("connected", size=1))
    adopted(host)
    for _ in range(2):
        assert "was adopted" in refused(mounted(host), "DATA_LOSS")
    with open(raw(host), "rb") as device:
        assert not any(device.read(1 << 20))


@needs_mapper
def test_p6_a_copy_of_an_encrypted_volume(host):
    ok(mounted(host))
    write(host)
    ok(host.state("disconnected"))  # not every file system copies a file that is in use
    for test in (True, False):
        done = host.state("connected", "copy", size=1, source={"volume": "data"}, test=test)
        refused(done, "ALREADY_EXISTS")
    assert host.flow.inventory().volume("web1", "copy") is None
    copy = {
        "name": "copy",
        "size": 1,
        "source": {"volume": "data"},
        "encrypted": True,
        "mount": str(host.folder / "copy"),
        "fstype": "ext4",
    }
    done = host.state("mounted", **copy)
    assert done["result"] is True, done
    assert "filesystem" not in done["changes"]
    assert (host.folder / "copy" / "file").read_text() == "kept"
    assert ok(host.state("mounted", **copy))["changes"] == {}


@needs_mapper
def test_c5_read_only(host):
    refused(connected(host, read_only=True), "FAILED_PRECONDITION")
    ok(host.state("disconnected"))
    ok(mounted(host))
    write(host)
    ok(host.state("disconnected"))
    done = mounted(host, read_only=True)
    assert done["result"] is True, done
    assert read(host) == "kept"
    assert ok(mounted(host, read_only=True))["changes"] == {}
    assert subprocess.run(["blockdev", "--getro", opened(host)], capture_output=True, check=True).stdout.strip() == b"1"


@needs_mapper
def test_r4_after_a_boot(host, monkeypatch, tmp_path, capsys):
    """Volumes whose passphrase can be read without a master are opened at once.

    The others stay locked until a state is applied.
    """

    def boot():
        ok(host.state("unmounted"))
        subprocess.run(["cryptsetup", "close", opened(host)], check=True)
        subprocess.run(["losetup", "--detach", raw(host)], check=True)
        os.unlink(host.folder / "dev" / "data")

    ok(mounted(host))
    write(host)
    boot()
    pillar, host.opts["pillar"] = host.opts["pillar"], {}
    (found,) = host.flow.consumer.reattach()
    assert (found.state, found.error.code) == ("locked", "FAILED_PRECONDITION")
    settings = tmp_path / "boot.json"
    settings.write_text(json.dumps(host.flow.consumer.config.to_wire()))
    assert booting.main(["--settings", str(settings)]) == 0
    assert capsys.readouterr().out == "data: locked, waits for Salt (salt-storage-unlock.service)\n"
    assert (host.folder / "state" / booting.LOCKED).exists()
    assert host.flow.consumer.check("data").state == "locked"
    with pytest.raises(FailedPreconditionError, match="not open"):
        host.flow.consumer.device("data")
    host.opts["pillar"] = pillar
    ok(mounted(host))
    assert read(host) == "kept"

    monkeypatch.setenv("STORAGE_TEST", SECRET)
    say(host, "sdb://osenv/STORAGE_TEST")
    host.opts.update({**salt.config.minion_config(None), "cachedir": str(tmp_path), "osenv": {"driver": "env"}, **host.opts})
    done = mounted(host)
    assert set(done["changes"]) == {"passphrase"}, done
    assert ok(mounted(host))["changes"] == {}
    boot()
    host.opts["pillar"] = {}
    (found,) = host.flow.consumer.reattach()
    assert found.state == "attached", found
    (found,) = host.flow.consumer.reattach()
    assert found.state == "ok"
    assert host.flow.consumer.check("data").ok


@needs_mapper
def test_c10_closed_by_hand(host):
    ok(mounted(host))
    write(host)
    ok(host.state("unmounted"))
    subprocess.run(["cryptsetup", "close", opened(host)], check=True)
    dry = mounted(host, test=True)
    assert set(dry["changes"]) >= {"path"}, dry
    ok(mounted(host))
    assert read(host) == "kept"


@needs_mapper
def test_x6_grown_while_it_was_not_open(host):
    """It comes to its size when it is opened; until then, nothing here has followed."""
    ok(mounted(host))
    write(host)
    ok(host.state("unmounted"))
    subprocess.run(["cryptsetup", "close", opened(host)], check=True)
    _, volume = volumes.extend(host.flow, "web1", "data", 2)
    for test in (True, False):
        assert ok(host.state("extended", size=2, test=test))["changes"] == {}
    assert [c.behind(volume) for c in host.flow.inventory_now().connections_of(volume)] == [True]
    dry = mounted(host, size=2, test=True)
    assert dry["changes"]["path"]["new"] == str(host.folder / "dev" / "data"), dry
    ok(mounted(host, size=2))
    assert read(host) == "kept"
    assert os.statvfs(host.mount_point).f_blocks * os.statvfs(host.mount_point).f_frsize > 1.8 * 2**30
    assert [c.behind(volume) for c in host.flow.inventory_now().connections_of(volume)] == [False]
    assert ok(mounted(host, size=2))["changes"] == {}


@needs_mapper
@pytest.mark.alone  # a number is freed and taken again
def test_a_mapping_over_a_device_that_has_gone(host):
    """As when the storage network was away for too long: a new device comes.

    The mapping is still over the former one.
    """
    ok(mounted(host))
    write(host)
    ok(host.state("unmounted"))
    former, mapping = raw(host), os.path.basename(opened(host))
    subprocess.run(["cryptsetup", "close", mapping], check=True)
    subprocess.run(["losetup", "--detach", former], check=True)
    stranger = host.folder / "stranger"
    stranger.write_bytes(b"")
    os.truncate(stranger, 64 << 20)
    subprocess.run(["losetup", former, stranger], check=True)
    subprocess.run(["dmsetup", "create", mapping, "--table", f"0 8192 linear {former} 0"], check=True)
    done = mounted(host)
    assert done["result"] is True, done
    assert read(host) == "kept"
    assert raw(host) != former
    subprocess.run(["losetup", "--detach", former], check=True)


def test_a_volume_knows_that_it_is_encrypted():
    assert Volume.from_wire({"id": "1", "owner": "a", "name": "b", "backend": "c", "size": 1}).encrypted is False
