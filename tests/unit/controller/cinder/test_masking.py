"""Secrets are masked wherever they stand, as long as they are in use, at the same cost for any
number of volumes (row R26).
"""

from __future__ import annotations

import html
import json
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, quote_plus, urlencode

import pytest
from cinder.volume import volume_utils

from saltstorage.controller.cinder.masking import Secrets

MASK = "***"
#: As Cinder generates them; always the same, since all workers of the tests must find the same
#: tests.
GENERATED = "Tq7Wn3kZpQh2RtYb"
AWKWARD = "p/w%d\"q'uö&<+ \\$x"
FORMS = {
    "alone": str,
    "in a sentence": "login with {} failed".format,
    "after a user and percent": "user%{}".format,
    "in quotes": "\"{0}\", '{0}'".format,
    "within letters": "xx{}yy".format,
    "twice in a row": "{0}{0}".format,
    "after its own beginning": lambda secret: secret[:7] + secret,
    "in iscsiadm's arguments": "-n node.session.auth.password -v {}".format,
    "JSON": lambda secret: json.dumps({"x": [secret]}),
    "JSON of the whole Unicode": lambda secret: json.dumps({"x": [secret]}, ensure_ascii=False),
    "Python": lambda secret: str({"x": (secret,)}),
    "Python in ASCII": lambda secret: ascii({"x": (secret,)}),
    "a shell's command": lambda secret: shlex.join(["tool", "--auth", secret]),
    "the user part of a URL": lambda secret: f"https://admin:{quote(secret, safe='')}@array/api",
    "a path of a URL": lambda secret: f"https://array/{quote(secret)}/login",
    "a form": lambda secret: urlencode({"x": secret}),
    "a URL with small letters": lambda secret: "?x=" + re.sub("%..", lambda escaped: escaped.group().lower(), quote_plus(secret)),
    "XML": lambda secret: f'<x y="{html.escape(secret)}">{html.escape(secret, quote=False)}</x>',
    "a user's name and secret, as Cinder has them": "CHAP user {}".format,
}


@pytest.fixture
def secrets():
    return Secrets()


@pytest.fixture(params=["volume", "configuration"])
def add(request, secrets):
    """A function that adds a secret of either kind."""
    return secrets.add if request.param == "configuration" else lambda value: secrets.keep(f"volume of {value}", [value])


@pytest.mark.parametrize("secret", [GENERATED, AWKWARD, "123456"], ids=["generated", "awkward", "short"])
@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_masked_wherever_it_stands(secrets, add, form, secret):
    add(secret)
    text = FORMS[form](secret)
    masked = secrets.mask(text, MASK)
    # Only the surroundings of the secret are left.
    around = FORMS[form]("\0" * 9)
    assert MASK in masked
    for part in (secret, secret[-6:], quote(secret, safe="")[-8:], json.dumps(secret)[1:-1][-8:], html.escape(secret)[-8:]):
        assert part in around or part not in masked


@pytest.mark.parametrize("text", ["", "x", GENERATED[:-1], GENERATED.swapcase(), GENERATED[1:] + "x", "a perfectly innocent sentence"])
def test_other_text_stays(secrets, add, text):
    add(GENERATED)
    assert secrets.mask(text, MASK) == text


def test_short_values_are_not_secret(secrets, add):
    add("admin")
    assert secrets.mask("admin", MASK) == "admin"


@pytest.mark.parametrize(
    ("configured", "of_volumes", "text", "masked"),
    [
        ([], ["abcdefgh", "efghijkl"], "<abcdefghijkl>", "<***>"),
        ([], ["abcdefgh", "cdefgh"], "<abcdefgh>", "<***>"),
        (["cdefgh"], ["abcdefghij"], "<abcdefghij>", "<***>"),
        (["abcdefgh"], ["ghijkl"], "<abcdefghijkl>", "<***>"),
        (["aaaaaa"], [], "<aaaaaaaa>", "<***>"),
        ([], ["abcdef", "ghijkl"], "<abcdefghijkl>", "<******>"),
    ],
)
def test_overlapping_secrets_are_masked_as_a_whole(secrets, configured, of_volumes, text, masked):
    for value in configured:
        secrets.add(value)
    for number, value in enumerate(of_volumes):
        secrets.keep(str(number), [value])
    assert secrets.mask(text, MASK) == masked


class Counted(dict):
    """Counts the look-ups, and refuses to be iterated."""

    lookups = 0

    def __contains__(self, key):
        self.lookups += 1
        return super().__contains__(key)

    def __iter__(self):
        raise AssertionError("gone through")

    keys = values = items = __iter__


def test_the_cost_of_a_message_does_not_grow_with_the_volumes(secrets):
    secrets._volumes = Counted()
    text = f"connection of volume 5b0c6e4e-3b0a-4c9d-8f6e-2f1d0c9b8a77 with user%{GENERATED} failed: no route to host"
    costs = []
    for count in (1, 10, 1000):
        for number in range(count):
            secrets.keep(f"volume-{number}", [volume_utils.generate_password()])
        secrets.keep("last", [GENERATED])
        secrets._volumes.lookups = 0
        assert GENERATED not in secrets.mask(text, MASK)
        costs.append(secrets._volumes.lookups)
    assert costs == [len(text) - len(GENERATED) + 1] * 3


def test_only_the_present_secrets_of_a_volume_are_masked(secrets):
    first, second = "the-first-secret", "the-second-secret"
    secrets.keep("a", [first])
    secrets.keep("a", [first])
    secrets.keep("a", [second])
    assert secrets.mask(f"{first} {second}", MASK) == f"{first} ***"
    secrets.keep("a", [])
    secrets.keep("unknown", [])
    assert secrets.mask(f"{first} {second}", MASK) == f"{first} {second}"
    assert not any((secrets._of, secrets._volumes, secrets._sizes, secrets._lengths)), "nothing is left of them"


def test_a_shared_secret_is_masked_until_the_last_volume_drops_it(secrets):
    for volume in ("a", "b"):
        secrets.keep(volume, [AWKWARD])
    secrets.keep("a", [])
    assert secrets.mask(quote(AWKWARD), MASK) == MASK
    secrets.keep("b", [])
    assert secrets.mask(AWKWARD, MASK) == AWKWARD


def test_a_secret_of_the_configuration_is_masked_for_good(secrets):
    secrets.add(GENERATED)
    secrets.keep("a", [GENERATED])
    secrets.keep("a", [])
    assert secrets.mask(GENERATED, MASK) == MASK


def test_a_secret_that_stays_is_masked_while_others_come_and_go(secrets):
    secrets.keep("stays", [GENERATED])

    def come_and_go(number):
        for _ in range(300):
            secrets.keep(f"goes-{number}", [volume_utils.generate_password(16 + number)])
            secrets.keep("stays", [GENERATED])
            secrets.keep(f"goes-{number}", [])

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(come_and_go, number) for number in range(3)]
        while not all(future.done() for future in running):
            assert secrets.mask(f"x{GENERATED}x", MASK) == "x***x"
        for future in running:
            future.result()
    assert secrets._sizes == {16: 1}
