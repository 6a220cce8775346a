"""Growing: the device of an attached volume is made to show the volume's present size."""

from __future__ import annotations

import contextlib
import dataclasses

from ..errors import DataLossError, UnavailableError
from .devices import block, loop
from .encryption import Encryption
from .localhost import LocalHost
from .steps import Steps


class Resizer:
    """Lets the devices of attached volumes grow.

    :param host: this host.
    :param encryption: grows the open device of an encrypted volume.
    :param steps: does the work on the host.
    """

    def __init__(self, host: LocalHost, encryption: Encryption, steps: Steps) -> None:
        self._host = host
        self._encryption = encryption
        self._steps = steps

    def check_resize(self, name: str, passphrase: str = "") -> None:
        """Check that :meth:`resize` has all it needs, before an attached volume grows.

        :param passphrase: where the passphrase of an encrypted volume is going to be; default:
            where it is now.
        :raises NotFoundError: it is not attached.
        :raises FailedPreconditionError: a program is missing, or the passphrase of an encrypted
            volume.
        """
        record = self._host.load_attached(name)[0]
        self._host.brick.check_extend(record.connection_info)
        if record.encrypted:
            self._encryption.passphrase(name, passphrase or record.passphrase)

    def resize(self, name: str, size: int) -> int:
        """Let an attached volume show its present size and return it in bytes.

        :param size: size of the volume by now, GiB. A disk with device lag is asked again for a
            minute.
        :raises NotFoundError: it is not attached.
        :raises UnavailableError: the device still shows less than ``size``.
        :raises DataLossError: the device is not the volume, or has shrunk.
        """
        with self._host.lock(name):
            record, identity, device = self._host.load_attached(name)
            least = block.least(size, adopted=record.adopted)
            self._host.step("resize")
            if loop.status(device) is not None:
                # Opening the file makes NFS ask the server for the present size.
                with contextlib.suppress(OSError), open(record.file, "rb"):
                    pass
                loop.refresh_size(device)
            else:
                self._steps.extend(record, device, least)
            found = block.size(device)
            if found < identity.size:
                raise DataLossError(f"the device {device} of the volume {name!r} shrank from {identity.size} to {found} bytes")
            if found != identity.size:
                self._host.records.save(
                    record.replace(identity=dataclasses.replace(identity, size=found), size=max(record.size, found // block.GIB))
                )
            self._encryption.grow(record, device)
            if found < least:
                raise UnavailableError(
                    f"the device {device} of the volume {name!r} still shows {found / block.GIB:g} GiB and not {size} GiB; "
                    "check the paths to the storage"
                )
            return found
