"""Attaching all recorded volumes after a boot, without Salt:
``python -m saltstorage.consumer.boot --settings FILE``.

The storage environment's Python runs this, from the unit ``salt-storage-reattach``. The file holds
the settings that :meth:`.ConsumerConfig.to_wire` returned; the SLS ``storage.consumer`` writes it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence

from ..errors import StorageError
from .consumer import Consumer
from .host.config import ConsumerConfig

#: Name of the settings, in the directory of the records.
SETTINGS = "boot.json"
#: Name of the file that says that encrypted volumes wait for Salt, beside the settings. The unit
#: ``salt-storage-unlock`` runs only when it is there.
LOCKED = "locked"


def main(arguments: Sequence[str] | None = None) -> int:
    """Attach the recorded volumes, print a line for each, and return the exit code.

    :returns: 0; or 1 when a volume could not be attached, or the settings cannot be read. A volume
        that is attached and waits for its passphrase is no failure.
    """
    parser = argparse.ArgumentParser(prog="saltstorage.consumer.boot", description="Attach the recorded volumes of this host.")
    parser.add_argument("--settings", required=True, help="file with the settings of the consumer")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        config = read(parser.parse_args(arguments).settings)
    except (OSError, ValueError, TypeError) as error:
        sys.stderr.write(f"the settings cannot be read ({error}); apply the state storage.consumer, which writes them\n")
        return 1
    return reattach(config)


def read(path: str) -> ConsumerConfig:
    """Return the settings in a file.

    :raises OSError: it cannot be read.
    :raises ValueError: it is no JSON.
    :raises TypeError: it holds other data.
    """
    with open(path, encoding="utf-8") as file:
        data = json.load(file)
    if not isinstance(data, dict):
        raise TypeError("they are no mapping")
    return ConsumerConfig.from_wire(data)


def reattach(config: ConsumerConfig) -> int:
    """Attach the recorded volumes with these settings; see :func:`main`."""
    marker = os.path.join(config.state_dir, LOCKED)
    if os.path.exists(marker):
        os.unlink(marker)
    failed = locked = False
    try:
        # Passphrases are in sdb or in pillar, which only Salt reads.
        results = Consumer(config).reattach()
    except StorageError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for result in results:
        text = f"{result.name or 'a damaged record'}: {result.state}"
        if result.state == "locked":
            locked = True
            text += ", waits for Salt (salt-storage-unlock.service)"
        elif result.error is not None:
            text += f": {result.error}"
        elif result.path:
            text += f" at {result.path}"
        failed = failed or result.state == "failed"
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    if locked:
        with open(marker, "w", encoding="utf-8"):
            pass
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
