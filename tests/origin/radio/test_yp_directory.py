"""Stations that are public are announced to a directory, in the words of Icecast's YP protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from origin.config.load import load
from origin.config.options import ConfigError
from origin.radio.mounts.limits import DirectoryLimits
from origin.radio.mounts.mount import Mount
from origin.radio.mounts.options import MountOptions
from origin.radio.yp_directory import Directory
from packager.retry_policy import RetryPolicy
from tests.patience import CLIENT_SECONDS
from tests.radio_server import Feed, mount_options, serving, serving_app
from tests.waiting import until

HASTY = DirectoryLimits(
    answer_seconds=CLIENT_SECONDS,
    look_seconds=0.01,
    soonest_seconds=0.02,
    last_seconds=CLIENT_SECONDS,
    retry=RetryPolicy(first_seconds=0.02, longest_seconds=0.1),
)

ADDED = (
    "action=add&sn=N%c3%a4me&genre=Tones&cpswd=&desc=D%20%26%20E&url=http%3a%2f%2fu%2eexample"
    "&listenurl=http%3a%2f%2flocalhost%3a45025%2fa%2emp3&type=audio%2fmpeg&stype=&b="
)
TOUCHED = "action=touch&sid=abc-1&st=&listeners=0&max_listeners=100&stype="
REMOVED = "action=remove&sid=abc-1"
"""As Icecast 2.4.4 posted them to its ``yp-url``."""


def form(text: str) -> dict[str, str]:
    return dict(parse_qsl(text, keep_blank_values=True))


@dataclass
class Yp:
    """A directory, which answers as it is told to."""

    told: list[dict[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(
        default_factory=lambda: {"YPResponse": "1", "YPMessage": "ok", "SID": "abc-1", "TouchFreq": "0"}
    )
    status: int = 200

    async def answer(self, request: Request) -> Response:
        assert request.headers["content-type"] == "application/x-www-form-urlencoded"
        self.told.append(form((await request.body()).decode()))
        return Response(status_code=self.status, headers=self.headers)

    def actions(self) -> list[str]:
        return [one["action"] for one in self.told]


@asynccontextmanager
async def announced(
    options: MountOptions, limits: DirectoryLimits = HASTY
) -> AsyncIterator[tuple[Yp, Feed, Mount]]:
    yp, feed = Yp(), Feed()
    mount = Mount("test", feed, options)
    async with (
        serving_app(Starlette(routes=[Route("/", yp.answer, methods=["POST"])])) as directory,
        serving({"test": mount}),
    ):
        service = Directory(f"{directory.url}/", "http://radio.example:8000/", [mount], limits)
        running = asyncio.create_task(service.run())
        try:
            yield yp, feed, mount
        finally:
            running.cancel()
            await asyncio.wait([running])


PUBLIC = mount_options(public=True, title="Näme", genre="Tones", url="http://u.example")


async def test_a_public_station_is_added_touched_and_removed() -> None:
    async with announced(PUBLIC) as (yp, feed, mount):
        await asyncio.sleep(0.1)
        assert yp.told == [], "it isn't on air"
        feed.push(3, "A & B")
        await until(lambda: yp.actions().count("touch") > 2, "touches")
        assert [*yp.told[0]] == [*form(ADDED)]
        expected = {"sn": "Näme", "genre": "Tones", "url": "http://u.example", "type": "audio/mpeg"}
        assert expected.items() <= yp.told[0].items()
        assert yp.told[0]["listenurl"] == "http://radio.example:8000/radio/test"
        assert [*yp.told[-1]] == [*form(TOUCHED)]
        assert {"sid": "abc-1", "st": "A & B", "listeners": "0"}.items() <= yp.told[-1].items()
        mount.close()
        await until(lambda: yp.actions()[-1] == "remove", "its end")
        assert yp.told[-1] == form(REMOVED)


async def test_it_is_removed_at_the_end_of_the_server() -> None:
    async with announced(PUBLIC) as (yp, feed, _mount):
        feed.push()
        await until(lambda: "touch" in yp.actions(), "a touch")
    assert yp.actions()[-1] == "remove"


@pytest.mark.parametrize(
    "options",
    [
        mount_options(),
        mount_options(public=True, listener_password="x"),
        mount_options(public=True, has_listener_webhook=True),
    ],
)
async def test_what_isnt_public_is_told_nobody(options: MountOptions) -> None:
    async with announced(options) as (yp, feed, mount):
        feed.push()
        await until(lambda: mount.state == "live")
        await asyncio.sleep(0.2)
        assert yp.told == []


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (500, {}, "the directory answers 500"),
        (302, {"location": "http://127.0.0.1:1/"}, "the directory answers 302"),
        (200, {"YPResponse": "0", "YPMessage": "Bad\x9b listen URL"}, "Bad listen URL"),
        (200, {"YPResponse": "1"}, "the directory sent no SID"),
        (200, {"YPResponse": "1", "SID": "x" * 1000}, "the directory sent no SID"),
    ],
)
async def test_what_a_directory_doesnt_take_is_told_again_later_and_logged_a_few_times(
    status: int, headers: dict[str, str], reason: str
) -> None:
    with structlog.testing.capture_logs() as lines:
        async with announced(PUBLIC) as (yp, feed, _mount):
            yp.status, yp.headers = status, headers
            feed.push()
            await until(lambda: len(yp.told) > 5, "several attempts")
            assert set(yp.actions()) == {"add"}
    told = [line["reason"] for line in lines if line["event"] == "a directory didn't list a station"]
    assert told == [reason] * HASTY.retry.quiet_after


async def test_it_is_heard_no_sooner_and_no_later_than_the_limits_say() -> None:
    slow = replace(HASTY, soonest_seconds=3600.0)
    async with announced(PUBLIC, slow) as (yp, feed, _mount):
        feed.push()
        await until(lambda: bool(yp.told), "its addition")
        await asyncio.sleep(0.2)
        assert yp.actions() == ["add"], "TouchFreq: 0 isn't taken at its word"


def test_without_this_servers_address_it_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text('[server]\nyp_url = "http://dir.example/cgi"\n')
    with pytest.raises(ConfigError, match=r"^server\.public_url: is missing"):
        load(tmp_path / "headwater.toml", {}, {})
