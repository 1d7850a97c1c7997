"""The keys with which live channels are published to, which may change while the server runs."""

from __future__ import annotations

from collections.abc import Mapping

from origin.access.authentication import Secret, fits_any
from origin.access.authorization import ResourceKeys
from origin.access.key_hash import KeyHash
from origin.http.channel_patterns import template_of


class PublishKeys:
    """The keys of the live channels.

    Args:
        keys: ``publish_key`` by the name of the channel or pattern, of those whose key is known.
        hashes: the hashes of the keys that an earlier start made, by the channel's name.
    """

    def __init__(self, keys: Mapping[str, str], hashes: Mapping[str, KeyHash] | None = None) -> None:
        hashes = {} if hashes is None else hashes
        self._keys = {name: Secret("", key_hash=one) for name, one in hashes.items()}
        self._keys |= {name: Secret(key) for name, key in keys.items()}

    def __contains__(self, channel: str) -> bool:
        return self._key_of(channel) is not None

    def _key_of(self, channel: str) -> Secret | None:
        """Return the key of a channel, which may be that of the pattern that has made it."""
        return self._keys.get(channel) or self._keys.get(template_of(channel))

    def of(self, channel: str) -> ResourceKeys:
        """Return the keys of a channel for `Authorization`."""
        key = self._key_of(channel)
        return ResourceKeys(publishers=() if key is None else (key,))

    def key(self, channel: str) -> str:
        """Return a channel's key, for the administrator; empty where none, or only its hash, is known."""
        key = self._key_of(channel)
        return "" if key is None else key.text

    def add_hashes(self, hashes: Mapping[str, KeyHash]) -> None:
        """Add channels of whose keys only the hashes are known."""
        self._keys |= {name: Secret("", key_hash=one) for name, one in hashes.items()}

    def forget(self, channel: str) -> None:
        """Forget the key of a channel that is no more."""
        self._keys.pop(channel, None)

    def rotate(self, keys: Mapping[str, str]) -> frozenset[str]:
        """Replace the keys.

        Args:
            keys: as of the constructor; the other channels keep theirs.

        Returns:
            The names of the channels whose former key is no longer valid.
        """
        former = self._keys
        self._keys = former | {name: Secret(key) for name, key in keys.items()}
        return frozenset(
            name for name, key in keys.items() if name in former and not fits_any(key, [former[name]])
        )
