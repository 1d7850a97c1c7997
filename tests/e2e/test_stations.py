"""Stations on the page: each title is shown when it is heard, not when it is sent."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import itertools
import shutil
import socket
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.clients.marionette import Firefox
from tests.clients.programs import environment
from tests.clients.sound import sound
from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import LOOK_SECONDS, PHONE, Tab, keep, looks, open_tab
from tests.e2e.station_tones import BITRATE, CLOSE_SECONDS, TITLES, Notes, tone
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e
in_session = pytest.mark.asyncio(loop_scope="session")

TONE_SECONDS = 4


EARLY_SECONDS = 2.0
"""How much before that the title was sent, at least."""

LEAST_AHEAD_SECONDS = 4.0
"""By how much a source is ahead of real time at least."""

PASSWORD = "sesame"
HOSTILE = "<img src=x onerror=alert(1)> - \u202e</script>"
HARMLESS = "<img src=x onerror=alert(1)> - </script>"

ELEMENTS = "document.querySelectorAll('main img, main script').length"
"""How many pictures and scripts the page has."""

RECORD = """(station) => {
  const notes = { heard: [], shown: [], session: [], sent: [], still: [] };
  const note = (list, value) => {
    if (list.at(-1)?.value !== value) list.push({ value, at: performance.now() / 1000 });
  };
  const reader = new EventSource(`/events/radio/${station}`);
  reader.addEventListener("title", (event) => note(notes.sent, JSON.parse(event.data).title));
  const song = document.querySelector(".station.on .song");
  const { analyser } = headwater;
  const bins = new Float32Array(analyser.frequencyBinCount);
  let before = performance.now();
  setInterval(() => {
    const now = performance.now();
    if (now - before > 250) notes.still.push({ from: before / 1000, to: now / 1000 });
    before = now;
    analyser.smoothingTimeConstant = 0;
    analyser.getFloatFrequencyData(bins);
    const loudest = bins.indexOf(Math.max(...bins));
    const hertz = (loudest * analyser.context.sampleRate) / analyser.fftSize;
    if (bins[loudest] > -60) note(notes.heard, hertz < 660 ? 440 : hertz < 1320 ? 880 : 1760);
    note(notes.shown, song.textContent);
    note(notes.session, navigator.mediaSession.metadata?.title ?? "");
  }, 20);
  window.notes = notes;
}"""
"""Notes when the audible tone, the title on the page and that of the media session change.

And when the page of a starved browser stood still, so that its notes came late.
"""

ENOUGH = f"notes.heard[%d]?.at + {CLOSE_SECONDS} < performance.now() / 1000"
"""Whether the tone has changed so often, and the title had its time since."""

NOTED = "({ ...notes, now: [{ at: performance.now() / 1000 }] })"

KEEP_ACTIONS = """
  window.actions = {};
  const set = MediaSession.prototype.setActionHandler;
  MediaSession.prototype.setActionHandler = function (name, action) {
    actions[name] = action;
    return set.call(this, name, action);
  };
