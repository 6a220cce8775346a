"""Configuration of Sphinx: ``make docs``."""

import importlib.util
import sys
import types
import warnings
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(CHECKOUT / "_utils"), str(CHECKOUT / "docs/_ext")]
# Cinder imports eventlet, which warns that it is deprecated.
warnings.simplefilter("ignore")


def _load_as_salt_does(kind: str) -> None:
    """Make the files of a loader folder importable, such as ``modules.storage``."""
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

extensions = ["sphinx.ext.autodoc", "layers", "semantics"]
exclude_patterns = ["_build"]
# Most examples are commands and pillar; Python says so itself.
highlight_language = "none"
html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["door.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6b58", "color-brand-content": "#0b6b58"},
    "dark_css_variables": {"color-brand-primary": "#5cc9b0", "color-brand-content": "#5cc9b0"},
}
html_show_sourcelink = False
html_show_copyright = False

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_preserve_defaults = True
