"""MPEG-TS in UDP: changes of its picture, silence and loss, in datagrams of one and of many receivers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.live.limits import LiveLimits
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from packager.sources.limits import SourceLimits
from packager.sources.pullers.udp import UdpAddress, UdpPuller, UdpReceiver, parse_address
from tests.live_server import running
from tests.packager.sources.picture_widths import width_of
from tests.packager.sources.protocol_servers import child, free_port
from tests.packager.sources.udp_positions import behind
from tests.waiting import until

PACKET, IN_A_DATAGRAM = 188, 7
FEW = 100
"""Datagrams for which there is room in a socket, so that none is lost however late they are taken."""

BRIEF, LONG = 4.0, 600.0
"""Seconds of silence: a machine that stands still makes others than the source's, too."""

OPTIONS = ChannelOptions("pulled", ladder=("240p",), part_duration=0.25, segment_duration=1.0)
HEVC = "libx265 -preset ultrafast -x265-params log-level=none:keyint=25:bframes=0"


def sender(
    url: str, size: str = "320x240", coder: str = "libx264 -preset ultrafast -tune zerolatency"
) -> list[str]:
    words = f"-nostdin -v quiet -re -f lavfi -i testsrc2=size={size}:rate=25 -re -f lavfi -i sine"
    words += f" -c:v {coder} -g 25 -pix_fmt yuv420p -c:a aac -f mpegts {url}"
    return ["ffmpeg", *words.split()]


def counted(logs: Sequence[object], number: int) -> bool:
    return len(logs) >= number


def udp_port() -> int:
    return free_port(socket.SOCK_DGRAM)


async def test_another_codec_and_size_in_datagrams_are_a_discontinuity_with_an_init_segment_of_its_own(
    tools: Tools,
) -> None:
    limits = LiveLimits(source=SourceLimits(seen_seconds=2))
    # A group: one sender and many receivers.
    url = f"udp://239.255.77.1:{udp_port()}?localaddr=127.0.0.1"
    channel = Channel(replace(OPTIONS, source=url, ladder=("source", "240p"), limits=limits), tools)
    async with running(channel):
        with child(sender(f"{url}&pkt_size=1316")):
            await until(lambda: channel.ready)
        kept, encoded = (channel.renditions[name].window for name in ("source", "240p"))
        assert {width_of(one) for one in kept.listed if one.data} == {320}
        with child(sender(f"{url}&pkt_size=1316", "160x120", HEVC)):
            await until(lambda: all(len(behind(window, kept)) >= 2 for window in (kept, encoded)))
    # A sender that is late in coming has left no segment of the one before listed.
    widths = [320, *(width_of(one) for one in kept.listed if one.data)]
    assert [width for width, _ in itertools.groupby(widths)] == [320, 160]
    for name, window in (("source", kept), ("240p", encoded)):
        # There are others behind it where datagrams were lost, or came late.
        changed = behind(window, kept)[0]
        assert changed.discontinuity
        assert changed.parts[0].independent
        # RFC 8216bis §4.4.4.3: the discontinuity, and a map of its own for what is behind it
        lines = f'#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI="init-{changed.number}.mp4"\n'
        assert lines in channel.presentation.media(name).decode()
        assert changed.timeline is not None
        # ISO/IEC 14496-15 §8.4.1
        assert (b"hvc1" in changed.timeline.init) == (window is kept)


