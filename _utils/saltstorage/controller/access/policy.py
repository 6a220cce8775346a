"""The rights of each minion: the master option ``storage:policy``.

Without a policy, every accepted minion may use its own volumes, on every backend, without limits,
and no shared volume. With a policy, the first glob that matches the minion's id decides, in the
order written, and a minion that no glob matches may do nothing.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any

from ... import validate
from ...errors import InvalidArgumentError, PermissionDeniedError, ResourceExhaustedError


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The rights of the minions that one glob matches.

    :ivar glob: matches minion ids, as ``salt 'glob'`` does.
    :ivar backends: globs of backend names that may be used; default all.
    :ivar types: globs of types that new volumes may have; default all. A volume without a type is
        not restricted by it.
    :ivar pools: globs of pools that new volumes may be in, on every backend; default all.
    :ivar max_volumes: most volumes that one minion may own; default no limit.
    :ivar max_gib: most GiB that one minion may own, snapshots included; default no limit.
    :ivar shared: globs of names of shared volumes that may be used; default none.
    :ivar retain: whether a minion may delete volumes in a way that leaves their data on the
        backend. That data no longer counts as the minion's, so the default is True only where
        neither ``max_volumes`` nor ``max_gib`` limits it.
    """

    glob: str = "*"
    backends: tuple[str, ...] = ("*",)
    types: tuple[str, ...] = ("*",)
    pools: tuple[str, ...] = ("*",)
    max_volumes: int | None = None
    max_gib: int | None = None
    shared: tuple[str, ...] = ()
    retain: bool | None = None

    @property
    def may_retain(self) -> bool:
        """Whether volumes may be deleted in a way that leaves their data on the backend."""
        return self.max_volumes is None and self.max_gib is None if self.retain is None else self.retain

    def check_backend(self, minion: str, backend: str) -> None:
        """Raise PermissionDeniedError unless the backend may be used."""
        if not self.may_use(backend):
            raise PermissionDeniedError(f"the policy does not let {minion} use backend {backend!r}", field="backend")

    def check_type(self, minion: str, kind: str | None) -> None:
        """Raise PermissionDeniedError unless new volumes may have the type; None is no type."""
        if not self.may_have(kind):
            raise PermissionDeniedError(f"the policy does not let {minion} have volumes of type {kind!r}", field="type")

    def may_have(self, kind: str | None) -> bool:
        """Return whether new volumes may have a type; None is no type."""
        return kind is None or _matches(kind, self.types)

    def may_use(self, backend: str) -> bool:
        """Return whether a backend may be used."""
        return _matches(backend, self.backends)

    def check_usage(self, minion: str, volumes: int, gib: int) -> None:
        """Raise ResourceExhaustedError when a minion would own more volumes or GiB than it may."""
        if self.max_volumes is not None and volumes > self.max_volumes:
            raise ResourceExhaustedError(f"{minion} may own {self.max_volumes} volumes; this would be number {volumes}")
        if self.max_gib is not None and gib > self.max_gib:
            raise ResourceExhaustedError(f"{minion} may own {self.max_gib} GiB; with this it would own {gib} GiB")

    def may_share(self, name: str) -> bool:
        """Return whether a shared volume may be used."""
        return _matches(name, self.shared)


@dataclass(frozen=True)
class Policy:
    """All rules, in order; None when there is no policy."""

    rules: tuple[Rule, ...] | None = None

    @classmethod
    def from_config(cls, value: Any) -> Policy:
        """Return the policy for the option's value.

        :raises InvalidArgumentError: a key is unknown or has a wrong value.
        """
        if value is None:
            return cls()
        rules = []
        for glob, given in validate.mapping(value, "storage:policy").items():
            where = f"storage:policy:{glob}"
            given = validate.mapping(given or {}, where)
            validate.no_unknown(given, ("backends", "types", "pools", "max_volumes", "max_gib", "shared", "retain"), where)
            rules.append(
                Rule(
                    glob=glob,
                    backends=_globs(given.get("backends", ["*"]), f"{where}:backends"),
                    types=_globs(given.get("types", ["*"]), f"{where}:types"),
                    pools=_globs(given.get("pools", ["*"]), f"{where}:pools"),
                    max_volumes=_limit(given.get("max_volumes"), f"{where}:max_volumes"),
                    max_gib=_limit(given.get("max_gib"), f"{where}:max_gib"),
                    shared=_globs(given.get("shared", []), f"{where}:shared"),
                    retain=None if given.get("retain") is None else validate.boolean(given["retain"], f"{where}:retain"),
                )
            )
        return cls(tuple(rules))

    def rule(self, minion: str) -> Rule:
        """Return the rule for a minion.

        :raises PermissionDeniedError: there is a policy and nothing in it matches.
        """
        if minion == validate.SHARED_OWNER:
            raise PermissionDeniedError(f"the minion id {minion!r} is the owner of shared volumes; rename that minion")
        if self.rules is None:
            return Rule()
        for rule in self.rules:
            if fnmatch.fnmatchcase(minion, rule.glob):
                return rule
        raise PermissionDeniedError(f"nothing in the controller's policy matches the minion {minion}; add a glob to storage:policy")


def _matches(value: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(value, glob) for glob in globs)


def _globs(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise InvalidArgumentError(f"{where} must be a list of globs", field=where)
    return tuple(value)


def _limit(value: Any, where: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidArgumentError(f"{where} must be a whole number", field=where)
    return value
