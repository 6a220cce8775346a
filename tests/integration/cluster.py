"""A real salt-master with two real salt-minions, on free ports and in one temporary folder, synced
as users sync.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import salt.client
import salt.version
import yaml

from tests import otheruser

CHECKOUT = Path(__file__).resolve().parents[2]
#: Folders of the formula that a file root has; the checkout itself also has things that Salt
#: should not list.
FORMULA = ("_engines", "_modules", "_runners", "_states", "_utils", "storage")
MINIONS = ("alpha", "beta")
#: Seconds. A daemon that ends is noticed at once; a busy machine may take minutes to start one.
START_TIMEOUT = 600


@dataclass
class Cluster:
    """The daemons, their folders and the commands that talk to them.

    :ivar root: folder of all; ``root / "states"`` and ``root / "pillar"`` are a file root and the
        pillar root for tests to write.
    :ivar master: the salt-factories master.
    :ivar minions: the salt-factories minions by id: ``alpha`` and ``beta``.
    """

    root: Path
    master: Any
    minions: dict[str, Any]

    def salt(self, minion: str, function: str, *args: Any, timeout: float = 120, **kwargs: Any) -> Any:
        """Run ``salt MINION FUNCTION …`` and return what the minion returned."""
        ran = self.master.salt_cli(timeout=timeout).run(function, *_cli(args), minion_tgt=minion, **kwargs)
        assert ran.data is not None, ran
        return ran.data

    def job(self, minion: str, function: str, *args: Any, timeout: float = 120, **kwargs: Any) -> Any:
        """Do what :meth:`salt` does, without the seconds that the start of a command takes; values
        are passed as they are.
        """
        with salt.client.LocalClient(mopts=dict(self.master.config)) as client:
            found = client.cmd(minion, function, args, timeout=timeout, kwarg=kwargs)
        assert minion in found, f"no reply of {minion}: {found}"
        return found[minion]

    def call(self, minion: str, function: str, *args: Any, timeout: float = 120, **kwargs: Any) -> Any:
        """Run ``salt-call FUNCTION …`` beside the running minion and return its result."""
        ran = self.minions[minion].salt_call_cli(timeout=timeout).run(function, *_cli(args), **kwargs)
        assert ran.data is not None, ran
        return ran.data

    def run(self, function: str, *args: Any, timeout: float = 120, **kwargs: Any) -> Any:
        """Run ``salt-run FUNCTION …`` and return its result."""
        return self.master.salt_run_cli(timeout=timeout).run(function, *_cli(args), **kwargs).data

    def apply(self, minion: str, sls: str, *, timeout: float = 120, **kwargs: Any) -> dict[str, Any]:
        """Write ``sls`` to a file, run ``salt MINION state.apply`` on it and return the states'
        results by id.
        """
        name = f"test_{abs(hash(sls)):x}"
        (self.root / "states" / f"{name}.sls").write_text(sls, encoding="utf-8")
        found = self.job(minion, "state.apply", name, timeout=timeout, **kwargs)
        assert isinstance(found, dict), found
        return {entry["__id__"]: entry for entry in found.values()}

    def log(self, who: str) -> str:
        """Return the log of ``master`` or of a minion."""
        daemon = self.master if who == "master" else self.minions[who]
        path = Path(daemon.config["log_file"])
        return path.read_text(encoding="utf-8", errors="replace")


def _cli(args: tuple[Any, ...]) -> list[str]:
    return [arg if isinstance(arg, str) else json.dumps(arg) for arg in args]


@contextmanager
def cluster(
    factories: Any,
    *,
    engines: list[Any] | None = None,
    storage: dict[str, Any] | None = None,
    consumer: dict[str, Any] | None = None,
    master_options: dict[str, Any] | None = None,
    files: tuple[Path, ...] = (),
    master_python: Path | None = None,
) -> Iterator[Cluster]:
    """Start a cluster, yield it, and stop and remove all of it.

    :param factories: the fixture ``salt_factories``.
    :param engines: the master's engines; default the project's.
    :param storage: keys that replace those of the master's option ``storage``.
    :param consumer: keys that replace those of each minion's ``storage:consumer``.
    :param master_options: further options of the master.
    :param files: further file roots.
    :param master_python: Python of a master that runs as another user; see the option ``user``.
    """
    # Short: the path of a Unix socket ends at 107 bytes.
    root = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root)
        if master_python is not None:
            root.chmod(0o755)
        # The daemons must run the synced code, not the code that the tests import.
        stack.enter_context(_without_pythonpath())
        for name in FORMULA:
            (root / "formula").mkdir(exist_ok=True)
            if not (CHECKOUT / name).is_dir():
                continue
            if master_python is None:
                (root / "formula" / name).symlink_to(CHECKOUT / name)
            else:
                otheruser.copy(CHECKOUT / name, root / "formula" / name)
        for name in ("states", "pillar"):
            (root / name).mkdir()
        master = factories.salt_master_daemon(
            "master",
            defaults={"root_dir": root / "m"},
            overrides={
                "auto_accept": True,
                "worker_threads": 3,
                "file_roots": {"base": [str(root / "states"), str(root / "formula"), *(str(path) for path in files)]},
                "pillar_roots": {"base": [str(root / "pillar")]},
                "engines": [{"storage": {}}] if engines is None else engines,
                "storage": {
                    "state_dir": str(root / "controller"),
                    "policy": {"*": {"shared": ["team-*"]}},
                    "backends": {
                        "local": {
                            "volume_driver": "saltstorage.drivers.file.FileDriver",
                            "file_driver_path": str(root / "volumes"),
                        }
                    },
                    **(storage or {}),
                },
                **(master_options or {}),
            },
        )
        if master_python is not None:
            master.python_executable = str(master_python)
            # As the packages of Salt do for their user.
            subprocess.run(["chown", "-R", master.config["user"], str(root / "m")], check=True)
        # An engine is loaded when the master starts, so users sync before that.
        synced = master.salt_run_cli(timeout=120).run("saltutil.sync_all")
        assert synced.returncode == 0, synced
        minions = {}
        for minion in MINIONS:
            own = root / minion
            minions[minion] = master.salt_minion_daemon(
                minion,
                defaults={"root_dir": own},
                overrides={
                    "acceptance_wait_time": 1,
                    "storage": {
                        "consumer": {
                            "state_dir": str(own / "consumer"),
                            "device_dir": str(own / "dev"),
                            "fstab": str(own / "fstab"),
                            "lock_path": str(own / "brick"),
                            **(consumer or {}),
                        }
                    },
                },
            )
        stack.enter_context(master.started(start_timeout=START_TIMEOUT))
        for minion in minions.values():
            stack.enter_context(minion.started(start_timeout=START_TIMEOUT))
        found = Cluster(root=root, master=master, minions=minions)
        with salt.client.LocalClient(mopts=dict(master.config)) as client:
            synced_minions = client.cmd("*", "saltutil.sync_all", timeout=120)
            versions = client.cmd("*", "test.version", timeout=120)
        assert set(synced_minions) == set(MINIONS), synced_minions
        assert versions == dict.fromkeys(MINIONS, salt.version.__version__), "the daemons are of the Salt that runs the tests"
        yield found


@contextmanager
def _without_pythonpath() -> Iterator[None]:
    kept = os.environ.pop("PYTHONPATH", None)
    try:
        yield
    finally:
        if kept is not None:
            os.environ["PYTHONPATH"] = kept


def write_pillar(root: Path, minion: str, data: dict[str, Any]) -> None:
    """Give ``minion`` the pillar ``data``; run ``saltutil.refresh_pillar`` or pass it on with the
    next state run.
    """
    folder = root / "pillar"
    (folder / f"{minion}.sls").write_text("#!json\n" + json.dumps(data), encoding="utf-8")
    top = {"base": {path.stem: [path.stem] for path in sorted(folder.glob("*.sls")) if path.stem != "top"}}
    (folder / "top.sls").write_text(yaml.safe_dump(top), encoding="utf-8")


def state(function: str, *name: str, **parameters: Any) -> str:
    """Return one state for each name as a JSON SLS; its id is the volume's name."""
    return "#!json\n" + json.dumps({n: {f"storage_volume.{function}": [{k: v} for k, v in parameters.items()]} for n in name})


def volume_files(cluster: Cluster) -> list[str]:
    """Return the names of the volumes' files on the array."""
    return sorted(path.name for path in (cluster.root / "volumes").glob("volume-*"))


def loops(cluster: Cluster) -> list[str]:
    """Return the loop devices over the cluster's volumes."""
    command = ["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split()[0] for line in found.stdout.splitlines() if str(cluster.root) in line]


def engines(cluster: Cluster) -> list[int]:
    """Return the processes of the storage engine."""
    found = []
    for process in psutil.Process(cluster.master.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if "storage" in f"{process.name()} {' '.join(process.cmdline())}".lower():
                found.append(process.pid)
    return found


def in_background(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[threading.Thread, list[Any]]:
    """Call a function in a thread; its result comes into the list."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function(*args, **kwargs)))
    thread.start()
    return thread, results
