"""The controller's configuration."""

import pytest

from saltstorage.controller.access.config import ControllerConfig
from saltstorage.errors import FailedPreconditionError, InvalidArgumentError

FILE = {"volume_driver": "saltstorage.drivers.file.FileDriver", "file_driver_path": "/srv/volumes"}


def test_the_defaults_of_a_small_configuration():
    config = ControllerConfig.from_opts({"root_dir": "/", "storage": {"backends": {"local": FILE}}})
    assert config.state_dir == "/var/lib/salt-storage/controller"
    assert config.database == "sqlite:////var/lib/salt-storage/controller/catalog.sqlite"
    assert config.metadata_database == "sqlite:////var/lib/salt-storage/controller/cinderlib.sqlite"
    assert config.coordination == "file:///var/lib/salt-storage/controller/locks"
    assert config.default_backend == "local"
    assert (config.lock_timeout, config.workers, config.request_max_age, config.retry_interval) == (30, 8, 300, 60)


def test_one_database_given_serves_both():
    config = ControllerConfig.from_opts({"storage": {"database": "postgresql://db/storage", "backends": {}}})
    assert config.metadata_database == config.database


def test_defaults_are_below_root_dir():
    config = ControllerConfig.from_opts({"root_dir": "/opt/salt", "storage": {"backends": {}}})
    assert config.state_dir == "/opt/salt/var/lib/salt-storage/controller"


def test_several_backends_have_no_default():
    config = ControllerConfig.from_opts({"storage": {"backends": {"a": FILE, "b": FILE}}})
    assert config.default_backend is None
    with pytest.raises(InvalidArgumentError, match="known: a, b"):
        config.backend(None)
    assert config.backend("b").name == "b"


def test_no_configuration_says_where_it_belongs():
    with pytest.raises(FailedPreconditionError, match="master's configuration"):
        ControllerConfig.from_opts({})


@pytest.mark.parametrize(
    ("storage", "field"),
    [
        ({"backend": {}}, "backend"),
        ({"backends": []}, "storage:backends"),
        ({"backends": {"a/b": {}}}, "storage:backends:a/b"),
        ({"backends": {"a": "lvm"}}, "storage:backends:a"),
        ({"backends": {"a": {"provider": 3}}}, "storage:backends:a:provider"),
        ({"backends": {"a": {}}, "default_backend": "b"}, "storage:default_backend"),
        ({"backends": {}, "workers": 0}, "storage:workers"),
        ({"backends": {}, "workers": True}, "storage:workers"),
        ({"backends": {}, "lock_timeout": "30"}, "storage:lock_timeout"),
        ({"backends": {}, "request_max_age": 90000}, "storage:request_max_age"),
        ({"backends": {}, "state_dir": 3}, "storage:state_dir"),
        ({"backends": {}, "policy": []}, "storage:policy"),
        ({"backends": {}, "policy": {"*": {"backend": ["a"]}}}, "backend"),
        ({"backends": {}, "policy": {"*": {"backends": "a"}}}, "storage:policy:*:backends"),
        ({"backends": {}, "policy": {"*": {"max_gib": -1}}}, "storage:policy:*:max_gib"),
    ],
)
def test_a_wrong_value_is_named(storage, field):
    with pytest.raises(InvalidArgumentError) as caught:
        ControllerConfig.from_opts({"storage": storage})
    assert caught.value.field == field


def test_a_prefix_that_gives_root_is_refused_and_its_place_named():
    with pytest.raises(InvalidArgumentError, match="controller_user to root, and apply storage.controller") as caught:
        ControllerConfig.from_opts({"storage": {"root_helper": "sudo", "backends": {}}})
    assert caught.value.field == "storage:root_helper"
