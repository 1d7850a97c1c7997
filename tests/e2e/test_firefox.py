"""The page in Firefox: a file, VOD and live by hls.js, DASH, an exercise, a station, events."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.marionette import Firefox
from tests.conftest import ARTIFACTS, ServerProcess
from tests.copied_channel import film
from tests.e2e.conftest import PATIENCE_SECONDS, SMALL, keep
from tests.e2e.media_types import SOUNDS, media_type
from tests.programs import program
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

PLAYING = "headwater.stats().decoded > 0 && !headwater.video.paused && headwater.video.currentTime > {}"
STATE = "JSON.stringify([window.headwater?.stats(), document.getElementById('status')?.textContent])"


class Tab:
    """The one page of a Firefox."""

    def __init__(self, firefox: Firefox, url: str) -> None:
        self.firefox = firefox
        self.url = url

    def open(self, fragment: str) -> None:
        self.firefox.go("about:blank")
        self.firefox.go(f"{self.url}/#{fragment}")
        self.until("window.headwater !== undefined")

    def value(self, expression: str) -> Any:
        return self.firefox.value(expression)

    def until(self, expression: str) -> Any:
        try:
            return wait_for(lambda: self.value(expression), expression, PATIENCE_SECONDS)
        except AssertionError as error:
            pytest.fail(f"{error}: {self.value(STATE)}")

    def played(self) -> None:
        """Wait until a second of something has been played from where it is."""
        self.until(PLAYING.format(0))
        self.until(PLAYING.format(self.value("headwater.video.currentTime") + 1))

    def begin(self, exercise: str) -> None:
        """Begin an exercise of the instruments, which are open."""
        self.until(f"document.getElementById('exercise-{exercise}')")
        self.firefox.click(f"#exercise-{exercise}")
        self.until("document.querySelector('#exercise-result[hidden]')")

    def result(self) -> dict[str, Any]:
        """Wait for the JSON that an exercise prints, and give it."""
        text = self.until("document.querySelector('#exercise-result:not([hidden])')?.textContent")
        found: dict[str, Any] = json.loads(text)
        keep(f"exercise-{found['exercise']}-firefox", found)
        return found


@pytest.fixture(scope="module")
def tab(demo_server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    program("firefox-esr")
    profile: Path = tmp_path_factory.mktemp("firefox") / "profile"
    with Firefox.running(profile, os.environ) as firefox:
        firefox.resize(SMALL["width"], SMALL["height"])
        yield Tab(firefox, demo_server.url)
        ARTIFACTS.mkdir(exist_ok=True)
        (ARTIFACTS / "page-firefox.png").write_bytes(firefox.screenshot())


def test_a_file_plays_and_is_sought_in(tab: Tab) -> None:
    tab.open("library/film.240p.mp4?mode=file")
    tab.played()
    assert tab.value("headwater.hls === null")
    tab.firefox.press("5")
    tab.until("!headwater.video.seeking && headwater.video.currentTime > 36")
    tab.played()
    assert tab.value("headwater.video.currentTime") < 72
    tab.firefox.click("#play")
    tab.until("headwater.video.paused")


def test_a_film_plays_by_hls_js_and_its_seek_storm_is_measured(tab: Tab) -> None:
    tab.open("library/film?mode=hls&level=0&buffer=5")
    tab.played()
    assert tab.value("headwater.stats().levels") == 3
    tab.firefox.click("#instruments-button")
    for name in ("seek-storm", "staircase"):
        tab.begin(name)
        found = tab.result()
        assert (found["exercise"], found["failed"]) == (name, 0)
        assert "Firefox" in found["browser"]
    assert [step["height"] for step in found["steps"]] == [240, 480, 720, 480, 240]


def test_a_film_goes_on_by_dash_where_it_was(tab: Tab) -> None:
    tab.open("library/film?mode=hls&t=20")
    tab.played()
    left = tab.value("headwater.video.currentTime")
    tab.value(
        "void (document.getElementById('engine').value = 'dash',"
        " document.getElementById('engine').dispatchEvent(new Event('change')))"
    )
    tab.until("headwater.stats().mode === 'dash' && headwater.video.readyState >= 3")
    tab.played()
    assert left - 0.5 < tab.value("headwater.video.played.start(0)") < left + 20


def test_a_channel_plays_close_to_now_and_outlasts_its_encoder(tab: Tab, demo_server: ServerProcess) -> None:
    tab.open("live/demo")
    tab.played()
    # hls.js doesn't make up for what a busy machine has put it behind by: a viewer goes to live then.
    tab.until(
        "headwater.stats().latency > 0 && (headwater.stats().latency < 6 || headwater.video.seeking"
        " || void document.getElementById('edge').click())"
    )
    tab.until("headwater.stats().latency < 6")
    tab.until("document.getElementById('edge').textContent.startsWith('Live, ')")
    tab.firefox.click("#instruments-button")
    tab.begin("encoder-restart")
    tab.until("document.getElementById('instruments').textContent.includes('Waiting for a restart')")
    os.kill(demo_server.encoder(bytes(film())), signal.SIGKILL)
    seen = tab.result()
    assert (seen["restarts"], seen["played_on"]) == (1, True)


def test_a_station_is_heard(tab: Tab) -> None:
    tab.open("radio/demo.mp3")
    tab.until("headwater.audio.currentTime > 1")
    tab.until("document.querySelector('.station .song').textContent !== ''")


@pytest.mark.parametrize("codec", [*SOUNDS.values(), "mp4a.40.5", "mp4a.40.29"])
def test_it_takes_the_codec_strings(tab: Tab, codec: str) -> None:
    assert tab.value(f"MediaSource.isTypeSupported({json.dumps(media_type(codec))})")


def test_events_are_shown_as_they_come(tab: Tab) -> None:
    tab.open("events/demo")
    tab.until("headwater.events().pieces > 5 && document.querySelector('.messages li')")
