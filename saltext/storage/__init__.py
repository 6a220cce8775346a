"""Block storage for Salt, as an extension: the name under which Salt finds the loader files.

In the wheel, ``modules``, ``states``, ``runners`` and ``engines`` lie beside this file, and the
package ``saltstorage`` in ``utils``; in the checkout they are ``_modules`` and so on.
``setup.py`` maps them. ``formula`` holds the SLS and the lock files.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

_UTILS = str(Path(__file__).parent / "utils")


class _Last:
    """Finds the package ``saltstorage`` of the extension where there is no other.

    Salt loads synced files before those of extensions, and puts its folder of synced ``utils`` at
    the end of ``sys.path``. A package in ``site-packages`` would come before that: the loader
    files of a synced formula would work with the package of the extension.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [_UTILS]) if name == "saltstorage" else None


# Salt imports this before it loads a file.
sys.meta_path.append(_Last)
