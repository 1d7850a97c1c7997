"""Encoders of hardware: a trial chooses one, and software encodes where it fails, so that films play on."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from structlog.testing import capture_logs

from media.errors import MalformedError
from origin.cli.diagnosis import Verdict
from origin.cli.doctor import DoctorTimeouts, _hardware
from origin.config.options import Config, LibraryOptions
from origin.server.services.limits import Limits
from packager.encode.encode_queue import WantedSegment
from packager.encode.encoder_choice import RECORD, choose_encoder
from packager.encode.renditions import ENCODING, EncodedRendition, EncodedRenditions, find_rendition
from packager.ffmpeg.arguments import local_input
from packager.ffmpeg.encode import picture_arguments
from packager.ffmpeg.picture_encoder import HARDWARE, SOFTWARE, PictureEncoder
from packager.library.local_storage import Library
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.process.limits import ToolsLimits
from packager.process.process import run
from packager.safe_files import DataFolder
from packager.vod.titles import Titles
from tests.conftest import ServerProcess, start_server
from tests.packager.encode.encoded_library import encoding, library
from tests.packager.encode.subtitle_pictures import display_set, film_with_subtitles
from tests.packager.films import FFMPEG, film
from tests.patience import program
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

FILM, OTHER = "silent.mp4", "other.mp4"
"""A film of three segments, and a copy."""

STAND_IN = Path(__file__).with_name("device_ffmpeg.py")
GENERIC = {"c:v", "b:v", "bf", "g", "maxrate", "bufsize", "bsf:v"}
"""Options of all encoders, which the help of one doesn't list."""

NO_DEVICE = "No VA display found for device /nowhere|libcuda|MFX session|Could not find a valid device"


@pytest.fixture
def device_tools(tools: Tools, tmp_path: Path) -> Tools:
    """The machine's ffmpeg with devices for VA-API and V4L2; see the stand-in."""
    if not tools.ffmpeg.is_relative_to("/usr") or "h264_vaapi" not in tools.encoders:
        pytest.skip("the sandbox has no other ffmpeg than the system's, or that has no VA-API")
    path = tmp_path / "ffmpeg"
    python = str(Path(sys.executable).resolve())
    text = STAND_IN.read_text().replace("PYTHON", python).replace("FFMPEG", str(tools.ffmpeg))
    path.write_text(text.replace("NODES", str(tmp_path / "dev")))
    path.chmod(0o755)
    return replace(tools, ffmpeg=path)


def node(tmp_path: Path, does: str, name: str = "dri/renderD128") -> Path:
    """Make the node of a device, which does as told."""
    path = tmp_path / "dev" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(does)
    return path


@pytest.mark.parametrize("encoder", HARDWARE, ids=lambda one: f"{one.name}-{len(one.options)}")
async def test_ffmpeg_knows_all_arguments_and_lacks_only_the_device(
    encoder: PictureEncoder, tools: Tools
) -> None:
    codec = str(encoder.options["c:v"])
    if codec not in tools.encoders:
        pytest.skip(f"this ffmpeg lacks {codec}")
    asked = [str(tools.ffmpeg), "-hide_banner", "-h", f"encoder={codec}"]
    described = (await asyncio.to_thread(subprocess.check_output, asked)).decode()
    options = {**encoder.options, **encoder.rate_options(23, 1000)}
    for name, value in options.items():
        if name not in GENERIC and name != "profile:v":
            assert re.search(rf"^ +-{name} ", described, re.MULTILINE), name
            if isinstance(value, str) and "{" not in value:
                assert re.search(rf"^ +{value} ", described, re.MULTILINE), value
    words = picture_arguments(
        bounds=(0, 12800),
        size=(320, 180),
        profile="high",
        level=31,
        quality=23,
        rate=100_000,
        timescale=12800,
        encoder=replace(encoder, nodes=("/nowhere",)),
    )
    words[words.index("pipe:0")] = local_input(film(FILM))
    reason = "libcuda"
    try:
        await run([tools.ffmpeg, *words], limit=120, sandbox=None)
    except ToolsError as error:
        reason = str(error)
    assert re.search(NO_DEVICE, reason), "unless there is a device"


async def test_without_a_device_software_encodes_and_nothing_is_tried(tools: Tools, tmp_path: Path) -> None:
    absent = replace(tools, ffmpeg=tmp_path / "no program")
    with capture_logs() as logs:
        for name in ("auto", "software"):
            assert await choose_encoder(absent, name, tmp_path, None) is SOFTWARE
        assert logs == []
        assert await choose_encoder(absent, "nvenc", tmp_path, None) is SOFTWARE
    assert [(one["log_level"], one["reason"]) for one in logs] == [
        ("warning", f"{tmp_path} has no such device")
    ]


