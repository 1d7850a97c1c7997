"""Faults of a stream that goes on: its publisher is sent them, where the protocol has a way."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from media.flv import tags as flv_tags
from media.flv.demuxer import NO_CONFIGURATION
from media.rtmp.chunks import Message, write_message
from tests.media.muxers.muxed_streams import tags_of
from tests.origin.ingest.studio import KEY, Studio, encoder_arguments, studio
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.rtmp import publishing
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Studio, int]]:
    folder = tmp_path_factory.mktemp("told")
    with kept_port() as port, studio(folder, "", f"[server]\nrtmp_port = {port}\n") as one:
        yield one, port


@pytest.fixture(scope="module")
def headerless(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[bytes]]:
    """A stream in FLV whose AAC comes without its sequence header: its head, and its tags."""
    made: Path = tmp_path_factory.mktemp("headerless") / "stream.flv"
    words = encoder_arguments("flv", more="-t 6").replace("-re ", "").split()
    subprocess.run(["ffmpeg", *words, str(made)], check=True)
    data = made.read_bytes()
    # The second byte of AAC's tags: 0 is the sequence header (Adobe's FLV 10.1, E.4.2.2).
    kept = [one for one in tags_of(data) if one[0] != flv_tags.AUDIO or one[12] != 0]
    return data[: flv_tags.FILE_HEADER], kept


def test_a_put_request_is_answered_with_the_faults_of_its_stream(
    hall: tuple[Studio, int], headerless: tuple[bytes, list[bytes]]
) -> None:
    one, _ = hall
    head, tags = headerless

    def body() -> Iterator[bytes]:
        yield head
        for begin in range(0, len(tags), 20):
            yield b"".join(tags[begin : begin + 20])
            time.sleep(0.1)

    answer = httpx.put(f"{one.address}?key={KEY}", content=body(), timeout=CLIENT_SECONDS)
    assert answer.status_code == 200
    assert NO_CONFIGURATION in answer.text.splitlines()
    one.wait_for_state("idle")


@pytest.mark.parametrize("has_picture", [True, False], ids=["with a picture", "sound alone"])
def test_an_rtmp_publisher_is_sent_a_warning_about_its_stream(
    hall: tuple[Studio, int], headerless: tuple[bytes, list[bytes]], has_picture: bool
) -> None:
    one, port = hall
    sent = b"".join(
        write_message(4, Message(tag[0], 1, int.from_bytes(tag[4:7], "big"), tag[11:-4]), 128)
        for tag in headerless[1]
        if tag[0] == flv_tags.AUDIO or (has_picture and tag[0] == flv_tags.VIDEO)
    )
    with socket.create_connection(("127.0.0.1", port), CLIENT_SECONDS) as client:
        client.sendall(publishing(f"studio?key={KEY}"))
        client.sendall(sent)
        client.settimeout(0.2)
        told = b""

        def is_told() -> bool:
            nonlocal told
            with contextlib.suppress(TimeoutError):
                told += client.recv(4096)
            return NO_CONFIGURATION.encode() in told

        wait_for(is_told, "the warning")
        # RTMP 1.0 §7.2.2: onStatus has a level, of which "error" alone ends the stream.
        assert b"warning" in told
        assert b"NetStream.Publish.Warning" in told
        assert one.channel()["publisher"]["last_error"] == NO_CONFIGURATION
    one.wait_for_state("idle")
