"""Tokens of addresses that can be given away: a token admits to everything beneath a path, for a time.

A token is ``v1.KEY.EXPIRES.NAME.SCOPE.SIGNATURE``. The scope says how many segments of the path are signed,
and not which: these stand in the address itself, so that a token is short however long they are.
"""

from __future__ import annotations

import functools
import hmac
import ipaddress
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from origin.http.path_prefixes import TOKEN_PREFIX

MOST_SEGMENTS = 99
"""Most segments of a signed path."""

TOKENS_KEPT = 8192
"""Most tokens that are kept read, and signatures that are kept computed: a viewer's requests have one."""

NAME = re.compile(r"[A-Za-z0-9_.@+-]{0,64}")
"""The name of a viewer, in logs, such as ``anna`` or ``anna@example.org``."""

PLAIN_NAME = re.compile(r"(?!--)[A-Za-z0-9_-]{0,64}")
"""A name that is a field of a token as it is: dots separate fields."""

ENCODED = "--"
"""The beginning of a field with a name in base64url, without padding."""

KEY = r"[A-Za-z0-9_-]{1,16}:[!-~]{16,256}"
"""A key: its identifier and its secret."""

PLAYLISTS = (".m3u8", ".mpd")
"""Endings of playlists and manifests."""

CLIP_PARAMETERS = frozenset(("start", "end", "at", "delay", "programme"))
"""Parameters of a query that ask for a part of something, or for another time of a channel than now."""

CLIPS = "c"
"""Letter of a scope that clips belong to."""

PUBLISH = "p"
"""Letter of a scope that publishing belongs to."""

ADDRESS, NETWORK = "a", "n"
"""Letters of a scope for one address of a client, and for its network."""

NETWORK_BITS = {4: 24, 6: 64}
"""Bits that addresses of a network have in common, by the version of IP."""

TOKEN = re.compile(
    r"(v1\.([A-Za-z0-9_-]{1,16})\.([1-9][0-9]{0,14})\.([A-Za-z0-9_-]{0,88})\.(0|[1-9][0-9]?)(c?)(p?)([an]?))"
    r"\.([A-Za-z0-9_-]{43})"
)
"""A token: what is signed (key, expiry, name, scope), and the signature."""


class Token(NamedTuple):
    """A token, of an address or a JSON Web Token, whether it has expired or not.

    Attributes:
        own_paths: yields those of its own paths, by their segments, that cover a path for a client.
        expires: seconds since the epoch.
        name: of the viewer; empty for none.
        label: the name with a short hash of the token, for logs.
        allows_clips: whether parts of films and other times of channels may be fetched; see `has_clip`.
        may_publish: whether one may publish to its paths.
        binding: `ADDRESS` or `NETWORK` where it is valid for one client; empty for any.
        bound: the client or network that a JSON Web Token names, as `network_of` writes it.
        begins: seconds since the epoch.
        create: the patterns of event channels that may be made.
        digest: of its identifier, by which it may be revoked; empty for a token without one.
        client: address of who presents it; empty where it isn't known, and where that doesn't matter.
        may_configure: whether one may make and change the channels, stations and relays of its paths.
    """

    own_paths: Callable[[Sequence[str], str], Iterable[Sequence[str]]]
    expires: int
    name: str
    label: str
    allows_clips: bool
    may_publish: bool
    binding: str = ""
    bound: str = ""
    begins: float = 0.0
    create: tuple[str, ...] = ()
    digest: str = ""
    client: str = ""
    may_configure: bool = False

    @property
    def is_valid_here(self) -> bool:
        """Whether the token is valid by now, and for the client who presents it."""
        if time.time() < self.begins:
            return False
        return not self.bound or (bool(self.client) and network_of(self.client, self.binding) == self.bound)

    def covers(self, path: str) -> bool:
        """Return whether the token is for a path, whether it has expired or not.

        Args:
            path: decoded, without a query.
        """
        return is_plain(path) and any(True for _ in self._own_paths(path.split("/")))

    def names_area(self, path: str) -> bool:
        """Return whether one of its paths that cover a path names its first segment, such as ``/relay``."""
        parts = path.split("/")
        return any(list(own[:2]) == parts[:2] for own in self._own_paths(parts))

    def _own_paths(self, parts: Sequence[str]) -> Iterable[Sequence[str]]:
        return self.own_paths(parts, self.client) if self.is_valid_here else ()


