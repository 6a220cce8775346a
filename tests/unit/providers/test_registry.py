"""Finding the class of a provider by its name in the configuration."""

from __future__ import annotations

import pytest

from saltstorage.controller.cinder.provider import CinderlibProvider
from saltstorage.providers import FailedPreconditionError, InvalidArgumentError, find_provider


@pytest.mark.parametrize("name", ["cinderlib", "saltstorage.controller.cinder.provider.CinderlibProvider"])
def test_a_provider_is_found_by_its_name_or_path(name):
    assert find_provider(name) is CinderlibProvider


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cinderlb", "did you mean 'cinderlib'"),
        ("x.y.Z", "no module"),
        ("os.path.join", "is not a subclass of saltstorage.providers.Provider"),
        (".x", "no provider"),
        ("saltstorage.providers.Nope", "not a subclass"),
        (None, "must be a name"),
    ],
)
def test_a_name_without_a_provider_is_refused(name, message):
    with pytest.raises(InvalidArgumentError, match=message):
        find_provider(name)


def test_a_provider_that_cannot_be_imported_names_the_missing_package():
    with pytest.raises(FailedPreconditionError, match="storage_no_such_vendor_sdk"):
        find_provider("tests.unit.controller.cinder.needy_driver.NeedyDriver")
