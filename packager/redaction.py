"""Removes passwords, keys and tokens from logs, errors and the printed configuration. Pure.

Secrets are recognised by their context (a URL's user and query, ``passphrase=…``, ``Authorization: …``), and
by value where they are known (`Redactor`).
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

MASK = "***"
"""Replaces a secret."""

SHORTEST_SECRET = 6
"""Shortest secret that is removed by value; shorter ones would occur in other words."""

SHORTEST_TOKEN = 16
"""Shortest user of a URL without password that is taken for a token."""

NAMES_OF_SECRETS = (
    r"pass(?:word|phrase|wd)?|pwd|key|token|secret|sign(?:ature)?|sig|auth(?:orization)?|credentials?|"
    r"streamid|hmac|hdn[a-z]{1,8}|session(?:_?id)?|policy"
)
"""Endings of the names of secret parameters."""

STREAM_KEY_SCHEMES = ("rtmp", "rtmps", "rtmpt", "rtmpe", "rtmpte")
"""URL schemes whose path ends with a stream key."""

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
_PLAIN = re.compile(r"[A-Za-z0-9._~-]+")
"""Matches texts that URLs and JSON write as they are (RFC 3986 §2.3)."""

_NAME = re.compile(rf"(?:.*[^a-z])?(?:{NAMES_OF_SECRETS})", re.IGNORECASE)


def redact(text: str) -> str:
    """Remove secrets that are recognised by their context."""
    if "://" in text:
        text = _URL.sub(_without_secrets, text)
    if "=" in text or ":" in text:
        text = _FIELD.sub(lambda found: f"{found['name'] or found['quoted']}{MASK}", text)
    lowered = text.lower()
    if any(word in lowered for word in _HEADER_WORDS):
        text = _HEADER.sub(lambda found: f"{found['name'] or found['scheme'] + ' '}{MASK}", text)
    return text


def redacted_url(url: str, mark: str = "", *, with_path: bool = True) -> str:
    """Remove user, password, query and stream key from a URL.

    Args:
        url: anything that isn't a URL is returned unchanged.
        with_path: whether the path is shown.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    place, question, _ = _divided(rest)
    authority, slash, path = place.partition("/")
    _, at, host = authority.rpartition("@")
    if not _HOST.fullmatch(host) or ((at or ":" in authority) and "@" in rest[len(authority) :]):
        # A password may have "/", "?" or "#" in it, if nobody encoded these: its end can't be found.
        return f"{scheme}://{MASK}"
    if scheme.lower() in STREAM_KEY_SCHEMES:
        application, slash_behind, key = path.partition("/")
        path = f"{application}{slash_behind}{MASK if key else ''}"
    elif path and not with_path:
        path = MASK
    shown = f"{mark}@" if mark and at else ""
    return f"{scheme}://{shown}{host}{slash}{path}{question + mark if mark and question else ''}"


def secrets_of(url: str, *, with_path: bool = False) -> Iterator[str]:
    """Return the secrets in a URL: parts of its user, its query, and a stream key.

    Args:
        url: anything that isn't a URL has none.
        with_path: whether its path and its whole query are secrets, too.
    """
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
    if with_path:
        yield from _path_secrets(place, behind)
    if scheme.lower() in STREAM_KEY_SCHEMES:
        keys = place.partition("/")[2].partition("/")[2]
        yield from (keys, keys.rpartition("/")[2])


def _path_secrets(place: str, query: str) -> Iterator[str]:
    """Return what is secret of a webhook's address: all behind the host, and each part that may be a token.

    Short parts are words of the address, such as ``hook``, which stand elsewhere, too.
    """
    authority, slash, path = place.partition("/")
    if path:
        yield f"{authority.rpartition('@')[2]}{slash}{path}"
    parts = [*path.split("/"), query, *(part.rpartition("=")[2] for part in query.split("&"))]
    yield from (part for part in parts if len(part) >= SHORTEST_TOKEN)


def _divided(rest: str) -> tuple[str, str, str]:
    """Divide a URL behind its scheme: before query or fragment, the delimiter, and the rest."""
    found = re.search("[?#]", rest)
    return (rest, "", "") if found is None else (rest[: found.start()], found[0], rest[found.end() :])


