"""What a stranger is refused under an address, he is refused however he spells the address."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ServerProcess, start_server
from tests.first_answers import ask, ask_by_http2
from tests.keys import ADMIN_TOKEN

SECRET = b"only for those with a token"
CONFIGURATION = """
[server]
port = 0
protected = ["api", "health", "metrics"]

[library]
path = "library"
folders = { "private" = "signed" }

[access]
keys = ["one:0123456789abcdef0123456789abcdef"]

[[radio]]
name = "closed.mp3"
aliases = ["/morning.mp3"]
folder = "music"
listener_password = "simsim"

[[events]]
name = "closed"
read_key = "read-here-read-here"
"""

PROTECTED = {
    "/metrics": b"headwater_",
    "/health": b'"services"',
    "/api/live": b"content-type: application/json",
    "/api/library": b"content-type: application/json",
    "/api/radio": b"content-type: application/json",
    "/api/events": b"content-type: application/json",
    "/api/relays": b"content-type: application/json",
    "/admin/stats": b"<icestats",
    "/admin/": b"Statistics",
    "/media/private/film.txt": SECRET,
    "/radio/closed.mp3": b"content-type: audio/mpeg",
    "/radio/closed.mp3.m3u": b"/radio/closed.mp3",
    "/morning.mp3": b"content-type: audio/mpeg",
    "/events/closed": b"content-type: text/event-stream",
    "/events/radio/closed.mp3": b"content-type: text/event-stream",
}
"""Addresses that need a key, and what a successful answer has that shows what is there."""

BEFORE = ("", "", "", "", "/t/a", "/t/v1.a.1.b.1.c", "//", "http://127.0.0.1", "http:/")

INSERTED = (
    *(f"%{number:02x}" for number in (*range(0x20), 0x7F)),
    *(
        "/",
        "//",
        "/.",
        "/./",
        "/../",
        "%2f",
        "%2F",
        "%5c",
        "%2e",
        ".",
        ";",
        ";a=b",
        "%20",
        "%",
        "%25",
        "%250a",
    ),
    *("%c2%85", "%e2%80%a8", "%c0%ae", "%ff", "?", "?a=b", "#", "&", "%3f", "%23", "a", "t", "/t/v1.a.b/"),
)


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a protected address, and another way to write the same address, or nearly the same."""
    address = draw(st.sampled_from(sorted(PROTECTED)))
    written = address
    if draw(st.booleans()):
        forms = (str, str, str, lambda one: f"%{ord(one):02x}", lambda one: f"%{ord(one):02X}", str.swapcase)
        written = "/" + "".join(draw(st.sampled_from(forms))(one) for one in address[1:])
    for _ in range(draw(st.integers(0, 2))):
        # At the end more often than elsewhere: there readers differ.
        place = draw(st.one_of(st.just(len(written)), st.integers(1, len(written))))
        written = f"{written[:place]}{draw(st.sampled_from(INSERTED))}{written[place:]}"
    before = draw(
        st.sampled_from(("", "", "", "", "/t/a", "/t/v1.a.1.b.1.c", "//", "http://127.0.0.1", "http:/"))
    )
    return address, f"{before}{written}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("spellings")
    (folder / "library" / "private").mkdir(parents=True)
    film = folder / "library" / "private" / "film.txt"
    film.write_bytes(SECRET)
    os.utime(film, (1_700_000_000, 1_700_000_000))
    (folder / "music").mkdir()
    tones = "-v error -f lavfi -i sine -t 5 -b:a 64k"
    subprocess.run(["ffmpeg", *tones.split(), str(folder / "music" / "tones.mp3")], check=True)
    (folder / "headwater.toml").write_text(CONFIGURATION)
    with start_server("--config", "headwater.toml", cwd=folder) as running:
        yield running


def test_who_has_the_key_is_answered_at_each_address(server: ServerProcess) -> None:
    for address, content in PROTECTED.items():
        if not address.startswith("/media"):
            status, text = ask(server.url, address, f"Authorization: Bearer {ADMIN_TOKEN}")
            assert (status, content in text) == (200, True), address


def check(server: ServerProcess, address: str, target: str) -> None:
    """Check that a stranger's request for a target doesn't give what is at a protected address."""
    for wire in (ask, ask_by_http2):
        if wire is ask or target.startswith("/"):
            status, text = wire(server.url, target)
            assert not (200 <= status < 300 and PROTECTED[address] in text), (target, status, text[:300])


@pytest.mark.clause("What is refused under one spelling is given under none", "CWE-289")
@pytest.mark.parametrize("address", PROTECTED)
def test_no_beginning_or_end_gives_a_stranger_what_the_address_refuses(
    server: ServerProcess, address: str
) -> None:
    for inserted in ("", *INSERTED):
        for target in (f"{address}{inserted}", f"/{inserted}{address[1:]}", f"{inserted}{address}"):
            check(server, address, target)


@pytest.mark.clause("What is refused under one spelling is given under none", "CWE-289")
@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spelling=spellings())
def test_no_spelling_gives_a_stranger_what_another_refuses(
    server: ServerProcess, spelling: tuple[str, str]
) -> None:
    check(server, *spelling)


@pytest.mark.parametrize(
    "path", ["/metrics", "/media/a.txt", "/vod/a.mp4/master.m3u8", "/live/a/b/0.m4s", "/"]
)
@pytest.mark.parametrize("control", [*range(0x20), 0x7F])
def test_control_characters_in_a_path_are_refused_at_each_address(
    server: ServerProcess, path: str, control: int
) -> None:
    for target in (f"{path}%{control:02x}", f"{path}%{control:02X}/more"):
        assert ask(server.url, target)[0] == 400
        assert ask_by_http2(server.url, target)[0] == 400
    assert ask(server.url, f"/player/?a=%{control:02x}")[0] == 404
    assert ask(server.url, f"/?a=%{control:02x}")[0] == 200
