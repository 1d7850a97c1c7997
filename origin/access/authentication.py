"""Compares the passwords, keys and tokens that requests present with those that are expected.

This is the only place where that is done: for source clients, listeners, publishers and the administrator.
Of a generated key only the hash is kept, which `key_hash` compares.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import math
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from origin.access.key_hash import KeyHash, digest
from origin.access.request_tokens import addressed_token
from origin.access.token_keys import TokenFault
from origin.responses.refusal import RefusalError, plain_refusal

CHALLENGE = 'Basic realm="Headwater", charset="UTF-8"'
"""RFC 7617 §2."""

BEARER_CHALLENGE = 'Bearer realm="Headwater"'
"""RFC 6750 §3: browsers leave it to the page."""

WRONG_KEY = "wrong key"
"""Beginning of the line of an answer to a request with a key, a password or a token that doesn't fit."""

MAX_DIGITS = 12
"""Longest ``expires`` of a signed address."""


GUESSABLE_CHARACTERS = 15
"""Longest key that could be found by guessing for years, at a guess in some seconds."""

MOST_KEYS = 4
"""Most keys of a request's query."""

HASH_COMPARISONS = 4
"""Comparisons with plain keys that take the time of one with a salted hash."""

MOST_COMPARISONS = 256 * HASH_COMPARISONS
"""Most comparisons of a request's keys with others."""

_CREDENTIALS = "headwater.credentials"
"""Key of a scope with the credentials that its request presents."""

FaultFinder = Callable[[str, str, str], TokenFault | None]
"""Returns why nothing can be changed with a token, by text, path and client; None for other texts."""

CheckedHook = Callable[[Request, bool], Awaitable[None]]
"""Called with a request and whether its credentials were wrong; the answer waits for it."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A password, key or token that a request must present.

    Attributes:
        text: the password, key or token; nobody can present an empty one.
        user: with which it must be presented, by Basic authentication; None: any user, or by Bearer
            authentication or as ``?key=``.
        signed_path: path whose addresses may be signed with it (`signature`); empty for none.
        key_hash: the hash of a key of which no more is known; ``text`` is empty then.
    """

    text: str = field(repr=False)
    user: str | None = None
    signed_path: str = ""
    key_hash: KeyHash | None = None


class AdminToken:
    """The administrator's token, which all who compare it share, since a reload may replace it.

    Attributes:
        secret: the token; nobody can present an empty one.
    """

    def __init__(self, text: str = "") -> None:
        self.secret = Secret(text)

    @classmethod
    def of(cls, given: str | AdminToken) -> AdminToken:
        """Return the shared token itself, or make one of its text."""
        return given if isinstance(given, AdminToken) else cls(given)

    def replace(self, text: str) -> None:
        """Replace the token: the former one is valid no more."""
        self.secret = Secret(text)


@dataclass(frozen=True, slots=True)
class _Presented:
    """Digests of a presented credential, computed once for all comparisons."""

    password: bytes
    user: bytes | None = None
    """None where it didn't come by Basic authentication."""
    is_guessable: bool = False
    """Whether the password has at most `GUESSABLE_CHARACTERS`."""

    @classmethod
    def of(cls, secret: bytes, user: bytes | None = None) -> _Presented:
        """Digest a credential."""
        is_guessable = len(secret.decode("utf-8", "replace")) <= GUESSABLE_CHARACTERS
        return cls(digest(secret), None if user is None else digest(user), is_guessable)