async def test_the_first_device_that_encodes_the_right_pictures_is_chosen_and_remembered(
    device_tools: Tools, tmp_path: Path
) -> None:
    node(tmp_path, "negative")
    second, folder = node(tmp_path, "works", "dri/renderD129"), DataFolder(tmp_path / "data")
    chosen = await choose_encoder(device_tools, "auto", tmp_path / "dev", folder)
    assert (chosen.name, chosen.nodes) == ("vaapi", (str(second),))
    second.write_text("lost")
    assert await choose_encoder(device_tools, "auto", tmp_path / "dev", folder) == chosen, (
        "it isn't tried again"
    )
    record = tmp_path / "data" / RECORD
    for damaged in (b"[", json.dumps({**json.loads(record.read_bytes()), "ffmpeg": "other"}).encode()):
        record.write_bytes(damaged)
        with capture_logs() as logs:
            (tmp_path / "dev/dri/renderD128").unlink(missing_ok=True)
            assert await choose_encoder(device_tools, "vaapi", tmp_path / "dev", folder) is SOFTWARE
        assert [(one["log_level"], one["reason"]) for one in logs] == [
            ("warning", "vaapi: the device is lost")
        ]


def test_the_doctor_says_of_each_device_whether_it_works_and_why_not(
    device_tools: Tools, tmp_path: Path
) -> None:
    node(tmp_path, "lost")
    node(tmp_path, "works", "video0")
    limits = DoctorTimeouts(tools=ToolsLimits(device_nodes=str(tmp_path / "dev")))
    config = Config(library=LibraryOptions(encoder="nvenc"))
    found = {one.subject: (one.verdict, one.text) for one in _hardware(config, device_tools, limits)}
    assert found["encoder v4l2"] == (Verdict.GOOD, "it encodes a trial film")
    for name, reason in (("vaapi", "the device is lost"), ("qsv", "MFX"), ("nvenc", "no such device")):
        verdict, text = found[f"encoder {name}"]
        assert verdict == Verdict.ADVICE
        assert reason in text


def test_only_pictures_of_hardware_have_addresses_of_their_own(tmp_path: Path) -> None:
    folder = library(tmp_path, "bframes.mp4")
    film_with_subtitles(folder / "film.mkv", [(3, display_set(shown=True))])
    for name, track in (
        ("bframes.mp4", "audio-aac"),
        ("bframes.mp4", "video-180p"),
        ("film.mkv", "video-180p-subtitles-1"),
    ):
        found = []
        for profile in ("", "vaapi"):
            renditions = EncodedRenditions("all", "5.1", profile=profile)
            index = Titles(Library(folder), encoded=renditions.tracks).files.find(name).index
            rendition = find_rendition(index, track)
            assert rendition is not None
            found.append(WantedSegment(name, rendition, 0))
        software, hardware = found
        assert (software.place == hardware.place) == (track == "audio-aac")
        assert hardware.with_encoder("5.1").place == software.place
        # The addresses of all former releases, so that their caches stay good.
        facts = repr((ENCODING, "5.1", index.version.name, track.removesuffix("-subtitles-1")))
        version = hashlib.blake2s(facts.encode(), digest_size=6).hexdigest()
        assert software.rendition.track.version.name[:12] == version


@contextlib.contextmanager
def serving(tmp_path: Path, tools: Tools) -> Iterator[ServerProcess]:
    """Run a server whose only devices are those that were made."""
    limits = Limits(tools=ToolsLimits(device_nodes=str(tmp_path / "dev")))
    server = start_server(
        *("--config", str(tmp_path / "headwater.toml"), "--port", "0"),
        env={"FFMPEG": str(tools.ffmpeg), "FFPROBE": str(tools.ffprobe)},
        program=program(limits),
    )
    try:
        yield server
    finally:
        server.stop()


def addresses(server: ServerProcess, client: httpx.Client, name: str) -> list[str]:
    """Return the addresses of the init segment and of all segments of the encoded rendition."""
    address = f"{server.url}/vod/{name}/video-180p/media.m3u8"
    playlist = client.get(address).raise_for_status().text
    found = re.findall(r'URI="([^"]+)"|^([^#\s]\S*)$', playlist, re.MULTILINE)
    return [urljoin(address, one or other) for one, other in found]


