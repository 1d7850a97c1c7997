"""A channel's history on disk: what readers get after a restart."""

from __future__ import annotations

import asyncio
import itertools
import signal
from pathlib import Path

import httpx
import pytest

from origin.events.disk_history import EventHistory
from packager.safe_files import DataFolder
from tests.conftest import start_server
from tests.event_history import LIMITS, datas, ids, kept
from tests.event_server import LIMIT, TOKEN, WAYS, Got, Way, a_channel, serving
from tests.eventstream import read


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
async def test_who_resumes_over_two_restarts_gets_each_event_once_with_the_id_it_had(
    way: Way, tmp_path: Path
) -> None:
    async with kept(tmp_path, "a") as (channel, _):
        for text in ("1", "2", "3"):
            channel.publish_text(text)
    async with kept(tmp_path, "b") as (channel, _):
        channel.publish_text("4")
    async with kept(tmp_path, "c") as (channel, _), serving(channel) as server:
        channel.publish_text("5")
        got: list[Got] = []
        await way.read(server, "a-1", lambda got: len(got) == 4, got)
        assert got == [
            Got("message", "2", "a-2"),
            Got("message", "3", "a-3"),
            Got("message", "4", "b-1"),
            Got("message", "5", "c-1"),
        ]
        newcomers: list[Got] = []
        await way.read(server, "", lambda got: len(got) == 5, newcomers)
        if way.name not in ("poll", "long poll"):
            assert [one.id for one in newcomers] == ["a-1", "a-2", "a-3", "b-1", "c-1"]


async def test_who_had_everything_before_a_restart_has_missed_nothing(tmp_path: Path) -> None:
    async with kept(tmp_path, "a") as (channel, _):
        assert channel.last_id == "a-0"
    async with kept(tmp_path, "b") as (channel, _):
        assert channel.since("a-0").complete
        channel.publish_text("1")
        assert channel.last_id == "b-1"
    async with kept(tmp_path, "c") as (channel, _):
        assert channel.last_id == "b-1"
        resumption = channel.since("b-1")
        assert (resumption.complete, channel.after(resumption)) == (True, [])
        assert channel.since("x-1").reason == "restart"


async def test_what_was_published_while_the_past_was_still_awaited_comes_behind_it(tmp_path: Path) -> None:
    async with kept(tmp_path, "a") as (channel, _):
        channel.publish_text("old")
    channel = a_channel(epoch="b")
    history = EventHistory(channel, DataFolder(tmp_path) / "events" / "test", LIMITS)
    channel.publish_text("new")
    running = asyncio.create_task(history.run())
    await history.wait_until_restored()
    assert ids(channel) == ["a-1", "b-1"]
    history.close()
    await running


async def test_no_more_is_restored_than_is_kept_and_the_rest_is_told_as_lost(tmp_path: Path) -> None:
    async with kept(tmp_path, "a") as (channel, _):
        for number in range(1, 31):
            channel.publish_text(str(number))
    async with kept(tmp_path, "b", history=10) as (channel, _):
        assert datas(channel) == [str(number) for number in range(21, 31)]
        resumption = channel.since("a-5")
        assert (resumption.reason, resumption.lost) == ("expired", 15)
        channel.publish_text("31")
        assert (channel.since("a-5").lost, datas(channel)[0]) == (16, "22")


async def test_a_channel_that_had_ended_is_still_ended_until_somebody_publishes(tmp_path: Path) -> None:
    async with kept(tmp_path, "a") as (channel, _):
        channel.publish_text("1")
        channel.end()
    async with kept(tmp_path, "b") as (channel, _), serving(channel) as server:
        answer = await server.request("GET", headers={"last-event-id": "a-2"})
        assert (channel.state, answer.status_code) == ("ended", 204)
        channel.publish_text("2")
        assert channel.state == "live"


TEXTS = ("", "a\nb\n\n", "\N{GRINNING FACE}\0\x1f", '{"x": "\\""}', "\u2028", "true }")


async def test_any_text_and_type_comes_back_as_it_was(tmp_path: Path) -> None:
    async with kept(tmp_path, "a") as (channel, _):
        for text in TEXTS:
            channel.publish_text(text, "a type")
        published = channel.after(channel.since(None))
    async with kept(tmp_path, "b") as (channel, _):
        restored = channel.after(channel.since(None))
        assert [(one.name, one.data, one.identity, one.time) for one in restored] == [
            (one.name, one.data, one.identity, one.time) for one in published
        ]
        assert [one.size for one in restored] == [one.size for one in published]


# A whole server

EPOCHS = 2

CONFIG = """
[server]
port = 0
data = "{data}"
[[events]]
name = "test"
publish_token = "{token}"
history = "1h"
[[events]]
name = "forgetful"
publish_token = "{token}"
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_what_a_publisher_was_told_the_id_of_survives_the_end_of_the_server(
    number: signal.Signals, tmp_path: Path
) -> None:
    config = tmp_path / "headwater.toml"
    config.write_text(CONFIG.format(data=tmp_path / "data", token=TOKEN))
    told: list[str] = []
    for epoch in range(EPOCHS):
        server = start_server("--config", str(config))
        try:
            headers = {"authorization": f"Bearer {TOKEN}", "content-type": "text/plain"}
            with httpx.Client(base_url=server.url, timeout=LIMIT, headers=headers) as client:
                for count in range(20):
                    answer = client.post("/events/test", content=f"{epoch}.{count}")
                    told += answer.json()["ids"]
            server.process.send_signal(number)
            server.process.wait(LIMIT)
        finally:
            server.process.kill()
            server.process.wait()
    server = start_server("--config", str(config))
    try:
        wanted = [f"{epoch}.{count}" for epoch, count in itertools.product(range(EPOCHS), range(20))]
        with httpx.Client(base_url=server.url, timeout=LIMIT) as client:
            events = client.get(f"/events/test?since={told[0]}").json()
            assert [event["id"] for event in events] == told[1:]
            assert [event["data"] for event in events] == wanted[1:]
            with client.stream("GET", "/events/test", headers={"last-event-id": told[30]}) as stream:
                got = b""
                for chunk in stream.iter_raw():
                    got += chunk
                    if len(read(got)) >= 9:
                        break
            assert [message.data for message in read(got)] == wanted[31:]
            assert "reset" not in got.decode()
            assert client.get("/events/forgetful?since=").status_code == 204
    finally:
        server.process.kill()
        server.process.wait()
