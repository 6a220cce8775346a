"""Makes the storage environment: beside the one in use, and switched by one rename when it is
complete and works.

``/opt/salt-storage`` is a link to ``/opt/salt-storage.d/<digest>``. The digest is over all that the
environment is made from, so another lock file, package or Python makes another folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import builds
from ..errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InternalError,
    PermissionDeniedError,
    ResourceExhaustedError,
    StorageError,
    UnavailableError,
)
from . import pythons
from .location import CONSUMER, CONTROLLER

log = logging.getLogger(__name__)

STAMP = "storage-environment.json"
#: Modules that must load in an environment of each role before it is used.
_PROVES: Mapping[str, tuple[str, ...]] = {
    CONSUMER: ("os_brick.initiator.connector", "saltstorage.consumer.boot", "saltstorage.consumer.connectors.__main__"),
    CONTROLLER: (
        "os_brick.initiator.connector",
        "cinder.volume.configuration",
        "cinderlib",
        "sqlalchemy",
        "tooz",
        "saltstorage.consumer.boot",
        "saltstorage.controller.desk",
    ),
}
#: Room that a build needs, MiB.
_ROOM: Mapping[str, int] = {CONSUMER: 250, CONTROLLER: 700}
#: How long one step may take, seconds: an index far away, a slow disk.
_TIMEOUT = 3600.0
_URL_PASSWORD = re.compile(r"(://)[^/@\s]+@")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The sources of an environment.

    :ivar folder: where it is to be, such as ``/opt/salt-storage``.
    :ivar role: ``controller`` or ``consumer``.
    :ivar lock: path of the lock file, in pip's format, with hashes.
    :ivar python: path of a Python; None to look for the distribution's.
    :ivar index_url: URL of a package index; None: pip's own configuration says which.
    :ivar wheels: folder with all wheels; no index is asked then.
    """

    folder: str
    role: str
    lock: str
    python: str | None = None
    index_url: str | None = None
    wheels: str | None = None


@dataclass(frozen=True, kw_only=True)
class Status:
    """The environment that is in use.

    :ivar present: whether there is one.
    :ivar problem: its fault in words; empty: none.
    :ivar stamp: its description of itself: ``digest``, ``role``, ``version``, ``build`` and
        ``python``.
    """

    present: bool
    problem: str
    stamp: Mapping[str, Any]


def status(folder: str) -> Status:
    """Return what is known of the environment in a folder. Its Python is started, and nothing
    else.
    """
    if not os.path.lexists(folder):
        return Status(present=False, problem="", stamp={})
    try:
        stamp = json.loads((Path(folder) / STAMP).read_text(encoding="utf-8"))
        if not isinstance(stamp, dict) or not isinstance(stamp["files"], str):
            raise ValueError
    except (OSError, ValueError, KeyError):
        return Status(present=True, problem="its stamp is missing or damaged", stamp={})
    if _files(Path(folder)) != stamp["files"]:
        return Status(present=True, problem="files in it are missing or were changed", stamp=stamp)
    try:
        _run([os.path.join(folder, "bin", "python"), "-I", "-c", ""], "the Python in it")
    except StorageError:
        return Status(present=True, problem="the Python in it does not start", stamp=stamp)
    return Status(present=True, problem="", stamp=stamp)


def needed(plan: Plan) -> str:
    """Return why an environment has to be built, in words; empty: it is there and right.

    :raises StorageError: it cannot be built; the message says why.
    """
    found = status(plan.folder)
    if not found.present:
        return "there is none yet"
    if found.problem:
        return found.problem
    python, digest = _source(plan)
    if found.stamp.get("digest") == digest:
        return ""
    for key, now, text in (
        ("role", plan.role, "its role changes"),
        ("build", builds.digest(_package()), "the formula's code has changed"),
        ("python", [python.path, python.version], f"the Python of the distribution is {python.version} now"),
    ):
        if found.stamp.get(key) != now:
            return text
    return "the lock file has changed"


