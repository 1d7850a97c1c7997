"""Tokens of addresses that can be given away: what they say, what they cover, and what changes them."""

from __future__ import annotations

import hmac
import string
from base64 import urlsafe_b64encode

import pytest

from origin.access.address_tokens import SigningKeys, sign_address

NEW, OLD = "2026-11:a-secret-of-november", "2026-10:a-secret-of-october"
KEYS = SigningKeys([NEW, OLD])
EXPIRES = 1_800_000_000


def covers(token: str, path: str, keys: SigningKeys = KEYS) -> bool:
    found = keys.read(token)
    assert found is not None
    return found.covers(path)


def test_a_token_is_what_anybody_can_make_with_the_key_and_hmac() -> None:
    signed = f"v1.2026-11.{EXPIRES}.anna.2"
    digest = hmac.new(b"a-secret-of-november", f"{signed}/live/demo".encode(), "sha256").digest()
    made = f"{signed}.{urlsafe_b64encode(digest).decode().rstrip('=')}"
    assert KEYS.sign("/live/demo", EXPIRES, "anna") == made
    assert covers(made, "/live/demo/720p/media.m3u8")


def test_a_token_is_short_and_needs_no_encoding_however_long_the_path_is() -> None:
    keys = SigningKeys(["k" * 16 + ":" + "s" * 256])
    token = keys.sign("/vod" + "/ein langer Name" * 98, 99_999_999_999_999, "n" * 32, allows_clips=True)
    assert len(token) <= 200
    assert set(token) <= set(string.ascii_letters + string.digits + "-_.")


@pytest.mark.parametrize(
    ("signed", "path", "is_covered"),
    [
        ("/live/a", "/live/a/master.m3u8", True),
        ("/live/a", "/live/a", True),
        ("/live/a", "/live/a/", True),
        ("/live/a", "/live/ab/master.m3u8", False),
        ("/live/a", "/live", False),
        ("/live/a", "/live/A/master.m3u8", False),
        ("/live/a", "/live/a./master.m3u8", False),
        ("/live/a", "/vod/a/master.m3u8", False),
        ("/live/a", "/live/a/../b/master.m3u8", False),
        ("/live/a", "/live/a/./master.m3u8", False),
        ("/live/a", "//live/a", False),
        ("/live/a", "/live//a", False),
        ("/live/a", "/live/a\\..\\b", False),
        ("/live/a", "/live/a/\0", False),
        ("/live/a", "/live/a/recordings/1/master.m3u8", True),
        ("/vod/films/Ä b", "/vod/films/Ä b/video/0.m4s", True),
        ("/vod/films", "/vod/films/..hidden", True),
        ("", "/anything/at/all", True),
    ],
)
def test_a_token_covers_whole_segments_of_a_plain_path(signed: str, path: str, is_covered: bool) -> None:
    assert covers(KEYS.sign(signed, EXPIRES), path) is is_covered


def test_each_change_of_a_token_makes_it_worthless() -> None:
    token = KEYS.sign("/live/demo", EXPIRES, "anna")
    letters = string.ascii_letters + string.digits + "-_."
    for place, sign in enumerate(token):
        for other in (letters[(letters.index(sign) + 1) % 65], "=", "%", "\n", "é"):
            changed = KEYS.read(token[:place] + other + token[place + 1 :])
            assert changed is None or not changed.covers("/live/demo"), (place, other)
    for changed_text in (token + "A", token[:-1], "", "v1", token * 2, f" {token}", f"{token}\n"):
        assert KEYS.read(changed_text) is None


