"""Two packagers have the same channels, and ``takeover`` decides between publishers at both."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ServerProcess
from tests.copied_channel import film
from tests.origin.cluster.nodes import get, nodes
from tests.origin.ingest.studio import KEY, encoding
from tests.redis_server import RedisServer
from tests.waiting import wait_for

CHANNEL = """
[[live]]
name = "{name}"
source = "publish"
publish_key = "{key}"
ladder = ["source"]
segment_duration = 1.0
part_duration = 0.25
takeover = "{name}"
"""
POLICIES = "replace", "refuse", "backup"
NOBODY = "rtmp://127.0.0.1:1/live/nobody"
CHANNELS = "".join(CHANNEL.format(name=name, key=KEY) for name in POLICIES) + f'forward = ["{NOBODY}"]\n'
ONE, OTHER = "one", "other"

pytestmark = pytest.mark.timeout(600)


def target(node: ServerProcess, channel: str) -> str:
    return f"{node.url}/live/{channel}/ingest?key={KEY}"


@contextlib.contextmanager
def publishing(node: ServerProcess, channel: str) -> Iterator[subprocess.Popen[bytes]]:
    """Publish the film to a packager, without encoding it."""
    words = f"-nostdin -v error -re -i {film()} -c copy -f mpegts -method PUT".split()
    with encoding(*words, target(node, channel)) as publisher:
        yield publisher


def publisher_at(node: ServerProcess, channel: str) -> dict[str, Any]:
    """Return what a node says of a channel's publisher."""
    told: dict[str, Any] = next(one for one in get(node, "/api/live").json() if one["name"] == channel)
    return told["publisher"] or {}


def where(node: ServerProcess, channel: str) -> tuple[bool, str | None]:
    """Return whether a packager's own publisher is on air, and which other node has one."""
    told = publisher_at(node, channel)
    return told["on_air"], told["elsewhere"]


def failed_forwards(node: ServerProcess, channel: str) -> int:
    """Return how often a packager tried to push a channel on, to where nobody listens."""
    return sum(one["failures"] for one in publisher_at(node, channel)["forwards"])


def states(every: list[ServerProcess], channel: str) -> set[tuple[str, str]]:
    """Return the state and the owner of a channel, as all nodes list them."""
    listed = [one for node in every for one in get(node, "/api/live").json() if one["name"] == channel]
    assert len(listed) == len(every)
    return {(one["state"], one["owner"]) for one in listed}


def owner(node: ServerProcess, channel: str) -> str | None:
    """Return whom a node calls the owner of a channel."""
    name: str | None = get(node, "/health").json()["owners"].get(f"live/{channel}")
    return name


def is_owned_by(name: str, every: list[ServerProcess], channel: str) -> bool:
    return all(owner(node, channel) == name for node in every)


def last_segment(node: ServerProcess, channel: str) -> str:
    """Return the name of the last segment that isn't a gap."""
    answer = get(node, f"/live/{channel}/source/media.m3u8")
    lines = answer.text.splitlines() if answer.status_code == 200 else []
    listed = [index for index, line in enumerate(lines) if line.endswith(".m4s") and line[0] != "#"]
    heard = [lines[index] for index in listed if "#EXT-X-GAP" not in lines[index - 3 : index]]
    return heard[-1] if heard else ""


@pytest.mark.promise("cluster.role", "cluster.name")
def test_one_rule_decides_between_publishers_at_two_packagers(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    names = ONE, OTHER, "edge"
    with (
        nodes(
            tmp_path, redis_server, "packager", "packager", "edge", channels=CHANNELS, names=names
        ) as every,
        contextlib.ExitStack() as stack,
    ):
        one, other, edge = every
        first = {name: stack.enter_context(publishing(one, name)) for name in POLICIES}
        for name in POLICIES:
            wait_for(lambda name=name: where(one, name) == (True, None), "the first publisher")  # type: ignore[misc]
            wait_for(lambda name=name: where(other, name) == (False, ONE), "its claim")  # type: ignore[misc]
            wait_for(lambda name=name: is_owned_by(ONE, every, name), "the owner")  # type: ignore[misc]
            wait_for(lambda name=name: last_segment(edge, name), "a segment")  # type: ignore[misc]
            wait_for(lambda name=name: states(every, name) == {("live", ONE)}, "its state")  # type: ignore[misc]

        refused = httpx.put(target(other, "refuse"), content=b"\x47" * 188, timeout=30)
        assert (refused.status_code, refused.text) == (409, "the channel has a publisher\n")

        stack.enter_context(publishing(other, "backup"))
        wait_for(lambda: publisher_at(other, "backup").get("protocol"), "the spare one")
        second = stack.enter_context(publishing(other, "replace"))
        wait_for(lambda: where(other, "replace") == (True, None), "the second publisher")
        wait_for(lambda: where(one, "replace") == (False, OTHER), "the end of the first")
        assert first["replace"].wait(60) != 0
        told = publisher_at(one, "replace")
        assert (told["publishers"], told["last_error"]) == (0, "another publisher took over")
        before = last_segment(edge, "replace")
        wait_for(lambda: is_owned_by(OTHER, every, "replace"), "the next owner")
        wait_for(lambda: last_segment(edge, "replace") > before, "a segment of the second publisher")
        assert second.poll() is None

        # The spare one has come meanwhile, and is none but a spare one.
        assert where(other, "backup") == (False, ONE)
        wait_for(lambda: is_owned_by(ONE, every, "backup"), "the owner of the channel with a spare one")
        wait_for(lambda: failed_forwards(one, "backup"), "an attempt to push it on")
        assert failed_forwards(other, "backup") == 0
        assert first["backup"].poll() is None
        for name in ("backup", "refuse"):
            first[name].kill()
        wait_for(lambda: where(other, "backup") == (True, None), "the spare one on air")
        wait_for(lambda: is_owned_by(OTHER, every, "backup"), "its packager")
        wait_for(lambda: failed_forwards(other, "backup"), "an attempt to push it on")
        before = last_segment(edge, "backup")
        wait_for(lambda: last_segment(edge, "backup") > before, "a segment of the spare one")

        wait_for(lambda: where(other, "refuse") == (False, None), "the end of the first")
        wait_for(lambda: states(every, "refuse") == {("idle", ONE)}, "its state")
        stack.enter_context(publishing(other, "refuse"))
        wait_for(lambda: where(one, "refuse") == (False, OTHER), "who publishes next")