def build(plan: Plan) -> bool:
    """Build and switch to the environment, if it is needed; return whether it was.

    :raises StorageError: it could not be built; the environment before is in use still.
    """
    if os.geteuid() != 0:
        raise PermissionDeniedError("the storage environment is made by root")
    _check_folder(plan.folder)
    with _locked(plan.folder):
        if not needed(plan):
            return False
        python, digest = _source(plan)
        target = Path(f"{plan.folder}.d") / digest
        if os.path.realpath(plan.folder) == str(target):
            # A damaged one: it stays in use until the new one is there.
            target = target.with_name(f"{digest}.{os.urandom(4).hex()}")
        _clear(plan.folder)
        free = shutil.disk_usage(f"{plan.folder}.d").free >> 20
        if free < _ROOM[plan.role]:
            text = f"the storage environment needs {_ROOM[plan.role]} MiB in {plan.folder}.d, and {free} MiB are free"
            raise ResourceExhaustedError(f"{text}; make room, and apply again")
        try:
            _make(plan, python, digest, target)
        except BaseException as exc:
            shutil.rmtree(target, ignore_errors=True)
            if isinstance(exc, OSError):
                raise _of_system(exc, plan.folder) from None
            raise
        _switch(plan.folder, target)
        log.info("storage: the storage environment %s was made", target)
        return True


def remove(folder: str) -> bool:
    """Remove the environment and all that was left of others; return whether there was any.

    :raises AlreadyExistsError: something else is in its place.
    """
    _check_folder(folder)
    if not os.path.lexists(folder) and not os.path.lexists(f"{folder}.d"):
        return False
    with _locked(folder):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder)
        shutil.rmtree(f"{folder}.d")
    return True


def role_for(folder: str, wanted: str) -> str:
    """Return the role that an environment gets: one of a controller serves a consumer too, and
    stays what it is.
    """
    return CONTROLLER if wanted == CONTROLLER or status(folder).stamp.get("role") == CONTROLLER else CONSUMER


def _source(plan: Plan) -> tuple[pythons.Python, str]:
    """Return the Python, and the digest of all that an environment is made from."""
    python = pythons.find(plan.python)
    try:
        lock = Path(plan.lock).read_bytes()
    except OSError as exc:
        raise FailedPreconditionError(f"the lock file {plan.lock} cannot be read: {exc.strerror}") from None
    found = hashlib.sha256()
    for part in (lock, builds.digest(_package()).encode(), python.path.encode(), python.version.encode(), plan.role.encode()):
        found.update(len(part).to_bytes(8, "big") + part)
    return python, found.hexdigest()[:16]


