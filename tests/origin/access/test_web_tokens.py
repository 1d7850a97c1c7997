"""JSON Web Tokens: which ones are valid, for which paths, and whose keys are used."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from origin.access.authorization import Action, Authorization, NamedResource, ResourceKind
from origin.access.token_keys import TokenKeys
from origin.access.web_tokens import (
    MOST_LENGTH,
    WebTokenKey,
    WebTokenKeys,
    key_of_pem,
    key_of_secret,
    keys_of_set,
)

SECRET = "a-secret-that-only-the-backend-knows"
RSA = rsa.generate_private_key(65537, 2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()
PRIVATE = {"RS256": RSA, "ES256": CURVE, "EdDSA": EDWARDS}
KEYS = WebTokenKeys([key_of_secret(SECRET)])


def pem(key: Any) -> bytes:
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, kind))


def made(
    key: Any = SECRET, algorithm: str = "HS256", header: dict[str, Any] | None = None, **claims: Any
) -> str:
    told = {"exp": int(time.time()) + 3600, "sub": "anna", "paths": ["/live/demo"]} | claims
    told = {name: value for name, value in told.items() if value is not None}
    return jwt.encode(told, key, algorithm, headers=header)


def forged(header: dict[str, Any], claims: dict[str, Any] | None = None, signature: str = "") -> str:
    told = claims or {"exp": int(time.time()) + 3600, "paths": ["/live/demo"]}
    parts = [
        base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in (header, told)
    ]
    return f"{parts[0]}.{parts[1]}.{signature}"


def test_a_token_says_whose_it_is_and_what_it_allows() -> None:
    token = KEYS.read(made(clips=True, publish=True))
    assert token is not None
    assert (token.name, token.allows_clips, token.may_publish) == ("anna", True, True)
    assert token.label.startswith("anna#")
    plain = KEYS.read(made(sub="Anna B. <anna@example.org>"))
    assert plain is not None
    assert plain.label.startswith("#"), "a log shows simple names alone"


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_public_keys_of_each_kind_check_signatures(algorithm: str) -> None:
    keys = WebTokenKeys([key_of_pem(pem(PRIVATE[algorithm]))])
    assert keys.read(made(PRIVATE[algorithm], algorithm)) is not None
    assert keys.read(made(PRIVATE[algorithm], algorithm)[:-8] + "AAAAAAAA") is None


@pytest.mark.parametrize(
    ("pattern", "path", "is_covered"),
    [
        ("/live/demo", "/live/demo/720p/media.m3u8", True),
        ("/live/demo", "/live/demo", True),
        ("/live/demo/", "/live/demo", True),
        ("/live/demo", "/live/demolition/master.m3u8", False),
        ("/live/demo", "/live/DEMO", False),
        ("/live/demo", "/live/demo/../other", False),
        ("/live/demo", "/live/demo//x", False),
        ("/live/*", "/live/any/master.m3u8", True),
        ("/live/*", "/live", False),
        ("/vod/*/film.mp4", "/vod/a/film.mp4/video/0.m4s", True),
        ("/vod/*/film.mp4", "/vod/a/b/film.mp4", False),
        ("/vod/a*", "/vod/ab", False),
        ("/", "/anything", True),
        ("/vod/**", "/vod/a/b/film.mp4", True),
        ("/vod/**", "/vodka", False),
        ("/**", "/anything", True),
    ],
)
def test_a_token_is_for_what_is_beneath_its_paths(pattern: str, path: str, *, is_covered: bool) -> None:
    token = KEYS.read(made(paths=["/radio/fm.mp3", pattern]))
    assert token is not None
    assert token.covers(path) is is_covered


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": 1e300},
        {"nbf": "now"},
        {"paths": None},
        {"paths": []},
        {"paths": "/live/demo"},
        {"paths": ["/live/../demo"]},
        {"paths": ["live"]},
        {"paths": [7]},
        {"paths": ["/x"] * 33},
        {"sub": "x" * 129},
        {"address": 7},
        {"address": "somewhere"},
        {"address": "192.0.2.0/16"},
    ],
)
def test_a_token_with_malformed_claims_is_none(claims: dict[str, Any]) -> None:
    # PyJWT itself refuses to write some of these.
    told = {"exp": int(time.time()) + 3600, "paths": ["/live/demo"]} | claims
    told = {name: value for name, value in told.items() if value is not None}
    text = jwt.api_jws.encode(json.dumps(told).encode(), SECRET, "HS256")
    assert KEYS.read(text) is None


def test_the_key_alone_decides_the_algorithm() -> None:
    """RFC 8725 §3.1: no "none", and no HMAC whose secret is a public key."""
    for header in ({"alg": "none"}, {"alg": "None"}, {"typ": "JWT"}, {"alg": "HS512"}):
        assert KEYS.read(forged(header)) is None
    public = pem(RSA)
    keys = WebTokenKeys([key_of_pem(public)])
    import hmac

    head = forged({"alg": "HS256"}).rpartition(".")[0]
    signature = base64.urlsafe_b64encode(hmac.digest(public, head.encode(), "sha256")).rstrip(b"=").decode()
    assert keys.read(f"{head}.{signature}") is None
    assert keys.read(made(RSA, "RS512")) is None
    assert keys.read(made(RSA, "RS256")) is not None


def test_a_header_with_what_must_be_understood_is_refused() -> None:
    assert KEYS.read(made(header={"crit": ["b64"], "b64": False})) is None
    assert KEYS.read(made(header={"crit": ["exp"]})) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b.c",
        "..",
        "eyJhbGciOiJIUzI1NiJ9..",
        forged({"alg": "HS256", "kid": "x" * 3000}),
        forged({"alg": ["HS256"]}),
        forged({"alg": "HS256"}, {"exp": 1, "x": json.loads("[" * 400 + "]" * 400)}),
        "é.é.é",
    ],
)
def test_any_other_text_is_no_token(text: str) -> None:
    assert KEYS.read(text) is None


def test_a_token_of_the_greatest_length_is_read_and_a_longer_one_is_not() -> None:
    rest = MOST_LENGTH - len(made(x="")) - 2
    fitting = made(x="a" * (rest * 3 // 4))
    assert len(fitting) <= MOST_LENGTH
    assert KEYS.read(fitting) is not None
    assert KEYS.read(made(x="a" * MOST_LENGTH)) is None


def test_audience_and_issuer_count_where_they_are_configured() -> None:
    keys = WebTokenKeys([key_of_secret(SECRET)], "headwater", "https://id.example.org")
    right: dict[str, Any] = {"aud": ["other", "headwater"], "iss": "https://id.example.org"}
    assert keys.read(made(**right)) is not None
    wrongs: list[dict[str, Any]] = [
        {"aud": "other"},
        {"aud": None},
        {"iss": "https://other.org"},
        {"iss": None},
    ]
    for wrong in wrongs:
        assert keys.read(made(**(right | wrong))) is None
    assert KEYS.read(made(aud="anything")) is not None


def test_clocks_may_differ_by_half_a_minute() -> None:
    now = time.time()
    late, early = KEYS.read(made(exp=int(now) - 10)), KEYS.read(made(nbf=int(now) + 10))
    assert late is not None
    assert late.expires > now
    assert early is not None
    assert early.covers("/live/demo")
    coming = KEYS.read(made(nbf=int(now) + 3600))
    assert coming is not None
    assert not coming.covers("/live/demo")


def test_a_token_may_be_for_one_client_or_network() -> None:
    keys = TokenKeys([], [key_of_secret(SECRET)])
    for bound, client, is_valid in (
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.0/24", "::ffff:192.0.2.8", True),
        ("2001:db8::/64", "2001:db8::1", True),
        ("2001:db8::/64", "2001:db8:0:1::1", False),
        ("192.0.2.7", "", False),
    ):
        token = keys.read(made(address=bound), client)
        assert token is not None
        assert token.covers("/live/demo") is is_valid


def test_keys_are_chosen_by_their_identifier() -> None:
    others = [
        WebTokenKey("HS256", f"another-secret-of-{number:016}".encode(), f"k{number}") for number in range(3)
    ]
    keys = WebTokenKeys([*others, WebTokenKey("HS256", SECRET.encode(), "mine")])
    assert keys.read(made(header={"kid": "mine"})) is not None
    assert keys.read(made(header={"kid": "k1"})) is None
    assert keys.read(made()) is None, "none of these keys is for tokens that name none"
    assert keys.knows(made(header={"kid": "k1"}))
    assert not keys.knows(made(header={"kid": "new"}))


def test_a_set_of_keys_has_those_that_are_understood() -> None:
    public = [
        json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key())) | {"kid": "r", "alg": "RS384"},
        json.loads(jwt.algorithms.ECAlgorithm.to_jwk(CURVE.public_key())) | {"kid": "e", "use": "sig"},
        json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(EDWARDS.public_key())) | {"kid": "o"},
    ]
    others: list[Any] = [
        {"kty": "oct", "k": base64.urlsafe_b64encode(SECRET.encode()).decode(), "kid": "s"},
        json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA)) | {"kid": "private"},
        public[0] | {"use": "enc", "kid": "enc"},
        public[0] | {"alg": "ES256", "kid": "wrong"},
        public[0] | {"n": "AQAB", "kid": "short"},
        {"kty": "RSA"},
        {"kty": ["RSA"]},
        7,
        None,
    ]
    keys = keys_of_set(json.dumps({"keys": [*others, *public]}).encode())
    assert [(key.key_id, key.algorithm) for key in keys] == [("r", "RS384"), ("e", "ES256"), ("o", "EdDSA")]
    assert WebTokenKeys(keys).read(made(CURVE, "ES256", {"kid": "e"})) is not None


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"keys": 7}', b"\xff", b"[" * 100_000])
def test_what_is_no_set_of_keys_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="no JSON Web Key Set"):
        keys_of_set(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no public key in PEM"),
        (pem(rsa.generate_private_key(65537, 1024)), "2048 to 8192 bits"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "the curves"),
        (
            RSA.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            "a private key",
        ),
    ],
)
def test_a_key_that_is_not_used_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        key_of_pem(data)


def test_both_kinds_of_tokens_are_read_side_by_side() -> None:
    keys = TokenKeys(["new:a-secret-of-november"], [key_of_secret(SECRET)])
    own = keys.read(keys.signing.sign("/live/demo", int(time.time()) + 60, "anna"))
    assert own is not None
    web = keys.read(made())
    assert web is not None
    assert own.covers("/live/demo")
    assert web.covers("/live/demo")
    authorization = Authorization(tokens=keys)
    demo, other = (NamedResource(ResourceKind.LIVE, name) for name in ("demo", "other"))
    publishing = made(publish=True)
    for token, resource, is_permitted in (
        (made(), demo, False),
        (publishing, demo, True),
        (publishing, other, False),
    ):
        permission = authorization.key_permission(Action.PUBLISH, resource, token, "")
        assert (permission is not None) is is_permitted
