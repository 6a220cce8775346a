"""Configuration of Sphinx: ``make docs``."""

import importlib.util
import sys
import types
import warnings
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(CHECKOUT / "_utils"), str(CHECKOUT / "docs/_ext")]
# Cinder imports eventlet, which warns of itself.
warnings.simplefilter("ignore")


def _load_as_salt_does(kind: str) -> None:
    """Make the files of a loader folder importable as ``modules.storage``, ``runners.storage`` and so on."""
    package = types.ModuleType(kind)
    package.__path__ = []
    sys.modules[kind] = package
    for path in sorted((CHECKOUT / f"_{kind}").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"{kind}.{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)


for _kind in ("modules", "states", "runners", "engines"):
    _load_as_salt_does(_kind)

import saltstorage  # noqa: E402

project = "Salt storage formula"
author = "the authors of the Salt storage formula"
release = version = saltstorage.__version__

extensions = ["sphinx.ext.autodoc", "semantics"]
exclude_patterns = ["_build"]
html_theme = "sphinx_rtd_theme"
html_show_sourcelink = False
html_show_copyright = False

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_preserve_defaults = True
