"""Requests that a front and the origin could read in two ways, for addresses that need a token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

TOKEN_PLACES = (
    *(
        "",
        "x",
        "?",
        "x?",
        "x.m3u8?",
        "?x=",
        "%3F",
        "x%3F",
        "%2F",
        "x%2Fy",
        ".",
        "..",
        "%2e%2e",
        "x/..",
        "x/.",
    ),
    *(
        ";",
        "x;",
        "x;a=b",
        "x%00",
        "x%20",
        "x%0a",
        "*",
        "x#",
        "x%23",
        "x&",
        "x//t/y",
        "x/t/y",
        "x/",
        "v1.a.1.b.0.c",
    ),
)
"""Texts in the place of a token that are none."""

PREFIXES = (
    *("/T/x", "/%74/x", "/t%2Fx", "//t/x", "/./t/x", "/x/../t/x", "/t/x/../..", "/t/../t/x", "/t", "/t/x y"),
    *("http://127.0.0.1", "HTTP://127.0.0.1/t/x", "https://other.example/t/x", "/s/x", "/s/x?"),
)
"""Beginnings of targets before an address."""

ENDINGS = ("/", ".", ";", ";a=b", "%20", "%00", "%0d%0a", "#", "#x", "~", "?", "%3F", "&", "%zz")

CARRIED = (
    *(
        "token=",
        "token=x",
        "token=x&token=y",
        "%74oken=x",
        "TOKEN=x",
        "xtoken=1&tok%65n=x",
        "?token=x",
        "key=x",
    ),
)
"""Queries without a valid token."""

FIELDS: tuple[tuple[str, ...], ...] = (
    ("Range: bytes=0-1048575",),
    ("Range: bytes=0-",),
    ("Range: bytes=0-0,2-2",),
    ("If-None-Match: *",),
    ("If-Modified-Since: Sun, 01 Jan 2040 00:00:00 GMT",),
    ("If-Range: x", "Range: bytes=0-1"),
    ("Cache-Control: only-if-cached",),
    ("Cache-Control: no-cache", "Pragma: no-cache"),
    ("Cookie: headwater_token=x",),
    ("Cookie: a=b; headwater_token=v1.a.1.b.0.c",),
    ("Authorization: Bearer v1.a.1.b.0.c",),
    ("Authorization: Basic Og==",),
    ("X-Original-URI: /vod/open/film.mp4/audio/0.m4s",),
    ("X-Forwarded-Uri: /vod/open/film.mp4/audio/0.m4s",),
    ("X-Forwarded-For: 127.0.0.1",),
    ("Forwarded: for=127.0.0.1",),
    ("Accept-Encoding: br", "Origin: https://other.example"),
    ("Upgrade: websocket", "Connection: Upgrade"),
)


class Attempt(NamedTuple):
    """A request.

    Attributes:
        target: as it is sent; absolute where it begins with a scheme.
    """

    target: str
    fields: tuple[str, ...] = ()
    method: str = "GET"


Spellings = Callable[[str], Iterable[str]]
"""A function that returns spellings of an address."""


def as_it_is(address: str) -> tuple[str, ...]:
    """Return an address in its own spelling alone."""
    return (address,)


def spelled(address: str) -> Iterator[str]:
    """Return other spellings of an address: of its path, and of its query."""
    path, mark, query = address.partition("?")
    yield address
    yield address.replace("/", "//")
    yield "/" + address
    yield path.replace("/", "/./") + mark + query
    (first, _, rest), (head, _, last) = path[1:].partition("/"), path.rpartition("/")
    for dots in ("x/..", "x/%2e%2e", "x/..%2f", "%2e", ".", "", ";", "..;"):
        yield f"/{first}/{dots}/{rest}{mark}{query}"
        yield f"{head}/{dots}/{last}{mark}{query}"
    yield path.replace("/", "%2F") + mark + query
    yield "/" + path[1:].replace("/", "%2f") + mark + query
    yield "/" + path[1:].replace("/", "\\") + mark + query
    yield "/" + path[1:].replace("/", "%5C") + mark + query
    yield "/" + "".join(f"%{ord(letter):02X}" for letter in path[1:]) + mark + query
    yield path.replace("o", "%6f").replace("i", "%69").replace("e", "%65") + mark + query
    yield path.replace("film", "%66ilm").replace("demo", "%64emo") + mark + query
    yield path.upper() + mark + query
    yield path.title() + mark + query
    for ending in ENDINGS:
        yield path + ending + mark + query
        yield address + ending
    if query:
        yield f"{path}%3F{query}"
        yield f"{path}?{query}&{query}"
        yield f"{path};{query}"
        yield f"{path}??{query}"
        yield f"{path}?&{query}"
        yield f"{path}?%{ord(query[0]):02x}{query[1:]}"


def without_token(address: str, spellings: Spellings) -> Iterator[Attempt]:
    """Return requests for an address that have no valid token."""
    path, mark, query = address.partition("?")
    for target in spellings(address):
        yield Attempt(target)
    for place in TOKEN_PLACES:
        yield Attempt(f"/t/{place}{address}")
    for prefix in PREFIXES:
        yield Attempt(f"{prefix}{address}")
    for carried in CARRIED:
        yield Attempt(f"{path}?{query}{'&' * bool(mark)}{carried}")
    # What caches write into their keys beside the address.
    for place in ("", "/t/x?", "/t/x.m3u8?"):
        for key in ("bytes=0-1048575", "%20bytes=0-1048575"):
            yield Attempt(f"{place}{path}{key}{mark}{query}")
            yield Attempt(f"{place}{address}{key}")
        yield Attempt(f"slice bytes=0-1048575 {place}{address}")
        yield Attempt(f"/slice%20bytes=0-1048575%20{place}{address}")
        yield Attempt(f"/whole%20%20{place}{address}")
        yield Attempt(f"@1.5{place}{address}")
    for fields in FIELDS:
        yield Attempt(address, fields)
        yield Attempt(f"/t/x{address}", fields)
    # As HAProxy says to Varnish what it has checked.
    for target in (address, f"/t/x{address}", "/vod/open/film.mp4/audio/0.m4s"):
        yield Attempt(target, (f"X-Signed-Address: {address}",))
    for method in ("HEAD", "OPTIONS", "POST", "PURGE"):
        yield Attempt(address, (), method)
        yield Attempt(f"/t/x{address}", (), method)


def with_token(address: str, token: str, spellings: Spellings) -> Iterator[Attempt]:
    """Return requests for an address that have a token, wherever it may stand."""
    path, mark, query = address.partition("?")
    for target in spellings(address):
        yield Attempt(f"/t/{token}{target}")
    rest = f"{query}{'&' * bool(mark)}"
    yield Attempt(f"{path}?{rest}token={token}")
    yield Attempt(f"{path}?{rest}xtoken=1&tok%65n={token}")
    yield Attempt(address, (f"Cookie: headwater_token={token}",))
    yield Attempt(address, (f"Authorization: Bearer {token}",))
    for prefix in (f"/t//t/{token}", f"/t/{token}/t/x", f"/t/x/t/{token}", f"/%74/{token}", f"/t/{token}?"):
        yield Attempt(f"{prefix}{address}")
    yield Attempt(f"/t/{token}{address}", ("Range: bytes=0-1",))
    yield Attempt(f"/t/{token}{address}", ("If-None-Match: *",))
    yield Attempt(f"/t/{token}{address}", (), "HEAD")
    yield Attempt(f"/t/{token}{address}", ("Host: other.example",))


def clips(path: str, name: str, value: str) -> Iterator[str]:
    """Return addresses with a query's parameter, as the origin may read it, and as fronts may."""
    encoded = "".join(f"%{ord(letter):02x}" for letter in name)
    for query in (
        f"{name}={value}",
        f"{encoded}={value}",
        f"%{ord(name[0]):02X}{name[1:]}={value}",
        f"x=1&{name}={value}",
        f"&{name}={value}",
        f"?{name}={value}",
        f"{name}={value}&x=%",
        f"%zz&{name}={value}",
        f"x=1;{name}={value}",
        f"x=1%26{name}={value}",
        f"{name}={value}&{name}={value}",
        f"{name.upper()}={value}",
        f"+{name}={value}",
        f"{name}+={value}",
        f"{name}%00={value}",
        f"{name}",
        f"{name}=",
        f"{name}%3D{value}",
    ):
        yield f"{path}?{query}"
