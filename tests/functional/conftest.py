"""Salt's real loader over the synced formula: a masterless minion and a master in temporary
folders.
"""

from __future__ import annotations

import getpass
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import salt.config
import salt.loader
import salt.state
import yaml

FORMULA_DIRS = ("_modules", "_states", "_runners", "_engines", "_utils", "storage")


@pytest.fixture(scope="session")
def formula_root(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file root with the formula and nothing else of the checkout."""
    root = tmp_path_factory.mktemp("formula")
    for name in FORMULA_DIRS:
        (root / name).symlink_to(checkout / name)
    return root


@pytest.fixture(scope="session")
def config_dir(formula_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a configuration folder of a masterless minion and of a master which share nothing
    with the machine's own.
    """
    root = tmp_path_factory.mktemp("salt")
    common = {
        "root_dir": str(root),
        "file_roots": {"base": [str(formula_root)]},
        "pillar_roots": {"base": [str(root / "pillar")]},
        "log_level": "warning",
        "log_file": str(root / "log"),
        "user": getpass.getuser(),
    }
    (root / "pillar").mkdir()
    (root / "minion").write_text(yaml.safe_dump({**common, "id": "min", "file_client": "local", "cachedir": str(root / "cache")}))
    (root / "master").write_text(yaml.safe_dump({**common, "cachedir": str(root / "mastercache")}))
    (root / "mastercache" / "proc").mkdir(parents=True)  # the master's daemon makes it
    binaries = Path(sys.executable).parent
    commands = [
        [binaries / "salt-call", "-c", root, "--local", "saltutil.sync_all"],
        [binaries / "salt-run", "-c", root, "saltutil.sync_all"],
    ]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for command in commands]
    for process in running:
        output, _ = process.communicate(timeout=100)
        assert process.returncode == 0, output
    return root


@pytest.fixture(scope="session")
def minion_opts(config_dir: Path) -> dict[str, Any]:
    """Return the minion's options as its daemon would have them."""
    opts: dict[str, Any] = salt.config.minion_config(str(config_dir / "minion"))
    opts["grains"] = salt.loader.grains(opts)
    # No test changes the services of this machine; tests that only render take `systemd`.
    opts["grains"]["init"] = "unknown"
    opts["pillar"] = {}
    return opts


@pytest.fixture
def systemd(minion_opts: dict[str, Any]) -> Iterator[None]:
    """Let the minion believe that systemd runs."""
    grains = minion_opts["grains"]
    before = grains.get("init")
    grains["init"] = "systemd"
    yield
    grains["init"] = before


@pytest.fixture(scope="session")
def loaded(minion_opts: dict[str, Any], config_dir: Path) -> dict[str, Any]:
    """Return the loaders: ``modules``, ``states``, ``runners``, ``engines``."""
    master_opts = salt.config.client_config(str(config_dir / "master"))
    master_opts["__role"] = "master"
    utils = salt.loader.utils(minion_opts)
    modules = salt.loader.minion_mods(minion_opts, utils=utils)
    runners = salt.loader.runner(master_opts, utils=salt.loader.utils(master_opts))
    return {
        "modules": modules,
        "states": salt.loader.states(minion_opts, modules, utils, None),
        "runners": runners,
        "engines": salt.loader.engines(master_opts, modules, runners, utils),
    }


@pytest.fixture
def render(minion_opts: dict[str, Any]) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
    """Return a function that renders an SLS with a pillar, as ``state.show_sls`` does, and fails
    the test on a render error.
    """

    def show(sls: str, pillar: dict[str, Any]) -> dict[str, Any]:
        # The state compiler renders with the pillar that it is given as an override, through the
        # same loader as an apply.
        with salt.state.HighState({**minion_opts, "pillar": pillar}, pillar_override=pillar) as highstate:
            highstate.push_active()
            try:
                high, errors = highstate.render_highstate({"base": [sls]})
            finally:
                highstate.pop_active()
        assert errors == []
        return {key: value for key, value in high.items() if not key.startswith("__")}

    return show
