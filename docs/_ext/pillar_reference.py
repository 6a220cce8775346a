"""The reference of pillar (``docs/reference/pillar.rst``) as data, and the JSON schema made from
it.

``python docs/_ext/pillar_reference.py`` writes the schema for editors,
``docs/pillar.schema.json``, anew. Texts, kinds and defaults of the keys come from the page. Names
of states, protocols and file systems, and all limits, come from the code that checks pillar.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PAGE = CHECKOUT / "docs/reference/pillar.rst"
SCHEMA = CHECKOUT / "docs/pillar.schema.json"

_TERM = re.compile(r"^``(?P<name>\w+)`` : (?P<kind>[\w ]+)(?: : (?P<rest>.+))?$")


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key as the page has it.

    :ivar name: such as ``size``.
    :ivar kind: such as ``mapping of texts``; one of the names in :func:`_kinds`.
    :ivar rest: the default, such as ``default 7``, or the case in which the key is required.
    :ivar text: the meaning, without markup.
    """

    name: str
    kind: str
    rest: str
    text: str

    @property
    def default(self) -> str:
        """The stated default without markup, such as ``7``; empty when there is none."""
        return _plain(self.rest.removeprefix("default ")) if self.rest.startswith("default ") else ""


def sections(page: str) -> dict[str, dict[str, Key]]:
    r"""Return the keys of each section of the page, by title and name.

    >>> page = "Snapshots\n---------\n\n``keep`` : whole number : default 7\n    Number of them.\n"
    >>> sections(page)["Snapshots"]["keep"].default
    '7'
    """
    found: dict[str, dict[str, Key]] = {}
    title = ""
    lines = [*page.splitlines(), ""]
    for number, line in enumerate(lines[:-1]):
        if line and set(lines[number + 1]) == {"-"}:
            title = line
        elif match := _TERM.match(line):
            text = " ".join(part.strip().removeprefix("* ") for part in _indented(lines[number + 1 :]))
            key = Key(name=match["name"], kind=match["kind"], rest=match["rest"] or "", text=_plain(text))
            found.setdefault(title, {})[key.name] = key
    return found


def schema(page: str) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a pillar file with the key ``storage``."""
    from saltstorage.pillar import rendering

    keys = sections(page)
    kinds = _kinds()
    kinds["snapshots"] = _mapping(keys["Snapshots"], kinds)
    kinds["mapping of types"] = _mapping_of(_mapping(keys["Types"], kinds))
    kinds["mapping of rules"] = _mapping_of(_mapping(keys["Policy"], kinds))
    volume = _mapping(keys["Volumes"], kinds)
    volume["allOf"] = [
        _needs({"state": {"const": "present"}}, "size"),
        _needs({"state": {"const": "mounted"}}, "mount"),
        {"if": {"required": ["snapshots"]}, "then": {"properties": {"owner": {"type": "null"}}}},
    ]
    lookup = keys["Lookup"]
    consumer = {name: lookup[name] for name in ("salt_call", "unit_dir", "protocols")}
    environment = {name: lookup[name] for name in ("python", "index_url", "wheels", "packages")}
    controller = {name: key for name, key in lookup.items() if name not in consumer and name not in environment}
    storage = {
        "volumes": {**_mapping_of(volume), "propertyNames": kinds["name"], "description": "Volumes of this minion, by name."},
        "passphrases": {**_mapping_of(kinds["text"]), "description": "Passphrases of encrypted volumes, or their sdb:// URIs, by name."},
        "consumer": _mapping(keys["Consumer"], kinds),
        "controller": {**_mapping(keys["Controller"], kinds), "required": ["backends"]},
        "lookup": {
            "type": ["object", "null"],
            "properties": {
                "controller": _mapping(controller, kinds),
                "consumer": _mapping(consumer, kinds),
                "environment": _mapping(environment, kinds),
            },
        },
    }
    states = ", ".join(rendering.PARAMETERS)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pillar of the Salt storage formula",
        "description": f"Made from docs/reference/pillar.rst and the code by docs/_ext/pillar_reference.py. States: {states}.",
        "type": "object",
        "properties": {"storage": {"type": ["object", "null"], "properties": storage, "additionalProperties": False}},
    }


def text(page: str) -> str:
    """Return the schema as the file has it."""
    return json.dumps(schema(page), indent=2, ensure_ascii=False) + "\n"


def _kinds() -> dict[str, dict[str, Any]]:
    """Return the schema of each kind of value that the page names."""
    from saltstorage import validate
    from saltstorage.consumer.filesystems.mkfs import FSTYPES
    from saltstorage.pillar import rendering

    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    listed = {"type": "array", "items": {"type": "string"}}
    name = {"type": "string", "minLength": 1, "maxLength": validate.MAX_NAME_BYTES, "pattern": r"^[^/\u0000-\u001f\u007f]+$"}
    size = r"^\s*[0-9]{1,20}\s*[kKmMgGtTpP]?([iI]?[bB])?\s*$"
    return {
        "state": {"enum": list(rendering.PARAMETERS)},
        "size": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": validate.MAX_SIZE_GIB}, {"type": "string", "pattern": size}]},
        "time": {
            "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": r"^\s*[0-9]{1,9}\s*[sSmMhHdDwW]?\s*$"}]
        },
        "seconds": {"type": "number", "exclusiveMinimum": 0},
        "name": name,
        "text": {"type": "string"},
        "URL": {"type": "string"},
        "path": {"type": "string", "pattern": "^(/|sdb://)"},
        "flag": {"type": "boolean"},
        "whole number": {"type": "integer", "minimum": 0},
        "positive number": {"type": "integer", "minimum": 1},
        "owner": {"type": "string"},
        "reference": {"type": "string", "pattern": "^(sdb|pillar)://"},
        "file system": {"enum": list(FSTYPES)},
        "source": {
            "type": "object",
            "properties": {"volume": name, "snapshot": name},
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        },
        "mapping": {"type": "object"},
        "mapping of texts": texts,
        "mapping of specs": {"type": "object", "additionalProperties": {"type": ["string", "integer"]}},
        "mapping of backends": _mapping_of({"type": "object"}),
        "list of texts": listed,
        "list of globs": listed,
        "list of protocols": {"type": "array", "items": {"enum": list(rendering.PROTOCOLS)}},
        "text or list of texts": {"anyOf": [{"type": "string"}, listed]},
    }


def _mapping(keys: Mapping[str, Key], kinds: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    properties = {key.name: {"description": _description(key), **kinds[key.kind]} for key in keys.values()}
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}


def _mapping_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": dict(entry)}


def _needs(properties: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {"if": {"properties": dict(properties), "required": list(properties)}, "then": {"required": [key]}}


def _description(key: Key) -> str:
    rest = _plain(key.rest).replace("default ", "default: ", 1)
    return f"{key.text} ({rest[0].upper()}{rest[1:]}.)" if rest else key.text


def _indented(lines: list[str]) -> Iterator[str]:
    """Yield the lines of a definition, up to the next term."""
    for line in lines:
        if line and not line.startswith(" "):
            return
        if line:
            yield line


def _plain(markup: str) -> str:
    """Return text without the markup of reStructuredText."""
    markup = re.sub(r":doc:`/?([^`]*)`", r"docs/\1.rst", markup)
    return re.sub(r"``([^`]*)``", r"\1", markup).replace("**", "")


if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT / "_utils"))
    SCHEMA.write_text(text(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
