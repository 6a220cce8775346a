"""The runner works on a controller of its own, as the controller's tests do."""

from tests.unit.controller.conftest import database, opts, service  # noqa: F401
