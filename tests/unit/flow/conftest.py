"""The way to the controller needs the keys of a minion, as the bus does."""

from tests.unit.bus.conftest import minion_opts, pairs  # noqa: F401
