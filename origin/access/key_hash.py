"""Salted hashes of generated keys: what is kept of a key that nobody needs to read again."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

SALT_BYTES = 16

_WRITTEN = re.compile(r"hmac-sha256:([0-9a-f]{32}):([0-9a-f]{64})")


def digest(secret: bytes) -> bytes:
    """Hash a secret before it is compared, so that the time doesn't depend on its length."""
    return hashlib.sha256(secret).digest()


@dataclass(frozen=True, slots=True)
class KeyHash:
    """A salted hash, by which a key is checked and from which it can't be computed.

    A key of 144 random bits can't be found by trying, however fast a try is: so the hash is a fast one, which
    each request of a publisher can afford. Passwords that people think up would need scrypt.

    Attributes:
        salt: differs for each key, so that the same key isn't seen to be the same.
        hashed: HMAC-SHA256 of the key's digest with the salt.
    """

    salt: bytes = field(repr=False)
    hashed: bytes = field(repr=False)

    @classmethod
    def of(cls, key: str) -> KeyHash:
        """Hash a key with a salt of its own."""
        salt = secrets.token_bytes(SALT_BYTES)
        return cls(salt, _hashed(salt, digest(key.encode())))

    @classmethod
    def read(cls, text: str) -> KeyHash | None:
        """Read what ``str`` has written; None if it is something else."""
        found = _WRITTEN.fullmatch(text)
        return None if found is None else cls(bytes.fromhex(found[1]), bytes.fromhex(found[2]))

    def __str__(self) -> str:
        return f"hmac-sha256:{self.salt.hex()}:{self.hashed.hex()}"

    def fits(self, presented: bytes) -> bool:
        """Return in constant time whether the digest of what was presented is that of the key."""
        return hmac.compare_digest(_hashed(self.salt, presented), self.hashed)


def _hashed(salt: bytes, key_digest: bytes) -> bytes:
    return hmac.digest(salt, key_digest, "sha256")
