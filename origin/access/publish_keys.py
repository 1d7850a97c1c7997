"""The keys with which live channels are published to, which may change while the server runs."""

from __future__ import annotations

from collections.abc import Mapping

from origin.access.authentication import AdminToken, Secret, fits_any
from origin.access.key_hash import KeyHash
from origin.access.token_keys import TokenFault, TokenKeys


class PublishKeys:
    """The keys of the live channels, and the administrator's token, which opens all of them.

    Args:
        admin_token: the token; empty for none.
        keys: ``publish_key`` by the channel's name, of those whose key is known.
        hashes: the hashes of the keys that an earlier start made, by the channel's name.
        tokens: check tokens of addresses that are for publishing; None where there are none.
    """

    def __init__(
        self,
        admin_token: str | AdminToken,
        keys: Mapping[str, str],
        hashes: Mapping[str, KeyHash] | None = None,
        tokens: TokenKeys | None = None,
    ) -> None:
        self.admin = AdminToken.of(admin_token)
        self._tokens = tokens
        hashes = {} if hashes is None else hashes
        self._keys = {name: Secret("", key_hash=one) for name, one in hashes.items()}
        self._keys |= {name: Secret(key) for name, key in keys.items()}

    def __contains__(self, channel: str) -> bool:
        return channel in self._keys

    def secrets(self, channel: str) -> tuple[Secret, ...]:
        """Return the secrets of which a publisher to a channel must present one."""
        key = self._keys.get(channel)
        return (self.admin.secret,) if key is None else (self.admin.secret, key)

    def admits(self, channel: str, key: str, address: str) -> bool:
        """Return whether a text is a channel's key, the administrator's token, or a token for publishing.

        Args:
            address: the IP address of the publisher.
        """
        return fits_any(key, self.secrets(channel)) or (
            self._tokens is not None and self._tokens.may_publish(key, f"/live/{channel}/ingest", address)
        )

    def fault(self, channel: str, key: str, address: str) -> TokenFault | None:
        """Return what is wrong with a token in the place of a channel's key; None for any other text."""
        if self._tokens is None:
            return None
        return self._tokens.fault(key, f"/live/{channel}/ingest", address, publishes=True)

    def key(self, channel: str) -> str:
        """Return a channel's key, for the administrator; empty where none, or only its hash, is known."""
        key = self._keys.get(channel)
        return "" if key is None else key.text

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
