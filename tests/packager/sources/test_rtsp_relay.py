"""Where a source of RTSP leads: to where its URL may, whatever its server answers (CVE-2026-107698)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import re
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from media.rtsp import messages
from media.rtsp.messages import RtspMessage, RtspReader
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from packager.sources.pullers.address_guard import AddressScope, address_scope
from packager.sources.pullers.rtsp_relay import RtspRelay
from packager.sources.pullers.rtsp_srt_puller import with_resolved_host
from tests.live_server import running
from tests.packager.sources.guarded_hosts import outside
from tests.waiting import until

LONGEST_SECONDS = 120

SDP = b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
SDP += b"m=audio 0 RTP/AVP 0\r\na=control:one\r\n"
"""RFC 3551 §6: payload type 0 is G.711."""

SILENCE = b"\xff" * 160

Answer = Callable[[RtspMessage, str], RtspMessage | None]
"""What a server answers to a request, and to whom; None: what a server does that works."""


def response(status: int, *fields: tuple[str, str], body: bytes = b"") -> RtspMessage:
    length = (("Content-Length", str(len(body))),) if body else ()
    return RtspMessage(("RTSP/1.0", str(status), "-"), (*fields, *length), body)


@dataclass
class RtspServer:
    """A server of one endless stream of silence.

    Attributes:
        url: of it.
        server_port: what it tells of its ports of UDP.
        asked: the requests that came, with the number of their connection.
        connections: how many came.
    """

    host: str
    answer: Answer
    tcp: bool = True
    url: str = ""
    server_port: str = "9-10"
    asked: list[tuple[int, RtspMessage]] = field(default_factory=list)
    connections: int = 0
    sent_to: list[tuple[str, int]] = field(default_factory=list)
    reports: int = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[RtspServer]:
        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[None]] = []

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                tasks.append(group.create_task(self._serve(reader, writer)))
                tasks[-1].add_done_callback(lambda _: writer.transport.abort())

            server = await asyncio.start_server(accept, self.host, 0)
            self.url = f"rtsp://{self.host}:{server.sockets[0].getsockname()[1]}/live"
            try:
                yield self
            finally:
                server.close()
                for task in tasks:
                    task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number, taking, sending = self.connections, RtspReader(), list[asyncio.Task[None]]()
        with contextlib.suppress(ConnectionError):
            try:
                while data := await reader.read(65536):
                    for item in taking.receive_data(data):
                        if not isinstance(item, RtspMessage):
                            self.reports += len(messages.frames(item))
                            continue
                        self.asked.append((number, item))
                        told = self.answer(item, self.url) or self._works(item, writer, sending)
                        writer.write(told.with_field("CSeq", item.get("cseq")).encode())
            finally:
                for task in sending:
                    task.cancel()
                await asyncio.gather(*sending, return_exceptions=True)

    def _works(
        self, message: RtspMessage, writer: asyncio.StreamWriter, sending: list[asyncio.Task[None]]
    ) -> RtspMessage:
        wanted = message.get("transport")
        match message.first[0]:
            case "OPTIONS":
                return response(200, ("Public", "DESCRIBE, SETUP, PLAY, TEARDOWN"))
            case "DESCRIBE":
                return response(200, ("Content-Type", "application/sdp"), body=SDP)
            case "SETUP" if ("interleaved" in wanted) != self.tcp:
                return response(461)
            case "SETUP" if not self.tcp:
                first, _ = messages.numbers(messages.transport(wanted)["client_port"]) or (0, 0)
                self.sent_to.append((writer.get_extra_info("peername")[0], first))
                # The source isn't where the connection leads: nothing is to be sent there.
                ports = f"client_port={first}-{first + 1};server_port={self.server_port}"
                answer = f"RTP/AVP;unicast;{ports};source=192.0.2.1"
                return response(200, ("Session", "1"), ("Transport", answer))
            case "SETUP":
                return response(200, ("Session", "1"), ("Transport", wanted))
            case "PLAY":
                sending.append(asyncio.ensure_future(self._send(writer)))
        return response(200, ("Session", "1"))

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media:
            media.bind((self.host, 0))
            for number in range(100_000):
                head = bytes((0x80, 0)) + (number & 0xFFFF).to_bytes(2, "big")
                packet = head + (160 * number).to_bytes(4, "big") + b"ssrc" + SILENCE
                if self.tcp:
                    writer.write(messages.frame(0, packet))
                    await writer.drain()
                for place in self.sent_to:
                    media.sendto(packet, place)
                await asyncio.sleep(0.005)


def works(_: RtspMessage, __: str) -> RtspMessage | None:
    return None


def leading(to: str, *methods: str) -> Answer:
    """Redirect requests of these methods."""
    return lambda message, _: response(302, ("Location", to)) if message.first[0] in methods else None


async def played(tools: Tools, relay: RtspRelay, seconds: float = 0.5) -> int:
    """Have a real ffmpeg fetch some seconds by a relay; give its exit status."""
    async with relay.running() as url:
        words = f"-nostdin -v error -rtsp_transport tcp -timeout 60000000 -i {url} -t {seconds} -f null -"
        return await fetched(tools, words)


async def fetched(tools: Tools, words: str) -> int:
    process = await asyncio.create_subprocess_exec(str(tools.ffmpeg), *words.split())
    try:
        return await asyncio.wait_for(process.wait(), LONGEST_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("method", ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"])
async def test_no_redirect_leads_a_source_of_rtsp_from_the_network_into_this_machine(
    tools: Tools, method: str
) -> None:
    address = outside()
    assert address_scope(address) < AddressScope.LOCAL
    async with RtspServer("127.0.0.1", works).running() as canary:
        async with RtspServer(address, leading(canary.url, method)).running() as server:
            with capture_logs() as logs:
                async with running(Channel(ChannelOptions("a", server.url), tools)):
                    await until(lambda: [one for one in logs if one["event"] == "source isn't there"])
            assert server.connections
        (told,) = {str(one["reason"]) for one in logs if one["event"] == "source isn't there"}
        assert "private address" in told if method in ("OPTIONS", "DESCRIBE") else "isn't followed" in told
        assert canary.connections == 0
        # What ffmpeg does by itself, and did: it goes there.
        async with RtspServer(address, leading(canary.url, "OPTIONS", "DESCRIBE")).running() as server:
            await fetched(
                tools, f"-v quiet -protocol_whitelist rtsp,rtp,tcp,udp -i {server.url} -t 0.1 -f null -"
            )
        assert canary.connections > 0


@pytest.mark.parametrize("to", ["http", "rtsps", "file", "tcp"])
async def test_no_redirect_leads_to_another_protocol(tools: Tools, to: str) -> None:
    async with RtspServer("127.0.0.1", works).running() as canary:
        location = canary.url.replace("rtsp", to, 1)
        async with RtspServer("127.0.0.1", leading(location, "DESCRIBE")).running() as server:
            relay = RtspRelay(server.url)
            assert await played(tools, relay) != 0
        assert relay.trouble == "it redirects to another protocol"
        assert canary.connections == 0


@pytest.mark.parametrize("location", ["rtsp://[", "//[", "rtsp://127.0.0.1:99999/", "rtsp://xn--\\ /", ""])
async def test_a_redirect_to_no_address_is_answered_and_told(tools: Tools, location: str) -> None:
    async with RtspServer("127.0.0.1", leading(location, "DESCRIBE")).running() as server:
        relay = RtspRelay(server.url)
        async with relay.running() as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
            writer.write(f"DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
            async with asyncio.timeout(LONGEST_SECONDS):
                assert (await reader.read()).startswith(b"RTSP/1.0 502 ")
            writer.close()
    assert relay.trouble.startswith("it redirects ")


async def test_a_redirect_to_where_the_source_may_lead_is_followed_and_the_password_stays_behind(
    tools: Tools,
) -> None:
    async with RtspServer("127.0.0.1", works).running() as other:
        async with RtspServer("127.0.0.1", leading(other.url, "DESCRIBE")).running() as server:
            assert await played(tools, RtspRelay(server.url.replace("//", "//user:secret@"))) == 0
            assert all(message.first[1].startswith(server.url) for _, message in server.asked)
        described = [message for _, message in other.asked if message.first[0] == "DESCRIBE"]
        assert [message.first[1] for message in described] == [other.url]
        assert not [message for _, message in other.asked if message.get("authorization")]


async def test_redirects_without_end_end(tools: Tools) -> None:
    def again(_: RtspMessage, url: str) -> RtspMessage | None:
        return response(301, ("Location", url))

    async with RtspServer("127.0.0.1", again).running() as server:
        relay = RtspRelay(server.url)
        assert await played(tools, relay) != 0
        assert relay.trouble == "it redirects where that isn't followed"
        assert 1 < server.connections < 20


async def test_a_server_sees_its_own_url_and_a_digest_made_for_it(tools: Tools) -> None:
    def proven(message: RtspMessage, _: str) -> RtspMessage | None:
        told = dict(re.findall(r'(\w+)="([^"]*)"', message.get("authorization")))
        secret = hashlib.md5(b"user:cam:pass word").hexdigest()
        asked = hashlib.md5(f"{message.first[0]}:{message.first[1]}".encode()).hexdigest()
        expected = hashlib.md5(f"{secret}:abc:{asked}".encode()).hexdigest()
        if message.first[0] == "OPTIONS" or (told.get("response"), told.get("uri")) == (
            expected,
            message.first[1],
        ):
            return None
        return response(401, ("WWW-Authenticate", 'Digest realm="cam", nonce="abc"'))

    async with RtspServer("127.0.0.1", proven).running() as server:
        url = server.url.replace("//", "//user:pass%20word@") + "?channel=1&tcp"
        assert await played(tools, RtspRelay(url)) == 0
        assert await played(tools, RtspRelay(url.replace("word", "wrong"))) != 0
        uris = {message.first[1] for _, message in server.asked}
    assert all(uri.startswith(f"{server.url}?channel=1") for uri in uris)
    assert not [uri for uri in uris if "tcp" in uri or "user" in uri]


@pytest.mark.parametrize("server_port", ["9-10", "99998-99999"])
async def test_media_that_come_in_udp_alone_reach_an_ffmpeg_that_has_only_tcp(
    tools: Tools, server_port: str
) -> None:
    async with RtspServer("127.0.0.1", works, tcp=False, server_port=server_port).running() as server:
        assert await played(tools, RtspRelay(server.url)) == 0
        ports = [port for _, port in server.sent_to]
    assert ports
    assert [port % 2 for port in ports] == [0] * len(ports)


async def test_nobody_else_on_this_machine_uses_the_way_that_is_open_for_ffmpeg() -> None:
    async with RtspServer("127.0.0.1", works).running() as server:
        relay = RtspRelay(server.url)
        async with relay.running() as url:
            place = re.search(r"127\.0\.0\.1:(\d+)", url)
            assert place is not None
            for line in (f"DESCRIBE {server.url} RTSP/1.0", "DESCRIBE * RTSP/1.0", "GET / HTTP/1.1"):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(place[1]))
                writer.write(f"{line}\r\nCSeq: 1\r\n\r\n".encode())
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), LONGEST_SECONDS) == b""
                writer.close()
        assert server.asked == []


async def test_a_relay_that_ends_leaves_no_connection(tools: Tools) -> None:
    async with RtspServer("127.0.0.1", works).running() as server:
        relay = RtspRelay(server.url)
        async with relay.running() as url:
            playing = asyncio.ensure_future(fetched(tools, f"-v quiet -i {url} -f null -"))
            await until(functools.partial(lambda: "PLAY" in {one.first[0] for _, one in server.asked}))
        assert not relay._connections
        assert await playing is not None


async def test_the_program_that_fetches_srt_is_told_an_address_and_no_name() -> None:
    assert (await with_resolved_host("srt://localhost:9000?latency=50")).startswith(
        ("srt://127.0.0.1:9000", "srt://[::1]:9000")
    )
    assert (
        await with_resolved_host("srt://127.0.0.1:9000?streamid=a@b") == "srt://127.0.0.1:9000?streamid=a@b"
    )
    assert await with_resolved_host("srt://[::1]:9000") == "srt://[::1]:9000"
    with pytest.raises(OSError):
        await with_resolved_host("srt://no-such-host.invalid:9000")