"""
"""Keeps what the lock screen would call: a browser without a screen has no keys for it."""


@pytest.fixture(scope="module")
def stations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("stations")
    (folder / "music").mkdir()
    for hertz, (artist, title) in TITLES.items():
        data = tone(hertz, TONE_SECONDS, artist=artist, title=title)
        (folder / "music" / f"{hertz}.mp3").write_bytes(data)
    config = folder / "headwater.toml"
    config.write_text(
        f"""
        [library]
        path = "{folder}"
        [[radio]]
        name = "tones.mp3"
        folder = "{folder / "music"}"
        bitrate = {BITRATE}
        title = "Tone FM"
        [[radio]]
        name = "open.mp3"
        source = "publish"
        bitrate = {BITRATE}
        source_password = "{PASSWORD}"
        """,
        "utf-8",
    )
    with start_server("--config", str(config), "--port", "0") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, stations: ServerProcess) -> AsyncIterator[Tab]:
    tab = await open_tab(browser, stations.url, viewport=PHONE)
    yield tab
    await tab.page.context.close()
    assert tab.troubles == []


class Source:
    """A source client of the old protocol, some seconds ahead of real time; the server lets it be ten."""

    def __init__(self, server: ServerProcess, mount: str) -> None:
        self._url, self._mount = server.url, f"/radio/{mount}"
        host, port = server.url.removeprefix("http://").split(":")
        key = base64.b64encode(f"source:{PASSWORD}".encode()).decode()
        self._fields = {"Authorization": f"Basic {key}"}
        self.socket = socket.create_connection((host, int(port)))
        lines = [f"SOURCE {self._mount} HTTP/1.0", f"Authorization: Basic {key}", "Content-Type: audio/mpeg"]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        assert b" 200 " in self.socket.recv(4096)
        self._turn, self._over = threading.Lock(), threading.Event()
        self._audio = b""
        self._begun, self._sent = time.monotonic(), 0
        self._thread = threading.Thread(target=self._repeat, daemon=True)
        self._thread.start()

    def send(self, title: str, audio: bytes) -> None:
        """Send this from now on, over and over: the station isn't silent before the next, however late."""
        query = urlencode({"mode": "updinfo", "mount": self._mount, "song": title})
        request = urllib.request.Request(f"{self._url}/admin/metadata?{query}", headers=self._fields)
        with self._turn:
            with urllib.request.urlopen(request, timeout=120) as answer:
                assert answer.status == 200
            if not self._audio:
                self._begun = time.monotonic()
            self._audio = audio
            self._send()

    def _send(self) -> None:
        self.socket.sendall(self._audio)
        self._sent += len(self._audio)

    def _repeat(self) -> None:
        with contextlib.suppress(OSError):
            while not self._over.wait(0.1):
                with self._turn:
                    ahead = self._sent / (125 * BITRATE) - (time.monotonic() - self._begun)
                    if self._audio and ahead < LEAST_AHEAD_SECONDS:
                        self._send()

    def close(self) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.socket.close()


async def noted(tab: Tab, changes: int) -> list[dict[str, float]]:
    """Listen until there were so many audible changes that the page noted in time; judge them.

    One of them at least is to be of a title whose sending it has noted, too.
    """
    judged: list[dict[str, float]] = []
    end = time.monotonic() + LOOK_SECONDS
    for count in itertools.count(changes):
        await tab.until(ENOUGH % count)
        judged = Notes(await tab.value(NOTED)).judge()
        if (len(judged) >= changes and was_early(judged)) or time.monotonic() > end:
            break
    assert len(judged) >= changes
    return judged


def was_early(judged: list[dict[str, float]]) -> bool:
    """Whether a title was sent well before it was heard; that of the first one was so unseen."""
    return min(change["sent"] for change in judged) < -EARLY_SECONDS


@in_session
async def test_a_title_is_shown_within_a_second_of_the_change_that_is_heard(tab: Tab) -> None:
    await tab.open("radio/tones.mp3")
    await tab.until("headwater.audio.currentTime > 0.5 && headwater.radioLevel() !== null")
    await tab.page.evaluate(RECORD, "tones.mp3")
    judged = await noted(tab, 2)
    keep("radio-titles-folder", {"changes": judged})
    for change in judged:
        assert abs(change["shown"]) < CLOSE_SECONDS
        assert abs(change["session"]) < CLOSE_SECONDS
    assert was_early(judged)
    session = "[navigator.mediaSession.metadata.artist, navigator.mediaSession.metadata.album]"
    artist, album = await tab.value(session)
    assert artist in {"Low", "Middle", "High"}
    assert album == "Tone FM"
    await tab.page.get_by_text("Played before").first.click()
    before = await tab.page.locator(".before li").first.inner_text()
    assert before.split("\n")[-1] in {" - ".join(title) for title in TITLES.values()}
    await tab.screenshot("radio-history")


