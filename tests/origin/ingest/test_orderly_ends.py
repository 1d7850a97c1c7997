"""A stream that its publisher ends in order is no warning in the log, whatever brings and encodes it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.origin.ingest.studio import CHANNEL, KEY, LADDER, Studio, encoder_arguments, encoding, studio
from tests.ports import kept_port
from tests.srt import udp_port
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

LADDERS = {"copied": ("source",), "mixed": ("source", "240p"), "studio": ("240p",)}
"""The renditions of a channel, the first one first; the channel ``studio`` has the usual ladder."""


@dataclass(frozen=True)
class Hall:
    """A server with a channel of each kind of ladder, and where they are published to."""

    studio: Studio
    rtmp_port: int
    srt_port: int

    def target(self, protocol: str, channel: str) -> list[str]:
        """Return ffmpeg's arguments from the container on."""
        ingest = f"{self.studio.server.url}/live/{channel}/ingest"
        signed = ingest.replace("//", f"//encoder:{KEY}@")
        return {
            "rtmp": ["flv", f"rtmp://127.0.0.1:{self.rtmp_port}/live/{channel}?key={KEY}"],
            "srt": ["mpegts", f"srt://127.0.0.1:{self.srt_port}?streamid=publish:{channel}:{KEY}"],
            "ts": ["mpegts", "-method", "PUT", signed],
            "mkv": ["matroska", "-method", "PUT", signed],
            "flv": ["flv", "-method", "PUT", signed],
            "mp4": ["mp4", "-movflags", "+frag_keyframe+empty_moov", "-method", "PUT", signed],
            "dash": ["dash", "-seg_duration", "1", "-method", "PUT", f"{signed}/manifest.mpd"],
        }[protocol]

    def warnings(self) -> list[str]:
        """Return the log's lines about channels and stations that ask somebody to look."""
        lines = self.studio.server.text().splitlines()
        told = ("[warning", "[error", "Traceback")
        return [line for line in lines if any(one in line for one in told) and "running as root" not in line]


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    folder = tmp_path_factory.mktemp("orderly")
    more = '[[radio]]\nname = "morning.mp3"\nsource = "publish"\nsource_password = "sesame"\n'
    for name in ("copied", "mixed"):
        ladder = ", ".join(f'"{one}"' for one in LADDERS[name])
        channel = CHANNEL.replace(LADDER, f"ladder = [{ladder}]\n")
        more += f'[[live]]\nname = "{name}"\npublish_key = "{KEY}"\n{channel}'
    with kept_port() as rtmp_port:
        srt_port = udp_port()
        head = f"[server]\nrtmp_port = {rtmp_port}\nsrt_port = {srt_port}\n"
        with studio(folder, more, head) as one:
            yield Hall(one, rtmp_port, srt_port)


@pytest.mark.parametrize("protocol", ["rtmp", "srt", "ts", "mkv", "flv", "mp4", "dash"])
@pytest.mark.parametrize("channel", list(LADDERS))
def test_the_end_of_a_stream_is_no_warning(hall: Hall, channel: str, protocol: str) -> None:
    rendition, before = LADDERS[channel][0], hall.warnings()
    text = hall.studio.server.text
    restarts = hall.studio.channel(channel)["restarts"]
    ended, left = text().count("source ended"), text().count("publisher has gone")
    known = hall.studio.media_playlist(channel, rendition) if f"channel={channel} " in text() else ""
    words = encoder_arguments(container="").split()[:-1]
    with encoding(*words, "-f", *hall.target(protocol, channel)) as encoder:
        hall.studio.wait_for_timeline(known, rendition, channel)
        # ffmpeg writes the container's end, and closes the connection as the protocol has it.
        encoder.send_signal(signal.SIGINT)
        encoder.wait(60)
        wait_for(lambda: text().count("publisher has gone") > left, "the publisher's end")
        wait_for(lambda: text().count("source ended") > ended, "the run's end")
    assert hall.studio.channel(channel)["restarts"] == restarts
    assert hall.warnings() == before


def test_the_end_of_a_source_of_a_station_is_no_warning(hall: Hall) -> None:
    before, text = hall.warnings(), hall.studio.server.text
    host = hall.studio.server.url.removeprefix("http://")
    target = f"icecast://source:sesame@{host}/radio/morning.mp3"
    words = f"-nostdin -v error -re -f lavfi -i sine -c:a libmp3lame -content_type audio/mpeg -f mp3 {target}"
    with encoding(*words.split()) as encoder:
        wait_for(lambda: "source connected" in text(), "the source")
        encoder.send_signal(signal.SIGINT)
        encoder.wait(60)
        wait_for(lambda: "source gone" in text(), "its end")
    assert hall.warnings() == before
