"""The parameters that ``connected`` and ``mounted`` share."""

from __future__ import annotations

from typing import Any

from .. import validate
from ..errors import InvalidArgumentError
from ..flow.connecting import How
from ..flow.flow import Flow
from ..spec import VolumeSpec


class Request:
    """The checked parameters that ``connected`` and ``mounted`` share.

    :param wanted: the volume is created or grown, and gets the attributes; None connects an
        existing one as it is.
    :param mounts: whether the state is ``mounted``.
    :param resize: whether a volume, device or file system that is too small is grown.
    :param passphrase: place of the passphrase of an encrypted volume; the attribute is empty when
        it is not to be encrypted.
    """

    def __init__(
        self,
        flow: Flow,
        name: Any,
        owner: Any,
        read_only: Any,
        *,
        wanted: VolumeSpec | None,
        mounts: bool = False,
        encrypted: Any = False,
        passphrase: Any = None,
        resize: Any = True,
    ) -> None:
        self.mounts = mounts
        self.name = validate.name(name)
        # Beside ``wanted.resize``: a volume that the master made, and grows, has a file system
        # here too.
        self.resize = validate.boolean(resize, "resize")
        self.read_only = validate.boolean(read_only, "read_only")
        if passphrase is not None:
            # Before anything else can fail: if this is a passphrase, it was written where others
            # can read it.
            flow.passphrase(self.name, passphrase)
        if not validate.boolean(encrypted, "encrypted") and passphrase is not None:
            raise InvalidArgumentError("a passphrase is for encrypted volumes; say encrypted: True as well", field="passphrase")
        self.passphrase = flow.passphrase(self.name, passphrase) if encrypted else ""
        self.owner = flow.owner(owner)
        # A shared volume is as the master made it.
        self.wanted = wanted if self.owner == flow.minion else None

    @property
    def how(self) -> How:
        """How the volume is to be connected."""
        return How(wanted=self.wanted, read_only=self.read_only, mounts=self.mounts, passphrase=self.passphrase)