@dataclass(slots=True)
class _Credentials:
    """All that a request presents, and how often it was compared with hashes.

    Attributes:
        source: the parts of the request that the credentials were read from.
        presented: the credentials that count at every address.
        further: keys of the query before the last one, which count where several channels are read.
        faults: the fault of each presented token, in the credentials' order; None for other texts.
        address_fault: that of the token in the request's path or query; None without one.
        has_failed: whether it was counted already that none of them fits.
    """

    source: tuple[str, bytes]
    presented: tuple[_Presented, ...]
    further: tuple[_Presented, ...] = ()
    comparisons: int = 0
    faults: tuple[TokenFault | None, ...] = ()
    address_fault: TokenFault | None = None
    has_failed: bool = False

    @property
    def is_no_guess(self) -> bool:
        """Whether each credential is a token whose signature is right, whatever else is wrong with it."""
        return bool(self.faults) and all(one is not None and one.is_signed for one in self.faults)

    def fitting(self, presented: Sequence[_Presented], secrets: Collection[Secret]) -> frozenset[Secret]:
        """Return those of some secrets that one of some credentials is.

        Raises:
            RefusalError: the request has had too many comparisons.
        """
        hashed = sum(secret.key_hash is not None for secret in secrets)
        plain = sum(secret.text != "" for secret in secrets)
        self.comparisons += len(presented) * (plain + HASH_COMPARISONS * hashed)
        if self.comparisons > MOST_COMPARISONS:
            raise RefusalError(400, "too many comparisons of keys: name fewer of them")
        return _fitting(presented, secrets)


async def _nothing(_request: Request, _failed: bool) -> None:  # the hook's signature
    """The default hook."""


class TooManyGuessesError(RefusalError):
    """A key isn't compared, as its client has presented wrong ones, and has to wait.

    Args:
        seconds: the rest of the wait.
    """

    def __init__(self, seconds: float) -> None:
        line = "wrong keys came from this address: short ones are compared again a little later"
        super().__init__(429, line, {"retry-after": str(math.ceil(seconds))})


class Authenticator:
    """Checks in constant time whether requests present a secret.

    Args:
        on_checked: called behind each check of a request that presented something.
        clock: seconds since the epoch.
        seconds_to_wait: returns for how long no guessable key of an address is compared.
        fault_of: says what is wrong with a token.
    """

    def __init__(
        self,
        on_checked: CheckedHook = _nothing,
        clock: Callable[[], float] = time.time,
        seconds_to_wait: Callable[[str], float] = lambda _: 0.0,
        fault_of: FaultFinder = lambda _text, _path, _client: None,
    ) -> None:
        self._fault_of = fault_of
        self._on_checked = on_checked
        self._clock = clock
        self._seconds_to_wait = seconds_to_wait

    async def admits(self, request: Request, *secrets: Secret) -> bool:
        """Return whether a request presents one of these secrets, or has an address signed with one."""
        return bool(await self.fitting(request, *secrets))

    async def fitting(
        self,
        request: Request,
        *secrets: Secret,
        with_basic: bool = True,
        keys: Collection[str] | None = None,
        path: str | None = None,
    ) -> frozenset[Secret]:
        """Return those of these secrets that a request presents, or has an address signed with.

        A request fails once at most, however often it is checked.

        Args:
            request: with Bearer or Basic authentication (RFC 6750 §2.1, RFC 7617), ``?key=``, or
                ``?expires=SECONDS&signature=HEX``.
            with_basic: whether Basic authentication counts. Not where an answer is given without a password,
                too: what a browser adds of itself, for a proxy in front, is no guess there.
            keys: further ones, which count as all in the request's query do that can't be found by guessing;
                None: of several keys in the query, only the last one counts.
            path: for which a token has to be valid; None: the request's own.

        Raises:
            TooManyGuessesError: a guessable key wasn't compared, and nothing else fits.
            RefusalError: the request has too many keys, or too many were compared.
        """
        credentials = _credentials_of(request)
        presented = [one for one in credentials.presented if with_basic or one.user is None]
        if keys is not None:
            further = (*credentials.further, *(_Presented.of(key.encode("utf-8", "replace")) for key in keys))
            presented += [one for one in further if not one.is_guessable]
        wait = self._seconds_to_wait(client_address(request)) if presented and secrets else 0.0
        guesses = [one for one in presented if one.is_guessable] if wait > 0 else []
        presented = [one for one in presented if one not in guesses]
        now = self._clock()
        fitting = credentials.fitting(presented, secrets)
        fitting |= {secret for secret in secrets if _is_signed(request, secret, now)}
        if guesses and not fitting:
            raise TooManyGuessesError(wait)
        if not fitting and secrets and not credentials.faults:
            texts = [secret.decode("latin-1") for secret, _ in presented_secrets(request)]
            client = client_address(request)
            path = str(request.scope.get("path", "")) if path is None else path
            credentials.faults = tuple(self._fault_of(text, path, client) for text in texts)
            credentials.address_fault = self._fault_of(addressed_token(request.scope), path, client)
        has_keys = len(credentials.further) > 0 or (keys is not None and len(keys) > 0)
        has_further = has_keys or "signature" in request.query_params
        if not fitting and credentials.is_no_guess and not has_further:
            return fitting
        # Where nothing is wanted, nothing is wrong.
        is_tried = secrets and (presented or "signature" in request.query_params)
        if is_tried and not credentials.has_failed:
            credentials.has_failed = not fitting
            await self._on_checked(request, not fitting)
        return fitting


