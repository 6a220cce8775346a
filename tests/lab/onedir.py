"""Stand-ins for Salt's packages: ``python -m tests.lab.onedir FOLDER``, where there is a network.

Salt's packages bring a folder with a Python of its own, built by relenv, which is not to be had
from a package index. A stand-in has what matters here:

* the layout of ``/opt/saltstack/salt``: Python in ``bin``, with the libraries that it needs in
  ``lib``; Salt in ``lib/python3.x/site-packages``; Salt's commands at its top, which find their
  Python beside them; and the packages of ``salt-pip`` in ``extras-3.x``;
* relenv's own runtime, started by ``relenv.pth`` as there: it sets ``sys.RELENV``, and leaves
  nothing on ``sys.path`` that is outside of the folder. ``extras-3.x`` comes first.

The Python itself is Debian's. It runs by the loader and the C library that it was made for, so a
newer one runs on an older Debian; relenv's needs no loader of its own, since it is built for old
ones.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
REQUIREMENTS = CHECKOUT / "requirements"
#: Where this machine does not name its own.
MIRROR = "http://deb.debian.org/debian/"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
COMMANDS = ("salt", "salt-call", "salt-key", "salt-master", "salt-minion", "salt-pip", "salt-run")
LOADER = "ld-linux-x86-64.so.2"

PYTHON = """\
#!/bin/sh
here=$(dirname "$(dirname "$(readlink -f "$0")")")
exec "$here/lib/{loader}" --argv0 "$0" --library-path "$here/lib" "$here/lib/python{python}/python" "$@"
"""

#: As relenv's and Salt's scripts: a shell script that starts the Python beside it, and is Python.
COMMAND = """\
#!/bin/sh
"exec" "$(dirname $(readlink -f $0))/bin/python3" "$0" "$@"
import sys
from salt.scripts import {function}
if __name__ == "__main__":
    sys.exit({function}())
