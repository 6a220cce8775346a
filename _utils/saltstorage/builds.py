"""Which code this is: a process goes on with the code that it loaded, also when the files have
changed since.
"""

from __future__ import annotations

import functools
import hashlib
import time
from pathlib import Path

from . import __version__

VERSION = __version__
#: When this module was loaded, and the package with it, nanoseconds since the epoch.
_LOADED = time.time_ns()


def digest(folder: Path | str) -> str:
    """Return a digest of the Python files in a folder: 12 hexadecimal digits."""
    folder = Path(folder)
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        found.update(str(path.relative_to(folder)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:12]


@functools.cache
def own() -> str:
    """Return the digest of the code that this process has loaded.

    It is made when it is first asked for: most jobs and commands never do. A process that lives
    long asks at its start. Where a file has changed between the load and the first call, the code
    that was loaded is no longer known, and the answer is a digest that no other code has.
    """
    return digest_as_of(Path(__file__).parent, _LOADED)


def digest_as_of(folder: Path, moment: int) -> str:
    """Return the digest of a folder as it was loaded at a moment; a digest that fits no folder
    when a file has changed since.

    :param folder: the folder.
    :param moment: nanoseconds since the epoch.
    """
    # Looked at after the files were read, or a change between would go unnoticed. A time to come is
    # no change: the clock was set back.
    found = digest(folder)
    now = time.time_ns()
    if any(moment < path.stat().st_ctime_ns <= now for path in folder.rglob("*.py")):
        return hashlib.sha256(f"{found} {moment}".encode()).hexdigest()[:12]
    return found
