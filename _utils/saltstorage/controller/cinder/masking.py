"""Finding secrets in a text, at a cost that does not depend on how many volumes have one."""

from __future__ import annotations

import html
import json
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

#: Shorter values are not masked: they would be found in ordinary words.
SHORTEST = 6
_ESCAPED = re.compile("%[0-9A-F]{2}")


class Secrets:
    """The secrets that must not be written: those of the configuration, few and for good, and those of volumes, which come and go.

    A secret is found wherever it stands, within a longer word too, and in the spellings of :func:`spellings`. The many of the volumes
    are never gone through: each part of a text that is as long as some of them is looked up. There are as many look-ups as the text
    has characters, for each length; generated passwords have one.
    """

    def __init__(self) -> None:
        # Those that are read without the lock are replaced as a whole, but for the large one, in which things are only looked up.
        self._lock = threading.Lock()
        self._configured: frozenset[str] = frozenset()
        self._of: dict[str, frozenset[str]] = {}  # spellings by volume
        self._volumes: dict[str, int] = {}  # by spelling: how many volumes have it
        self._sizes: Counter[int] = Counter()  # by length: how many spellings have it
        self._lengths: frozenset[int] = frozenset()

    def add(self, value: str) -> None:
        """Mask a value of the configuration from now on."""
        with self._lock:
            self._configured |= spellings(value)

    def keep(self, volume_id: str, values: Iterable[str]) -> None:
        """Mask these values of a volume from now on, and those that it had no more; none: it has no secret any more."""
        new = frozenset().union(*(spellings(value) for value in values))
        with self._lock:
            old = self._of.pop(volume_id, frozenset())
            if new:
                self._of[volume_id] = new
            # First what comes, so that what stays is not missing for a moment.
            for spelling in new - old:
                self._volumes[spelling] = self._volumes.get(spelling, 0) + 1
                if self._volumes[spelling] == 1:
                    self._sizes[len(spelling)] += 1
            self._lengths = frozenset(self._sizes)
            for spelling in old - new:
                self._volumes[spelling] -= 1
                if not self._volumes[spelling]:
                    del self._volumes[spelling]
                    self._sizes[len(spelling)] -= 1
            self._sizes += Counter()  # drops the lengths that none has any more
            self._lengths = frozenset(self._sizes)

    def mask(self, text: str, mask: str) -> str:
        """Return ``text`` with ``mask`` in place of each secret; of those that overlap nothing is left."""
        parts, end = [], 0
        for start, stop in sorted(self._found(text)):
            if start >= end:
                parts += [text[end:start], mask]
            end = max(end, stop)
        return "".join([*parts, text[end:]])

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where a secret starts and ends."""
        for secret in self._configured:
            start = text.find(secret)
            while start >= 0:
                yield start, start + len(secret)
                start = text.find(secret, start + 1)
        known = self._volumes
        for length in self._lengths:
            for start in range(len(text) - length + 1):
                if text[start : start + length] in known:
                    yield start, start + length


def spellings(secret: str) -> frozenset[str]:
    """Return a secret as it stands in a plain text, in a URL, and in JSON, Python, XML and a shell's quotes; one of letters and digits is
    the same in all. None for a secret that is too short to be masked.
    """
    if len(secret) < SHORTEST:
        return frozenset()
    if secret.isascii() and secret.isalnum():
        return frozenset({secret})
    in_urls = {quote(secret, safe="", errors="replace"), quote(secret, errors="replace"), quote_plus(secret, errors="replace")}
    quoted = {json.dumps(secret), json.dumps(secret, ensure_ascii=False), repr(secret), ascii(secret)}
    return frozenset(
        {secret, html.escape(secret), html.escape(secret, quote=False), secret.replace("'", "'\"'\"'")}
        | in_urls
        | {_ESCAPED.sub(lambda found: found.group().lower(), spelling) for spelling in in_urls}
        | {spelling[1:-1] for spelling in quoted}
    )
