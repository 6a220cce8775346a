"""Run in a guest: write a file slowly, one MiB at a time and each to the disk, and leave its checksum when done.

``writer.py PATH MIB SUM``. Only the standard library.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time

path, count, result = sys.argv[1], int(sys.argv[2]), sys.argv[3]
digest = hashlib.sha256()
with open(path, "wb") as file:
    for _ in range(count):
        data = os.urandom(2**20)
        digest.update(data)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        time.sleep(0.1)
with open(result + ".new", "w") as file:
    file.write(digest.hexdigest())
os.rename(result + ".new", result)
