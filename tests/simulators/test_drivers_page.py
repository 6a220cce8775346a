"""The page that lists all drivers is that of the installed Cinder and of the simulators."""

from __future__ import annotations

import pytest

from saltstorage.controller.cinder.drivers_list import list_drivers

from . import drivers_page
from .backends import SIMULATED


@pytest.mark.slow
def test_the_page_is_that_of_the_installed_cinder():
    assert drivers_page.PAGE.read_text() == drivers_page.text(list_drivers(options=False))


def test_each_simulated_driver_is_a_backend_of_the_suite():
    found = set()
    for backend in SIMULATED.values():
        with backend() as made:
            found.add(made.options["volume_driver"])
    assert found == drivers_page.SIMULATOR


def test_readme_counts_as_the_page_does(checkout):
    page, readme = drivers_page.PAGE.read_text(), (checkout / "README.rst").read_text()
    count = {kind: page.count(f"     - {kind}\n") for kind in ("real", "simulator", "imports")}
    text = " ".join(readme.split())
    assert f"All {sum(count.values())} load; {count['real']} were run with real data paths" in text
    assert f"{count['simulator']} of vendors against a simulator" in text
