"""Query parameters of strangers: they change nothing in what is rendered, and cost next to nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from media.dash.live_mpd import DynamicManifest
from media.hls.media_playlist import MediaPlaylist
from media.hls.multivariant import MultivariantPlaylist
from origin.live import directives
from packager.process.tools import Tools
from tests.conformance.handfed import NUMBER, PARTS, PATH, HandFed, Track, on_air
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


@pytest.mark.parametrize(
    "fields", [(), ("If-None-Match: x",)], ids=["on the connection", "by the application"]
)
@pytest.mark.parametrize(
    ("path", "owner", "name"),
    [
        (PATH, MediaPlaylist, "pieces"),
        (f"{PATH}?_HLS_skip=YES", MediaPlaylist, "pieces"),
        (MASTER, MultivariantPlaylist, "render"),
        (MANIFEST, DynamicManifest, "render"),
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


@pytest.mark.parametrize(
    "fields", [(), ("If-None-Match: x",)], ids=["on the connection", "by the application"]
)
def test_a_token_that_would_make_a_playlist_too_long_is_refused(
    fed: HandFed, monkeypatch: pytest.MonkeyPatch, fields: tuple[str, ...]
) -> None:
    assert fed.ask(f"{PATH}?token={'x' * 1000}", *fields).status == 200
    assert fed.ask(f"{PATH}?token={'x' * 1100}", *fields).status == 400
    # Of eight segments each.
    monkeypatch.setattr(directives, "MAX_CARRIED_BYTES", 8 * 100)
    assert fed.ask(f"{PATH}?token={'x' * 90}", *fields).status == 200
    refused = fed.ask(f"{PATH}?token={'x' * 100}", *fields)
    assert refused.status == 400
    assert b"too long" in refused.body


def test_a_long_playlist_with_a_token_goes_as_it_is(fed: HandFed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressing what one viewer alone gets would hold up all others."""
    monkeypatch.setattr("origin.http.content_coding.QUICK_BYTES", 100)
    answer = fed.ask(f"{PATH}?token=a", "Accept-Encoding: gzip")
    assert "content-encoding" not in answer
    assert answer["vary"] == "Accept-Encoding"
    assert answer.body == fed.ask(f"{PATH}?token=a").body