def _make(plan: Plan, python: pythons.Python, digest: str, target: Path) -> None:
    _run([python.path, "-I", "-m", "venv", str(target)], "making a virtual environment")
    own = str(target / "bin" / "python")
    pip = [own, "-I", "-m", "pip", "--no-input", "--disable-pip-version-check", "install", "--quiet", "--no-cache-dir"]
    source: list[str] = []
    environ = _pip_environ()
    if plan.wheels:
        if not os.path.isdir(plan.wheels):
            raise FailedPreconditionError(f"the folder of wheels {plan.wheels} does not exist")
        source = ["--no-index", "--find-links", plan.wheels]
    elif plan.index_url:
        # Not on the command line, which everybody can read: it may have a password.
        environ["PIP_INDEX_URL"] = plan.index_url
    how = ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
    _run([*pip, *source, *how, "--requirement", plan.lock], "installing the packages of the lock file", environ)
    [packages] = (target / "lib").glob("python3*/site-packages")
    package = _package()
    shutil.copytree(package, packages / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    _run([own, "-I", "-m", "compileall", "-q", str(packages / package.name)], "compiling the package")
    _run([own, "-I", "-c", f"import {', '.join(_PROVES[plan.role])}"], "trying the environment")
    stamp = {
        "digest": digest,
        "role": plan.role,
        "version": builds.VERSION,
        "build": builds.digest(package),
        "python": [python.path, python.version],
        "files": _files(target),
    }
    (target / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    # Before the switch: after a power loss, the link must not lead to files without contents.
    os.sync()


def _package() -> Path:
    """Return the folder of the project's package, as it is now; this process may have loaded
    another state of it.
    """
    return Path(builds.__file__).parent


def _files(target: Path) -> str:
    """Return a digest of the names and sizes of all files that are no cache."""
    found = hashlib.sha256()
    start = os.path.realpath(target)
    for folder, folders, names in os.walk(start):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name != STAMP:
                found.update(f"{os.path.relpath(path, start)}\0{os.lstat(path).st_size}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()[:16]


def _switch(folder: str, target: Path) -> None:
    new = f"{folder}.d/new-link"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    os.symlink(target, new)
    os.replace(new, folder)


def _clear(folder: str) -> None:
    """Remove what killed builds left, and environments before the one in use: processes may still
    run from that.
    """
    used = os.path.realpath(folder)
    for path in Path(f"{folder}.d").iterdir():
        if path.is_dir() and not path.is_symlink() and str(path) != used:
            shutil.rmtree(path)


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Hold the lock of builds; another one is waited for."""
    try:
        os.makedirs(f"{folder}.d", mode=0o755, exist_ok=True)
        lock = os.open(f"{folder}.d/.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise _of_system(exc, folder) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _check_folder(folder: str) -> None:
    if os.path.lexists(folder) and not os.path.islink(folder):
        raise AlreadyExistsError(
            f"{folder} is no storage environment of this formula; move it away, or set storage:environment to another folder"
        )
    if os.path.islink(folder) and not os.path.realpath(folder).startswith(f"{os.path.realpath(folder + '.d')}/"):
        raise AlreadyExistsError(f"{folder} is a link to {os.readlink(folder)}, which the formula did not make; remove the link")
    parent = os.path.dirname(folder)
    if os.path.isdir(parent) and os.stat(parent).st_mode & 0o022:
        raise FailedPreconditionError(
            f"others than root can write to {parent}, and so could replace the environment; correct its mode, or choose another"
        )


def _pip_environ() -> dict[str, str]:
    kept = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    return {key: value for key, value in os.environ.items() if key in kept or key.startswith("PIP_") or key.lower().endswith("_proxy")}


def _run(command: list[str], what: str, environ: Mapping[str, str] | None = None) -> None:
    environ = {"PATH": os.environ.get("PATH", os.defpath)} if environ is None else environ
    try:
        done = subprocess.run(
            command,
            env=dict(environ),
            cwd="/",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
            umask=0o022,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{what} took more than {_TIMEOUT:.0f} s; what was in use before still is") from None
    except OSError as exc:
        raise InternalError(f"{what}: {command[0]}: {exc.strerror}") from None
    if done.returncode:
        raise _of_output(what, done.stderr + done.stdout)


def _of_output(what: str, output: str) -> StorageError:
    """Return a failed command as an error that says what to do."""
    text = _URL_PASSWORD.sub(r"\1***@", output)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("WARNING", "[notice]"))]
    said = " ".join(lines[-6:])[-600:]
    ending = f"{what} failed, and what was in use before still is: {said}"
    if "No space left" in text:
        return ResourceExhaustedError(f"{ending}; make room, and apply again")
    if "DO NOT MATCH THE HASHES" in text or "HashMismatch" in text:
        hint = "an index or a folder of wheels has other files than the lock file names; find out why before you trust it"
        return FailedPreconditionError(f"{what} failed, and what was in use before still is: {hint} ({said})")
    if any(
        word in text
        for word in ("Connection", "timed out", "No matching distribution", "Temporary failure", "Could not fetch", "HTTP error")
    ):
        hint = "check the index (storage:lookup:environment:index_url, or pip's configuration), or give a folder of wheels (…:wheels)"
        return UnavailableError(f"{ending}; {hint}")
    return InternalError(ending)


def _of_system(exc: OSError, folder: str) -> StorageError:
    text = f"the storage environment cannot be made in {folder}.d: {exc.strerror}; what was in use before still is"
    return ResourceExhaustedError(text) if exc.errno in (28, 122) else FailedPreconditionError(text)
