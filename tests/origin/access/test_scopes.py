"""A token gives what it is valid for, and nothing else, whatever is written around it."""

from __future__ import annotations

import itertools
import logging
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import httpx
import pytest

from origin.access.address_tokens import SigningKeys
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.first_answers import LONG_FIELD, FirstAnswer, ask, ask_by_http2
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS
from tests.scope_attempts import CARRIERS, Attempt, attempts, carried
from tests.waiting import wait_for

logger = logging.getLogger(__name__)

KEY = "one:0123456789abcdef0123456789abcdef"
MARKED = {
    "/media/a": ("/media/a/film.txt", b"the text of a."),
    "/media/ab": ("/media/ab/film.txt", b"the text of ab."),
    "/vod/a": ("/vod/a/film.mp4/master.m3u8", b"RESOLUTION=160x120"),
    "/vod/ab": ("/vod/ab/film.mp4/master.m3u8", b"RESOLUTION=208x160"),
    "/live/a": ("/live/a/master.m3u8", b"RESOLUTION=320x180"),
    "/live/ab": ("/live/ab/master.m3u8", b"RESOLUTION=128x96"),
    "/radio/a": ("/radio/a", b"icy-name: the station of a\r\n"),
    "/radio/ab": ("/radio/ab", b"icy-name: the station of ab\r\n"),
    "/events/a": ("/events/a", b"the event of a."),
    "/events/ab": ("/events/ab", b"the event of ab."),
}
"""By what a token names: an address that it is valid for, and what the answer has there and nowhere else."""

AREAS = ("media", "vod", "live", "radio", "events")
PAIRS = [
    *((f"/{area}/a", f"/{area}/ab") for area in AREAS),
    *((f"/{area}/ab", f"/{area}/a") for area in AREAS),
    *((f"/{area}/a", f"/{after}/a") for area, after in zip(AREAS, (*AREAS[1:], AREAS[0]), strict=True)),
]
"""Of which path a token is presented, and which one it isn't valid for."""

CLOSED = 'access = "signed"'
CONFIGURATION = f"""
[server]
port = 0

[access]
keys = ["{KEY}"]

[library]
path = "library"
encode = "off"
folders = {{ "a" = "signed", "ab" = "signed" }}

[[radio]]
name = "a"
title = "the station of a"
folder = "music"
{CLOSED}

[[radio]]
name = "ab"
title = "the station of ab"
folder = "music"
{CLOSED}

[[events]]
name = "a"
{CLOSED}

[[events]]
name = "ab"
{CLOSED}

[[live]]
name = "ab"
source = "loop.mp4"
ladder = ["source"]
{CLOSED}
"""


ANY_ID = "Last-Event-ID: none"
"""What has a channel send a reset, and then all its events."""


def by_http1(url: str, target: str, *fields: str) -> FirstAnswer:
    """Ask as players do: the connection answers by itself where it can."""
    return ask(url, target, *fields, ANY_ID, events=2)


def by_application(url: str, target: str, *fields: str) -> FirstAnswer:
    """Ask with a head that is too long for the faster way."""
    return ask(url, target, *fields, ANY_ID, LONG_FIELD, events=2)


def by_http2(url: str, target: str, *fields: str) -> FirstAnswer:
    """Ask by HTTP/2, where a target has no scheme."""
    return ask_by_http2(url, target, *fields, ANY_ID, events=2)


WIRES: dict[str, Callable[..., FirstAnswer]] = {
    "HTTP/1.1": by_http1,
    "application": by_application,
    "HTTP/2": by_http2,
}
WAYS = list(itertools.product(WIRES, CARRIERS))
TRIES_ALL = "ALL_SCOPES" in os.environ
"""Whether each attempt is made on each wire with the token in each place, which takes some minutes."""

REDIRECTIONS = (301, 302, 303, 307, 308)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("scopes")
    picture = (
        "-f lavfi -i testsrc2=size={}:rate=10 -t {} -c:v libx264 -preset ultrafast -g 10 -pix_fmt yuv420p"
    )
    for name, size in (("a", "160x120"), ("ab", "208x160")):
        (folder / "library" / name).mkdir(parents=True)
        (folder / "library" / name / "film.txt").write_text(f"the text of {name}.")
        make(*picture.format(size, 2).split(), str(folder / "library" / name / "film.mp4"))
    make(*picture.format("128x96", 4).split(), str(folder / "loop.mp4"))
    (folder / "music").mkdir()
    make(*["-f", "lavfi", "-i", "sine", "-t", "5", "-b:a", "64k"], str(folder / "music" / "tones.mp3"))
    (folder / "headwater.toml").write_text(CONFIGURATION + copied_channel("a", CLOSED))
    with start_server("--config", "headwater.toml", cwd=folder) as running:
        for name in ("a", "ab"):
            answer = httpx.post(
                f"{running.url}/events/{name}", content=f"the event of {name}.", headers=BEARER
            )
            assert answer.status_code < 300, answer.text
        for signed, (address, _) in MARKED.items():
            wait_for(partial(is_answered, f"{running.url}/t/{token(signed)}{address}"), address)
        yield running


def is_answered(url: str) -> bool:
    origin, slash, target = url.partition("/t/")
    return ask(origin, f"{slash}{target}").status == 200


def make(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-v", "error", *arguments], check=True, timeout=CLIENT_SECONDS)


def token(path: str) -> str:
    return SigningKeys([KEY]).sign(path, int(time.time()) + 3600)


def redirected(wire: Callable[..., FirstAnswer], url: str, target: str, *fields: str) -> FirstAnswer:
    """Return an answer, that of the address to which a redirection leads."""
    answer = wire(url, target, *fields)
    if answer.status in REDIRECTIONS:
        (line,) = (one for one in answer.text.split(b"\r\n") if one.lower().startswith(b"location: "))
        return wire(url, line.partition(b": ")[2].decode().removeprefix(url), *fields)
    return answer


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("wire", WIRES)
def test_a_token_gives_what_it_is_valid_for(server: ServerProcess, wire: str, carrier: str) -> None:
    """Otherwise it would be no wonder that other addresses are refused."""
    marks = {mark for _, mark in MARKED.values()}
    for signed, (address, mark) in MARKED.items():
        target, fields = carried(Attempt("", address), token(signed), carrier)
        answer = redirected(WIRES[wire], server.url, target, *fields)
        assert answer.status == 200
        assert mark in answer.text
        assert [other for other in marks - {mark} if other in answer.text] == []


@pytest.mark.clause("What is refused under one spelling is given under none", "CWE-863")
@pytest.mark.parametrize(("signed", "other"), PAIRS)
def test_no_token_gives_what_is_outside_of_its_path(server: ServerProcess, signed: str, other: str) -> None:
    own, host = token(signed), server.url.removeprefix("http://")
    (address, mark), drawn = MARKED[other], random.Random(f"{signed} {other}")
    tried = Counter[str]()
    for attempt in attempts(signed, address, host):
        for wire, carrier in WAYS if TRIES_ALL else drawn.sample(WAYS, 2):
            target, fields = carried(attempt, own, carrier)
            if wire == "HTTP/2" and not target.startswith("/"):
                continue
            answer = redirected(WIRES[wire], server.url, target, *fields)
            assert not (answer.status < 400 and mark in answer.text), (wire, carrier, attempt, answer)
            tried[attempt.kind] += 1
    logger.info("%s for %s: %s", signed, other, dict(tried))