def _encoded_name(name: str) -> str:
    """Return the field of a token with a name."""
    if PLAIN_NAME.fullmatch(name):
        return name
    return ENCODED + urlsafe_b64encode(name.encode("ascii")).rstrip(b"=").decode("ascii")


def _decoded_name(field: str) -> str:
    """Return the name that a field of a token has; the field itself where it is encoded as no name is."""
    if not field.startswith(ENCODED):
        return field
    text = field.removeprefix(ENCODED)
    try:
        name = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except ValueError:
        return field
    return name if NAME.fullmatch(name) else field


class SigningKeys:
    """The keys with which addresses are signed.

    Args:
        keys: as `KEY` has them, the newest first, with which new tokens are signed.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        parted = [key.partition(":") for key in keys]
        self._secrets = {key_id: secret.encode() for key_id, _, secret in reversed(parted)}
        self._newest = parted[0][0] if parted else ""
        self.read = functools.lru_cache(maxsize=TOKENS_KEPT)(self._read)

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def sign(
        self,
        path: str,
        expires: int,
        name: str = "",
        *,
        allows_clips: bool = False,
        may_publish: bool = False,
        client: str = "",
    ) -> str:
        """Return a token for everything beneath a path.

        Args:
            path: decoded, without a slash at its end; empty for all addresses.
            expires: seconds since the epoch.
            client: whose token it is, such as ``192.0.2.7``, ``192.0.2.0/24`` or ``2001:db8::/64``; empty for
                anybody's.

        Raises:
            ValueError: the path, the name or the client is malformed; the text says what is allowed.
        """
        if path and not is_plain(path):
            raise ValueError("path: allowed: a path such as /live/demo, without empty segments, '.' and '..'")
        segments = path.count("/")
        if segments > MOST_SEGMENTS:
            raise ValueError(f"path: {segments} segments; allowed: at most {MOST_SEGMENTS}")
        if not NAME.fullmatch(name):
            raise ValueError("name: allowed: at most 64 letters, digits, '_', '-', '.', '@', '+'")
        binding = "" if not client else NETWORK if "/" in client else ADDRESS
        bound = _bound(path, binding, checked_client(client))
        scope = CLIPS * allows_clips + PUBLISH * may_publish
        signed = f"v1.{self._newest}.{expires}.{_encoded_name(name)}.{segments}{scope}{binding}"
        return f"{signed}.{_signature(self._secrets[self._newest], signed, bound)}"

    def _read(self, text: str) -> Token | None:
        """Read the text of a token, which covers nothing if it isn't signed; None for any other text."""
        if (found := TOKEN.fullmatch(text)) is None:
            return None
        signed, key_id, expires, field, segments, clips, publish, binding, signature = found.groups()
        name = _decoded_name(field)
        label = f"{name}#{sha256(text.encode()).hexdigest()[:8]}"
        own_paths = functools.partial(
            self._own_paths, self._secrets.get(key_id), signed, signature, binding, int(segments)
        )
        return Token(own_paths, int(expires), name, label, bool(clips), bool(publish), binding)

    @staticmethod
    def _own_paths(
        secret: bytes | None,
        signed: str,
        signature: str,
        binding: str,
        segments: int,
        parts: Sequence[str],
        client: str,
    ) -> Iterator[Sequence[str]]:
        """Yield the beginning of a path that a token is signed for, if it is."""
        if secret is None or len(parts) <= segments or (binding and not client):
            return
        own = parts[: segments + 1]
        if hmac.compare_digest(_signature(secret, signed, _bound("/".join(own), binding, client)), signature):
            yield own


class SignedAddress(NamedTuple):
    """An address with a token.

    Attributes:
        address: path, percent-encoded, and query.
        expires: seconds since the epoch.
        page: address of the page that shows what is there; of a file that no page shows, that of the file.
    """

    address: str
    token: str
    expires: int
    page: str


