"""Takes passwords, keys and tokens out of logs, relayed errors, and a configuration that is shown. Pure.

They are told by where they stand (a URL's user and query, ``passphrase=…``, ``Authorization: …``), and by
what they are where that is known (`Redactor`).
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

MASK = "***"
"""What stands in a secret's place."""

SHORTEST_SECRET = 6
"""Characters of a secret that is taken out wherever it stands; shorter ones would be found in other words."""

SHORTEST_TOKEN = 16
"""Characters of a URL's user that is taken for a token where there is no password beside it."""

NAMES_OF_SECRETS = (
    r"pass(?:word|phrase|wd)?|pwd|key|token|secret|sign(?:ature)?|sig|auth(?:orization)?|credentials?|"
    r"streamid|hmac|hdn[a-z]+|session(?:_?id)?|policy"
)
"""How the names of parameters end whose values are secret."""

STREAM_KEY_SCHEMES = ("rtmp", "rtmps", "rtmpt", "rtmpe", "rtmpte")
"""Schemes of URLs whose path ends with a key."""

_URL = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s\"<>]*")
_BEHIND_URL = "'`,.:;)]}"
_FIELD = re.compile(
    rf"(?P<name>(?:{NAMES_OF_SECRETS})=)(?![\"'])[^\s&;,\"']+"
    rf"|(?P<quoted>(?:{NAMES_OF_SECRETS})['\"]?\s{{0,3}}[=:]\s{{0,3}}b?(?P<mark>['\"]))(?:\\.|(?!(?P=mark)).)*",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"(?P<name>(?:authorization|cookie)['\"]?\s{0,3}[:=,]\s{0,3}(?:b?['\"])?)[^'\"\r\n]+"
    r"|\b(?P<scheme>basic|bearer|digest) +(?-i:(?=\S*[0-9A-Z=+/_]))\S{8,}",
    re.IGNORECASE,
)
_HEADER_WORDS = ("authorization", "cookie", "basic ", "bearer ", "digest ")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:@\[\]]*)(:[0-9]*)?")
_NAME = re.compile(rf"(?:.*[^a-z])?(?:{NAMES_OF_SECRETS})", re.IGNORECASE)


def redact(text: str) -> str:
    """Take out of a text what stands where secrets stand."""
    if "://" in text:
        text = _URL.sub(_without_secrets, text)
    if "=" in text or ":" in text:
        text = _FIELD.sub(lambda found: f"{found['name'] or found['quoted']}{MASK}", text)
    lowered = text.lower()
    if any(word in lowered for word in _HEADER_WORDS):
        text = _HEADER.sub(lambda found: f"{found['name'] or found['scheme'] + ' '}{MASK}", text)
    return text


def redacted_url(url: str, mark: str = "") -> str:
    """Name a URL without what may be secret in it: user, password, query, and what RTMP calls a stream key.

    Args:
        url: as configured; what is no URL stays as it is.
        mark: what stands where something was.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    place, question, _ = _divided(rest)
    authority, slash, path = place.partition("/")
    _, at, host = authority.rpartition("@")
    if not _HOST.fullmatch(host) or ((at or ":" in authority) and "@" in rest[len(authority) :]):
        # It may be a password with "/", "?" or "#" in it, which nobody encoded: where it ends can't be told.
        return f"{scheme}://{MASK}"
    if scheme.lower() in STREAM_KEY_SCHEMES:
        application, slash_behind, key = path.partition("/")
        path = f"{application}{slash_behind}{MASK if key else ''}"
    shown = f"{mark}@" if mark and at else ""
    return f"{scheme}://{shown}{host}{slash}{path}{question + mark if mark and question else ''}"


def secrets_of(url: str) -> Iterator[str]:
    """Give what is secret in a URL, as it stands there: parts of its user, its query, and a stream key."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return
    place, _, behind = _divided(rest)
    userinfo = (rest if "@" in rest and "@" not in place else place).rpartition("@")[0]
    user, colon, password = userinfo.partition(":")
    if colon:
        yield from (userinfo, password)
    elif len(user) >= SHORTEST_TOKEN:
        yield user
    query = behind.replace("#", "&")
    for name, value in parse_qsl(query, keep_blank_values=True):
        if _NAME.fullmatch(name):
            yield value
    if "#" in behind:
        # SRT's streamid begins with "#!::", and is no fragment: its own fields are divided by commas.
        fragment = behind.partition("#")[2]
        yield fragment
        yield from (
            value for name, _, value in (one.partition("=") for one in fragment.split(",")) if name == "s"
        )
    if scheme.lower() in STREAM_KEY_SCHEMES:
        keys = place.partition("/")[2].partition("/")[2]
        yield from (keys, keys.rpartition("/")[2])


def _divided(rest: str) -> tuple[str, str, str]:
    """Divide a URL behind its scheme into what comes before its query or fragment, the sign, and the rest."""
    found = re.search("[?#]", rest)
    return (rest, "", "") if found is None else (rest[: found.start()], found[0], rest[found.end() :])


def _without_secrets(found: re.Match[str]) -> str:
    url = found[0]
    core = url.rstrip(_BEHIND_URL)
    return redacted_url(core) + url[len(core) :]


@dataclass(frozen=True, slots=True)
class Redactor:
    """Takes out of texts what stands where secrets stand, and secrets that are known wherever they stand.

    Attributes:
        known: finds those that are known; None where none is.
    """

    known: re.Pattern[str] | None = None

    @classmethod
    def of(cls, secrets: Iterable[str], shortest: int = SHORTEST_SECRET) -> Redactor:
        """Make one that knows some secrets.

        Args:
            secrets: as configured.
            shortest: characters that a secret has at least which is looked for everywhere.
        """
        forms = {form for secret in secrets if len(secret) >= shortest for form in _forms(secret)}
        if not forms:
            return cls()
        longest_first = sorted(forms, key=len, reverse=True)
        return cls(re.compile("|".join(map(re.escape, longest_first))))

    def __call__(self, text: str) -> str:
        """Take the secrets out of a text."""
        return redact(self.without_known(text))

    def without_known(self, text: str) -> str:
        """Take out those alone that are known."""
        return text if self.known is None else self.known.sub(MASK, text)


NO_SECRETS = Redactor()


def _forms(secret: str) -> Iterator[str]:
    """Give how a secret may be written: in an address, in JSON, and in Basic authentication."""
    plain = {secret, unquote(secret), unquote_plus(secret)}
    for text in plain:
        yield text
        yield quote(text, safe="")
        yield quote(text)
        yield quote_plus(text)
        yield json.dumps(text)[1:-1]
        yield json.dumps(text, ensure_ascii=False)[1:-1]
        yield repr(text)[1:-1]
        for user in ("", "source", "admin", "user"):
            # RFC 7617 §2; a user and password of a URL are a secret of one piece.
            pair = text if ":" in text else f"{user}:{text}"
            yield b64encode(pair.encode("utf-8", "surrogateescape")).decode()