def begin_check(request: Request) -> None:
    """Count the comparisons anew for a further check on a connection that stays open."""
    if (known := request.scope.get(_CREDENTIALS)) is not None:
        known.comparisons, known.has_failed = 0, False


def presents_key(request: Request, *, with_basic: bool) -> bool:
    """Return whether a request presents anything that may be a key, or has a signed address."""
    presented = presented_secrets(request)
    return "signature" in request.query_params or any(with_basic or user is None for _, user in presented)


def fits_any(presented: str, secrets: Iterable[Secret]) -> frozenset[Secret]:
    """Return those secrets that a key from another wire than HTTP is, in constant time."""
    return _fitting((_Presented.of(presented.encode("utf-8", "replace")),), tuple(secrets))


def _fitting(presented: Sequence[_Presented], secrets: Iterable[Secret]) -> frozenset[Secret]:
    """Return those of some secrets that one of some credentials is."""
    # Compare all, so that the time doesn't reveal which one fits.
    found = [(secret, _times(presented, secret)) for secret in secrets]
    return frozenset(secret for secret, times in found if times)


def _times(presented: Sequence[_Presented], secret: Secret) -> int:
    """Count in constant time the credentials that are a secret."""
    if secret.key_hash is not None:
        return sum([secret.key_hash.fits(one.password) for one in presented])
    password = digest(secret.text.encode())
    times = [hmac.compare_digest(one.password, password) for one in presented]
    if secret.user is not None:
        user = digest(secret.user.encode())
        users = [hmac.compare_digest(one.user or b"", user) for one in presented]
        times = [fits & is_user for fits, is_user in zip(times, users, strict=True)]
    return sum(times) if secret.text else 0


def client_address(request: Request) -> str:
    """Return the address of a request's client; empty if unknown."""
    return request.client.host if request.client else ""


def basic_credentials(request: Request) -> tuple[str, str]:
    """Return user and password that a request presents by Basic authentication; empty for none."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    user, _, password = (_decoded(value.strip()) if scheme.lower() == "basic" else b"").partition(b":")
    return user.decode("utf-8", "replace"), password.decode("utf-8", "replace")


def challenge(request: Request) -> str:
    """Choose the challenge: Bearer for scripts, so that the browser shows no password dialog."""
    return BEARER_CHALLENGE if request.headers.get("accept") == "application/json" else CHALLENGE


def key_reason(request: Request, text: str) -> str:
    """Return why a request isn't authorised: its wrong key, or the line that says which key is needed."""
    known: _Credentials | None = request.scope.get(_CREDENTIALS)
    faults = () if known is None else (*known.faults, known.address_fault)
    fault = next((one for one in faults if one is not None), None)
    if fault is not None:
        return f"{fault.line}; {text}"
    has_key = any(presented for presented, _ in presented_secrets(request))
    return f"{WRONG_KEY}: {text}" if has_key else text