"""

#: The folder of `salt-pip` comes first; the name of the file decides that it does after relenv's.
EXTRAS = 'import sys; sys.path.insert(0, str(sys.RELENV / "extras-{}.{}".format(*sys.version_info)))\n'


@dataclass(frozen=True)
class Onedir:
    """A stand-in.

    :ivar salt: line of Salt.
    :ivar python: version of its Python, as its packages have it.
    :ivar suite: Debian that has this Python.
    :ivar versions: lock file with the versions of its packages.
    """

    salt: str
    python: str
    suite: str
    versions: str


ONEDIRS = (Onedir("3006", "3.11", "bookworm", "salt3006.txt"), Onedir("3008", "3.14", "forky", "dev.txt"))


def main(folder: Path) -> None:
    """Make what is missing: the stand-ins, and ``wheels`` with the packages of storage
    environments.
    """
    for onedir in ONEDIRS:
        with _once(folder / "onedir" / onedir.salt, (REQUIREMENTS / onedir.versions, Path(__file__))) as target:
            if target:
                _make(onedir, target)
    locks = [CHECKOUT / "storage/requirements" / f"{role}.txt" for role in ("consumer", "controller")]
    with _once(folder / "wheels", tuple(locks)) as target:
        if target:
            _download(locks, target)


@contextmanager
def _once(target: Path, sources: tuple[Path, ...]) -> Iterator[Path | None]:
    """Yield a folder to fill, or None when it was filled from the same sources."""
    stamp = target.with_name(f"{target.name}.made")
    now = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    if stamp.exists() and stamp.read_text() == now:
        yield None
        return
    print(f"Making {target} (once)", flush=True)
    stamp.unlink(missing_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    yield target
    stamp.write_text(now)


def _make(onedir: Onedir, target: Path) -> None:
    debian = target.with_name(f"{target.name}.debian")
    shutil.rmtree(debian, ignore_errors=True)
    _unpack(onedir.suite, f"python{onedir.python}", debian)
    library = target / "lib"
    modules = library / f"python{onedir.python}"
    shutil.copytree(debian / f"root/usr/lib/python{onedir.python}", modules, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("EXTERNALLY-MANAGED", "sitecustomize.py"):
        (modules / name).unlink(missing_ok=True)
    for path in sorted((debian / "root").rglob("*.so*")):
        if path.parent.name == "x86_64-linux-gnu" or path.name == LOADER:
            # Its target, where it is a link: all of them end up in one folder.
            with_links = path.resolve()
            if with_links.is_file() and with_links.is_relative_to(debian):
                shutil.copy2(with_links, library / path.name)
    # relenv's runtime asks for it by this name.
    (library / "libcrypto.so").symlink_to("libcrypto.so.3")
    shutil.copy2(debian / f"root/usr/bin/python{onedir.python}", modules / "python")
    shutil.rmtree(debian)
    (target / "bin").mkdir()
    python = target / "bin" / f"python{onedir.python}"
    _script(python, PYTHON.format(loader=LOADER, python=onedir.python))
    (target / "bin" / "python3").symlink_to(python.name)
    packages = modules / "site-packages"
    _install(onedir, python, packages)
    (packages / "relenv.pth").write_text("import relenv.runtime; relenv.runtime.bootstrap()\n")
    (packages / "salt_extras.pth").write_text(EXTRAS)
    # Debian's own Python looks there.
    (modules / "dist-packages").symlink_to(packages.name)
    subprocess.run([str(python), "-m", "compileall", "-q", "-x", "site-packages", str(modules)], check=True)
    for name in COMMANDS:
        function = {"salt": "salt_main"}.get(name, name.replace("-", "_"))
        _script(target / name, COMMAND.format(function=function))


def _unpack(suite: str, package: str, folder: Path) -> None:
    """Unpack a Debian package and all that it depends on into ``root`` of the folder."""
    for name in ("state/lists/partial", "cache/archives/partial", "root"):
        (folder / name).mkdir(parents=True)
    (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n")
    options = {
        "Dir::State": folder / "state",
        # As where nothing is installed.
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in options.items())]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "install", "--download-only", "-y", "--no-install-recommends", package], check=True, stdout=subprocess.DEVNULL)
    for archive in sorted((folder / "cache/archives").glob("*.deb")):
        subprocess.run(["dpkg", "--extract", str(archive), str(folder / "root")], check=True)


def _mirror() -> str:
    """Return the mirror of this Debian."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    release = platform.freedesktop_os_release().get("VERSION_CODENAME")
    return next((uri for uri, _, name in (line.partition(" ") for line in found) if name == release), MIRROR)


def _install(onedir: Onedir, python: Path, packages: Path) -> None:
    """Install Salt, and relenv for its runtime, with the versions that the tests have."""
    # Salt runs without it, and it has no wheel.
    overrides = packages.parent / "overrides.txt"
    overrides.write_text("timelib ; sys_platform == 'none'\n")
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--python", str(python), "--target", str(packages)]
    versions = ["--constraint", str(REQUIREMENTS / onedir.versions), "--override", str(REQUIREMENTS / "overrides.txt")]
    how = [*versions, "--override", str(overrides), "--link-mode", "copy", "--compile-bytecode"]
    subprocess.run([*uv, *how, "salt", "relenv", "pip"], check=True)
    overrides.unlink()


def _download(locks: list[Path], target: Path) -> None:
    """Download wheels for the distribution's Python, which storage environments are made from."""
    sys.path.insert(0, str(CHECKOUT / "_utils"))
    from saltstorage.environment import pythons

    subprocess.run([pythons.find().path, "-I", "-m", "venv", str(target / "venv")], check=True)
    pip = [str(target / "venv/bin/python"), "-m", "pip", "download", "-qq", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    for lock in locks:
        subprocess.run([*pip, "--requirement", str(lock), "--dest", str(target)], check=True)
    shutil.rmtree(target / "venv")


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


if __name__ == "__main__":
    os.umask(0o022)
    main(Path(sys.argv[1]).resolve())
