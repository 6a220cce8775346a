"""The volumes of this host: attach, check, grow and detach them.

The flow uses the methods of :class:`Consumer` in this order::

    consumer = Consumer(ConsumerConfig.from_opts(__opts__))
    with consumer.lock("data"):                  # One job at a time on a volume; reentrant.
        consumer.intend("db1", "data")           # The record comes before the mapping.
        answer = …ask the controller, with consumer.connector_properties()…
        consumer.attach(volume, connection_id=…, connection_info=…)

    consumer.detach("data")                      # The record stays, in the state "detached", until
    …tell the controller to unmap…
    consumer.forget("data")                      # …the controller has unmapped.

A host has at most one volume of a name: its own and a shared volume of the same name cannot both
be attached, since ``/dev/storage/<name>`` can name only one. The second is refused with
ALREADY_EXISTS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from ..errors import FailedPreconditionError, StorageError
from ..model import Volume
from ..progress import Tell
from .attacher import Attacher
from .attachment import Attachment, Detached, Reattached
from .detacher import Detacher
from .devices.holders import Holder
from .encrypted import EncryptedVolumes
from .encryption import Encryption
from .filesystems.fstab import Fstab
from .host.config import ConsumerConfig
from .inspection import Inspection
from .leftovers import Leftover
from .localhost import LocalHost
from .marks import Marks
from .mount_points import MountPoints
from .passphrase import Reader
from .reattacher import Reattacher
from .resizer import Resizer
from .status import Status
from .steps import Steps


def no_secrets(reference: str, name: str) -> bytes:
    """Refuse: a reader of passphrases for callers that never open encrypted volumes."""
    raise FailedPreconditionError(f"the passphrase of volume {name!r} at {reference} cannot be read here")


class Consumer:
    """The volumes of this host: the front of the consumer's parts, which do the work.

    :param config: settings.
    :param secrets: reads passphrases of encrypted volumes; without it, no such volume can be
        opened.
    :param tell: takes reports on long steps; without it, there are no reports.
    :param on_step: called with the name of each step before it is done; for tests.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        *,
        secrets: Reader = no_secrets,
        tell: Tell | None = None,
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        self.config = config
        self._host = host = LocalHost(config, tell=tell, on_step=on_step)
        self.records = host.records
        self.links = host.links
        self._encryption = encryption = Encryption(host, secrets)
        steps = Steps(host, encryption)
        self._inspection = Inspection(host, encryption, steps)
        self._resizer = Resizer(host, encryption, steps)
        self._attacher = Attacher(host, self._inspection, self._resizer, steps)
        self._detacher = Detacher(host, steps)
        self._reattacher = Reattacher(host, self._inspection, encryption, steps)
        self._encrypted = EncryptedVolumes(host, encryption)
        self._marks = Marks(host)
        self._mount_points = MountPoints(host)

    def connector_properties(self) -> dict[str, Any]:
        """Return this host's facts for a mapping. See :meth:`.Brick.connector_properties`."""
        return self._host.brick.connector_properties()

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Hold the lock of a volume on this host. See :meth:`.LocalHost.lock`."""
        return self._host.lock(name)

    def link(self, name: str) -> str:
        """Return the path of a volume's link, ``/dev/storage/data``, whether it exists or not."""
        return self.links.path(name)

    def is_linked(self, name: str) -> bool:
        """Return whether a volume's link exists, even if it leads nowhere."""
        return self.links.target(name) is not None

    @property
    def fstab(self) -> Fstab:
        """This host's table of file systems."""
        return Fstab(self.config.fstab)

    def attachments(self) -> tuple[list[Attachment], list[StorageError]]:
        """Return all attachments. See :meth:`.Inspection.attachments`."""
        return self._inspection.attachments()

    def attachment(self, name: str) -> Attachment | None:
        """Return an attachment, or None. See :meth:`.Inspection.attachment`."""
        return self._inspection.attachment(name)

    def leftovers(self) -> list[Leftover]:
        """Return the leftovers on this host. See :meth:`.Inspection.leftovers`."""
        return self._inspection.leftovers()

    def device(self, name: str) -> str:
        """Return the path of an attached volume. See :meth:`.Inspection.device`."""
        return self._inspection.device(name)

    def check(self, name: str, *, size: int | None = None) -> Status:
        """Compare a volume's record with its device. See :meth:`.Inspection.check`."""
        return self._inspection.check(name, size=size)

    def mountable(self, name: str) -> str:
        """Return the path to mount a volume from. See :meth:`.Inspection.mountable`."""
        return self._inspection.mountable(name)

    def holders(self, name: str) -> list[Holder]:
        """Return the users of an attached volume. See :meth:`.Inspection.holders`."""
        return self._inspection.holders(name)

    def intend(self, owner: str, name: str, *, read_only: bool = False, passphrase: str = "") -> Attachment:
        """Record that a volume is about to be mapped to this host. See :meth:`.Attacher.intend`."""
        return self._attacher.intend(owner, name, read_only=read_only, passphrase=passphrase)

    def attach(
        self,
        volume: Volume | Mapping[str, Any],
        *,
        connection_id: str,
        connection_info: Mapping[str, Any],
        connector: Mapping[str, Any] | None = None,
        read_only: bool = False,
        passphrase: str = "",
    ) -> Attachment:
        """Attach a volume, check its device, and link it. See :meth:`.Attacher.attach`."""
        return self._attacher.attach(
            volume,
            connection_id=connection_id,
            connection_info=connection_info,
            connector=connector,
            read_only=read_only,
            passphrase=passphrase,
        )

    def reattach(self) -> list[Reattached]:
        """Attach every recorded volume again after a boot. See :meth:`.Reattacher.reattach`."""
        return self._reattacher.reattach()

    def check_resize(self, name: str, passphrase: str = "") -> None:
        """Check that :meth:`resize` has all it needs. See :meth:`.Resizer.check_resize`."""
        self._resizer.check_resize(name, passphrase)

    def resize(self, name: str, size: int) -> int:
        """Let an attached volume show its present size. See :meth:`.Resizer.resize`."""
        return self._resizer.resize(name, size)

    def detach(self, name: str, owner: str | None = None, *, force: bool = False) -> Detached:
        """Detach a volume that is not in use. See :meth:`.Detacher.detach`."""
        return self._detacher.detach(name, owner, force=force)

    def discard(self, name: str) -> Detached:
        """Remove the stale device of a fenced volume. See :meth:`.Detacher.discard`."""
        return self._detacher.discard(name)

    def forget(self, name: str) -> None:
        """Remove the record of a detached volume. See :meth:`.Detacher.forget`."""
        self._detacher.forget(name)

    def passphrase(self, name: str, reference: str) -> None:
        """Check, before anything is done, that an encrypted volume can be opened here.

        :raises FailedPreconditionError: its passphrase or cryptsetup is missing.
        """
        self._encryption.passphrase(name, reference)

    def needs_encryption(self, name: str) -> bool:
        """Return whether a volume is plain. See :meth:`.EncryptedVolumes.needs_encryption`."""
        return self._encrypted.needs_encryption(name)

    def encrypt(self, name: str, *, resume: bool) -> None:
        """Encrypt an attached volume that is empty. See :meth:`.EncryptedVolumes.encrypt`."""
        self._encrypted.encrypt(name, resume=resume)

    def open(self, name: str) -> Attachment:
        """Open an encrypted volume, and link it. See :meth:`.EncryptedVolumes.open`."""
        return self._encrypted.open(name)

    def begin_format(self, name: str) -> bool:
        """Record that a file system is about to be made. See :meth:`.Marks.begin_format`."""
        return self._marks.begin_format(name)

    def end_format(self, name: str) -> None:
        """Record that no file system is being made any more. See :meth:`.Marks.end_format`."""
        self._marks.end_format(name)

    def begin_encryption(self, name: str) -> bool:
        """Record that a volume is about to be encrypted. See :meth:`.Marks.begin_encryption`."""
        return self._marks.begin_encryption(name)

    def end_encryption(self, name: str) -> None:
        """Record that encrypting was not begun. See :meth:`.Marks.end_encryption`."""
        self._marks.end_encryption(name)

    def add_mount_point(self, name: str, path: str) -> bool:
        """Create a directory to mount a volume on. See :meth:`.MountPoints.add`."""
        return self._mount_points.add(name, path)

    def remove_mount_points(self, name: str) -> list[str]:
        """Remove a volume's created mount points. See :meth:`.MountPoints.remove_all`."""
        return self._mount_points.remove_all(name)
