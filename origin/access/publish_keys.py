"""The keys with which live channels are published to, which may change while the server runs."""

from __future__ import annotations

from collections.abc import Mapping

from origin.access.credentials import Secret


class PublishKeys:
    """The keys of the live channels, and the administrator's token, which opens all of them.

    Args:
        admin_token: the token; empty for none.
        keys: ``publish_key`` by the channel's name, of those that have one.
    """

    def __init__(self, admin_token: str, keys: Mapping[str, str]) -> None:
        self._admin = Secret(admin_token)
        self._keys = {name: Secret(key) for name, key in keys.items()}

    def secrets(self, channel: str) -> tuple[Secret, ...]:
        """Return the secrets of which a publisher to a channel must present one."""
        key = self._keys.get(channel)
        return (self._admin,) if key is None else (self._admin, key)

    def key(self, channel: str) -> str:
        """Return a channel's key, for the administrator; empty where it has none."""
        key = self._keys.get(channel)
        return "" if key is None else key.text

    def rotate(self, keys: Mapping[str, str]) -> frozenset[str]:
        """Take other keys from now on.

        Args:
            keys: as of the constructor; the other channels keep theirs.

        Returns:
            The names of the channels whose former key is no longer valid.
        """
        former = self._keys
        self._keys = former | {name: Secret(key) for name, key in keys.items()}
        return frozenset(name for name, key in former.items() if self._keys[name] != key)
