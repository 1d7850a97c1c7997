"""Sources of MPEG-TS over UDP, received here and piped into ffmpeg.

So changes of codec, size or clock are seen, and nothing is lost while ffmpeg restarts. As UDP has no end of
stream, a source that is silent for long counts as gone, and later data as another stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import struct
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import structlog

from media.errors import MediaError
from media.ts.stream_reader import TransportReader
from packager.concurrency import receive_within
from packager.process.process import readable
from packager.reader_guard import ReaderGuard
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.pump import Pump
from packager.sources.retries import SourceRetries
from packager.step_budget import StepBudget

MAX_DATAGRAM = 65_535
"""Most that is taken from the system at once."""

SO_MEMINFO, MEMINFO_BYTES = 55, 36
"""Linux, sock_diag(7): nine counters of a socket; the last one is of datagrams that found no room."""

log = structlog.get_logger()

SocketAddress = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
"""An address in the form of the ``socket`` module."""


@dataclass(frozen=True, slots=True)
class UdpAddress:
    """A parsed URL: ``udp://GROUP:PORT?localaddr=INTERFACE&sources=SENDER,SENDER``, or ``udp://HOST:PORT``.

    Attributes:
        host: a multicast group, a local address, or the only accepted sender's address.
        interface: the network interface that joins the group, of IPv4 by its address, of IPv6 by its name;
            empty: the system chooses.
        senders: whose datagrams alone are taken; empty: everybody's.
    """

    host: str
    port: int
    interface: str = ""
    senders: frozenset[str] = frozenset()


def parse_address(url: str) -> UdpAddress:
    """Read a URL of UDP.

    Raises:
        OSError: it says no port, or none that there is.
    """
    parts = urlsplit(url)
    told = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    try:
        port = parts.port
    except ValueError:
        port = None
    if not port or not parts.hostname:
        raise OSError(errno.EINVAL, "its URL says no port")
    senders = frozenset(map(_canonical, filter(None, told.get("sources", "").split(","))))
    # RFC 6874 §2: of a zone, as in fe80::1%eth0, the percent sign is escaped; ffmpeg's users don't.
    return UdpAddress(parts.hostname.replace("%25", "%", 1), port, told.get("localaddr", ""), senders)


def _canonical(host: str) -> str:
    """Return an address in its canonical form (RFC 5952)."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


