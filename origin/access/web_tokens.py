"""JSON Web Tokens (RFC 7519) in the place of tokens of our own, for backends that make such ones already.

The claims are ``exp``, ``nbf``, ``aud``, ``iss`` and ``jti`` of RFC 7519 §4.1, ``sub`` for the viewer's
name, and six of ours: ``paths``, a list of paths beneath which everything may be fetched, where a segment
``*`` stands for any other; ``clips``, ``publish`` and ``configure``, which are true where the token allows
that; ``create``, a list of patterns of event channels that may be made; and ``address``, the only client or
network that may present it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from origin.access.address_tokens import (
    ADDRESS,
    NAME,
    NETWORK,
    TOKENS_KEPT,
    Token,
    checked_client,
    is_plain,
    network_of,
)
from origin.access.revocations import digest_of
from origin.http.channel_patterns import is_name, is_template

LEEWAY_SECONDS = 30
"""By how much the clocks of a backend and of this server may differ."""

MOST_LENGTH = 2048
"""Most characters of a token: it stands in the path of each request."""

MOST_PATHS = 32
"""Most paths of a token."""

MOST_NAME = 128
"""Most characters of a viewer's name."""

MOST_KEYS = 64
"""Most keys of a JSON Web Key Set (RFC 7517 §5) that are used."""

SECRET = "HS256:"  # noqa: S105  # a beginning
"""Beginning of a configured secret for HMAC."""

LEAST_SECRET = 32
"""Least characters of a secret: RFC 7518 §3.2 wants as many bits as those of the hash."""

REMOTE = ("https://", "http://127.0.0.1:", "http://[::1]:", "http://localhost:")
"""Beginnings of addresses of key sets: others than this machine are asked by HTTPS alone."""

MOST_PEM_BYTES = 64 << 10

RSA_BITS = range(2048, 8193)
"""Bits of RSA keys that are used: shorter ones aren't safe (RFC 7518 §3.3), and longer ones take long."""

MOST_EXPONENT = 1 << 32
"""Largest public exponent of RSA keys that are used."""

