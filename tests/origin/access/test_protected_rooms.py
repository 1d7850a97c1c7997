"""Channels of a pattern need a token before there are any, at each of their addresses."""

from __future__ import annotations

import time

import pytest

from origin.access.protected_addresses import MISSING, ProtectedAddresses, TokenGuard
from origin.access.token_keys import EXPIRED, NOT_VALID, TokenKeys

TOKEN_KEYS = TokenKeys(["new:a-secret-of-november"])
KEYS = TOKEN_KEYS.signing
PROTECTED = ProtectedAddresses(
    channels={"room/*": True, "open/*": False, "mixed/*": False, "closed/*": True, "free": False},
    recordings={"room/*": True, "open/*": False, "mixed/*": True, "closed/*": False, "free": False},
)
GUARD = TokenGuard(PROTECTED, TOKEN_KEYS)

BELOW = [
    "",
    "/",
    *("/master.m3u8", "/manifest.mpd", "/clip.mp4", "/clip.m4a", "/clip.mp3", "/clip.ogg"),
    *("/snapshot.jpg", "/thumbnails.vtt", "/programmes", "/metadata", "/recordings"),
    *("/240p/media.m3u8", "/240p/iframes.m3u8", "/240p/0.m4s", "/240p/0.1.m4s", "/240p/init-0.mp4"),
    *("/captions-en/0.vtt", "/recordings/1/master.m3u8", "/recordings/1/240p/0.m4s"),
    *("/recordings/1/event.mp4", "/recordings/recordings/event.mp4", "/nothing/of/it", "//master.m3u8"),
    *("/../alice/master.m3u8", "/./master.m3u8"),
]
"""The addresses of a channel, some of them none."""

NAMES = ["alice", "recordings", "ingest", "master.m3u8", "240p", "ALICE", "*", "..", "%2e", ""]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("below", BELOW)
def test_no_address_of_a_room_opens_without_its_token(name: str, below: str) -> None:
    path = f"/live/room/{name}{below}"
    expired = KEYS.sign("/live/room", int(time.time()) - 60)
    soon = int(time.time()) + 600
    others = ["/live/room/alic", "/live/roo", "/live/bob", "/live/room/alice/240p/1.m4s", "/radio/room/alice"]
    wrong = ["nonsense", "v1.new.99999999999.anna.2.nonsense", *(KEYS.sign(one, soon) for one in others)]
    for token, refusal in (("", MISSING), (expired, EXPIRED.line), *((one, NOT_VALID.line) for one in wrong)):
        grant = GUARD.decide(token, path)
        assert grant is not None, "it is open"
        assert grant.refusal, token
        assert token == expired or grant.refusal == refusal


@pytest.mark.parametrize("below", [one for one in BELOW if not one.startswith(("//", "/.", "/.."))])
def test_the_token_of_a_room_opens_its_addresses_and_no_other_rooms(below: str) -> None:
    token = KEYS.sign("/live/room/alice", int(time.time()) + 600)
    grant = GUARD.decide(token, f"/live/room/alice{below}")
    assert grant is not None
    assert grant.refusal == ""
    other = GUARD.decide(token, f"/live/room/bob{below}")
    assert other is not None
    assert other.refusal == NOT_VALID.line
    every = GUARD.decide(KEYS.sign("/live/room", int(time.time()) + 600), f"/live/room/bob{below}")
    assert every is not None
    assert every.refusal == ""


def test_recordings_of_rooms_are_as_their_pattern_says() -> None:
    for pattern, live, recorded in (("open", False, False), ("mixed", False, True), ("closed", True, False)):
        assert bool(PROTECTED.signed_paths(f"/live/{pattern}/a/master.m3u8")) is live
        assert bool(PROTECTED.signed_paths(f"/live/{pattern}/a/recordings/1/master.m3u8")) is recorded
        assert PROTECTED.hides_recordings(f"{pattern}/a") is (recorded and not live)
    assert not PROTECTED.signed_paths("/live/free/240p/0.m4s")
    assert not PROTECTED.signed_paths("/live/room2/alice/master.m3u8")