class UdpReceiver:
    """A bound socket; ``close`` ends it.

    Args:
        senders: as of ``UdpAddress``.
        limits: how much of what is there is taken at once.
    """

    def __init__(self, bound: socket.socket, senders: frozenset[str], limits: SourceLimits) -> None:
        self._socket = bound
        self._limits = limits
        self._senders = senders

    @classmethod
    async def open(cls, address: UdpAddress, limits: SourceLimits = DEFAULT_LIMITS) -> UdpReceiver:
        """Bind a socket, and join the group where the address is one.

        Args:
            limits: how much the system may hold, which grants no more than its own limit, and how much is
                taken at once.

        Raises:
            OSError: it can't be done.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, place = found[0]
        bound = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.receive_bytes)
            senders = address.senders
            if ipaddress.ip_address(str(place[0])).is_multicast:
                # Other programs of this machine may receive the group, too.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                place = _zoned(place, address.interface)
                bound.bind(place)
                _join(bound, place, address.interface)
            else:
                senders |= _bind(bound, place)
        except BaseException:
            bound.close()
            raise
        return cls(bound, senders, limits)

    @property
    def dropped(self) -> int:
        """How many datagrams the system dropped since they weren't taken in time; 0 where it doesn't tell."""
        try:
            told = self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO_BYTES)
        except OSError:
            return 0
        return int(struct.unpack("=9I", told)[-1]) if len(told) == MEMINFO_BYTES else 0

    async def read(self) -> bytes:
        """Wait for datagrams; give the contents of those that are there, in order, as far as may be at once.

        Raises:
            OSError: the socket is broken.
        """
        found = bytearray()
        while not found:
            await readable(self._socket.fileno())
            # Empty ones, and those of others, add nothing, and may come as fast as they are taken.
            for _ in range(self._limits.gathered_datagrams):
                if len(found) >= self._limits.gathered_bytes:
                    break
                try:
                    data, sender = self._socket.recvfrom(MAX_DATAGRAM)
                except BlockingIOError:
                    break
                if not self._senders or sender[0] in self._senders:
                    found += data
        return bytes(found)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _bind(bound: socket.socket, place: SocketAddress) -> frozenset[str]:
    """Bind to a local address; a remote one becomes the only accepted sender, which is returned."""
    try:
        bound.bind(place)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        bound.bind(("", place[1]))
        return frozenset((str(place[0]),))
    return frozenset()


def _zoned(place: SocketAddress, interface: str) -> SocketAddress:
    """Add the interface to an IPv6 address, as link-local groups need a zone."""
    if len(place) == 4 and interface:
        return (*place[:3], socket.if_nametoindex(interface))
    return place


def _join(bound: socket.socket, place: SocketAddress, interface: str) -> None:
    group = socket.inet_pton(bound.family, str(place[0]))
    if len(place) == 4:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack("=I", place[3]))
        return
    chosen = socket.inet_aton(interface) if interface else bytes(4)
    bound.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + chosen)


@dataclass(frozen=True, slots=True)
class PacketLosses:
    """Losses of a UDP source since the start.

    Attributes:
        packets: lost MPEG-TS packets, by their continuity counters.
        datagrams: datagrams that the system dropped for a full receive buffer.
    """

    packets: int = 0
    datagrams: int = 0


class UdpPuller:
    """Receives the MPEG-TS of one UDP URL, and hands it to a pump.

    Args:
        url: ``udp://…``.
        channel: its name, for the log.
        limits: how long nothing may come, and how much the system may hold until it is taken.
    """

    def __init__(
        self,
        url: str,
        channel: str,
        limits: SourceLimits = DEFAULT_LIMITS,
    ) -> None:
        self._url = url
        self._channel = channel
        self._limits = limits
        self._retries = SourceRetries(channel, limits.retry)
        self._past = self._logged = PacketLosses()
        self._logged_at = 0.0
        self._reader = TransportReader(limits.transport_reader)
        self._receiver: UdpReceiver | None = None
        self.pump = Pump("mpegts", self._reader, limits=limits, channel=channel)

    async def wait_until_detected(self) -> Pump:
        """Return the pump at once: the stream is always MPEG-TS."""
        return self.pump

    @property
    def trouble(self) -> str:
        """Why nothing is received; empty while something is."""
        return self._retries.trouble

    @property
    def losses(self) -> PacketLosses:
        """Losses so far."""
        dropped = 0 if self._receiver is None else self._receiver.dropped
        return PacketLosses(self._past.packets + self._reader.lost, self._past.datagrams + dropped)

    async def run(self) -> None:
        """Receive until cancelled."""
        while True:
            try:
                address = parse_address(self._url)
                self._receiver = await UdpReceiver.open(address, self._limits)
                with contextlib.closing(self._receiver):
                    try:
                        with ReaderGuard("UDP"):
                            await self._read_packets(self._receiver)
                    finally:
                        self._close_receiver()
            except OSError as error:
                reason = error.strerror or type(error).__name__
            except MediaError as error:
                reason = str(error)
            self.pump.receive_eof()
            await asyncio.sleep(self._retries.stream_ended(reason))

    def _close_receiver(self) -> None:
        """Add the closed socket's losses to the earlier ones."""
        self._past = self.losses
        self._receiver, self._reader = None, TransportReader(self._limits.transport_reader)

    async def _read_packets(self, receiver: UdpReceiver) -> None:
        loop, budget = asyncio.get_running_loop(), StepBudget()
        flows: bool | None = None
        while True:
            try:
                data = await receive_within(receiver.read, self._limits.silent_datagram_seconds)
            except TimeoutError:
                if flows is not False:
                    self.pump.receive_eof()
                    self._retries.stream_ended("nothing comes")
                flows = False
                continue
            if not flows:
                self._begin()
                flows = True
            async for portion in budget.portions(data):
                await self.pump.push(self._reader.receive_data(portion))
            self._log_losses(loop.time())
            await asyncio.sleep(self._limits.gather_seconds)

    def _begin(self) -> None:
        """Begin another stream."""
        self._past = PacketLosses(self._past.packets + self._reader.lost, self._past.datagrams)
        self._reader = TransportReader(self._limits.transport_reader)
        self.pump.begin("mpegts", self._reader)
        self._retries.stream_began()

    def _log_losses(self, now: float) -> None:
        """Log losses, at most once in ``loss_log_seconds``."""
        if self._logged_at and now < self._logged_at + self._limits.loss_log_seconds:
            return
        losses = self.losses
        if losses != self._logged:
            log.warning(
                "packets of the source were lost",
                channel=self._channel,
                packets=losses.packets - self._logged.packets,
                datagrams_dropped=losses.datagrams - self._logged.datagrams,
            )
            self._logged, self._logged_at = losses, now