class Unauthorized(Response):
    """An answer 401, which says whether the request had a wrong key or none (RFC 9110 §15.5.2).

    Args:
        text: one line that says which password is needed.
    """

    def __init__(self, text: str, headers: Mapping[str, str] | None = None) -> None:
        self._text = text
        further = {} if headers is None else headers
        self._fields = {"www-authenticate": CHALLENGE, "cache-control": "no-store", **further}
        line = plain_refusal(401, text)
        super().__init__(bytes(line.body), 401, self._fields, "text/plain")

    def to(self, request: Request) -> Response:
        """Return the answer to a request, by whether it presents a key."""
        return plain_refusal(401, key_reason(request, self._text), self._fields)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self.to(Request(scope))(scope, receive, send)


class UnauthorizedError(RefusalError):
    """A request lacks a password, which the line of the answer names."""

    def __init__(self, line: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(401, line, headers)

    def response(self) -> Response:
        """Make the answer, which asks for the password."""
        return Unauthorized(str(self), self.headers)


class WebhookDeniedError(RefusalError):
    """Somebody else has denied a request, and the line of the answer repeats why."""

    def __init__(self, line: str) -> None:
        super().__init__(401, line, {"www-authenticate": CHALLENGE})


def signature(secret: str, path: str, expires: int) -> str:
    """Sign an address, which then is accepted until it expires.

    Args:
        secret: such as a station's listener password.
        path: such as ``/radio/demo.mp3``.
        expires: seconds since the epoch.

    Returns:
        HMAC-SHA256 of ``PATH?expires=SECONDS`` in hexadecimal, for the query parameter ``signature``.
    """
    return hmac.new(secret.encode(), f"{path}?expires={expires}".encode(), hashlib.sha256).hexdigest()


def presented_secrets(request: Request) -> Iterator[tuple[bytes, bytes | None]]:
    """Return the secrets that a request presents, each with the user if it came by Basic authentication."""
    # The field's bytes as they came: Starlette reads them as Latin-1.
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield value.strip().encode("latin-1"), None
    elif scheme.lower() == "basic":
        # Invalid Base64 counts as a wrong password.
        user, _, password = _decoded(value.strip()).partition(b":")
        yield password, user
    if key := request.query_params.get("key"):
        yield key.encode("utf-8", "replace"), None


def _credentials_of(request: Request) -> _Credentials:
    """Return what a request presents, whose digests are computed once for all checks of the request.

    Raises:
        RefusalError: the request has too many keys.
    """
    source = request.headers.get("authorization", ""), request.scope["query_string"]
    known: _Credentials | None = request.scope.get(_CREDENTIALS)
    if known is None or known.source != source:
        keys = request.query_params.getlist("key")
        if len(keys) > MOST_KEYS:
            raise RefusalError(400, f"key: at most {MOST_KEYS} of a request")
        presented = tuple(_Presented.of(*one) for one in presented_secrets(request))
        further = tuple(_Presented.of(key.encode("utf-8", "replace")) for key in keys[:-1])
        known = request.scope[_CREDENTIALS] = _Credentials(source, presented, further)
    return known


def _decoded(value: str) -> bytes:
    try:
        return b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _is_signed(request: Request, secret: Secret, now: float) -> bool:
    expires = request.query_params.get("expires", "")
    if not (secret.text and secret.signed_path and expires.isascii() and expires.isdecimal()):
        return False
    if len(expires) > MAX_DIGITS or int(expires) <= now:
        return False
    expected = signature(secret.text, secret.signed_path, int(expires))
    given = request.query_params.get("signature", "").encode("utf-8", "replace")
    return hmac.compare_digest(digest(given), digest(expected.encode()))
