"""Options of stations and of their limits, each with another value than its default, at a real server."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.origin.radio.listener_hook import Hook
from tests.packager import films
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

PASSWORD = "a-source-password"
SECOND = 16_000
"""Bytes of a second at 128 kbit/s."""

TITLES = [f"{number:02}" for number in range(8)]
CONFIG = """
[server]
port = 0
data = "data"

[[radio]]
name = "plain.mp3"
folder = "plain"
bitrate = 64
sample_rate = 48000
genre = "Jazz"
url = "https://home.example"
public = true
max_listeners = 1

[[radio]]
name = "brief.mp3"
folder = "plain"
max_listener_duration = "1s"

[[radio]]
name = "intro.mp3"
folder = "plain"
intro = "intro.mp3"

[[radio]]
name = "shuffled.mp3"
folder = "many"
shuffle = true

[[radio]]
name = "loud.mp3"
folder = "quiet"
loudness = -16

[[radio]]
name = "fading.mp3"
folder = "two"
crossfade = 1.5

[[radio]]
name = "judged.mp3"
source = "publish"
source_password = "{password}"
source_webhook = "{hook}/no"

[[radio]]
name = "asked.mp3"
folder = "plain"
listener_webhook = "{hook}/no"

[[radio]]
name = "added.mp3"
folder = "plain"
listener_add = "{hook}/add"
listener_remove = "{hook}/remove"

[[radio]]
name = "covered.mp3"
source = "publish"
source_password = "{password}"
fallback = "plain.mp3"

[[radio]]
name = "relayed.mp3"
source = "relay"
url = "{hook}/relay"
on_demand = true

[[radio]]
name = "kept.mp3"
folder = "plain"
hls_bitrates = [320]
dvr = "1h"
dvr_size = "500000"