def expiry(lifetime: str) -> int:
    """Return when something expires that is valid from now on, in seconds since the epoch.

    Args:
        lifetime: such as ``90s``, ``30m``, ``2h`` or ``1d``.

    Raises:
        ValueError: it is none; the text says what is allowed.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd]?)", lifetime)
    if found is None:
        raise ValueError(f"{lifetime!r} is no lifetime; allowed: 90s, 30m, 2h, 1d and the like")
    return int(time.time()) + int(found[1]) * {"m": 60, "h": 3600, "d": 86400}.get(found[2], 1)


def sign_address(
    keys: SigningKeys,
    address: str,
    expires: int,
    name: str = "",
    *,
    allows_clips: bool = False,
    may_publish: bool = False,
    client: str = "",
) -> SignedAddress:
    """Return an address with a token that is valid for all that a player fetches from there.

    Args:
        address: path and query; of a playlist or manifest, what is beneath its folder is signed.
        expires: seconds since the epoch.
        client: see `SigningKeys.sign`.

    Raises:
        ValueError: the address, the name or the client is malformed; the text says what is allowed.
    """
    encoded, mark, query = address.partition("?")
    path = unquote(encoded)
    prefix = path.rpartition("/")[0] if path.endswith(PLAYLISTS) else path.rstrip("/")
    allows_clips = allows_clips or has_clip(query)
    token = keys.sign(
        prefix, expires, name, allows_clips=allows_clips, may_publish=may_publish, client=client
    )
    base = f"{TOKEN_PREFIX}{token}"
    signed = f"{base}{quote(path)}{mark}{query}"
    view = _view(path, prefix, query)
    return SignedAddress(signed, token, expires, signed if view is None else f"{base}/{view}")


def _view(path: str, prefix: str, query: str) -> str | None:
    """Return the fragment of the page's address that shows what is at a path; None for a file of a channel.

    Args:
        prefix: the path beneath which everything is signed.
    """
    area, _, rest = prefix[1:].partition("/")
    wanted = dict(parse_qsl(query))
    start, end = wanted.get("start", ""), wanted.get("end", "")
    if area in ("live", "radio", "events"):
        # Behind the name of a channel or a station are its recordings, and moments of its past.
        name, _, recording = rest.partition("/recordings/")
        if area != "events" and "/" in f"{name}{recording}":
            return None
        moment = f"clip:{start}/{end}" if end else f"from:{start}" if start else ""
        programme = f"programme:{wanted['programme']}" if "programme" in wanted else ""
        return "#" + "/".join(quote(one) for one in (area, name, recording or programme or moment) if one)
    # The view of a folder ends with a slash.
    slash = "/" if rest and path.endswith("/") else ""
    clip = urlencode([(name, text) for name, text in (("t", start), ("end", end)) if text], safe=":")
    return f"#library/{quote(rest)}{slash}{clip and '?'}{clip}" if area in ("media", "vod") else ""


def has_clip(query: str) -> bool:
    """Return whether a query asks for a part of something, or for another time of a channel than now."""
    return not CLIP_PARAMETERS.isdisjoint(name for name, _ in parse_qsl(query, keep_blank_values=True))


def is_plain(path: str) -> bool:
    """Return whether a decoded path means the same to all that resolve it: only its end may be empty."""
    has_dots = "/." in path and not {".", ".."}.isdisjoint(path.split("/"))
    return path.startswith("/") and not has_dots and not any(map(path.__contains__, ("//", "\\", "\0")))


def checked_client(client: str) -> str:
    """Return the address of a client or of a network.

    Raises:
        ValueError: it is none; the text says what is allowed.
    """
    address, _, bits = client.partition("/")
    try:
        found = ipaddress.ip_network(client) if client else None
    except ValueError:
        found = None
    if client and (found is None or (bits and int(bits) != NETWORK_BITS[found.version])):
        raise ValueError(
            f"{client!r} is no client; allowed: 192.0.2.7, 192.0.2.0/24, 2001:db8::7, 2001:db8::/64"
        )
    return address


def _bound(path: str, binding: str, client: str) -> str:
    """Return the text that is signed behind a token's own: a path, and a client if it is bound to one."""
    return f"{path}\n{network_of(client, binding)}" if binding else path


@functools.lru_cache(maxsize=TOKENS_KEPT)
def network_of(client: str, binding: str) -> str:
    """Return the canonical text of a client's address, or of its network; of other texts the text itself."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if binding == ADDRESS:
        return str(address)
    return str(ipaddress.ip_network((address, NETWORK_BITS[address.version]), strict=False))


@functools.lru_cache(maxsize=TOKENS_KEPT)
def _signature(secret: bytes, signed: str, prefix: str) -> str:
    digest = hmac.digest(secret, f"{signed}{prefix}".encode("utf-8", "surrogatepass"), "sha256")
    return urlsafe_b64encode(digest)[:-1].decode("ascii")