@in_session
async def test_a_published_title_is_shown_when_it_is_heard_and_as_text(
    tab: Tab, stations: ServerProcess
) -> None:
    tones = {hertz: tone(hertz, 3) for hertz in TITLES}
    await tab.open("radio")
    await tab.until("document.querySelectorAll('.station').length === 2")
    source = Source(stations, "open.mp3")
    with contextlib.closing(source):
        await asyncio.to_thread(source.send, "Low - A four", tones[440])
        await tab.page.get_by_role("button", name="Play open.mp3").click()
        await tab.until("headwater.audio.currentTime > 0.3 && headwater.radioLevel() !== null")
        await tab.page.evaluate(RECORD, "open.mp3")
        judged: list[dict[str, float]] = []
        for number, hertz in zip(looks(), itertools.cycle((880, 1760, 440)), strict=False):
            await asyncio.to_thread(source.send, " - ".join(TITLES[hertz]), tones[hertz])
            await tab.until(ENOUGH % (number + 1))
            if judged := Notes(await tab.value(NOTED)).judge():
                break
        keep("radio-titles-published", {"changes": judged})
        assert judged
        for change in judged:
            assert abs(change["shown"]) < CLOSE_SECONDS
            assert abs(change["session"]) < CLOSE_SECONDS
            assert change["sent"] < -EARLY_SECONDS
        own = await tab.value(ELEMENTS)
        await asyncio.to_thread(source.send, HOSTILE, tones[hertz])
        await tab.until(f"notes.shown.at(-1).value === {HARMLESS!r}")
        assert await tab.value(ELEMENTS) == own


@in_session
async def test_the_lock_screen_pauses_goes_on_and_stops(tab: Tab) -> None:
    await tab.page.add_init_script(KEEP_ACTIONS)
    await tab.open("radio/tones.mp3")
    state = "navigator.mediaSession.playbackState"
    await tab.until(f"headwater.audio.currentTime > 0.3 && {state} === 'playing'")
    await tab.until("navigator.mediaSession.metadata?.title.startsWith('A ')")
    # The picture is there with the next title at the latest.
    await tab.until("navigator.mediaSession.metadata?.artwork[0]?.src.startsWith('data:image/png')")
    await tab.value("actions.pause()")
    await tab.until(f"headwater.audio.paused && {state} === 'paused'")
    assert await tab.value("navigator.mediaSession.metadata !== null")
    await tab.page.get_by_role("button", name="Play Tone FM (tones.mp3)").wait_for()
    await tab.value("actions.play()")
    await tab.until(f"!headwater.audio.paused && headwater.audio.currentTime > 0.3 && {state} === 'playing'")
    await tab.page.get_by_role("button", name="Stop Tone FM (tones.mp3)").wait_for()
    # As a browser does when headphones are pulled out: the station isn't kept waiting, and the page shows it.
    await tab.value("headwater.audio.pause()")
    await tab.page.get_by_role("button", name="Play Tone FM (tones.mp3)").wait_for()
    assert await tab.value(state) == "paused"
    await tab.value("actions.stop()")
    await tab.until(f"!headwater.audio.hasAttribute('src') && {state} === 'none'")
    assert await tab.value("navigator.mediaSession.metadata") is None
    assert await tab.value("[actions.play, actions.pause, actions.stop]") == [None] * 3


@pytest.mark.skipif(
    not (shutil.which("firefox-esr") and shutil.which("pulseaudio")),
    reason="Firefox or a sound server isn't installed (Debian: firefox-esr, pulseaudio)",
)
def test_in_firefox_too_a_title_is_shown_when_it_is_heard(stations: ServerProcess, tmp_path: Path) -> None:
    with sound() as variables, Firefox.running(tmp_path / "firefox", {**environment(), **variables}) as page:
        page.go(f"{stations.url}/#radio/tones.mp3")
        heard = "headwater.audio.currentTime > 0.5 && headwater.radioLevel() !== null"
        wait_for(lambda: page.evaluate(heard), what="sound in Firefox")
        page.evaluate(f"({RECORD})('tones.mp3')")
        end = time.monotonic() + LOOK_SECONDS
        for count in itertools.count(2):
            enough = ENOUGH % count
            wait_for(functools.partial(page.evaluate, enough), f"{count} changes of the tone")
            judged = Notes(page.evaluate(NOTED)).judge()
            if (len(judged) >= 2 and was_early(judged)) or time.monotonic() > end:
                break
        keep("radio-titles-firefox", {"changes": judged})
        assert len(judged) >= 2
        assert all(abs(change["shown"]) < CLOSE_SECONDS for change in judged)
        assert all(abs(change["session"]) < CLOSE_SECONDS for change in judged)
        assert was_early(judged)
