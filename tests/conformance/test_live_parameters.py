"""Query parameters of strangers: they change nothing in what is rendered, and cost next to nothing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from media.dash.live_mpd import DynamicManifest
from media.hls.media_playlist import MediaPlaylist
from media.hls.multivariant import MultivariantPlaylist
from packager.process.ffmpeg_discovery import Tools
from packager.window.model import LivePart
from packager.window.window import Window
from tests.conformance.handfed import NUMBER, OPTIONS, PARTS, PATH, HandFed, Track, on_air
from tests.conformance.raw import Client

BOTH_WAYS = pytest.mark.parametrize(
    "fields", [(), ("If-None-Match: x",)], ids=["on the connection", "by the application"]
)

MASTER, MANIFEST = "/live/test/master.m3u8", "/live/test/manifest.mpd"


@pytest.fixture
def fed(material: dict[str, Track], tools: Tools, tmp_path: Path) -> Iterator[HandFed]:
    with on_air(material, tools, tmp_path) as fed:
        fed.publish(8 * PARTS)
        yield fed


@BOTH_WAYS
@pytest.mark.parametrize(
    ("path", "owner", "name"),
    [
        (PATH, MediaPlaylist, "pieces"),
        (f"{PATH}?_HLS_skip=YES", MediaPlaylist, "pieces"),
        (MASTER, MultivariantPlaylist, "render"),
        (MANIFEST, DynamicManifest, "around"),
    ],
)
def test_a_thousand_queries_are_one_rendering(
    fed: HandFed,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    owner: Any,
    name: str,
    fields: tuple[str, ...],
) -> None:
    rendered: list[object] = []
    render = getattr(owner, name)

    def rendering(playlist: object) -> object:
        rendered.append(playlist)
        return render(playlist)

    monkeypatch.setattr(owner, name, rendering)
    mark = "&" if "?" in path else "?"
    with Client(fed.address) as client:
        plain = client.ask(path, *fields)
        others = [
            client.ask(f"{path}{mark}a={number}&_HLS_new={number}&CMCD=bl%3D{number}&x{number}", *fields)
            for number in range(1000)
        ]
    assert plain.status == 200
    assert {(answer.status, answer.body, answer["etag"]) for answer in others} == {
        (200, plain.body, plain["etag"])
    }
    assert len(rendered) == 1


def test_which_parameters_are_carried_is_configured(
    material: dict[str, Track], tools: Tools, tmp_path: Path
) -> None:
    with on_air(material, tools, tmp_path, carried=("session", "hdnts")) as fed:
        fed.publish(2 * PARTS)
        for path in (PATH, MASTER):
            text = fed.text(f"{path}?token=a&hdnts=b~c&other=d&session=e")
            uris = re.findall(r'URI="([^"]*)"', text) + re.findall(r"^[^#\n].*$", text, re.MULTILINE)
            assert {uri.partition("?")[2] for uri in uris} == {"hdnts=b~c&session=e"}
        # What players then ask for is the same segment.
        assert fed.ask(f"/live/test/240p/{NUMBER}.m4s?hdnts=b~c&session=e").status == 200


@BOTH_WAYS
def test_a_token_of_2048_characters_is_carried_and_one_that_is_much_longer_is_refused(
    fed: HandFed, fields: tuple[str, ...]
) -> None:
    answer = fed.ask(f"{PATH}?token={'x' * 2048}", *fields)
    assert answer.status == 200
    assert answer.body.count(b"x" * 2048) > PARTS
    refused = fed.ask(f"{PATH}?token={'x' * 2400}", *fields)
    assert refused.status == 400
    assert b"too long" in refused.body


def publish(window: Window, segments: int) -> None:
    """Publish segments of one short part."""
    for _ in range(segments):
        date = Fraction(window.next_number)
        window.append(LivePart(b"x", Fraction(1), True), date, ends_segment=True)


@BOTH_WAYS
def test_a_window_of_hours_carries_a_long_token_on_every_address(
    material: dict[str, Track], tools: Tools, tmp_path: Path, fields: tuple[str, ...]
) -> None:
    """It isn't refused, and is sent as it is made; ranges, conditions and gzip hold as for any other."""
    segments, token = 6000, "x" * 2048
    options = dataclasses.replace(OPTIONS, dvr_window=2.0 * segments)
    with on_air(material, tools, tmp_path, options) as fed:
        fed.publish(2 * PARTS)
        fed.in_loop(lambda: publish(fed.channel.renditions["240p"].window, segments))
        path = f"{PATH}?token={token}"
        answer, plain = fed.ask(path, *fields), fed.ask(PATH)
        assert (answer.status, plain.status) == (200, 200)
        assert len(answer.body) == int(answer["content-length"]) > segments * len(token)
        assert answer.body.replace(f"?token={token}".encode(), b"") == plain.body
        assert answer.body.count(token.encode()) >= segments
        assert fed.ask(path, "Range: bytes=999999-3999999").body == answer.body[999_999:4_000_000]
        assert fed.ask(path, f"If-None-Match: {answer['etag']}").status == 304
        assert fed.ask(path, *fields, "Accept-Encoding: gzip").body == answer.body
        other = fed.ask(f"{path[:-1]}y", *fields)
        assert other["etag"] != answer["etag"]
        # A delta update has no lines of hours.
        update = fed.ask(f"{path}&_HLS_skip=YES", *fields)
        assert update.status == 200
        assert len(update.body) < 100 * (len(token) + 200)
        # What has ended is given whole, whatever was asked for.
        fed.end()
        assert len(fed.ask(f"{path}&_HLS_skip=YES", *fields).body) > segments * len(token)


def test_a_long_playlist_with_a_token_goes_as_it_is(
    material: dict[str, Track], tools: Tools, tmp_path: Path
) -> None:
    """Compressing what one viewer alone gets would hold up all others."""
    segments, path = 200, f"{PATH}?token={'a' * 2048}"
    options = dataclasses.replace(OPTIONS, dvr_window=2.0 * segments)
    with on_air(material, tools, tmp_path, options) as fed:
        fed.publish(2 * PARTS)
        few = fed.ask(path, "Accept-Encoding: gzip")
        assert few["content-encoding"] == "gzip"
        fed.in_loop(lambda: publish(fed.channel.renditions["240p"].window, segments))
        answer = fed.ask(path, "Accept-Encoding: gzip")
        assert "content-encoding" not in answer
        assert answer["vary"] == "Accept-Encoding"
        assert answer.body == fed.ask(path).body
