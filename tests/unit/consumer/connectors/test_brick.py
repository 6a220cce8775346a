"""The adapter, over the real os-brick."""

from __future__ import annotations

import dataclasses
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltstorage.consumer.connectors import growing, loading
from saltstorage.consumer.connectors.brick import Brick
from saltstorage.consumer.connectors.connection_info import secrets_of
from saltstorage.consumer.connectors.translation import translate_errors
from saltstorage.consumer.host import commands
from saltstorage.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    NotFoundError,
    UnavailableError,
    UnimplementedError,
)

ISCSI = {
    "driver_volume_type": "iscsi",
    "data": {
        "target_portal": "127.0.0.1:1",
        "target_iqn": "iqn.2010-10.org.example:none",
        "target_lun": 1,
        "auth_method": "CHAP",
        "auth_username": "user",
        "auth_password": "geheim-4711",
    },
}


@pytest.fixture
def adapter(config) -> Brick:
    return Brick(config)


def test_properties_name_this_host_and_write_nothing_to_etc(adapter):
    before = os.path.exists("/etc/nvme")
    found = adapter.connector_properties()
    assert found["host"] == "db1"
    assert found["multipath"] is False
    assert found["ip"]
    # os-brick would make /etc/nvme on a host without NVMe.
    assert os.path.exists("/etc/nvme") == before
    found["host"] = "changed by the caller"
    assert adapter.connector_properties()["host"] == "db1"


@pytest.fixture
def no_programs(tmp_path, monkeypatch):
    """A host on which nothing is installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(commands, "SEARCH", str(tmp_path))


@pytest.mark.usefixtures("no_programs")
def test_g8_enforced_multipath_without_multipathd_is_refused(config):
    with pytest.raises(FailedPreconditionError, match="multipathd"):
        Brick(dataclasses.replace(config, multipath=True, enforce_multipath=True)).connector_properties()


@pytest.mark.usefixtures("no_programs")
def test_multipath_without_multipathd_is_a_single_path(config):
    assert Brick(dataclasses.replace(config, multipath=True)).connector_properties()["multipath"] is False


def test_r22_the_lock_path_is_set(adapter, config):
    from oslo_config import cfg

    adapter.connector_properties()
    loading.load(config.lock_path)
    assert cfg.CONF.os_brick.lock_path == config.lock_path
    assert os.path.isdir(config.lock_path)


@pytest.mark.parametrize("use_multipath", [True, False])
def test_trap_8_multipath_reaches_the_connector(adapter, use_multipath):
    assert adapter.connector(ISCSI, use_multipath).use_multipath is use_multipath


class Extending:
    """Stands in for os-brick's connector, since there is no session; counts its calls."""

    def __init__(self, *problems: Exception) -> None:
        self.problems = list(problems)
        self.calls = 0

    def extend_volume(self, properties: dict[str, object]) -> None:
        assert properties == ISCSI["data"]
        self.calls += 1
        if self.problems:
            raise self.problems.pop(0)


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """Let the clock advance with each pause, and only then."""
    made: list[float] = []
    monkeypatch.setattr(growing.time, "sleep", made.append)
    monkeypatch.setattr(growing.time, "monotonic", lambda: sum(made))
    return made


def test_r21_a_disk_whose_session_is_logged_in_anew_is_read_again_until_it_shows_its_size(adapter, monkeypatch, pauses):
    from os_brick.exception import BrickException

    connector = Extending(BrickException("All paths need to be up to extend the device."))
    monkeypatch.setattr(adapter, "connector", lambda *_: connector)
    adapter.extend(ISCSI, use_multipath=False, enough=lambda: connector.calls == 4)
    assert connector.calls == 4
    assert len(pauses) == 3


