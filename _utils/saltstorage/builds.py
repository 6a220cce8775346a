"""Which code this is: a process goes on with the code that it loaded, also when the files have
changed since.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from . import __version__


def digest(folder: Path | str) -> str:
    """Return a digest of the Python files in a folder: 12 hexadecimal digits."""
    folder = Path(folder)
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        found.update(str(path.relative_to(folder)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:12]


#: Digest of the code that this process has loaded, as it was when this module was loaded.
BUILD = digest(Path(__file__).parent)
VERSION = __version__
