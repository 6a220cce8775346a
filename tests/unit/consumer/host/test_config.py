from __future__ import annotations

import pytest

from saltstorage.consumer.host.config import ConsumerConfig
from saltstorage.errors import InvalidArgumentError


def test_nothing_configured_gives_the_defaults():
    config = ConsumerConfig.from_opts({"id": "db1"})
    assert config == ConsumerConfig(host="db1")
    assert config.device_dir == "/dev/storage"


@pytest.mark.parametrize("storage", [None, {}, {"consumer": None}, {"backends": {}}])
def test_empty_settings_are_the_defaults(storage):
    assert ConsumerConfig.from_opts({"id": "db1", "root_dir": "/", "storage": storage}) == ConsumerConfig(host="db1")


def test_defaults_move_with_root_dir_and_given_paths_do_not():
    config = ConsumerConfig.from_opts({"id": "m", "root_dir": "/srv/m", "storage": {"consumer": {"fstab": "/etc/fstab"}}})
    assert config.state_dir == "/srv/m/var/lib/salt-storage/minion"
    assert config.device_dir == "/srv/m/dev/storage"
    assert config.lock_path == "/srv/m/var/lib/salt-storage/os-brick"
    assert config.fstab == "/etc/fstab"


@pytest.mark.parametrize(
    ("consumer", "field"),
    [
        ({"use_multipath": True}, "use_multipath"),
        ({"multipath": "no"}, "storage:consumer:multipath"),
        ({"state_dir": "relative"}, "state_dir"),
        ({"state_dir": 7}, "state_dir"),
        ({"state_dir": "/a\0b"}, "state_dir"),
        ({"answer_timeout": "10"}, "answer_timeout"),
        ({"answer_timeout": 0}, "answer_timeout"),
        ({"answer_timeout": -1}, "answer_timeout"),
        ({"answer_timeout": True}, "answer_timeout"),
        ({"answer_timeout": []}, "answer_timeout"),
        ({"step_timeout": float("nan")}, "step_timeout"),
        ({"step_timeout": float("inf")}, "step_timeout"),
        ([], None),
        (["multipath"], "storage:consumer"),
    ],
)
def test_a_wrong_setting_is_named(consumer, field):
    if field is None:
        ConsumerConfig.from_opts({"id": "m", "storage": {"consumer": consumer}})
        return
    with pytest.raises(InvalidArgumentError) as caught:
        ConsumerConfig.from_opts({"id": "m", "storage": {"consumer": consumer}})
    assert caught.value.field == field


def test_a_list_in_place_of_a_mapping_is_refused():
    with pytest.raises(InvalidArgumentError):
        ConsumerConfig.from_opts({"id": "m", "storage": ["consumer"]})
