"""The context that the operations of a job share: this host, the controller, and the inventory."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from .. import model, validate
from ..consumer import passphrase as passphrases
from ..consumer.attachment import Attachment
from ..consumer.consumer import Consumer
from ..consumer.host.config import ConsumerConfig
from ..consumer.status import Status
from ..errors import FailedPreconditionError, PermissionDeniedError, StorageError
from ..model import Connection, Snapshot, Volume
from .batch import Following, Together, of_run
from .inventory import Inventory, current, fetch
from .session import Controller, controller_for, progress_for

log = logging.getLogger(__name__)

#: Pauses before a failed operation is repeated that may succeed later (ABORTED, UNAVAILABLE or
#: RESOURCE_EXHAUSTED), seconds.
RETRY_DELAYS = (1.0, 3.0)


class Flow:
    """The context of one job of a minion.

    The operations themselves are functions of the other modules in this folder.

    :param opts: the minion's options.
    :param context: ``__context__``; keeps the bus and, in a state run, the inventory.
    :param run: identity of the state run (``__instance_id__``); None outside of states.
    :param following: returns the next states whose requests may be sent with this one's.

    >>> flow = Flow(__opts__, __context__)  # doctest: +SKIP
    >>> connecting.connect(flow, "db1", "data").attachment.path  # doctest: +SKIP
    '/dev/storage/data'
    """

    def __init__(
        self, opts: Mapping[str, Any], context: MutableMapping[str, Any], run: str | None = None, following: Following | None = None
    ) -> None:
        self._opts = opts
        self._following = following
        self._context = context
        self._run = run
        self.minion = str(opts["id"])

    @functools.cached_property
    def controller(self) -> Controller:
        """The way to the controller."""
        return controller_for(self._opts, self._context, answer_timeout=self.consumer.config.answer_timeout)

    @functools.cached_property
    def consumer(self) -> Consumer:
        """The volumes of this host."""
        return Consumer(ConsumerConfig.from_opts(self._opts), secrets=passphrases.reader(self._opts), tell=progress_for(self._opts))

    @functools.cached_property
    def together(self) -> Together:
        """The requests of this state run, some of which travel together."""
        return Together(self.ask, self._context, self._run, self.consumer.lock, self._following)

    def ask(self, op: str, args: Mapping[str, Any], *, timeout: float | None = None, retry: bool = True) -> dict[str, Any]:
        """Have the controller carry out an operation.

        :param timeout: longest wait for each answer, seconds; None waits as long as the controller
            works. Not used masterless.
        :param retry: repeat the operation, a few times, after an error that the controller calls
            temporary.
        :raises StorageError: as the operation says.
        """
        for delay in RETRY_DELAYS if retry else ():
            try:
                return self.controller.call(op, args, timeout)
            except StorageError as error:
                if not (error.retryable and error.answered):
                    raise
                log.info("storage: %s; trying again in %g s", error, delay)
                time.sleep(delay)
        return self.controller.call(op, args, timeout)

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """Return a value that is made once in a state run, and at every call outside of one."""
        return of_run(self._context, self._run, key, make)

    def owner(self, owner: Any) -> str:
        """Return the checked owner: this minion for None.

        :raises PermissionDeniedError: the owner is another minion.
        """
        if owner is None or owner == self.minion:
            return self.minion
        if validate.name(owner, "owner") != validate.SHARED_OWNER:
            raise PermissionDeniedError(f"{self.minion} may not use volumes of {owner}; owner is this minion or 'shared'", field="owner")
        return validate.SHARED_OWNER

    def owner_args(self, owner: str) -> dict[str, str]:
        """Return the argument ``owner`` of an operation.

        None for this minion, since the controller knows who asks.
        """
        return {} if owner == self.minion else {"owner": owner}

    def passphrase(self, name: str, value: Any) -> str:
        """Return the place of a volume's passphrase.

        :param value: the place as the user wrote it; see
            :func:`saltstorage.consumer.passphrase.check`.
        """
        return passphrases.direct(passphrases.check(value, name), self._opts, name)

    # This host.

    def attachment(self, name: str) -> Attachment | None:
        """Return the attachment of a volume on this host; None without a record.

        :raises FailedPreconditionError: the record is damaged.
        """
        return self.consumer.attachment(name)

    def attachment_of(self, volume: Volume) -> Attachment | None:
        """Return the attachment of this very volume on this host.

        None when its name is another volume's here, or nobody's.
        """
        attached = self.consumer.attachment(volume.name)
        return attached if attached is not None and attached.volume_id == volume.id else None

    def status(self, name: str, *, size: int | None = None) -> Status:
        """Compare the device of a volume with its record.

        :param size: size that the volume should have, GiB; without it, the recorded one.
        """
        return self.consumer.check(name, size=size)

    def link(self, name: str) -> str:
        """Return the path of a volume's link, such as ``/dev/storage/data``, real or not."""
        return self.consumer.link(name)

    def has_link(self, name: str) -> bool:
        """Return whether a volume's link is there, also when it leads nowhere."""
        return self.consumer.is_linked(name)

    # The controller.

    def inventory(self) -> Inventory:
        """Return what the controller has for this minion; asked for once in a state run."""
        return fetch(self.ask, self._context, self._run)

    def inventory_now(self) -> Inventory:
        """Return what the controller has for this minion at this moment."""
        return fetch(self.ask, {}, None)

    def known(self) -> Inventory | None:
        """Return the inventory of this state run; None when it was not asked for yet."""
        return current(self._context, self._run)

    def put(self, record: Volume | Snapshot | Connection) -> None:
        """Take up a record in the inventory of this run."""
        if (known := self.known()) is not None:
            known.put(record)

    def drop(self, record: Volume | Snapshot | Connection) -> None:
        """Forget a record in the inventory of this run."""
        if (known := self.known()) is not None:
            known.drop(record)


def check_usable(volume: Volume) -> None:
    """Raise FailedPreconditionError when a volume is half created or half deleted."""
    if volume.state in (model.AVAILABLE, model.EXTENDING):
        return
    why = f" ({volume.error})" if volume.error else ""
    if volume.state == model.REVERTING:
        text = f"volume {volume.name!r} is being set back to a snapshot{why}; repeat that (storage.snapshot_revert) until it succeeds"
        raise FailedPreconditionError(text)
    raise FailedPreconditionError(f"volume {volume.name!r} is {volume.state}{why}; apply storage_volume.present or absent first")