def _without_secrets(found: re.Match[str]) -> str:
    url = found[0]
    core = url.rstrip(_BEHIND_URL)
    return redacted_url(core) + url[len(core) :]


class KnownTexts:
    """Finds known texts in others, in a time that doesn't grow with how many are known.

    Args:
        texts: one or more, none of them empty.

    Attributes:
        longest: length of the longest one, in characters.
    """

    __slots__ = ("_head", "_lengths", "_texts", "longest")

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = frozenset(texts)
        self._head = min(map(len, self._texts))
        self.longest = max(map(len, self._texts))
        # Thousands of heads have the same few lengths, which they share.
        alike: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._lengths: dict[str, tuple[int, ...]] = {}
        for text in self._texts:
            head, length = text[: self._head], len(text)
            found = self._lengths.get(head, ())
            if length not in found:
                lengths = tuple(sorted((*found, length), reverse=True))
                self._lengths[head] = alike.setdefault(lengths, lengths)

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Return where known texts begin and end, the longest one at each place, none within another."""
        head, lengths, known = self._head, self._lengths, self._texts
        place, last = 0, len(text) - head
        while place <= last:
            for length in lengths.get(text[place : place + head], ()):
                if (found := text[place : place + length]) in known:
                    yield place, place + len(found)
                    place += len(found)
                    break
            else:
                place += 1


@dataclass(frozen=True, slots=True)
class Redactor:
    """Removes secrets by context, and known secrets by value.

    Attributes:
        known: finds known secrets; None without any.
        words: known secrets that are words, which stand in sentences and in other words, too.
    """

    known: KnownTexts | None = None
    words: frozenset[str] = frozenset()

    @classmethod
    def of(cls, secrets: Iterable[str], shortest: int = SHORTEST_SECRET) -> Redactor:
        """Make a redactor that knows some secrets.

        Args:
            shortest: length from which a secret is removed by value.
        """
        secrets = [secret for secret in secrets if len(secret) >= shortest]
        forms = {form for secret in secrets for form in _forms(secret)}
        return cls(KnownTexts(forms) if forms else None, frozenset(filter(str.isalpha, secrets)))

    def __call__(self, text: str, *, is_prose: bool = False) -> str:
        """Remove all secrets from a text.

        Args:
            is_prose: whether the text is a sentence of the program, whose words are no secrets.
        """
        return redact(self._without(text, self.words, is_prose=is_prose))

    def without_known(self, text: str) -> str:
        """Remove only known secrets, within words, too."""
        return self._without(text, frozenset(), is_prose=False)

    def _without(self, text: str, words: frozenset[str], *, is_prose: bool) -> str:
        if self.known is None:
            return text
        kept, position = list[str](), 0
        for begin, end in self.known.spans(text):
            is_within = text[max(begin - 1, 0) : begin].isalpha() or text[end : end + 1].isalpha()
            if (is_prose or is_within) and text[begin:end] in words:
                continue
            kept += (text[position:begin], MASK)
            position = end
        return "".join((*kept, text[position:])) if kept else text


class PiecewiseRedactor:
    """Removes known secrets from a long text that comes in pieces, also where a secret is cut in two.

    Each piece takes time in proportion to its own length, so a task can yield to its event loop in between.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._rest = ""

    def push(self, piece: str) -> str:
        """Add the next piece of the text, and return what is certain of the result."""
        known = self._redactor.known
        if known is None:
            return piece
        text = self._rest + piece
        # A secret that begins before here is whole in the text.
        certain = max(len(text) - known.longest + 1, 0)
        result, position = list[str](), 0
        for begin, behind in known.spans(text):
            if begin >= certain:
                break
            result += (text[position:begin], MASK)
            position = behind
        end = max(position, certain)
        self._rest = text[end:]
        return "".join((*result, text[position:end]))

    def finish(self) -> str:
        """Return the rest of the result at the end of the text."""
        rest, self._rest = self._rest, ""
        return self._redactor.without_known(rest)


NO_SECRETS = Redactor()


def _forms(secret: str) -> Iterator[str]:
    """Yield the encodings of a secret: as is, in URLs, in JSON, and in Basic authentication."""
    is_plain = _PLAIN.fullmatch(secret) is not None
    for text in {secret} if is_plain else {secret, unquote(secret), unquote_plus(secret)}:
        yield text
        if not is_plain:
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