@pytest.mark.parametrize(
    ("bound", "client", "is_covered"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7", "", False),
        ("192.0.2.7", "unix", False),
        ("192.0.2.0/24", "192.0.2.200", True),
        ("192.0.2.0/24", "192.0.3.1", False),
        ("192.0.2.0/24", "2001:db8::1", False),
        ("2001:db8:0:1::/64", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::/64", "2001:db8:0:2::1", False),
        ("2001:db8::1", "2001:DB8:0:0:0:0:0:1", True),
        ("fe80::1", "fe80::1%eth0", True),
    ],
)
def test_a_token_may_be_one_clients_or_networks(bound: str, client: str, is_covered: bool) -> None:
    token = KEYS.sign("/live/demo", EXPIRES, client=bound)
    found = KEYS.read(token)
    assert found is not None
    assert found._replace(client=client).covers("/live/demo/master.m3u8") is is_covered
    # Without the letter it would be anybody's.
    letter = found.binding
    opened = KEYS.read(token.replace(f".2{letter}.", ".2."))
    assert opened is not None
    assert not opened.covers("/live/demo")


@pytest.mark.parametrize(
    "client", ["somebody", "192.0.2.7/24", "192.0.2.0/25", "2001:db8::/48", "1.2.3", "/"]
)
def test_what_is_no_client_is_refused(client: str) -> None:
    with pytest.raises(ValueError, match=r"is no client; allowed: 192\.0\.2\.7, "):
        KEYS.sign("/live/demo", EXPIRES, client=client)


def test_keys_are_replaced_while_both_are_valid() -> None:
    token = SigningKeys([OLD]).sign("/live/demo", EXPIRES)
    assert covers(token, "/live/demo")
    assert not covers(token, "/live/demo", SigningKeys([NEW]))
    assert not covers(token, "/live/demo", SigningKeys([]))
    assert KEYS.sign("/live/demo", EXPIRES).startswith("v1.2026-11.")


@pytest.mark.parametrize(
    ("address", "covered", "not_covered"),
    [
        ("/live/demo/master.m3u8", "/live/demo/720p/3.m4s", "/live/other/master.m3u8"),
        ("/vod/a%20b.mp4/manifest.mpd", "/vod/a b.mp4/video/0.m4s", "/vod/a b.mp4x/video/0.m4s"),
        ("/radio/demo.mp3", "/radio/demo.mp3", "/radio/demo.mp3.m3u"),
        ("/vod/films/", "/vod/films/a.mp4/master.m3u8", "/media/films/a.mp4"),
    ],
)
def test_of_a_playlist_everything_beneath_its_folder_is_signed(
    address: str, covered: str, not_covered: str
) -> None:
    signed = sign_address(KEYS, address, EXPIRES)
    assert signed.address == f"/t/{signed.token}{address}"
    assert covers(signed.token, covered)
    assert not covers(signed.token, not_covered)


def test_a_clip_is_signed_by_its_address() -> None:
    for address, allows_clips in (("/vod/a/master.m3u8?start=1&end=2", True), ("/vod/a/master.m3u8", False)):
        found = KEYS.read(sign_address(KEYS, address, EXPIRES).token)
        assert found is not None
        assert found.allows_clips is allows_clips


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("live/demo", ""),
        ("/live/../demo", ""),
        ("/live/%2e%2e/demo", ""),
        ("/live//demo", ""),
        ("/" + "a/" * 100, ""),
        ("/live/demo", "an na"),
        ("/live/demo", "änna"),
        ("/live/demo", "n" * 65),
        ("/live/demo", "anna\n"),
    ],
)
def test_what_could_be_misread_is_not_signed(address: str, name: str) -> None:
    with pytest.raises(ValueError, match="allowed"):
        sign_address(KEYS, address, EXPIRES, name)


@pytest.mark.parametrize(
    ("address", "page"),
    [
        ("/live/demo/master.m3u8", "#live/demo"),
        ("/live/demo/master.m3u8?start=now-2m&end=now-1m", "#live/demo/clip%3Anow-2m/now-1m"),
        ("/live/demo/recordings/20261130T215601Z/manifest.mpd", "#live/demo/20261130T215601Z"),
        ("/live/demo/recordings/1/event.mp4", "live/demo/recordings/1/event.mp4"),
        ("/live/demo/clip.mp4?start=1&end=2", "live/demo/clip.mp4?start=1&end=2"),
        ("/live/demo/source/media.m3u8", "live/demo/source/media.m3u8"),
        ("/radio/fm.mp3", "#radio/fm.mp3"),
        ("/events/room/1", "#events/room/1"),
        ("/vod/a%20film.mp4/master.m3u8?start=90.5&end=1:02:03", "#library/a%20film.mp4?t=90.5&end=1:02:03"),
        ("/vod/film/master.m3u8?start=3", "#library/film?t=3"),
        ("/vod/films/", "#library/films/"),
        ("/media/film.mp4", "#library/film.mp4"),
    ],
)
def test_the_page_of_an_address_shows_what_its_token_is_valid_for(address: str, page: str) -> None:
    signed = sign_address(KEYS, address, EXPIRES)
    assert signed.page == f"/t/{signed.token}/{page}"


@pytest.mark.parametrize("name", ["anna@example.org", "anna.b+tv@example.org", "." * 64, "--anna"])
def test_a_viewers_name_may_be_that_of_a_mailbox(name: str) -> None:
    token = KEYS.sign("/live/demo", EXPIRES, name)
    assert token.count(".") == 5
    found = KEYS.read(token)
    assert found is not None
    assert found.name == name
    assert found.covers("/live/demo/master.m3u8")


def test_the_log_gets_a_name_and_a_hash_from_which_no_token_can_be_made() -> None:
    token = KEYS.sign("/live/demo", EXPIRES, "anna")
    found = KEYS.read(token)
    assert found is not None
    name, _, digest = found.label.partition("#")
    assert (name, len(digest)) == ("anna", 8)
    assert digest not in token
