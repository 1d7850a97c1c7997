"""The ways in which bytes can disappoint: they are wrong, not for us, too many, or not all here yet."""

from __future__ import annotations


class MediaError(Exception):
    """Base of everything that a reader in this package raises about its input."""


class MalformedError(MediaError):
    """The bytes break the rules of their format; more bytes won't mend them."""


class UnsupportedError(MediaError):
    """The bytes are legal, but they carry something that this project doesn't (encryption, say)."""


class TooLargeError(UnsupportedError):
    """The bytes are legal, but there is more in them than a limit allows."""


class NeedMoreDataError(MediaError):
    """The bytes end too early; the same bytes with more behind them may be fine."""
