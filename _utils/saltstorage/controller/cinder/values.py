"""Values of drivers' options: what YAML gives, in the form that oslo.config takes.

A vendor's guide has the lines of ``cinder.conf``. Their spelling is accepted beside YAML's own:
``backend_id:r1,san_ip:192.0.2.1`` is the mapping of these two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from oslo_config import cfg, types


class FormError(ValueError):
    """A value has the wrong form; the message never holds the value itself."""


def check(option: cfg.Opt, value: Any) -> None:
    """Raise ValueError or TypeError when ``value`` is not valid for an option.

    :raises FormError: it is a list or mapping where a text belongs, or the reverse.
    """
    # An object of its own: no other backend sees the value.
    checker = cfg.ConfigOpts()
    checker.register_opt(option)
    checker.set_override(option.name, normalize(option, value))


def normalize(option: cfg.Opt, value: Any) -> Any:
    """Return a value in the form that oslo.config takes for the option.

    :raises FormError: as :func:`check`.

    >>> device = cfg.MultiOpt("replication_device", item_type=types.Dict())
    >>> normalize(device, "backend_id:r1,san_ip:192.0.2.1")
    [{'backend_id': 'r1', 'san_ip': '192.0.2.1'}]
    >>> normalize(device, {"backend_id": "r1"})
    [{'backend_id': 'r1'}]
    >>> normalize(cfg.StrOpt("san_ip"), ["192.0.2.1"])
    Traceback (most recent call last):
    ...
    saltstorage.controller.cinder.values.FormError: it takes one text, not a list
    """
    if value is None:
        return None
    if option.multi:
        return [_item(option.type, item) for item in (value if isinstance(value, list | tuple) else [value])]
    return _item(option.type, value)


def _item(kind: Any, value: Any) -> Any:
    if isinstance(kind, types.Dict):
        return _mapping(kind, value)
    if isinstance(kind, types.List):
        items = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(item, Mapping | list | tuple) for item in items):
            raise FormError("it takes a list of texts")
        return list(value) if isinstance(value, list | tuple) else value
    if isinstance(value, Mapping | list | tuple):
        raise FormError(f"it takes one {_name(kind)}, not a {'mapping' if isinstance(value, Mapping) else 'list'}")
    return value


def _mapping(kind: types.Dict, value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        if any(isinstance(item, Mapping) for item in value.values()):
            raise FormError("its mapping has a mapping inside")
        # cinder.conf knows texts only, and drivers compare with them.
        return {str(key): item if isinstance(item, list | tuple) else str(item) for key, item in value.items()}
    if isinstance(value, str):
        try:
            return dict(kind(value))
        except ValueError:
            pass
    raise FormError("it takes a mapping, or a text such as 'backend_id:r1,san_ip:192.0.2.1'")


def _name(kind: Any) -> str:
    """Return a word for the type of a single value."""
    name = str(getattr(kind, "type_name", "") or "").removesuffix(" value")
    return {"string": "text", "": "text"}.get(name, name)


def find_texts(value: Any) -> Iterator[str]:
    """Yield each text inside a value, to mask it in logs; the names in a mapping are no secret."""
    if isinstance(value, str):
        yield value
        # In cinder.conf's spelling, the parts are what a driver will log.
        yield from (part.partition(":")[2].strip() for part in value.split(",") if ":" in part)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from find_texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from find_texts(item)