@pytest.fixture(scope="module")
def film(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("film") / "film.ts"
    words = [word for word in sender(str(path)) if word != "-re"]
    subprocess.run([*words[:-1], "-t", "2", str(path)], check=True)
    return path.read_bytes()


def datagrams(film: bytes) -> list[bytes]:
    size = PACKET * IN_A_DATAGRAM
    return [film[start : start + size] for start in range(0, len(film), size)]


async def test_silence_is_told_once_and_what_comes_behind_it_is_another_stream(
    film: bytes,
) -> None:
    port = udp_port()
    puller = UdpPuller(f"udp://127.0.0.1:{port}", "silent", SourceLimits(silent_datagram_seconds=BRIEF))
    with capture_logs() as logs, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        pulling = asyncio.create_task(puller.run())
        await until(lambda: logs)
        signatures = []
        *sent, last = datagrams(film)[:FEW]
        for _ in range(2):
            flowing = asyncio.create_task(puller.pump.wait_until_flowing())
            await asyncio.sleep(0)  # it waits for what comes from now on
            for data in sent:
                out.sendto(data, ("127.0.0.1", port))
                await asyncio.sleep(0)
            await flowing
            signatures.append(puller.pump.stream)
            # The silence counts from the last one on.
            out.sendto(last, ("127.0.0.1", port))
            told = len(signatures) * 2 + 1
            await until(functools.partial(counted, logs, told))
        pulling.cancel()
        await asyncio.wait([pulling])
    assert [line["event"] for line in logs] == [
        "source isn't there",
        *2 * ["source is there", "source isn't there"],
    ]
    assert {line.get("reason", "nothing comes") for line in logs} == {"nothing comes"}
    assert signatures[0] == signatures[1]


async def test_packets_that_are_lost_are_counted_those_that_find_no_room_too(
    film: bytes,
) -> None:
    # Behind a silence comes another stream, of which nothing is known to be missing.
    limits = SourceLimits(silent_datagram_seconds=LONG, receive_bytes=1 << 16)
    port = udp_port()
    puller = UdpPuller(f"udp://127.0.0.1:{port}", "lossy", limits)
    with capture_logs() as logs, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        pulling = asyncio.create_task(puller.run())
        await until(lambda: puller.losses.datagrams == 0 and puller._receiver)
        sent = datagrams(film)
        for data in sent[:20]:
            out.sendto(data, ("127.0.0.1", port))
            await asyncio.sleep(0.001)
        # At once, and there is room for as many: what is told first is all that is lost.
        for data in sent[21:40]:
            out.sendto(data, ("127.0.0.1", port))
        # All of a datagram's packets with a payload count.
        lost = sum(bool(sent[20][start + 3] & 0x10) for start in range(0, len(sent[20]), PACKET))
        await until(lambda: puller.losses.packets == lost)
        assert puller.losses.datagrams == 0
        async with asyncio.timeout(120):
            while not puller.losses.datagrams:
                for data in sent[40:] * 4:
                    out.sendto(data, ("127.0.0.1", port))  # faster than anybody takes it
                await asyncio.sleep(0.01)
        pulling.cancel()
        await asyncio.wait([pulling])
    (told,) = [line for line in logs if line["event"] == "packets of the source were lost"]
    assert told["packets"] == lost


def test_a_url_says_where_datagrams_come_from() -> None:
    told = parse_address("udp://@239.1.2.3:1234?localaddr=10.0.0.1&sources=10.0.0.2,10.0.0.3&pkt_size=1316")
    assert told == UdpAddress("239.1.2.3", 1234, "10.0.0.1", frozenset(("10.0.0.2", "10.0.0.3")))
    for url in ("udp://127.0.0.1", "udp://127.0.0.1:99999"):
        with pytest.raises(OSError, match="port"):
            parse_address(url)


async def flows(url: str, out: socket.socket, place: tuple[str, int, int, int], film: bytes) -> bool:
    """Send a film, and tell whether a puller of the URL gets what ffmpeg can begin with."""
    puller = UdpPuller(url, "six")
    async with background_task(puller.run()):
        await until(lambda: puller._receiver)
        flowing = asyncio.create_task(puller.pump.wait_until_flowing())
        async with asyncio.timeout(120):
            # As a sender does that goes on: a busy machine loses datagrams before they are anybody's.
            while not flowing.done():
                for data in datagrams(film)[:FEW]:
                    out.sendto(data, place)
                    await asyncio.sleep(0)
                await asyncio.wait([flowing], timeout=5)
    return bool(puller.pump.stream) and puller.losses.packets == 0


@pytest.fixture
def six() -> Iterator[socket.socket]:
    """A socket whose datagrams don't leave this machine, not even to a group."""
    with contextlib.ExitStack() as stack:
        try:
            out = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 0)
            out.sendto(b"", ("::1", udp_port(), 0, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        yield out


async def test_ipv6_is_received_however_its_addresses_are_written(film: bytes, six: socket.socket) -> None:
    port = udp_port()
    for url in (f"udp://[::1]:{port}?sources=0:0::0:1", f"udp://@[0:0:0:0:0:0:0:1]:{port}"):
        assert await flows(url, six, ("::1", port, 0, 0), film)


async def test_a_group_of_ipv6_is_joined_on_the_interface_that_is_named(
    film: bytes, six: socket.socket
) -> None:
    port, there = udp_port(), []
    for index, name in socket.if_nameindex():
        with contextlib.suppress(OSError):  # no route to groups, as of many a loopback
            six.sendto(b"", ("ff02::114", port, 0, index))
            there.append((index, name))
    if not there:
        pytest.skip("no interface here takes groups of IPv6")
    index, name = there[0]
    # RFC 6874 §2: the zone in the address, its percent sign escaped or, as many write it, not
    for url in (
        f"ff02::114]:{port}?localaddr={name}",
        f"ff02::114%25{name}]:{port}",
        f"ff02::114%{name}]:{port}",
    ):
        assert await flows(f"udp://[{url}", six, ("ff02::114", port, 0, index), film)


async def test_only_the_named_senders_are_heard() -> None:
    port = udp_port()
    receiver = await UdpReceiver.open(UdpAddress("127.0.0.1", port, senders=frozenset(("127.0.0.2",))))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        other.bind(("127.0.0.2", 0))
        one.sendto(b"one", ("127.0.0.1", port))
        other.sendto(b"other", ("127.0.0.1", port))
        async with asyncio.timeout(120):
            assert await receiver.read() == b"other"
    receiver.close()


@pytest.mark.parametrize("data", [b"one", b""], ids=["another sender's", "empty"])
async def test_datagrams_that_do_not_count_leave_others_their_turn(data: bytes) -> None:
    port, turns = udp_port(), 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    # From any sender, but empty; or from another one than is named.
    address = UdpAddress("127.0.0.1", port, senders=frozenset(("127.0.0.2",) if data else ()))
    receiver = await UdpReceiver.open(address, SourceLimits(gathered_datagrams=5))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        other.bind(("127.0.0.2", 0))
        for _ in range(FEW):
            one.sendto(data, ("127.0.0.1", port))
        other.sendto(b"other", ("127.0.0.1", port))
        async with background_task(count()), asyncio.timeout(120):
            assert await receiver.read() == b"other"
    receiver.close()
    assert turns > FEW / 5
