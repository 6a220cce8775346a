"""Block storage for Salt: a controller on the master, consumers on the minions.

The package holds all the logic; the files in ``_modules``, ``_states``, ``_runners`` and
``_engines`` are adapters to Salt's loader.  Importing the package must stay cheap: os-brick,
cinder, cinderlib and SQLAlchemy are imported inside the functions that need them.
"""

# Every loader file imports the package first of all, so an import here stops each of them, and
# Salt shows the text of the error where the function or the state is asked for. The files that
# Python reads before that, this one and the loader files, are written for Python 3.8,
# which has no short types.
import sys

__version__ = "1.0.0"


def _unsupported(python, salt):  # type: ignore[no-untyped-def]
    """Return why the package cannot run here, in one line; empty when it can.

    :param python: the version of Python, such as ``(3, 11, 7)``.
    :param salt: the version of Salt, such as ``(3006, 30)``; None where there is none.
    """
    # 3006.27 is the first of its line whose packages have Python 3.11. The line 3007 has ended.
    if python >= (3, 11) and (salt is None or (3006, 27) <= salt < (3007,) or salt >= (3008,)):
        return ""
    here = "Python " + ".".join(str(part) for part in python[:3])
    if salt is not None:
        here = "Salt " + ".".join(str(part) for part in salt[:2]) + " with " + here
    return "storage needs Salt 3006.27 or newer of the line 3006, or 3008 or newer, and Python 3.11 or newer; this is " + here


def _salt_version():  # type: ignore[no-untyped-def]
    # The storage environment has no Salt; where Salt loads the package, this module is loaded.
    found = getattr(sys.modules.get("salt.version"), "__version_info__", None)
    return None if found is None else tuple(part for part in found if isinstance(part, int))


if _unsupported(sys.version_info[:3], _salt_version()):
    raise ImportError(_unsupported(sys.version_info[:3], _salt_version()))
