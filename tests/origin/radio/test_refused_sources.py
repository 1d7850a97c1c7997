"""Whoever is refused as a source is a warning in the log with its reason and address, at a bounded rate."""

from __future__ import annotations

import pytest
import structlog

from origin.access.limits import RefusalLogLimits
from origin.access.refusal_log import RefusalLog
from origin.radio.mounts.mount import Mount
from packager.radio.source_client_station import SourceClientStation
from tests.radio_server import Feed, mount_options, serving

AUTH = "Authorization: Basic c291cmNlOnB3"  # source:pw, by coreutils' base64
WRONG = "Authorization: Basic c291cmNlOndyb25n"  # source:wrong
MPEG = "Content-Type: audio/mpeg"


@pytest.mark.parametrize(
    ("path", "fields", "reason"),
    [
        ("/radio/test", [WRONG, MPEG], "wrong key: the password of this station's source is needed"),
        ("/radio/none", [AUTH, MPEG], "no such station"),
        ("/radio/folder", [AUTH, MPEG], "this station takes no source"),
        ("/radio/test", [AUTH, "Content-Type: video/webm"], "Content-Type must be one of"),
    ],
)
async def test_a_refused_source_is_a_warning_with_its_reason(
    path: str, fields: list[str], reason: str
) -> None:
    mounts = {
        "test": Mount("test", SourceClientStation(128), mount_options()),
        "folder": Mount("folder", Feed(), mount_options()),
    }
    async with serving(mounts, passwords={"test": "pw"}) as server:
        with structlog.testing.capture_logs() as lines:
            # As libshout begins: without a password, which is no refusal.
            await server.open(MPEG, method="PUT", path="/radio/test")
            await server.open(*fields, "User-Agent: butt", method="PUT", path=path)
    (line,) = [one for one in lines if one["event"] == "source refused"]
    assert (line["log_level"], line["client"], line["agent"]) == ("warning", "127.0.0.1", "butt")
    assert line["mount"] == path.rpartition("/")[2]
    assert line["reason"].startswith(reason)


async def test_a_second_source_is_a_warning_too() -> None:
    mounts = {"test": Mount("test", SourceClientStation(128), mount_options())}
    async with serving(mounts, passwords={"test": "pw"}) as server:
        await server.source("test", AUTH)
        with structlog.testing.capture_logs() as lines:
            await server.open(AUTH, MPEG, method="PUT")
    assert [one["reason"] for one in lines if one["event"] == "source refused"] == [
        "a source is there already"
    ]


def test_strangers_cant_fill_the_log_or_keep_the_owners_line_out_of_it() -> None:
    now = 0.0
    limits = RefusalLogLimits(seconds=60, lines=30, address_lines=5)
    refusals = RefusalLog("source refused", limits, lambda: now)
    with structlog.testing.capture_logs() as lines:
        for _ in range(1000):
            refusals.write("192.0.2.1", reason="wrong")
        refusals.write("192.0.2.2", reason="the owner's")
        assert [one["client"] for one in lines] == ["192.0.2.1"] * 5 + ["192.0.2.2"]
        for number in range(1000):
            refusals.write(f"198.51.100.{number}", reason="wrong")
        assert len(lines) == 30
        now = 60.0
        refusals.write("192.0.2.1", reason="wrong")
    assert [one.get("count") for one in lines[30:]] == [995 + 1000 - 24, None]
