"""Keys: only accepted ones count, and only as long as they are accepted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import salt.crypt

from saltstorage.bus.keys import MinionKeys, OwnKeys, QuickKey
from saltstorage.errors import FailedPreconditionError
from tests.unit.bus.conftest import KeyPair, drop_key, set_key


def test_accepted(master_opts: dict[str, Any], pairs: dict[str, KeyPair]) -> None:
    found = MinionKeys(master_opts).find("alpha")
    assert found is not None
    assert found.key.public_numbers() == pairs["alpha"].public.key.public_numbers()


@pytest.mark.parametrize("state", ["pending", "rejected"])
def test_other_states_count_at_once(master_opts: dict[str, Any], pairs: dict[str, KeyPair], state: str) -> None:
    keys = MinionKeys(master_opts)
    assert keys.find("alpha") is not None
    set_key(master_opts, "alpha", pairs["alpha"].public_pem, state)
    assert keys.find("alpha") is None
    set_key(master_opts, "alpha", pairs["alpha"].public_pem)
    assert keys.find("alpha") is not None


def test_deleted_counts_at_once(master_opts: dict[str, Any]) -> None:
    keys = MinionKeys(master_opts)
    assert keys.find("alpha") is not None
    drop_key(master_opts, "alpha")
    assert keys.find("alpha") is None


def test_a_new_key_counts_at_once_even_with_an_old_time(master_opts: dict[str, Any], pairs: dict[str, KeyPair]) -> None:
    keys = MinionKeys(master_opts)
    path = Path(master_opts["pki_dir"]) / "minions" / "alpha"
    before = path.stat()
    assert keys.find("alpha") is not None
    set_key(master_opts, "alpha", pairs["stranger"].public_pem)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = keys.find("alpha")
    assert found is not None
    assert found.key.public_numbers() == pairs["stranger"].public.key.public_numbers()


def test_denied_is_not_accepted(master_opts: dict[str, Any], pairs: dict[str, KeyPair]) -> None:
    """Somebody else offered a denied key under the same id; the accepted key stays as it is."""
    denied = Path(master_opts["pki_dir"]) / "minions_denied"
    denied.mkdir(exist_ok=True)
    (denied / "gamma").write_text(pairs["stranger"].public_pem)
    assert MinionKeys(master_opts).find("gamma") is None


@pytest.mark.parametrize("minion", ["", ".", "..", "../minions/alpha", "a/b", "a\0b", "/etc/passwd", "nobody", "☃", "x" * 255, "\ud800"])
def test_strange_ids(master_opts: dict[str, Any], minion: str) -> None:
    assert MinionKeys(master_opts).find(minion) is None


def test_a_file_that_is_no_key(master_opts: dict[str, Any]) -> None:
    set_key(master_opts, "alpha", "no key")
    assert MinionKeys(master_opts).find("alpha") is None


def test_quick_key_is_the_same_key(pairs: dict[str, KeyPair]) -> None:
    quick = QuickKey(pairs["alpha"].private_pem.encode())
    signature = quick.sign(b"x", algorithm=salt.crypt.PKCS1v15_SHA224)
    assert pairs["alpha"].public.verify(b"x", signature, algorithm=salt.crypt.PKCS1v15_SHA224)


def test_quick_key_refuses_a_damaged_key(pairs: dict[str, KeyPair]) -> None:
    """Each part of the key is exchanged for that of another key; none of the mixtures may be
    taken.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    own, other = pairs["alpha"].private.key.private_numbers(), pairs["beta"].private.key.private_numbers()
    parts = {name: getattr(own, name) for name in ("p", "q", "d", "dmp1", "dmq1", "iqmp")}
    for name in parts:
        mixed = {**parts, name: getattr(other, name)}
        numbers = rsa.RSAPrivateNumbers(**mixed, public_numbers=own.public_numbers)
        try:
            key = numbers.private_key(unsafe_skip_rsa_key_validation=True)
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        except ValueError:
            continue  # the library will not even make it
        try:
            quick = QuickKey(pem)
        except ValueError:
            continue  # refused, as it should be
        # Or the library worked around the damage, and the signature is right all the same.
        signature = quick.sign(b"x", algorithm=salt.crypt.PKCS1v15_SHA224)
        assert pairs["alpha"].public.verify(b"x", signature, algorithm=salt.crypt.PKCS1v15_SHA224), name


def test_own_keys_follow_the_file(minion_opts: dict[str, Any], pairs: dict[str, KeyPair]) -> None:
    keys = OwnKeys(minion_opts)
    assert keys.private() is keys.private()
    path = Path(minion_opts["pki_dir"]) / "minion.pem"
    path.write_text(pairs["beta"].private_pem)
    os.utime(path, ns=(1, 1))
    assert keys.private().key.private_numbers() == pairs["beta"].private.key.private_numbers()
    path.write_text("no key")
    os.utime(path, ns=(2, 2))
    with pytest.raises(FailedPreconditionError, match="not a usable key"):
        keys.private()
    path.unlink()
    with pytest.raises(FailedPreconditionError, match="has no key"):
        keys.private()


def test_no_master_known(minion_opts: dict[str, Any]) -> None:
    (Path(minion_opts["pki_dir"]) / "minion_master.pub").unlink()
    with pytest.raises(FailedPreconditionError, match="does not know its master"):
        OwnKeys(minion_opts).masters()
