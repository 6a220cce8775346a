"""Show a volume from creation to deletion with a real master and two real minions: ``make demo``.

Everything lives in one temporary folder: the daemons' configuration, keys and state, the volumes,
``/dev/storage`` and ``fstab``. Nothing outside it is touched but loop devices and mounts below
it, and all of it is gone at the end, also when the demo fails or is stopped. The exit code is 0
when every step did what it says.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import leftovers
from cluster import MINIONS, Cluster

SIZE_OK = 0.9  # A file system is a little smaller than its volume.


class Stopped(BaseException):
    """The user or the system wants the demo to end."""


def stop(signum: int, _frame: object) -> None:
    """Turn a signal into an exception, so that the clean-up runs."""
    raise Stopped(signal.Signals(signum).name)


class Failed(Exception):
    """A step failed."""


def require(condition: bool, text: str) -> None:
    """Raise Failed unless the condition holds."""
    if not condition:
        raise Failed(text)


class Demo:
    """The steps, in order."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.mounts = {minion: cluster.root / minion / "srv" for minion in MINIONS}

    def title(self, text: str) -> None:
        """Print a heading."""
        print(f"\n\033[1m## {text}\033[0m" if sys.stdout.isatty() else f"\n## {text}", flush=True)

    def show(self, command: str, *, lines: int = 0, summary: Callable[[str], str] | None = None) -> str:
        """Print a command, run it, print its output and return that. ``lines``: how many of them
        to print, 0 for all.
        """
        print(f"$ {command}", flush=True)
        code, output = self.cluster.run(command)
        shown = output.rstrip().splitlines()
        print("\n".join(shown[:lines] if lines and code == 0 else shown), flush=True)
        if summary:
            print(f"    … {summary(output)}", flush=True)
        require(code == 0, f"exit code {code}")
        return output

    def apply(self, changed: bool) -> None:
        """Apply the pillar on both minions and check that it changed something, or nothing."""
        output = self.show("salt -c etc '*' state.apply storage")
        succeeded = re.findall(r"^Succeeded: (\d+)(?: \(changed=(\d+)\))?", output, re.MULTILINE)
        require(len(succeeded) == len(MINIONS), "not every minion answered")
        require(
            all(bool(count) is changed for _ran, count in succeeded), "a state did not change what it should, or changed what it should not"
        )

    def state(self, word: str) -> None:
        """Set ``state`` in the pillar and apply."""
        self.show(f"sed -i -e '/state:/d' -e '/size:/a\\      state: {word}' pillar/volumes.sls")
        self.apply(changed=True)

    def gib(self, minion: str) -> float:
        """Return the size of the file system that is mounted for a minion, in GiB."""
        found = os.statvfs(self.mounts[minion])
        return found.f_blocks * found.f_frsize / 2**30

    def run(self) -> None:
        """Run all steps."""
        self.title("Give the modules to the master, then start it: the storage engine starts with it")
        self.show("cat etc/master.d/storage.conf")
        self.show("salt-run -c etc saltutil.sync_all", lines=3, summary=lambda text: f"{text.count('- ')} modules")
        print("$ salt-master -c etc &\n$ salt-minion -c db1 &\n$ salt-minion -c web1 &", flush=True)
        self.cluster.start()
        self.show(
            "salt -c etc '*' saltutil.sync_all", lines=3, summary=lambda text: f"{text.count('- ')} modules on {len(MINIONS)} minions"
        )

        self.title("The controller's drivers and backends")
        drivers = self.show("salt-run -c etc storage.drivers", lines=12, summary=lambda text: f"{count_drivers(text)} drivers in all")
        require(count_drivers(drivers) > 90, "too few drivers")
        require("up" in self.show("salt-run -c etc storage.backends"), "the backend is not up")

        self.title("Pillar names the volumes; state.apply provides them")
        self.show("cat pillar/volumes.sls")
        self.apply(changed=True)
        for minion, mount in self.mounts.items():
            require(os.path.ismount(mount) and self.gib(minion) > SIZE_OK, f"{mount} is not a mounted file system of 1 GiB")
        self.show(
            f"salt -c etc '*' cmd.run 'echo \"I am {{{{ grains.id }}}}\" > {self.cluster.root}/{{{{ grains.id }}}}/srv/file' template=jinja"
        )

        self.title("Once more: nothing to do")
        self.apply(changed=False)

        self.title("The master's view")
        require(self.show("salt-run -c etc storage.volumes").count("size_gib") == len(MINIONS), "not one volume a minion")
        require(self.show("salt-run -c etc storage.connections").count("connected") >= len(MINIONS), "not one connection a minion")

        self.title("Grow the volumes while they are in use")
        self.show("sed -i 's/size: 1GiB/size: 2GiB/' pillar/volumes.sls")
        self.apply(changed=True)
        self.show(f"df -h --output=size,target {' '.join(str(mount) for mount in self.mounts.values())}")
        self.show(f"cat {' '.join(str(mount / 'file') for mount in self.mounts.values())}")
        for minion, mount in self.mounts.items():
            require(self.gib(minion) > 2 * SIZE_OK, f"{mount} did not grow")
            require((mount / "file").read_text() == f"I am {minion}\n", "the file has other contents than were written")

        self.title("Take it away again, in steps: unmount, disconnect, delete")
        self.state("unmounted")
        require(not leftovers.mounts(self.cluster.root), "something is still mounted")
        self.state("disconnected")
        require(not leftovers.loops(self.cluster.root), "a loop device is still attached")
        self.state("absent")
        require("size_gib" not in self.show("salt-run -c etc storage.volumes"), "the catalog still has volumes")
        require(not list((self.cluster.root / "volumes").iterdir()), "the backend still has volumes")


def count_drivers(text: str) -> int:
    """Return how many drivers the output of ``storage.drivers`` lists."""
    return len(re.findall(r"^\s+class:$", text, re.MULTILINE))


def main() -> int:
    """Run the demo and clean up; return the exit code."""
    started = time.monotonic()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, stop)
    # Short, since the path of a Unix socket ends at 107 bytes.
    root = Path(tempfile.mkdtemp(prefix="storage-demo-", dir="/tmp"))
    problem = ""
    sessions: list[int] = []
    try:
        cluster = Cluster(root)
        sessions = cluster.sessions
        Demo(cluster).run()
    except Failed as error:
        problem = f"Failed: {error}"
        print(textwrap.indent(cluster.logs(), "    "))
    except Stopped as error:
        problem = f"Stopped by {error}"
    finally:
        # A second Ctrl-C must not leave half of it behind.
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        print("\nStopping the daemons and removing the folder", flush=True)
        left = leftovers.clean(root, sessions)
        shutil.rmtree(root, ignore_errors=not left)
        left += [str(root)] if root.exists() else []
    if left:
        problem += f"\nLeft behind: {', '.join(left)}"
    print(problem.strip() or f"Everything worked, and nothing is left behind ({time.monotonic() - started:.0f} s).")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
