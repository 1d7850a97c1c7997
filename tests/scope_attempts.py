"""Attempts to reach with a token what the token isn't valid for: how an address may be written so.

``attempts`` gives for the path of a token and an address outside of it all targets, by kind; ``carried`` puts
the token where clients may put it. What the right answers are is nobody's guess: none of them may have what
is at the address outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

DOTS = (
    "..",
    "%2e%2e",
    "%2E%2e",
    ".%2e",
    "%2e.",
    "%252e%252e",
    "%c0%ae%c0%ae",
    "..;",
    "..;a=b",
    "..%20",
    "..%00",
)
SLASHES = ("/", "%2f", "%2F", "%252f", "%5c", "\\", "//", "/./", "%c0%af", "/%2e/", ";/")
TRAILING = (".", "..", "%2e", "%20", "%09", "%00", ";", ";a", "~", "%e2%80%8b", "::$DATA", "%3a%3a$DATA")
BEFORE = ("/", "/./", "//./", "/%2f", "/%2e/", "/;/", "/a/../", "/%5c", "///")
FIELDS = (
    "X-Original-URI",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Forwarded-Uri",
    "X-Forwarded-Prefix",
    "X-Forwarded-Path",
    "Referer",
    "Content-Location",
)
CARRIERS = ("path", "query", "cookie", "bearer")


class Attempt(NamedTuple):
    """A target with fields that may lead out of what a token is valid for.

    Attributes:
        kind: what it tries.
    """

    kind: str
    target: str
    fields: tuple[str, ...] = ()


def attempts(inside: str, outside: str, host: str) -> Iterator[Attempt]:
    """Return all attempts to get an address with the token of a path.

    Args:
        inside: the path that the token names.
        outside: the address that is asked for.
        host: the server's name and port.
    """
    yield Attempt("as it is", outside)
    up = inside.count("/")
    for dots in DOTS:
        for slash in SLASHES:
            yield Attempt("dot segments", f"{inside}{slash}{slash.join([dots] * up)}{slash}{outside[1:]}")
            yield Attempt("dot segments", f"{inside}/x{slash}{slash.join([dots] * (up + 1))}{outside}")
    for before in BEFORE:
        yield Attempt("slashes", f"{before}{outside[1:]}")
        yield Attempt("slashes", f"{inside}{before}{outside[1:]}")
        yield Attempt("slashes", outside.replace("/", before))
    for written in (outside.swapcase(), outside.upper(), outside.title(), "/" + outside[1:].capitalize()):
        yield Attempt("case", written)
    everything = "".join(f"%{byte:02x}" for byte in outside[1:].encode())
    letters = "/".join("".join(f"%{byte:02X}" for byte in part.encode()) for part in outside.split("/"))
    for written in (
        f"/{everything}",
        letters,
        quote(f"/{everything}"),
        quote(letters),
        f"{inside}/{everything}",
    ):
        yield Attempt("encodings", written)
    for trailing in TRAILING:
        yield Attempt("what follows names", "/".join(part and part + trailing for part in outside.split("/")))
        yield Attempt("what follows names", f"{outside}{trailing}")
        yield Attempt("what follows names", f"{inside}{trailing}{outside.removeprefix(inside)}")
    for before in (f"http://{host}", f"HTTP://{host}", f"http://{host}{inside}/..", "http://other.example"):
        yield Attempt("absolute targets", f"{before}{outside}")
    for query in (
        f"?path={inside}",
        f"?{inside}",
        "?token=",
        "?token=&token=",
        "?a=b?token=",
        "?start=0&end=1",
    ):
        yield Attempt("queries", f"{outside}{query}")
    yield Attempt("queries", f"{inside}?/../..{outside}")
    yield Attempt("queries", f"{inside}%3f/../..{outside}")
    yield Attempt("queries", f"{inside}#{outside}")
    for field in FIELDS:
        yield Attempt("fields", outside, (f"{field}: {inside}",))
        yield Attempt("fields", inside, (f"{field}: {outside}",))


def carried(attempt: Attempt, token: str, carrier: str) -> tuple[str, tuple[str, ...]]:
    """Return the target and the fields of an attempt that presents a token in one of four ways."""
    target, fields = attempt.target, attempt.fields
    match carrier:
        case "path":
            scheme, absolute, rest = target.partition("://")
            host, slash, path = rest.partition("/")
            if absolute:
                return f"{scheme}://{host}/t/{token}{slash}{path}", fields
            return f"/t/{token}{target}", fields
        case "query":
            return f"{target}{'&' if '?' in target else '?'}token={token}", fields
        case "cookie":
            return target, (*fields, f"Cookie: headwater_token={token}")
        case _:
            return target, (*fields, f"Authorization: Bearer {token}")
