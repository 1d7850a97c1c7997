"""The DVR of a real server: killed, started again, without room on its disk, twice on one folder."""

from __future__ import annotations

import re
import resource
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx
import pytest

from packager.window.segments import MEMORY_TARGET_DURATIONS
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.fork_server import run_headwater
from tests.patience import CLIENT_SECONDS, patient_server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(1800)

RENDITIONS = ("source", "audio")
KILLS = 4
DVR = 'dvr = "1h"'


@pytest.fixture
def configuration(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "library").mkdir()
    path = tmp_path / "headwater.toml"
    path.write_text(
        f'[server]\nport = 0\ndata = "{tmp_path / "data"}"\n[library]\npath = "{tmp_path / "library"}"\n'
        f"{copied_channel('demo', 'part_duration = 0.25', 'segment_duration = 1.0', DVR)}"
    )
    return "--config", str(path)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=CLIENT_SECONDS) as client:
        yield client


def playlist(client: httpx.Client, server: ServerProcess, name: str) -> str:
    answer = client.get(f"{server.url}/live/demo/{name}/media.m3u8")
    return answer.text if answer.status_code == 200 else ""


def playable(text: str) -> list[str]:
    """The segments of a playlist that aren't gaps."""
    blocks = re.split(r"(?<=\.m4s)\n", text)
    whole = [block for block in blocks if "#EXTINF" in block and "#EXT-X-GAP" not in block]
    return [block.rpartition("\n")[2] for block in whole]


def fetch(client: httpx.Client, server: ServerProcess, name: str, segment: str) -> tuple[bytes, str]:
    answer = client.get(f"{server.url}/live/demo/{name}/{segment}")
    assert answer.status_code == 200, (segment, answer.status_code)
    return answer.content, answer.headers["etag"]


def stored(tmp_path: Path, name: str) -> set[str]:
    """The segments that the index on disk names."""
    index = tmp_path / "data" / "live" / "demo" / "dvr" / name / "index"
    lines = index.read_text().splitlines() if index.exists() else []
    return {f"{found[1]}.m4s" for line in lines if (found := re.match(r'\{"number":(\d+),.*"parts"', line))}


