"""What requests present, and how it is compared: one place for all passwords, keys and tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.requests import Request

from origin.access.authentication import Authenticator, Secret, TooManyGuessesError, client_address
from origin.access.guess_delay import FORGOTTEN_SECONDS, GuessDelay
from origin.access.key_hash import KeyHash
from origin.access.limits import AccessLimits
from origin.responses.refusal import RefusalError

SECRET, LONG = "sésame&?", "sésame, ouvre-toi"
ADDRESS = "192.0.2.7"
NOW = 2_000_000_000.0
PATH = "/radio/test"


def request(authorization: str = "", **query: str) -> Request:
    headers = [(b"authorization", authorization.encode())] if authorization else []
    return Request(
        {
            "type": "http",
            "method": "GET",
            "path": PATH,
            "query_string": urlencode(query).encode(),
            "headers": headers,
            "client": (ADDRESS, 1234),
        }
    )


def basic(text: str) -> str:
    """RFC 7617 §2.1: in UTF-8."""
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def signed(expires: str, secret: str = SECRET, path: str = PATH) -> dict[str, str]:
    text = f"{path}?expires={expires}".encode()
    return {"expires": expires, "signature": hmac.digest(secret.encode(), text, "sha256").hex()}


class Heard:
    def __init__(self) -> None:
        self.checks: list[tuple[str, bool]] = []

    async def __call__(self, request: Request, failed: bool) -> None:
        self.checks.append((client_address(request), failed))


RIGHT = [
    request(f"Bearer {SECRET}"),
    request(f"bEARER  {SECRET} "),
    request(basic(f"anybody:{SECRET}")),
    request(basic(f":{SECRET}")),
    request(key=SECRET),
    # A proxy's own password stays in the header.
    request(basic("proxy:other"), key=SECRET),
]
WRONG = [
    request(basic(SECRET)),
    request(f"Basic {SECRET}"),
    request("Basic %%%"),
    request("Bearer"),
    request("Bearer "),
    request(f"Digest {SECRET}"),
    request(key="wrong"),
    request(key=SECRET + " "),
]


@pytest.mark.parametrize("one", RIGHT)
async def test_bearer_basic_and_key_let_in(one: Request) -> None:
    heard = Heard()
    assert await Authenticator(heard).admits(one, Secret("another"), Secret(SECRET))
    assert heard.checks == [("192.0.2.7", False)]


@pytest.mark.parametrize("one", WRONG)
async def test_anything_else_does_not(one: Request) -> None:
    assert not await Authenticator().admits(one, Secret("another"), Secret(SECRET))


async def test_who_presents_nothing_has_not_failed() -> None:
    heard = Heard()
    assert not await Authenticator(heard).admits(request(), Secret(SECRET))
    assert not await Authenticator(heard).admits(request(expires="9"), Secret(SECRET))
    assert heard.checks == []
    assert not await Authenticator(heard).admits(request(key="wrong"), Secret(SECRET))
    assert heard.checks == [("192.0.2.7", True)]


@pytest.mark.parametrize("one", [request(), request("Bearer "), request(basic(":")), request(key="")])
async def test_an_empty_secret_lets_nobody_in(one: Request) -> None:
    empty = Secret(""), Secret("", user=""), Secret("", signed_path=PATH)
    assert not await Authenticator().admits(one, *empty)
    assert not await Authenticator().admits(one)


async def test_a_secret_of_a_user_is_taken_from_that_user_alone() -> None:
    secret = Secret(SECRET, user="source")
    for one, admitted in (
        (request(basic(f"source:{SECRET}")), True),
        (request(basic(f"Source:{SECRET}")), False),
        (request(basic(f":{SECRET}")), False),
        (request(f"Bearer {SECRET}"), False),
        (request(key=SECRET), False),
    ):
        assert await Authenticator().admits(one, secret) is admitted


@pytest.mark.clause("A signed address lets in until its time, and nobody else")
@pytest.mark.parametrize(
    ("query", "admitted"),
    [
        (signed("2000000001"), True),
        (signed("2000000000"), False),
        (signed("4000000000", secret="other"), False),
        (signed("4000000000", path="/radio/other"), False),
        (signed("4000000000") | {"expires": "4000000001"}, False),
        (signed("04000000000"), False),
        (signed("9" * 13), False),
        (signed("+4000000000"), False),
        (signed("\u0664000000000"), False),
    ],
)
async def test_a_signed_address_lets_in_until_its_time(query: dict[str, str], admitted: bool) -> None:
    authenticator = Authenticator(clock=lambda: NOW)
    assert await authenticator.admits(request(**query), Secret(SECRET, signed_path=PATH)) is admitted
    assert not await authenticator.admits(request(**query), Secret(SECRET))


@pytest.mark.clause(
    "RFC 9110 §10.1.1",
    "RFC 9110 §15.5.2",
    "A source of the old protocol is answered as Icecast does",
    "CWE-208",
    "CWE-307",
)
async def test_the_time_of_a_comparison_tells_nothing_of_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the clock, which noise breaks: what is compared are digests, by the function made for it.

    All secrets are compared with all that is presented, whichever fits.
    """
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def note(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", note)
    counts = set()
    for given in ("s", "secret", "secreT", "x" * 10_000):
        compared.clear()
        one = request(basic(f"source:{given}"), key=given)
        found = await Authenticator().admits(
            one, Secret("secret"), Secret("other"), Secret("secret", "source")
        )
        assert found is (given == "secret")
        assert {len(side) for pair in compared for side in pair} <= {32, 0}
        counts.add(len(compared))
    # Three secrets and two passwords; of the one with a user, the users besides.
    assert counts == {8}


@pytest.mark.clause("CWE-208", "CWE-307")
async def test_a_long_password_is_read_once_for_all_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of stations has a secret for each; a head has room for 32 KiB."""
    read: list[int] = []
    sha256 = hashlib.sha256

    def note(data: bytes) -> Any:
        read.append(len(data))
        return sha256(data)

    monkeypatch.setattr(hashlib, "sha256", note)
    secrets = [Secret(f"password of {number}") for number in range(1000)]
    assert not await Authenticator().admits(request("Bearer " + "x" * 30_000), *secrets)
    assert sum(read) < 30_000 + 1000 * 20


async def test_a_request_s_password_is_read_once_for_all_its_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    sha256 = hashlib.sha256

    def note(data: bytes) -> Any:
        read.append(len(data))
        return sha256(data)

    monkeypatch.setattr(hashlib, "sha256", note)
    one = request("Bearer " + "x" * 30_000)
    for _ in range(5):
        assert not await Authenticator().admits(one, Secret("password"))
    assert sum(read) < 31_000


async def test_a_request_has_at_most_four_keys() -> None:
    for keys, is_refused in ((4, False), (5, True)):
        one = request()
        one.scope["query_string"] = "&".join(f"key={number}" for number in range(keys)).encode()
        if is_refused:
            with pytest.raises(RefusalError, match="key: at most 4"):
                await Authenticator().admits(one, Secret("3"))
        else:
            assert await Authenticator().admits(one, Secret("3"))


LIMITS = AccessLimits(guessers=300)


class Slow:
    """Notes for how long answers are held back."""

    def __init__(self, at_once: int = 3) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.delay = GuessDelay(at_once, 5.0, LIMITS, lambda: self.now, self.sleep)

    def authenticator(self) -> Authenticator:
        return Authenticator(self.delay, seconds_to_wait=self.delay.seconds_to_wait)

    async def sleep(self, _: Request, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.clause("CWE-208", "CWE-307")
async def test_answers_to_wrong_passwords_are_held_back_longer_and_longer() -> None:
    slow = Slow()
    authenticator = Authenticator(slow.delay)
    for _ in range(1000):
        assert not await authenticator.admits(request(key="wrong"), Secret(SECRET))
    assert slow.slept[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert set(slow.slept[7:]) == {5.0}
    assert sum(slow.slept) > 4900


async def test_what_is_right_and_long_is_answered_at_once_whoever_guesses_from_the_same_address() -> None:
    slow = Slow()
    authenticator = slow.authenticator()
    for _ in range(100):
        await authenticator.admits(request(key=f"wrong and {LONG}"), Secret(LONG))
    slow.delay.failed(ADDRESS)
    before = len(slow.slept)
    assert await authenticator.admits(request(key=LONG), Secret(LONG))
    assert await authenticator.admits(request(basic(f"any:{LONG}")), Secret("other"), Secret(LONG))
    # Neither is what presents nothing, or where nothing is wanted.
    assert not await authenticator.admits(request(), Secret(LONG))
    assert not await authenticator.admits(request(key="wrong"))
    assert len(slow.slept) == before


@pytest.mark.clause("CWE-307", "RFC 6585 §4")
async def test_no_guessable_key_is_compared_while_its_address_has_to_wait() -> None:
    """Who hangs up in place of waiting for the answer learns nothing by the next key either."""
    slow = Slow()
    authenticator = slow.authenticator()
    delay = 0.0
    while delay < 1:
        delay = slow.delay.failed(ADDRESS)
    for key in ("wrong", SECRET):
        with pytest.raises(TooManyGuessesError) as raised:
            await authenticator.admits(request(key=key), Secret(SECRET))
        assert (raised.value.status, raised.value.headers) == (429, {"retry-after": "2"})
    # A long one beside it counts.
    assert await authenticator.admits(request(f"Bearer {LONG}", key=SECRET), Secret(LONG))
    other = request(key=SECRET)
    other.scope["client"] = ("192.0.2.8", 1)
    assert await authenticator.admits(other, Secret(SECRET))
    # What isn't compared doesn't prolong the wait.
    slow.now += delay
    assert await authenticator.admits(request(key=SECRET), Secret(SECRET))


def test_a_client_is_forgotten_after_a_while_and_few_are_remembered() -> None:
    slow = Slow(at_once=1)
    assert [slow.delay.failed("192.0.2.1") for _ in range(3)] == [0, 0.1, 0.2]
    slow.now += FORGOTTEN_SECONDS
    assert slow.delay.failed("192.0.2.1") == 0
    for number in range(LIMITS.guessers):
        assert slow.delay.failed(f"10.0.{number // 256}.{number % 256}") == 0
    assert slow.delay.failed("192.0.2.1") == 0
    assert len(slow.delay._guessers) == LIMITS.guessers
    assert GuessDelay(0, 5.0).failed("192.0.2.1") == 0.1


def test_a_household_of_ipv6_is_one_client() -> None:
    slow = Slow(at_once=1)
    addresses = [f"2001:db8:1:2:{number:x}::1" for number in range(4)]
    assert [slow.delay.failed(one) for one in addresses] == [0, 0.1, 0.2, 0.4]
    assert slow.delay.failed("2001:db8:1:3::1") == 0
    assert slow.delay.failed("203.0.113.1") == slow.delay.failed("203.0.113.2") == 0
    assert slow.delay.failed("::ffff:203.0.113.1") == 0.1


async def test_plain_secrets_and_hashes_share_the_comparisons_of_a_request() -> None:
    plain = [Secret(f"password-{number}") for number in range(1024)]
    hashed = [Secret("", key_hash=KeyHash.of(f"key-{number}")) for number in range(256)]
    for several in (plain, hashed):
        one = request(key="password-7")
        await Authenticator().fitting(one, *several)
        with pytest.raises(RefusalError, match="comparisons"):
            await Authenticator().fitting(one, several[0])
