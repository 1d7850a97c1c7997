"""The errors of readers: malformed input, unsupported input, too much input, or too little."""

from __future__ import annotations


class MediaError(Exception):
    """Base of all errors about the input of a reader."""


class MalformedError(MediaError):
    """The input violates its format; more bytes won't help."""


class UnsupportedError(MediaError):
    """The input is valid, but has a feature that isn't supported, such as encryption."""


class TooLargeError(UnsupportedError):
    """The input is valid, but exceeds a limit."""


class NeedMoreDataError(MediaError):
    """The input ends too early; it may be valid with more bytes."""