_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA = ("RS256", "RS384", "RS512", "PS256")
_KINDS = ("RSA", "EC", "OKP")
_NOTHING_CHECKED = {f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
_FAULTS = (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError, RecursionError)


class WebTokenKey(NamedTuple):
    """A key that signatures are checked with.

    Attributes:
        algorithm: the only one that it is used for, such as ``RS256`` (RFC 8725 §3.1).
        key: a public key of `cryptography`, or the bytes of a secret.
        key_id: as tokens name it (RFC 7515 §4.1.4); empty for a key that tokens needn't name.
    """

    algorithm: str
    key: Any
    key_id: str = ""


class WebTokenKeys:
    """The keys of JSON Web Tokens, by which these are read.

    Args:
        audience: the required ``aud`` of a token; empty for any.
        issuer: the required ``iss`` of a token; empty for any.
    """

    def __init__(self, keys: Sequence[WebTokenKey] = (), audience: str = "", issuer: str = "") -> None:
        self._keys = tuple(keys)
        self._audience = audience
        self._issuer = issuer
        self.read = functools.lru_cache(maxsize=TOKENS_KEPT)(self._read)

    def _read(self, text: str) -> Token | None:
        """Read the text of a token; None for any other text, and where no key has signed it."""
        if (header := header_of(text)) is None or "crit" in header:
            return None
        for key in self._candidates(header):
            try:
                return self._checked(text, key)
            except _FAULTS:
                continue
        return None

    def fault(self, text: str) -> tuple[str, bool]:
        """Return why a text isn't a token that `read` returns, and whether its signature is right."""
        if (header := header_of(text)) is None or "crit" in header:
            return "the token is malformed", False
        candidates = self._candidates(header)
        for key in candidates:
            try:
                self._checked(text, key)
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidAudienceError:
                return "the token is for another audience (aud)", True
            except jwt.InvalidIssuerError:
                return "the token is of another issuer (iss)", True
            except jwt.MissingRequiredClaimError as error:
                return f"the token lacks {error.claim}", True
            except KeyError as error:
                return f"the token lacks {error.args[0]}", True
            except jwt.DecodeError:
                return "the token is malformed", False
            except _FAULTS:
                return "the token has a claim that isn't understood", True
        return "the token isn't signed by a key that is known here", False

    def knows(self, text: str) -> bool:
        """Return whether there is a key with the identifier that a token names, or the text names none."""
        key_id = (header_of(text) or {}).get("kid")
        return not isinstance(key_id, str) or any(key.key_id == key_id for key in self._keys)

    def _candidates(self, header: Mapping[str, Any]) -> list[WebTokenKey]:
        named = header.get("kid")
        fitting = [key for key in self._keys if key.algorithm == header.get("alg")]
        return [key for key in fitting if key.key_id == named] or [key for key in fitting if not key.key_id]

    def _checked(self, text: str, key: WebTokenKey) -> Token:
        """Return a token whose signature and claims are valid.

        Raises:
            ValueError: a claim is missing or malformed; or another of `_FAULTS`.
        """
        options = _NOTHING_CHECKED | {"verify_aud": bool(self._audience), "verify_iss": bool(self._issuer)}
        claims = jwt.decode(
            text,
            key.key,
            algorithms=[key.algorithm],
            options=options,  # type: ignore[arg-type]  # a mapping of some of them will do
            audience=self._audience or None,
            issuer=self._issuer or None,
        )
        name = claims.get("sub", "")
        if not isinstance(name, str) or len(name) > MOST_NAME:
            raise ValueError("sub: a name of at most 128 characters")
        client = claims.get("address", "")
        if not isinstance(client, str):
            raise ValueError("address: a text")
        binding = "" if not client else NETWORK if "/" in client else ADDRESS
        plain = name if NAME.fullmatch(name) else ""
        create = _create(claims.get("create"))
        paths = () if create and "paths" not in claims else _paths(claims["paths"])
        begins = _seconds(claims.get("nbf", 0)) - LEEWAY_SECONDS
        return Token(
            functools.partial(_own_paths, paths),
            int(_seconds(claims["exp"])) + LEEWAY_SECONDS,
            name,
            f"{plain}#{sha256(text.encode()).hexdigest()[:8]}",
            claims.get("clips") is True,
            claims.get("publish") is True,
            binding,
            network_of(checked_client(client), binding) if binding else "",
            begins,
            create,
            _digest(claims.get("jti")),
            may_configure=claims.get("configure") is True,
        )


def _own_paths(
    paths: Iterable[tuple[str, ...]], parts: Sequence[str], _client: str
) -> Iterator[tuple[str, ...]]:
    """Yield those patterns of a token that cover a path."""
    for pattern in paths:
        fits = all(one in ("*", part) for one, part in zip(pattern, parts, strict=False))
        if fits and len(parts) >= len(pattern):
            yield pattern


def header_of(text: str) -> Mapping[str, Any] | None:
    """Return the header of a token (RFC 7515 §4), whose signature isn't checked; None where there is none."""
    if len(text) > MOST_LENGTH or text.count(".") != 2 or not text.isascii():
        return None
    try:
        return jwt.get_unverified_header(text)
    except _FAULTS:
        return None


def configured_keys(names: Sequence[str]) -> tuple[list[WebTokenKey], list[str]]:
    """Return the keys of a configuration, and the addresses of sets of further ones. Blocks.

    Args:
        names: PEM files, secrets behind `SECRET`, and addresses of key sets.

    Raises:
        ValueError: a key can't be read, or isn't used; the text says why.
    """
    keys, sets = list[WebTokenKey](), list[str]()
    for name in names:
        try:
            if name.startswith(SECRET):
                keys.append(key_of_secret(name.removeprefix(SECRET)))
            elif name.startswith(REMOTE):
                sets.append(name)
            elif "://" in name:
                raise ValueError("allowed: https://, or http:// of this machine")
            else:
                with Path(name).expanduser().open("rb") as file:
                    keys.append(key_of_pem(file.read(MOST_PEM_BYTES)))
        except OSError as error:
            raise ValueError(f"{name}: {error.strerror}") from None
        except ValueError as error:
            shown = SECRET if name.startswith(SECRET) else name
            raise ValueError(f"{shown}: {error}") from None
    return keys, sets


def key_of_secret(text: str) -> WebTokenKey:
    """Return the key of a configured secret.

    Args:
        text: without `SECRET` before it.

    Raises:
        ValueError: it is too short; the text says what is allowed.
    """
    if len(text) < LEAST_SECRET:
        raise ValueError(f"a secret behind {SECRET} has at least {LEAST_SECRET} characters")
    return WebTokenKey("HS256", text.encode())


def key_of_pem(data: bytes) -> WebTokenKey:
    """Return the key of a PEM file with a public key or a certificate.

    Raises:
        ValueError: there is none, or none that is used; the text says why.
    """
    if b"PRIVATE KEY" in data:
        raise ValueError("a private key; allowed: the public key that belongs to it")
    if b"BEGIN CERTIFICATE" in data:
        return _key_of(x509.load_pem_x509_certificate(data).public_key())
    try:
        return _key_of(serialization.load_pem_public_key(data))
    except ValueError as error:
        raise ValueError(f"no public key in PEM: {error}") from None


def keys_of_set(data: bytes) -> list[WebTokenKey]:
    """Return the keys of a JSON Web Key Set (RFC 7517 §5); what isn't understood is left out, as §5 says.

    Raises:
        ValueError: it is none.
    """
    try:
        listed = json.loads(data)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("no JSON Web Key Set") from None
    if not isinstance(listed, list):
        raise ValueError("no JSON Web Key Set")
    return [key for one in listed[:MOST_KEYS] if (key := _key_in_set(one)) is not None]


def _key_in_set(entry: Any) -> WebTokenKey | None:
    """Return a public key for signatures; None for any other."""
    if not isinstance(entry, dict) or entry.get("kty") not in _KINDS or entry.get("use", "sig") != "sig":
        return None
    if "d" in entry:
        return None  # a private key that others can read is nobody's
    try:
        key = _key_of(jwt.PyJWK(entry).key)
    except _FAULTS:
        return None
    key_id, algorithm = entry.get("kid", ""), entry.get("alg", key.algorithm)
    allowed = _RSA if key.algorithm in _RSA else (key.algorithm,)
    is_used = algorithm in allowed and isinstance(key_id, str)
    return WebTokenKey(algorithm, key.key, key_id) if is_used else None


def _key_of(key: Any) -> WebTokenKey:
    """Return a public key with the algorithm that it is used for.

    Raises:
        ValueError: it isn't used; the text says what is.
    """
    match key:
        case rsa.RSAPublicKey() if key.key_size in RSA_BITS and key.public_numbers().e < MOST_EXPONENT:
            return WebTokenKey("RS256", key)
        case ec.EllipticCurvePublicKey() if key.curve.name in _CURVES:
            return WebTokenKey(_CURVES[key.curve.name], key)
        case ed25519.Ed25519PublicKey():
            return WebTokenKey("EdDSA", key)
    raise ValueError("allowed: RSA of 2048 to 8192 bits, the curves P-256, P-384 and P-521, and Ed25519")


def _paths(claim: Any) -> tuple[tuple[str, ...], ...]:
    """Return the patterns of a token's paths.

    Raises:
        ValueError: they are malformed.
    """
    if not isinstance(claim, list) or not 0 < len(claim) <= MOST_PATHS:
        raise ValueError("paths: a list of at most 32")
    return tuple(_path(one) for one in claim)


def _path(claim: Any) -> tuple[str, ...]:
    if not isinstance(claim, str) or not is_plain(claim):
        raise ValueError("paths: such as /live/demo")
    # A path covers all beneath it, with the stars or without.
    return tuple(claim.removesuffix("/**").rstrip("/").split("/"))


def _create(claim: Any) -> tuple[str, ...]:
    """Return the patterns of event channels that a token's holder may make.

    Raises:
        ValueError: they are malformed.
    """
    patterns = [] if claim is None else claim
    if not isinstance(patterns, list) or len(patterns) > MOST_PATHS:
        raise ValueError("create: a list of at most 32")
    for one in patterns:
        if not isinstance(one, str) or not (is_name(one) or is_template(one)):
            raise ValueError("create: names of event channels, or patterns such as room/*")
    return tuple(patterns)


def _digest(claim: Any) -> str:
    """Return the digest of an identifier (RFC 7519 §4.1.7); empty for none.

    Raises:
        ValueError: it is no text.
    """
    if claim is None:
        return ""
    if not isinstance(claim, str) or not claim:
        raise ValueError("jti: a text")
    return digest_of(claim)


def _seconds(claim: Any) -> float:
    """Return a date in seconds since the epoch (RFC 7519 §2).

    Raises:
        ValueError: it is none.
    """
    if isinstance(claim, bool) or not isinstance(claim, int | float) or not abs(claim) < 1e15:
        raise ValueError("dates are seconds since 1970")
    return float(claim)
