"""The wheel's map of packages, which ``pyproject.toml`` cannot compute: no file is moved."""

from setuptools import find_packages, setup

#: Package in the wheel, and its folder here. ``saltext/storage/__init__.py`` says why the package
#: ``saltstorage`` is not at the top.
FOLDERS = {
    "saltext.storage.modules": "_modules",
    "saltext.storage.states": "_states",
    "saltext.storage.runners": "_runners",
    "saltext.storage.engines": "_engines",
    "saltext.storage.utils": "_utils",
    "saltext.storage.formula.storage": "storage",
    "saltext.storage.formula.requirements": "requirements",
}

setup(
    package_dir=FOLDERS,
    packages=["saltext.storage", *FOLDERS, *(f"saltext.storage.utils.{name}" for name in find_packages("_utils"))],
    package_data={
        "saltext.storage.formula.storage": ["**/*"],
        "saltext.storage.formula.requirements": ["*.txt", "*.in"],
    },
    exclude_package_data={"saltext.storage.formula.requirements": ["dev.*", "release.*"]},
)
