"""The keys of both ends, read where Salt keeps them."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

import salt.crypt

from ..errors import FailedPreconditionError, PermissionDeniedError
from . import salts


class MinionKeys:
    """The public keys of minions that the master has accepted.

    Each look-up asks Salt's key store, which with the default driver is three ``stat`` and one
    small ``read``, so that a key which was rejected or deleted counts no more from then on. Only
    the parsing is remembered.
    """

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self._store = salts.KeyStore(opts)

    def find(self, minion: str) -> salt.crypt.PublicKey | None:
        """Return the accepted public key of ``minion``, or None if it has none or the id is no
        valid one.
        """
        pem = self._store.accepted(minion)
        return None if pem is None else _public_key(pem)

    def accepted(self, minion: str) -> bool:
        """Return whether ``minion`` has an accepted key."""
        return self.find(minion) is not None

    def all_accepted(self) -> list[str] | None:
        """Return the minions with an accepted key; None when the master knows no minion at all, as
        where there is no master.
        """
        known = self._store.minions()
        return [minion for minion in known if self.accepted(minion)] if known else None


@functools.lru_cache(maxsize=4096)
def _public_key(pem: str) -> salt.crypt.PublicKey | None:
    try:
        return salts.public_key(pem)
    except (ValueError, TypeError):
        return None


class QuickKey(salt.crypt.PrivateKey):
    """The minion's own private key, loaded without the primality tests, which take 50 ms in every
    job.

    They guard against keys from elsewhere. This one is the minion's own, and that its parts belong
    together is shown here by a signature that its public half must verify, in 1 ms.

    :raises ValueError: the parts do not belong together, or this is no key.
    """

    def __init__(self, pem: bytes) -> None:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization

        try:
            try:
                self.key = serialization.load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
            except TypeError:  # an older library, or a key with a passphrase, which fails again
                self.key = serialization.load_pem_private_key(pem, password=None)
        except (TypeError, UnsupportedAlgorithm) as exc:
            raise ValueError("not a key that can be used") from exc
        self._signer = None
        public = self.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        probe = b"salt-storage key check"
        signature = self.sign(probe, algorithm=salt.crypt.PKCS1v15_SHA224)
        if not salts.public_key(public.decode()).verify(probe, signature, algorithm=salt.crypt.PKCS1v15_SHA224):
            raise ValueError("the parts of the key do not belong together")


class OwnKeys:
    """The minion's private key, and the key of the master that it trusts."""

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self._directory = opts["pki_dir"]
        self._private: tuple[int, salt.crypt.PrivateKey] | None = None

    def private(self) -> salt.crypt.PrivateKey:
        """Return the minion's private key.

        :raises PermissionDeniedError: it cannot be read, usually for want of root.
        :raises FailedPreconditionError: there is none yet.
        """
        path = os.path.join(self._directory, "minion.pem")
        try:
            changed = os.stat(path).st_mtime_ns
            if self._private is None or self._private[0] != changed:
                with open(path, "rb") as file:
                    self._private = (changed, QuickKey(file.read()))
        except PermissionError:
            raise PermissionDeniedError(f"{path} cannot be read; run this as the user of the salt-minion, usually root") from None
        except ValueError as exc:
            raise FailedPreconditionError(f"{path} is not a usable key ({type(exc).__name__}); see salt-call --local key.finger") from None
        except FileNotFoundError:
            raise FailedPreconditionError(f"this minion has no key yet ({path}); start the salt-minion and accept its key") from None
        return self._private[1]

    def masters(self) -> list[salt.crypt.PublicKey]:
        """Return the public keys of trusted masters.

        Salt keeps one: several masters of one minion have the same key, or one file that is
        replaced after the signing key has vouched for the new one.

        :raises FailedPreconditionError: the minion has not met its master yet.
        """
        path = os.path.join(self._directory, "minion_master.pub")
        try:
            with open(path, encoding="utf-8") as file:
                return [salts.public_key(file.read())]
        except (OSError, ValueError):
            raise FailedPreconditionError(
                f"this minion does not know its master's key ({path} cannot be read); start the salt-minion and accept its key"
            ) from None
