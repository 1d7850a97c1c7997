"""A peer for RTMP publishers: records what real ones send, and writes what hostile ones would."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from media.errors import MediaError
from media.flv.amf0 import Value, write_values
from media.rtmp import chunks
from media.rtmp.chunks import Message, RtmpConnectionLimits, write_message
from media.rtmp.connection import ConnectRequest, Event, PublisherConnection, PublishRequest
from media.rtmp.handshake import RANDOM_BYTES

LIMITS = RtmpConnectionLimits()
HANDSHAKE = b"\3" + bytes(1536) + bytes(1536)
"""C0, C1 and C2 of a plain handshake."""


def connection(limits: RtmpConnectionLimits = LIMITS, *, joins_frames: bool = False) -> PublisherConnection:
    return PublisherConnection(limits, bytes(RANDOM_BYTES), joins_frames=joins_frames)


def read(
    pieces: Iterable[bytes], limits: RtmpConnectionLimits = LIMITS, *, joins_frames: bool = False
) -> tuple[list[Event], bytes, str]:
    """Give the events of a connection on which everything is accepted, what it is sent, and its error."""
    one = connection(limits, joins_frames=joins_frames)
    events, sent, error = list[Event](), b"", ""
    try:
        for piece in pieces:
            one.receive_data(piece)
            events += accepted(one)
            sent += one.data_to_send()
    except MediaError as broken:
        error = f"{type(broken).__name__}: {broken}"
    events += one.receive_eof()
    return events, sent, error


def accepted(one: PublisherConnection) -> Iterator[Event]:
    """Yield events, and accept all requests."""
    while True:
        for event in one.events():
            yield event
            if isinstance(event, ConnectRequest):
                one.accept_connect()
            elif isinstance(event, PublishRequest):
                one.accept_publish()
            else:
                continue
            break
        else:
            return


def command(*values: Value, stream: int = 0) -> bytes:
    return write_message(3, Message(chunks.COMMAND, stream, 0, write_values(values)), 128)


def publishing(name: str = "demo", app: str = "live", url: str = "rtmp://host/live") -> bytes:
    """Write what comes before the media, as librtmp does it."""
    return (
        HANDSHAKE
        + command("connect", 1, {"app": app, "type": "nonprivate", "tcUrl": url})
        + command("releaseStream", 2, None, name)
        + command("FCPublish", 3, None, name)
        + command("createStream", 4, None)
        + command("publish", 5, None, name, "live", stream=1)
    )


@dataclass
class Recording:
    """What a publisher sent.

    Attributes:
        data: its bytes.
        events: what they said.
        status: the publisher's own.
        output: what it printed.
    """

    data: bytearray = field(default_factory=bytearray)
    events: list[Event] = field(default_factory=list)
    status: int = -1
    output: str = ""


def record(arguments: Sequence[str], seconds: float = 60) -> Recording:
    """Run a publisher until it ends; ``{url}`` in its arguments is where it publishes to."""
    found = Recording()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(seconds)
        url = f"rtmp://127.0.0.1:{listener.getsockname()[1]}/live"
        thread = threading.Thread(target=_serve, args=(listener, found), daemon=True)
        thread.start()
        done = subprocess.run(
            [one.format(url=url) for one in arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
        )
        thread.join(seconds)
    found.status, found.output = done.returncode, done.stdout.decode(errors="replace")
    return found


def _serve(listener: socket.socket, found: Recording) -> None:
    with contextlib.suppress(OSError, MediaError), listener.accept()[0] as peer:
        one = connection()
        while data := peer.recv(65536):
            found.data += data
            one.receive_data(data)
            found.events += accepted(one)
            peer.sendall(one.data_to_send())
        found.events += one.receive_eof()
