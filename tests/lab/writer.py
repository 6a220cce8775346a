"""Run in a guest: write numbered blocks to a file, slowly and each to the disk, until told to
end; then leave the checksum of the file.

``writer.py PATH STATE``: ``STATE.blocks`` tells how many blocks are on the disk, the file
``STATE.end`` ends it, and ``STATE.sum`` is the checksum. A file that is as long as it gets is
written from its start again. Only the standard library.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time

SIZE = 2**18
#: Length of the file, blocks.
LENGTH = 1024


def block(number: int) -> bytes:
    return number.to_bytes(8, "big") * (SIZE // 8)


path, state = sys.argv[1:]
number = 0
with open(path, "wb") as file, open(f"{state}.blocks", "wb") as progress:
    while not os.path.exists(f"{state}.end"):
        file.seek(number % LENGTH * SIZE)
        file.write(block(number))
        file.flush()
        os.fsync(file.fileno())
        number += 1
        os.pwrite(progress.fileno(), b"%12d" % number, 0)
        time.sleep(0.05)
digest = hashlib.sha256()
for place in range(min(number, LENGTH)):
    # The last of the blocks that were written there.
    digest.update(block(number - 1 - (number - 1 - place) % LENGTH))
with open(f"{state}.sum", "w") as file:
    file.write(digest.hexdigest())