def test_r21_a_disk_that_never_shows_its_size_is_given_up(adapter, monkeypatch, pauses):
    connector = Extending()
    monkeypatch.setattr(adapter, "connector", lambda *_: connector)
    adapter.extend(ISCSI, use_multipath=False, enough=lambda: False)
    assert sum(pauses) == growing.EXTEND_TIMEOUT
    assert connector.calls == len(pauses) + 1


def test_r21_paths_that_stay_down_are_an_error(adapter, monkeypatch, pauses):
    from os_brick.exception import BrickException

    connector = Extending(*[BrickException("All paths need to be up to extend the device.")] * 1000)
    monkeypatch.setattr(adapter, "connector", lambda *_: connector)
    with pytest.raises(UnavailableError, match="All paths need to be up"):
        adapter.extend(ISCSI, use_multipath=False, enough=lambda: True)
    assert sum(pauses) == growing.EXTEND_TIMEOUT


def test_g8_a_missing_library_is_not_waited_for(adapter, monkeypatch, pauses):
    connector = Extending(ImportError("none", name="os_brick"))
    monkeypatch.setattr(adapter, "connector", lambda *_: connector)
    with pytest.raises(FailedPreconditionError):
        adapter.extend(ISCSI, use_multipath=False, enough=lambda: True)
    assert pauses == []


def test_os_brick_runs_without_its_privilege_daemon(adapter):
    from os_brick import privileged

    adapter.connector(ISCSI, False)
    assert not privileged.default.client_mode


@pytest.mark.usefixtures("no_programs")
def test_g8_g9_a_missing_iscsiadm_is_named_and_no_secret_shown(adapter, caplog, config):
    os.makedirs(config.lock_path, exist_ok=True)
    with caplog.at_level("DEBUG"), pytest.raises(FailedPreconditionError, match="iscsiadm is missing") as caught:
        adapter.connect(ISCSI, use_multipath=False)
    assert "geheim" not in str(caught.value)
    assert "geheim" not in caplog.text
    assert caught.value.__suppress_context__


def errors():
    from os_brick import exception
    from oslo_concurrency import processutils

    return [
        (exception.ExecutionTimeout(cmd="multipath"), DeadlineExceededError),
        (processutils.ProcessExecutionError(cmd="iscsiadm -v geheim-4711", exit_code=8, stderr="geheim-4711"), UnavailableError),
        (processutils.ProcessExecutionError(cmd="rbd map", exit_code=127), FailedPreconditionError),
        (exception.InvalidConnectorProtocol("geheim-4711"), UnimplementedError),
        (exception.NoFibreChannelHostsFound(), FailedPreconditionError),
        (exception.TargetPortalNotFound(target_portal="geheim-4711"), UnavailableError),
        (exception.FailedISCSITargetPortalLogin(), UnavailableError),
        (exception.VolumeDeviceNotFound(device="/dev/x"), UnavailableError),
        (exception.VolumePathNotRemoved(volume_path="/dev/x"), UnavailableError),
        (OSError(5, "geheim-4711"), UnavailableError),
        (KeyError("geheim-4711"), InternalError),
        (ValueError("geheim-4711"), InternalError),
        (RuntimeError("geheim-4711"), InternalError),
        (ModuleNotFoundError("x", name="os_brick"), FailedPreconditionError),
        (NotFoundError("stays as it is"), NotFoundError),
    ]


@pytest.mark.parametrize("number", range(15))
def test_errors_are_mapped_by_type_and_masked(number):
    error, expected = errors()[number]
    with pytest.raises(expected) as caught, translate_errors("attach", ISCSI):
        raise error
    assert type(caught.value) is expected
    assert "geheim" not in str(caught.value)


@pytest.mark.slow
@given(st.recursive(st.text() | st.integers() | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)), st.text(min_size=1))
def test_secrets_are_found_wherever_they_are(data, secret):
    assert secret in secrets_of({"data": [data, {"auth_password": secret}]})
    assert secret in secrets_of({"keyring": {"x": [secret]}})
    assert secrets_of({"target_iqn": secret}) == set()
