"""Values of options in the forms of YAML and of cinder.conf, and drivers without support."""

from __future__ import annotations

import pytest

from saltstorage import errors
from saltstorage.controller.cinder import bridge, logs, options, values

PURE = "cinder.volume.drivers.pure.PureISCSIDriver"
TEXT = "backend_id:r1,san_ip:192.0.2.2,api_token:geheimes-zeichen"
MAPPING = {"backend_id": "r1", "san_ip": "192.0.2.2", "api_token": "geheimes-zeichen"}


@pytest.mark.parametrize("given", [TEXT, MAPPING, [TEXT], [MAPPING], (TEXT,)])
def test_b1_a_replication_device_in_each_spelling(metadata_dir, given):
    """The driver gets what it would get from cinder.conf, and the secret inside is masked."""
    backend_class = bridge.setup(f"sqlite:///{metadata_dir}/cinderlib.sqlite", str(metadata_dir))
    chosen = {"volume_driver": PURE, "san_ip": "192.0.2.1", "pure_api_token": "t", "replication_device": given}
    options.check("p", chosen)
    seen = object.__new__(backend_class)._get_backend_config({**chosen, "volume_backend_name": "values-p"})
    assert seen.replication_device == [MAPPING]
    assert "geheimes" not in logs.mask("login with geheimes-zeichen")
    backend_class.forget("values-p")


def test_b1_several_replication_devices():
    option = options.declared.find_options(options.find_driver("p", {"volume_driver": PURE}))["replication_device"]
    assert values.normalize(option, ["backend_id:a", {"backend_id": "b", "port": 1}]) == [
        {"backend_id": "a"},
        {"backend_id": "b", "port": "1"},
    ]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("san_ip", ["192.0.2.1"], "takes one text, not a list"),
        ("san_ip", {"a": 1}, "takes one text, not a mapping"),
        ("pure_api_token", ["geheimes-zeichen"], "takes one text, not a list"),
        ("pure_iscsi_cidr_list", [["10.0.0.0/8"]], "takes a list of texts"),
        ("replication_device", "geheimes-zeichen", "takes a mapping, or a text such as"),
        ("replication_device", [{"a": {"b": 1}}], "a mapping inside"),
        ("reserved_percentage", [1], "takes one integer, not a list"),
    ],
)
def test_b1_a_value_of_the_wrong_form(name, value, message):
    """A reason without the value, which may be secret."""
    given = {"volume_driver": PURE, "san_ip": "192.0.2.1", "pure_api_token": "t", name: value}
    with pytest.raises(errors.InvalidArgumentError, match=message) as caught:
        options.check("p", given)
    assert caught.value.field == name
    assert "geheim" not in str(caught.value)


def test_a_driver_that_cinder_marks_as_unsupported():
    """Cinder itself does not start it without the option either."""
    given = {"volume_driver": "cinder.volume.drivers.veritas_cnfs.VeritasCNFSDriver"}
    for value in ({}, {"enable_unsupported_driver": False}):
        with pytest.raises(errors.InvalidArgumentError, match="enable_unsupported_driver: true") as caught:
            options.check("v", {**given, **value})
        assert caught.value.field == "enable_unsupported_driver"
    for value in (True, "true"):
        assert options.check("v", {**given, "enable_unsupported_driver": value})
