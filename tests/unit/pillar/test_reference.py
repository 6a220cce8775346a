"""Reference of pillar, JSON schema and ``pillar.example`` fit the code that checks pillar."""

from __future__ import annotations

import ast
import copy
import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from saltstorage.consumer.filesystems import mkfs
from saltstorage.consumer.host.config import ConsumerConfig
from saltstorage.controller.access import config
from saltstorage.controller.access.policy import Rule
from saltstorage.errors import InvalidArgumentError
from saltstorage.pillar import rendering

CHECKOUT = Path(__file__).resolve().parents[3]
if str(CHECKOUT / "docs/_ext") not in sys.path:
    sys.path.append(str(CHECKOUT / "docs/_ext"))

import pillar_reference as reference  # noqa: E402

PAGE = reference.PAGE.read_text(encoding="utf-8")
KEYS = reference.sections(PAGE)
EXAMPLE = yaml.safe_load((CHECKOUT / "pillar.example").read_text(encoding="utf-8"))


def taken(parse: Any) -> set[str]:
    """Return the keys that a parser takes, as its refusal of an unknown one lists them."""
    with pytest.raises(InvalidArgumentError, match="known: ") as refused:
        parse({"\0": 1})
    return set(str(refused.value).rpartition("known: ")[2].split(", "))


def parse_volume(entry: dict[str, Any]) -> None:
    [body] = rendering.volume_states({"volumes": {"data": entry}}).values()
    if invalid := body.get("storage_pillar.invalid"):
        raise InvalidArgumentError(invalid[1]["comment"])


def parse_controller(options: dict[str, Any]) -> None:
    config.ControllerConfig.from_opts({"storage": {"backends": {"local": {}}, **options}})


PARSERS = {
    "Volumes": parse_volume,
    "Snapshots": lambda entry: parse_volume({"size": 1, "snapshots": entry}),
    "Minion option": lambda entry: ConsumerConfig.from_opts({"storage": {"consumer": entry}}),
    "Controller": parse_controller,
    "Types": lambda entry: parse_controller({"types": {"gold": entry}}),
    "Policy": lambda entry: parse_controller({"policy": {"*": entry}}),
}


@pytest.mark.parametrize("section", PARSERS)
def test_the_page_has_the_keys_that_the_code_takes(section: str) -> None:
    known = taken(PARSERS[section])
    # The option `storage` of a masterless minion holds the consumer's settings too.
    assert set(KEYS[section]) == known - ({"consumer"} if section == "Controller" else set())


def test_the_page_has_the_keys_of_the_consumer_and_of_the_lookup() -> None:
    assert rendering.consumer_problem({"consumer": {key: [] for key in KEYS["Consumer"]}}) == ""
    assert "no parameter 'other'" in rendering.consumer_problem({"consumer": {"other": 1}})
    defaults = yaml.safe_load((CHECKOUT / "storage/defaults.yaml").read_text(encoding="utf-8"))
    parts = {name: value for part in ("controller", "consumer", "environment") for name, value in defaults[part].items()}
    assert set(KEYS["Lookup"]) == {"protocols", "packages", *parts}
    for name, value in parts.items():
        assert KEYS["Lookup"][name].default == (str(value).lower() if isinstance(value, bool) else value or "''"), name


def of_signature(file: str, function: str) -> Iterator[tuple[str, Any]]:
    """Yield name and default of each parameter of a state."""
    [node] = [
        node
        for node in ast.parse((CHECKOUT / "_states" / file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == function
    ]
    names = [argument.arg for argument in node.args.args]
    yield from zip(names[-len(node.args.defaults) :], map(ast.literal_eval, node.args.defaults), strict=True)


def of_class(settings: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and default of each attribute of a dataclass that has one."""
    for field in dataclasses.fields(settings):
        if field.default is not dataclasses.MISSING:
            yield field.name, field.default


@pytest.mark.parametrize(
    ("section", "defaults"),
    [
        ("Volumes", dict(of_signature("storage_volume.py", "mounted"))),
        ("Snapshots", dict(of_signature("storage_snapshot.py", "rotated"))),
        ("Minion option", dict(of_class(ConsumerConfig)) | {"multipath": None}),
        ("Controller", dict(of_class(config.ControllerConfig))),
        ("Policy", dict(of_class(Rule))),
    ],
)
def test_the_page_has_the_defaults_of_the_code(section: str, defaults: dict[str, Any]) -> None:
    words = {(): "none", ("*",): "all", "": "none", True: "true", False: "false"}
    for key in KEYS[section].values():
        value = defaults.get(key.name)
        if value is not None:
            wanted = (
                str(value).lower() if isinstance(value, bool) else words.get(value, f"{value:g}" if isinstance(value, float) else value)
            )
            assert key.default == str(wanted), f"{section}: {key.name}"
        assert key.rest.startswith(("default ", "required")), key.name


def test_the_page_lists_the_states_the_protocols_and_the_file_systems() -> None:
    volumes = KEYS["Volumes"]
    assert set(re.findall(r"(\w+): ", volumes["state"].text)) >= set(rendering.PARAMETERS)
    assert sorted(re.findall(r"\w+", volumes["fstype"].text)) == sorted([*mkfs.FSTYPES, "or"])
    assert re.findall(r"[a-z]+(?:_[a-z]+)?", KEYS["Consumer"]["protocols"].text.partition(".")[0]) == [
        *("ny", "of"),
        *rendering.PROTOCOLS[:-1],
        *("and", rendering.PROTOCOLS[-1]),
    ]


def test_the_schema_is_fresh() -> None:
    assert reference.SCHEMA.read_text(encoding="utf-8") == reference.text(PAGE), "run: .venv/bin/python docs/_ext/pillar_reference.py"


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = reference.schema(PAGE)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_example_fits_the_schema_and_the_code(validator: Any) -> None:
    assert [error.message for error in validator.iter_errors(EXAMPLE)] == []
    assert not [state for state in rendering.volume_states(EXAMPLE["storage"]) if "invalid" in state]
    assert rendering.controller_problem(EXAMPLE["storage"]) == ""
    assert rendering.consumer_problem(EXAMPLE["storage"]) == ""


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {"size": 1},
        {"size": "1.5TiB"},
        {"size": 0},
        {"size": True},
        {"size": "512 MiB"},
        {"siez": 1},
        {"state": "present"},
        {"state": "gone"},
        {"state": "mounted", "size": 1},
        {"mount": "/srv", "state": "absent"},
        {"size": 1, "snapshots": {"keep": 3, "every": "6h"}},
        {"size": 1, "snapshots": {"keep": -1}},
        {"size": 1, "snapshots": {"every": "soon"}},
        {"size": 1, "snapshots": {"kept": 1}},
        {"size": 1, "snapshots": {}, "owner": "shared"},
        {"encrypted": True, "passphrase": "sdb://vault/data"},
        {"encrypted": True, "passphrase": "correct horse"},
        [],
    ],
    ids=repr,
)
def test_schema_and_code_agree_about_a_volume(entry: Any, validator: Any) -> None:
    pillar = {"storage": {"volumes": {"data": copy.deepcopy(entry)}}}
    refused = any("invalid" in state for state in rendering.volume_states(pillar["storage"]))
    assert validator.is_valid(pillar) is not refused