[limits]
listeners = 2
all_listeners = 3
"""


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    with Hook() as hook:
        thread = threading.Thread(target=hook.serve_forever, args=(0.05,))
        thread.start()
        yield hook
        hook.shutdown()
        thread.join()


def tone(path: Path, hertz: int, seconds: float, *words: str) -> None:
    path.parent.mkdir(exist_ok=True)
    source = f"-f lavfi -i sine=frequency={hertz}:sample_rate=44100:duration={seconds}"
    films.run_ffmpeg(*source.split(), "-ac", "2", "-b:a", "128k", *words, path)


@pytest.fixture(scope="module")
def server(hook: Hook, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("stations")
    tone(folder / "plain" / "a.mp3", 440, 10)
    tone(folder / "intro.mp3", 1760, 1)
    tone(folder / "quiet" / "a.mp3", 440, 10, "-af", "volume=-10dB")
    for hertz in (440, 880):
        tone(folder / "two" / f"{hertz}.mp3", hertz, 3)
    for number, title in enumerate(TITLES):
        tone(folder / "many" / f"{title}.mp3", 440 + number, 0.5, "-metadata", f"title={title}")
    address = f"http://127.0.0.1:{hook.server_port}"
    text = CONFIG.format(password=PASSWORD, hook=address)
    (folder / "headwater.toml").write_text(text)
    with start_server(cwd=folder) as server:
        yield server


@contextlib.contextmanager
def listening(server: ServerProcess, name: str) -> Iterator[httpx.Response]:
    with httpx.stream("GET", f"{server.url}/radio/{name}", timeout=CLIENT_SECONDS) as answer:
        yield answer


def heard(server: ServerProcess, name: str, size: int | None = None) -> bytes:
    """Return at least so much of what a station plays, or all of it."""
    wait_until_played(server, name)
    audio = b""
    with listening(server, name) as answer:
        assert answer.status_code == 200
        for more in answer.iter_raw():
            audio += more
            if size is not None and len(audio) >= size:
                break
    assert len(audio) >= (size or 1), f"{name} ended after {len(audio)} bytes"
    wait_for_listeners(server)
    return audio


def wait_until_played(server: ServerProcess, name: str) -> None:
    url = f"{server.url}/radio/{name}"
    wait_for(lambda: httpx.head(url, timeout=CLIENT_SECONDS).status_code == 200, f"the station {name}")


def wait_for_listeners(server: ServerProcess, listeners: int = 0) -> None:
    """Wait until all stations together have no more and no fewer listeners than that."""

    def counted() -> int:
        stations = httpx.get(f"{server.url}/api/radio", timeout=CLIENT_SECONDS).json()
        return sum(one["listeners"] for one in stations)

    wait_for(lambda: counted() == listeners, f"{listeners} listeners")


def samples(audio: bytes) -> list[int]:
    """Decode to one channel of 8,000 Hz."""
    words = "-i pipe:0 -ac 1 -ar 8000 -f s16le pipe:1"
    command = ["ffmpeg", "-nostdin", "-v", "fatal", *words.split()]
    done = subprocess.run(command, input=audio, capture_output=True, timeout=CLIENT_SECONDS, check=False)
    return list(memoryview(done.stdout[: len(done.stdout) // 2 * 2]).cast("h"))


def share(window: list[int], hertz: float) -> float:
    """Return how much of a window's power a frequency has (Goertzel's algorithm)."""
    angle = 2 * math.pi * hertz / 8000
    real = sum(value * math.cos(angle * place) for place, value in enumerate(window))
    imaginary = sum(value * math.sin(angle * place) for place, value in enumerate(window))
    power = sum(value * value for value in window) or 1
    return 2 * (real * real + imaginary * imaginary) / len(window) / power


@pytest.mark.promise("/radio/NAME", "radio.bitrate", "radio.sample_rate")
def test_a_station_has_the_configured_bitrate_and_sample_rate(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "heard.mp3").write_bytes(heard(server, "plain.mp3", 24_000))
    (stream,) = films.probe(tmp_path / "heard.mp3", "-show_streams")["streams"]
    assert (stream["sample_rate"], stream["bit_rate"]) == ("48000", "64000")


@pytest.mark.promise("radio.genre", "radio.url", "radio.public")
def test_a_station_tells_what_the_configuration_says_of_it(server: ServerProcess) -> None:
    wait_until_played(server, "plain.mp3")
    head = httpx.head(f"{server.url}/radio/plain.mp3", timeout=CLIENT_SECONDS).headers
    assert [head[f"icy-{name}"] for name in ("genre", "url", "pub")] == ["Jazz", "https://home.example", "1"]


@pytest.mark.promise("radio.max_listeners", "limits.listeners", "limits.all_listeners")
def test_there_are_as_many_listeners_as_configured(server: ServerProcess) -> None:
    for name in ("plain.mp3", "loud.mp3", "fading.mp3"):
        wait_until_played(server, name)
    wait_for_listeners(server)
    with contextlib.ExitStack() as stack:

        def status(name: str) -> int:
            return stack.enter_context(listening(server, name)).status_code

        assert status("plain.mp3") == 200
        wait_for_listeners(server, 1)
        assert status("plain.mp3") == 503, "radio.max_listeners"
    wait_for_listeners(server)
    with contextlib.ExitStack() as stack:
        assert [status("loud.mp3") for _ in range(2)] == [200, 200]
        wait_for_listeners(server, 2)
        assert status("loud.mp3") == 503, "limits.listeners"
        assert status("fading.mp3") == 200
        wait_for_listeners(server, 3)
        assert status("fading.mp3") == 503, "limits.all_listeners"
    wait_for_listeners(server)


@pytest.mark.promise("radio.max_listener_duration")
def test_a_listener_is_disconnected_after_the_configured_time(server: ServerProcess) -> None:
    assert heard(server, "brief.mp3")


@pytest.mark.promise("radio.intro")
def test_each_listener_hears_the_configured_file_first(server: ServerProcess) -> None:
    values = samples(heard(server, "intro.mp3", 3 * SECOND))
    assert share(values[2000:4000], 1760) > 0.9
    assert share(values[12_000:14_000], 440) > 0.9


@pytest.mark.promise("radio.dvr_size")
def test_a_stations_dvr_takes_no_more_room_than_configured(server: ServerProcess) -> None:
    def first() -> int:
        url = f"{server.url}/live/kept.mp3/320k/media.m3u8"
        answer = httpx.get(url, timeout=CLIENT_SECONDS)
        numbers = re.findall(r"^(\d+)\.m4s", answer.text, re.MULTILINE)
        return int(numbers[0]) if numbers else 0

    before = wait_for(first, "a segment")
    wait_for(lambda: first() > before, "the oldest segment to go", seconds=120)


@pytest.mark.promise("radio.shuffle")
def test_tracks_come_in_another_order_than_that_of_their_names(server: ServerProcess) -> None:
    titles: list[str] = []

    def title() -> str:
        stations = httpx.get(f"{server.url}/api/radio", timeout=CLIENT_SECONDS).json()
        found: str = next(one["title"] for one in stations if one["name"] == "shuffled.mp3")
        return found

    def is_enough() -> bool:
        if (new := title()) and titles[-1:] != [new]:
            titles.append(new)
        return len(titles) > len(TITLES)

    wait_for(is_enough, "as many titles as there are", seconds=60)
    following = [(int(after) - int(before)) % len(TITLES) for before, after in itertools.pairwise(titles)]
    assert set(following) != {1}


@pytest.mark.promise("radio.loudness")
def test_a_quiet_track_is_brought_to_the_configured_loudness(server: ServerProcess) -> None:
    audio = heard(server, "loud.mp3", 4 * SECOND)
    command = ["ffmpeg", "-nostdin", "-i", "pipe:0", "-af", "ebur128", "-f", "null", "-"]
    done = subprocess.run(command, input=audio, capture_output=True, timeout=CLIENT_SECONDS, check=False)
    told = done.stderr.decode().rpartition("Integrated loudness:")[2].split()
    assert float(told[told.index("I:") + 1]) == pytest.approx(-16, abs=1.5)


@pytest.mark.promise("radio.crossfade")
def test_one_track_fades_into_the_next(server: ServerProcess) -> None:
    values = samples(heard(server, "fading.mp3", 5 * SECOND))
    windows = [values[place : place + 800] for place in range(800, len(values) - 1600, 800)]
    both = [one for one in windows if share(one, 440) > 0.1 and share(one, 880) > 0.1]
    # Each window is a tenth of a second; without a fade one of them may have the end and the beginning.
    assert len(both) >= 4


@pytest.mark.promise("radio.source_webhook", "radio.listener_webhook")
def test_another_server_denies_a_source_and_a_listener(server: ServerProcess, hook: Hook) -> None:
    fields = {"content-type": "audio/mpeg"}
    url = f"{server.url}/radio/judged.mp3"
    answer = httpx.put(url, content=b"x", headers=fields, auth=("source", PASSWORD), timeout=CLIENT_SECONDS)
    assert answer.status_code == 403
    wait_for_listeners(server)
    with listening(server, "asked.mp3") as refused:
        assert refused.status_code == 403
    assert hook.paths().count("/no") >= 2


@pytest.mark.promise("radio.listener_add", "radio.listener_remove")
def test_another_server_is_told_of_listeners_as_icecast_does(server: ServerProcess, hook: Hook) -> None:
    wait_for_listeners(server)

    def status() -> int:
        with listening(server, "added.mp3") as answer:
            return answer.status_code

    wait_for(lambda: status() == 200, "the station")
    wait_for(lambda: "/remove" in hook.paths(), "the listener's leaving")
    actions = {path: fields["action"] for path, fields in hook.asked if path in ("/add", "/remove")}
    assert actions == {"/add": ["listener_add"], "/remove": ["listener_remove"]}


@pytest.mark.promise("radio.fallback")
def test_a_fallback_is_heard_while_there_is_no_source(server: ServerProcess) -> None:
    values = samples(heard(server, "covered.mp3", SECOND))
    assert share(values[2000:4000], 440) > 0.9


@pytest.mark.promise("radio.on_demand")
def test_a_relay_connects_when_somebody_listens(server: ServerProcess, hook: Hook) -> None:
    assert "/relay" not in hook.paths()
    wait_for_listeners(server)
    stop = threading.Event()

    def listen() -> None:
        while not stop.is_set():
            with contextlib.suppress(httpx.HTTPError), listening(server, "relayed.mp3"):
                pass

    thread = threading.Thread(target=listen)
    thread.start()
    wait_for(lambda: "/relay" in hook.paths(), "a request to the relayed server")
    stop.set()
    thread.join()