def pictures(path: Path) -> NDArray[np.int16]:
    """Return small grey pictures of a film, which ffmpeg decodes without a message."""
    words = ["-nostdin", "-v", "warning", "-i", str(path), "-vf", "scale=64:36", "-fps_mode", "passthrough"]
    answer = subprocess.run(
        [FFMPEG, *words, "-f", "rawvideo", "-pix_fmt", "gray", "-"], check=True, capture_output=True
    )
    assert answer.stderr == b""
    return np.frombuffer(answer.stdout, np.uint8).astype(np.int16).reshape(-1, 36 * 64)


FAULTS = {"lost": "the device is lost", "stuck": "took longer than"}


@pytest.mark.parametrize(("does", "reason"), FAULTS.items(), ids=list(FAULTS))
def test_a_film_plays_on_in_software_when_the_device_fails(
    does: str, reason: str, device_tools: Tools, tmp_path: Path
) -> None:
    folder = library(tmp_path, FILM)
    shutil.copy(folder / FILM, folder / OTHER)
    device = node(tmp_path, "works")
    (tmp_path / "headwater.toml").write_text(
        f'[server]\ndata = "{tmp_path}/data"\n[library]\npath = "{folder}"\nencode = "all"\n'
    )
    with serving(tmp_path, device_tools) as server, httpx.Client(timeout=240) as client:

        def got(address: str) -> bytes:
            # A device that is stuck has a share of the time in which software would have to have encoded.
            while (answer := client.get(address)).status_code == 503:
                time.sleep(int(answer.headers["retry-after"]))
            return answer.raise_for_status().content

        wait_for(lambda: "films are encoded by hardware" in server.text(), "the choice of the device")
        init, *segments = addresses(server, client, FILM)
        assert len(segments) == 3
        # From behind, so that nothing is read ahead.
        data = [got(init), got(segments[2])]
        device.write_text(does)
        data[1:1] = reversed([got(segments[1]), got(segments[0])])
        path = tmp_path / "joined.mp4"
        path.write_bytes(b"".join(data))
        differences = np.abs(pictures(path) - pictures(folder / FILM)).mean(axis=1)
        assert differences.max() < 8
        assert reason not in server.text()
        other, *_ = addresses(server, client, OTHER)
        got(other)
        wait_for(lambda: "hardware doesn't encode any more" in server.text(), "the line in the log")
        assert server.text().count(reason) == 1

    async def later() -> None:
        """Ask a server without the device for the same segments, all of which are in its cache."""
        versions = [urlsplit(one).path.split("/v_")[1][:12] for one in (init, *segments)]
        async with encoding(folder, device_tools, tmp_path / "data", encode=never) as media:
            plain, now = await media.segment(FILM, "video-180p", 0)
            assert {now.name} & {*versions} == set()
            assert 0 < len(data[1]) - len(plain) < 200, "the parameter sets"
            assert data[1][-1000:] == plain[-1000:]
            # Players go on with the addresses of the device.
            assert (await media.init(FILM, "video-180p", versions[0]))[0] == data[0]
            for number, version in enumerate(versions[1:]):
                assert (await media.segment(FILM, "video-180p", number, None, version))[0] == data[number + 1]

    asyncio.run(later())


async def test_a_broken_film_does_not_cost_the_device(tools: Tools, tmp_path: Path) -> None:
    folder, tried = library(tmp_path, FILM), list[bool]()
    shutil.copy(folder / FILM, folder / OTHER)
    is_broken = True

    async def encode(_tools: Tools, rendition: EncodedRendition, *_: object) -> bytes:
        tried.append(bool(rendition.encoder.nodes))
        if is_broken:
            raise MalformedError("no such picture")
        return bytes(8)

    async with encoding(folder, tools, encode=encode) as media:
        media.picture_encoder = replace(HARDWARE[0], nodes=("/nowhere",))
        renditions = EncodedRenditions("all", tools.version, profile="vaapi")
        titles = Titles(Library(folder), encoded=renditions.tracks)
        for name, number in ((FILM, 0), (FILM, 1), (FILM, 2), (OTHER, 0), (OTHER, 2)):
            is_broken = name == FILM
            index = (await asyncio.to_thread(titles.files.find, name)).index
            wanted = media.segment(name, "video-180p", number, None, index.encoded[0].version.name)
            with pytest.raises(MalformedError) if is_broken else contextlib.nullcontext():
                await wanted
        assert tried[:10] == [*[True, False, False] * 3, True]


async def never(*_: object) -> bytes:
    raise AssertionError("nothing must be encoded")
