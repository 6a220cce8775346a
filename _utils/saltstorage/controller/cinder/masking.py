"""Finds secrets in a text, at a cost that does not depend on the number of secrets."""

from __future__ import annotations

import html
import json
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

#: Shorter values are not masked: ordinary words have them.
SHORTEST = 6
_ESCAPED = re.compile("%[0-9A-F]{2}")


class Secrets:
    """The secrets that must not be written: those of the configuration, few and for good, and
    those of volumes, which come and go.

    A secret is found wherever it stands, within a longer word too, and in all its
    :func:`spellings`. The many secrets of volumes are not searched one by one: each part of a text
    that is as long as some secret is looked up. For each length, there are as many look-ups as the
    text has characters; generated passwords have one length.
    """

    def __init__(self) -> None:
        # Values that are read without the lock are replaced as a whole, except the large mapping,
        # which readers only look things up in.
        self._lock = threading.Lock()
        self._configured: frozenset[str] = frozenset()
        self._of: dict[str, frozenset[str]] = {}  # spellings by volume
        self._volumes: dict[str, int] = {}  # number of volumes by spelling
        self._sizes: Counter[int] = Counter()  # number of spellings by length
        self._lengths: frozenset[int] = frozenset()

    def add(self, value: str) -> None:
        """Mask a value of the configuration from now on."""
        with self._lock:
            self._configured |= spellings(value)

    def keep(self, volume_id: str, values: Iterable[str]) -> None:
        """Mask these values of a volume from now on, instead of its former values; none: it has no
        secret any more.
        """
        new = frozenset().union(*(spellings(value) for value in values))
        with self._lock:
            old = self._of.pop(volume_id, frozenset())
            if new:
                self._of[volume_id] = new
            # The new ones first, so that no remaining secret is missing for a moment.
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
            self._sizes += Counter()  # drops unused lengths
            self._lengths = frozenset(self._sizes)

    def mask(self, text: str, mask: str) -> str:
        """Return ``text`` with ``mask`` in place of each secret; overlapping secrets are masked as
        a whole.
        """
        parts, end = [], 0
        for start, stop in sorted(self._find(text)):
            if start >= end:
                parts += [text[end:start], mask]
            end = max(end, stop)
        return "".join([*parts, text[end:]])

    def _find(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the start and end of each secret."""
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
    """Return a secret's spellings in a plain text, in a URL, and in JSON, Python, XML and a
    shell's quotes.

    A secret of letters and digits is the same in all. The set is empty for a secret that is too
    short to be masked.
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
