"""Publishers' troubles as viewers see them: hls.js and ffmpeg play on on the same page, without a reload."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from packager.concurrency import background_task
from packager.process.ffmpeg_discovery import Tools
from tests.copied_channel import RATE, TONE, film
from tests.e2e.audience import Audience, watched
from tests.ports import kept_port

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

KEY = "of-the-studio-77b1"
CONFIG = """
[server]
port = {port}
data = "data"

[[live]]
name = "test"
source = "publish"
publish_key = "{key}"
ladder = ["240p"]
part_duration = 0.5
segment_duration = 1.0
"""
CODING = f"-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p {TONE}"
SOUND = "-re -f lavfi -i sine=frequency=440:sample_rate=48000"
RECONNECTS = 20
AGAIN_SECONDS = 0.3
"""When an encoder that has ended connects again."""


def picture(size: str, rate: str = f"{RATE}") -> str:
    return f"-re -f lavfi -i testsrc2=size={size}:rate={rate}"


COPIED = "-re -i {film} -c copy"
"""What an encoder of the same picture and sound sends, which needn't be drawn and encoded for each."""

USUAL = f"{COPIED} -f mpegts"
OTHERS = {
    "a larger picture at another rate": (
        f"{picture('426x240', '30000/1001')} {SOUND} {CODING} -bf 2 -g 30 -f mpegts"
    ),
    "another codec": (
        f"{picture('320x180')} {SOUND} -c:v libx265 -preset ultrafast -x265-params log-level=none -g {RATE} "
        "-c:a ac3 -f mpegts"
    ),
    "no sound, in FLV": f"{COPIED} -an -f flv",
    "no picture": f"{COPIED} -vn -f mpegts",
    "key frames every ten seconds": f"{picture('320x180')} {SOUND} {CODING} -g {10 * RATE} -f matroska",
    "times that wrap": f"{COPIED} -output_ts_offset 95438 -f mpegts",
    "fragments of MP4": f"{COPIED} -movflags frag_keyframe+empty_moov -f mp4",
}
"""ffmpeg's arguments of encoders that differ from the usual one."""


@dataclass
class Encoder:
    """An encoder that publishes, and connects again whenever it has ended, as OBS does.

    Attributes:
        address: where it publishes.
        arguments: of ffmpeg, up to the output.
        process: the one that runs.
    """

    address: str
    arguments: str = USUAL
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Publish until cancelled, whenever it is wanted."""
        try:
            while True:
                await self.wanted.wait()
                words = self.arguments.format(film=film()).split()
                argv = ["ffmpeg", "-nostdin", "-v", "fatal", *words, "-method", "PUT"]
                self.process = await asyncio.create_subprocess_exec(*argv, self.address)
                await self.process.wait()
                await asyncio.sleep(AGAIN_SECONDS)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it without a word."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    def restart(self, arguments: str = USUAL) -> None:
        """End it, and let it come back with other arguments."""
        self.arguments = arguments
        self.kill()


@pytest.mark.clause("The slate is joined and left without a reload")
async def test_viewers_see_the_slate_before_and_after_a_publisher(
    browser: Browser, tools: Tools, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """First of all: what the other tests watch goes on from the first of them to the last."""
    folder = tmp_path_factory.mktemp("slate", numbered=False)
    slate = folder / "slate.mp4"
    arguments = f"{picture('320x180')} {SOUND} {CODING} -g {RATE} -t 6".replace("-re ", "")
    made = await asyncio.create_subprocess_exec("ffmpeg", "-v", "error", *arguments.split(), str(slate))
    assert await made.wait() == 0
    with kept_port() as port:
        encoder = Encoder(f"http://127.0.0.1:{port}/live/test/ingest?key={KEY}")
        config = f'{CONFIG.format(port=port, key=KEY)}offline = "{slate}"\n'
        async with background_task(encoder.run()), watched(browser, tools, folder, config) as audience:
            encoder.wanted.set()
            await audience.plays_on()
            encoder.wanted.clear()
            encoder.kill()
            await audience.plays_on()
            assert "publisher is on air" in audience.server.text()


@dataclass(frozen=True)
class Show:
    """An encoder, and who watches what it publishes."""

    encoder: Encoder
    audience: Audience


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def show(
    browser: Browser, tools: Tools, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Show]:
    folder = tmp_path_factory.mktemp("publishers", numbered=False)
    with kept_port() as port:
        encoder = Encoder(f"http://127.0.0.1:{port}/live/test/ingest?key={KEY}")
        encoder.wanted.set()
        config = CONFIG.format(port=port, key=KEY)
        async with background_task(encoder.run()), watched(browser, tools, folder, config) as audience:
            yield Show(encoder, audience)


@pytest.mark.clause("Viewers stay when a publisher is killed and comes back")
@pytest.mark.parametrize("seconds", [0.0, 10.0])
async def test_viewers_play_on_after_the_publisher_was_killed(show: Show, seconds: float) -> None:
    show.encoder.wanted.clear()
    show.encoder.kill()
    await asyncio.sleep(seconds)
    show.encoder.wanted.set()
    await show.audience.plays_on()


@pytest.mark.clause("Viewers stay whatever the next publisher sends")
@pytest.mark.parametrize("arguments", OTHERS.values(), ids=OTHERS)
async def test_viewers_play_on_with_another_stream(show: Show, arguments: str) -> None:
    """Each comes behind the one of the test before, the first one behind the usual one."""
    show.encoder.restart(arguments)
    await show.audience.plays_on()


async def test_viewers_play_on_with_the_usual_stream_again(show: Show) -> None:
    show.encoder.restart()
    await show.audience.plays_on()


async def test_viewers_play_on_after_many_reconnects(show: Show) -> None:
    for _ in range(RECONNECTS):
        show.encoder.kill()
        await asyncio.sleep(1)
    await show.audience.plays_on()


async def test_viewers_play_on_when_another_publisher_takes_over(show: Show) -> None:
    show.encoder.wanted.clear()
    other = Encoder(show.encoder.address, f"{picture('640x360')} {SOUND} {CODING} -g {RATE} -f flv")
    other.wanted.set()
    async with background_task(other.run()):
        await show.audience.plays_on()
    show.encoder.wanted.set()
    await show.audience.plays_on()
