"""The master and the minion that are measured: the demo's, with the benchmark's own engine and
module beside the project's.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "demo"))

import cluster as demo_cluster  # noqa: E402

MINION = "db1"
#: One minion: every other one would receive, and throw away, each reply.
demo_cluster.MINIONS = (MINION,)
JOB_TIMEOUT = 900


class Cluster(demo_cluster.Cluster):
    """One master and one minion in a folder.

    :param root: the folder; it must not exist or be empty.
    :param timed: whether the engine has timers in it, for the breakdown.
    """

    def __init__(self, root: Path, *, timed: bool = False) -> None:
        root.mkdir(exist_ok=True)
        super().__init__(root)
        # As on a user's machine: without bytecode on the disk, each job would compile the project
        # again.
        self.env.pop("PYTHONDONTWRITEBYTECODE", None)
        self.timers = {name: root / f"{name}.timers" for name in ("engine", "controller", "minion")}
        (root / "states").mkdir()
        self._change(
            "etc/master",
            file_roots={"base": [str(root / "states"), str(root / "formula"), str(HERE / "files")]},
            bench={"timers": {name: str(path) for name, path in self.timers.items()}},
        )
        self._change("etc/master.d/storage.conf", engines=[{"bench_timed" if timed else "storage": {}}, {"bench_bare": {}}])
        (root / "pillar" / "volumes.sls").write_text("{}\n")

    def start(self) -> None:
        """Sync to the master, start the daemons, sync to the minion, and return when the backend
        is up.
        """
        self.must_run("salt-run -c etc saltutil.sync_all")
        super().start()
        import salt.client

        self.local = salt.client.LocalClient(str(self.root / "etc" / "master"))
        self.job("saltutil.sync_all")
        deadline = time.monotonic() + 120
        while not self._backend_is_up():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the backend did not come up\n{self.logs()}")
            time.sleep(0.2)

    def job(self, function: str, *args: Any, **kwargs: Any) -> Any:
        """Run a function on the minion from this process, and return its answer.

        :raises RuntimeError: it failed.
        """
        found = self.local.cmd(MINION, function, list(args), kwarg=kwargs, timeout=JOB_TIMEOUT, full_return=True).get(MINION)
        if not isinstance(found, dict) or found.get("retcode"):
            raise RuntimeError(f"{function} failed: {_failed(found)}\n{self.logs()}")
        return found["ret"]

    def must_run(self, command: str) -> float:
        """Run a command line in the folder and return how many seconds it took.

        :raises RuntimeError: it failed.
        """
        start = time.perf_counter()
        code, output = self.run(command)
        took = time.perf_counter() - start
        if code:
            raise RuntimeError(f"{command}: exit code {code}\n{output[-3000:]}\n{self.logs()}")
        return took

    def states(self, name: str, states: dict[str, Any]) -> str:
        """Write an SLS and return its name."""
        (self.root / "states" / f"{name}.sls").write_text("#!yaml\n" + yaml.safe_dump(states, sort_keys=False))
        return name

    def requests(self) -> int:
        """Return how many requests the engine has taken, as its journal has it."""
        return int(self._catalog("SELECT count(*) FROM storage_requests")[0][0])

    def cpu(self) -> float:
        """Return the CPU seconds of the daemons and of the processes that they and this process
        have waited for, since their start.
        """
        ticks = 0
        for pid in (pid for daemon in self.daemons for pid in _session(daemon.pid)):
            with contextlib.suppress(OSError):  # gone since; then its parent has its time
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ticks / os.sysconf("SC_CLK_TCK") + own.ru_utime + own.ru_stime

    def controller_pid(self) -> int:
        """Return the controller's process: the one of the master's that holds files of the
        controller's state open. Its parent is the engine's.

        :raises RuntimeError: there is none, or more than one.
        """
        state = self.root / "master/var/lib/salt-storage/controller"
        found = [pid for pid in _session(self.daemons[0].pid) if any(path.is_relative_to(state) for path in _open_files(pid))]
        if len(found) != 1:
            raise RuntimeError(f"{len(found)} processes look like the controller")
        return found[0]

    @property
    def socket(self) -> Path:
        """The controller's socket."""
        return self.root / "master/var/lib/salt-storage/controller/controller.sock"

    def _backend_is_up(self) -> bool:
        with contextlib.suppress(sqlite3.OperationalError):  # the catalog is being made
            return self._catalog("SELECT state FROM storage_backends") == [("up",)]
        return False

    def _catalog(self, query: str) -> list[tuple[Any, ...]]:
        path = self.root / "master/var/lib/salt-storage/controller/catalog.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(query).fetchall()

    def _change(self, name: str, **values: Any) -> None:
        path = self.root / name
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))


def _failed(found: Any) -> str:
    """Return the answer of a failed job; of a state run, only the failed states."""
    ret = found.get("ret") if isinstance(found, dict) else None
    states = ret.get("states", ret) if isinstance(ret, dict) else {}
    bad = [f"{s.get('__id__')}: {s.get('comment')}" for s in states.values() if isinstance(s, dict) and s.get("result") is False]
    return "\n".join(bad) or str(found)[:3000]


def _session(leader: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone since
            if int((entry / "stat").read_text().rpartition(")")[2].split()[3]) == leader:
                found.append(int(entry.name))
    return found


def _open_files(pid: int) -> list[Path]:
    found = []
    with contextlib.suppress(OSError):  # gone since
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(Path(os.readlink(link)))
    return found