def unstored(tmp_path: Path, known: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of these renditions' segments that aren't on disk."""
    whole = {name: stored(tmp_path, name) for name in RENDITIONS}
    return [key for key in known if key[1] not in whole[key[0]]]


def look(
    client: httpx.Client,
    server: ServerProcess,
    known: dict[tuple[str, str], tuple[bytes, str]],
    starts: int,
    newest: int,
) -> int:
    """Compare with what is known, let nine segments come, and know them too; give the first one's number."""
    wait_for(lambda: playlist(client, server, "source"), what="the playlist")
    before = {segment for _, segment in known}
    for name, segment in sorted(known):
        assert segment in playable(playlist(client, server, name))
        assert fetch(client, server, name, segment) == known[name, segment]
    wait_for(
        lambda: len(set(playable(playlist(client, server, "source"))) - before) >= 9,
        what="nine segments more",
    )
    text = playlist(client, server, "source")
    assert text.count("#EXT-X-DISCONTINUITY\n") == starts, "one for each start but the first"
    (number,) = re.findall(r"MEDIA-SEQUENCE:(\d+)", text)
    assert int(number) >= newest
    for name in RENDITIONS:
        for segment in playable(playlist(client, server, name)):
            answer = fetch(client, server, name, segment)
            assert known.setdefault((name, segment), answer) == answer
    return int(number)


@pytest.mark.clause("A kill loses nothing that was listed, and the next start is quick")
def test_every_stored_segment_is_listed_and_the_same_bytes_after_kill_9(
    tmp_path: Path, configuration: tuple[str, str], client: httpx.Client
) -> None:
    known: dict[tuple[str, str], tuple[bytes, str]] = {}
    newest = 0
    # An ffmpeg that is late makes no more breaks.
    program = patient_server()
    for starts in range(KILLS):
        server = start_server(*configuration, program=program)
        try:
            newest = look(client, server, known, starts, newest)
            # At most the newest is on its way there, but a disk may stand still for a while.
            wait_for(lambda: len(unstored(tmp_path, known)) <= len(RENDITIONS), what="the segments on disk")
        finally:
            server.stop(signal.SIGKILL)
        for key in unstored(tmp_path, known):
            del known[key]
    assert len({segment for _, segment in known}) > KILLS * 7


def whole_with_parts(text: str) -> str:
    """Give the number of a whole segment whose parts are listed still, or nothing."""
    found = re.findall(r'#EXT-X-PART:.*URI="(\d+)\.1\.m4s"', text)
    return next((number for number in found if f"{number}.m4s" in playable(text)), "")


def test_a_segment_from_disk_is_answered_as_from_memory_with_ranges_and_conditions(
    tmp_path: Path, configuration: tuple[str, str], client: httpx.Client
) -> None:
    server = start_server(*configuration)
    try:
        number = wait_for(lambda: whole_with_parts(playlist(client, server, "source")), what="a segment")
        first, part = f"{number}.m4s", f"{number}.1.m4s"
        url = f"{server.url}/live/demo/source/"
        fresh, fresh_part = client.get(url + first), client.get(url + part)
        assert fresh.status_code == fresh_part.status_code == 200

        def is_behind() -> bool:
            text = playlist(client, server, "source")
            is_old = len(playable(text.partition(f"\n{first}\n")[2])) >= 9
            return is_old and first in stored(tmp_path, "source")

        wait_for(is_behind, what="nine segments more, and this one on disk")
        later, later_part = client.get(url + first), client.get(url + part)
        changing = {"date"}
        for one, other in ((fresh, later), (fresh_part, later_part)):
            assert one.content == other.content
            assert {k: v for k, v in one.headers.items() if k not in {*changing, "cache-control"}} == {
                k: v for k, v in other.headers.items() if k not in {*changing, "cache-control"}
            }
        ranged = client.get(url + first, headers={"range": "bytes=100-199"})
        assert (ranged.status_code, ranged.content) == (206, fresh.content[100:200])
        tag = fresh.headers["etag"]
        assert client.get(url + first, headers={"if-none-match": tag}).status_code == 304
        if_range = client.get(url + first, headers={"range": "bytes=-5", "if-range": tag})
        assert (if_range.status_code, if_range.content) == (206, fresh.content[-5:])
        assert client.head(url + first).headers["content-length"] == str(len(fresh.content))
        missing = part.replace(".1.", ".99.")
        assert client.get(url + missing).status_code == 404
        (folder,) = Path(configuration[1]).parent.glob("data/live/demo/dvr/source")
        (folder / first).write_bytes(b"short")

        def is_gone() -> bool:
            # It may still be in memory for a moment.
            answer = client.get(url + first)
            assert answer.status_code == 404 or answer.content == fresh.content
            return answer.status_code == 404

        wait_for(is_gone, what="its end")
        (folder / first).unlink()
        assert client.get(url + first).status_code == 404
    finally:
        assert server.stop() == 0


@pytest.mark.clause("A full disk shortens the DVR, and live goes on")
def test_without_room_on_disk_live_goes_on_health_tells_and_it_recovers(
    tmp_path: Path, configuration: tuple[str, str], client: httpx.Client
) -> None:
    server = start_server(*configuration, program=patient_server())
    try:
        wait_for(lambda: len(playable(playlist(client, server, "source"))) >= 2, what="two segments")
        pid = server.process.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))

        def troubles() -> dict[str, str]:
            health = client.get(f"{server.url}/health").json()
            found: dict[str, str] = health.get("troubles", {})
            assert not found or health["status"] == "degraded"
            # A busy machine starves the server, too, which it tells by this name.
            return {name: trouble for name, trouble in found.items() if name != "server"}

        wait_for(troubles, what="the trouble")
        assert troubles() == {"live/demo": "DVR: File too large"}
        unstored = playable(playlist(client, server, "source"))[-1]
        before = fetch(client, server, "source", unstored)

        def behind_the_live_edge() -> bool:
            # RFC 8216bis §6.2.1: what was published isn't taken back, nor is it another one.
            text = playlist(client, server, "source")
            assert unstored in playable(text)
            return len(playable(text.partition(f"\n{unstored}\n")[2])) > MEMORY_TARGET_DURATIONS

        wait_for(behind_the_live_edge, what="a segment in memory that would be on disk")
        assert fetch(client, server, "source", unstored) == before
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_for(lambda: not troubles(), what="the end of the trouble")
        wait_for(lambda: "DVR is kept again" in server.text(), what="the line of it in the log")
        assert server.text().count("DVR isn't kept") == 1
        assert server.text().count("DVR is kept again") == 1
        assert "source ended" not in server.text()
    finally:
        assert server.stop() == 0


@pytest.mark.clause("What prevents a start is told in a line")
def test_a_second_server_on_the_same_data_folder_ends_with_one_line(configuration: tuple[str, str]) -> None:
    server = start_server(*configuration)
    try:
        second = run_headwater("serve", *configuration)
        assert second.returncode == 1
        (line,) = [line for line in second.stderr.splitlines() if "data folder" in line]
        assert "another server uses this data folder" in line
        assert "Traceback" not in second.stderr + second.stdout
    finally:
        assert server.stop() == 0
