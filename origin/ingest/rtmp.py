"""Publishing to live channels over RTMP, all on one port: ``rtmp://HOST:PORT/live/CHANNEL?key=KEY``.

As OBS, ffmpeg, GStreamer, phones and hardware encoders send it; nobody can watch over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections import Counter
from typing import cast

import structlog

from media.errors import MalformedError, MediaError
from media.flv.demuxer import FlvDemuxer
from media.flv.tags import Tag
from media.muxers.matroska_muxer import check_track
from media.packets import Packet
from media.rtmp.chunks import Message
from media.rtmp.connection import (
    ConnectRequest,
    Event,
    PublisherConnection,
    PublishRequest,
)
from media.rtmp.handshake import RANDOM_BYTES
from origin.access.refusal_log import RefusalLog
from origin.http.channel_patterns import SEGMENT
from origin.http.client_limits import network_of
from origin.http1.shared_turns import turns_of
from origin.http1.transport import is_encrypted
from origin.ingest.admission import AGENT_CHARACTERS, IngestAdmission, RefusedError
from origin.ingest.limits import FRAGMENT_SECONDS, IngestLimits
from packager.concurrency import expire
from packager.reader_guard import ReaderGuard
from packager.sources.publication import Publication, PublicationEndedError, Publisher
from packager.step_budget import StepBudget

APP = "live"
APPS = re.compile(rf"{APP}(?:/{SEGMENT})?")
"""The application of all channels, as in the address."""

log = structlog.get_logger()


ADMISSION_SECONDS = 10.0
"""Longest time from a connection to its stream, without the time of delayed refusals."""

REST_SECONDS = 0.4
"""Longest pause between two reads of a publication whose next part can't be complete earlier."""

UNREAD_BYTES = 64 << 10
"""Bytes of messages that stay unread, about, while the publication needs none."""

PORTION_MESSAGES = 64
"""Most messages that are handled before other tasks of the loop run."""

PING_SHARE = 0.4
"""Share of the longest allowed silence after which a publisher is pinged."""

ANSWER_SHARE = 0.5
"""Share of the longest allowed silence within which a ping must be answered."""

FAREWELL_SECONDS = 0.5
"""Longest wait at the server's end for the farewells of all connections together."""


RTMP_PORTION_BYTES = 24 << 10
"""Bytes that are parsed at once: a chunk may have a single byte."""


class RtmpServer:
    """Accepts the connections of RTMP publishers; a service of the server, which listens for it."""

    name = "rtmp"

    def __init__(self, admission: IngestAdmission, limits: IngestLimits) -> None:
        self._admission = admission
        self._limits = limits
        self._refusals = RefusalLog("rtmp connection refused", limits.refusal_log)
        self._sessions = dict[asyncio.Task[None], _RtmpSession]()

    def protocol(self) -> asyncio.Protocol:
        """Make the protocol of an accepted connection."""
        reader = asyncio.StreamReader(self._limits.rtmp_read_bytes)
        return asyncio.StreamReaderProtocol(reader, self._accept)

    async def run(self) -> None:
        """Wait until cancelled, and then end all connections."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            tasks = list(self._sessions)
            if tasks:
                # Sessions send their publishers the reason.
                await asyncio.wait(tasks, timeout=FAREWELL_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Ask publishers to connect anew, as the server ends; their channels end their streams."""
        for session in self._sessions.values():
            session.ask_to_reconnect()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._sessions) >= self._limits.rtmp_connections and not self._make_room():
            writer.close()
            return
        session = _RtmpSession(self._admission, self._limits, self._refusals, reader, writer)
        task = asyncio.get_running_loop().create_task(self._run(session, writer))
        self._sessions[task] = session
        task.add_done_callback(self._sessions.pop)

    def _make_room(self) -> bool:
        """Drop the oldest connection that doesn't publish, of the network that has most of those.

        An encoder asks at once, and goes when refused; one that takes longer keeps its place among a flood.
        """
        some = {
            task: session.network
            for task, session in self._sessions.items()
            if session.is_dispensable and not task.cancelling()
        }
        if not some:
            return False
        ((crowd, _),) = Counter(some.values()).most_common(1)
        next(task for task, network in some.items() if network == crowd).cancel()
        return True

    async def _run(self, session: _RtmpSession, writer: asyncio.StreamWriter) -> None:
        try:
            await session.run()
        except OSError:
            pass  # the publisher has gone
        except Exception:  # one broken connection must not take the others with it
            log.exception("rtmp connection broke")
        finally:
            if writer.transport.get_write_buffer_size():
                # The publisher had its time to read: otherwise it would keep a descriptor that nobody counts.
                writer.transport.abort()
            writer.close()


class _RtmpSession:
    """An encoder's RTMP connection: lets its streams in, and carries what they bring to their channel.

    Args:
        refusals: where it is logged why it is refused.

    Attributes:
        network: from which the client comes.
        is_dispensable: whether it may be dropped for another one: it hasn't asked to publish, or was refused.
    """

    def __init__(
        self,
        admission: IngestAdmission,
        limits: IngestLimits,
        refusals: RefusalLog,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._admission = admission
        self._limits = limits
        self._refusals = refusals
        self._reader = reader
        self._writer = writer
        # asyncio says `WriteTransport`, as pipes have writers, too.
        self._transport = cast(asyncio.Transport, writer.transport)
        self._is_paused = False
        self._connection = PublisherConnection(limits.rtmp, os.urandom(RANDOM_BYTES), joins_frames=True)
        self._address = str((writer.get_extra_info("peername") or [""])[0])
        self.network = network_of(self._address)
        self._encoder = ""
        self._publication: Publication | None = None
        self._demuxer: FlvDemuxer | None = None
        self.is_dispensable = True
        self._progressed = 0.0
        self._deadline = asyncio.timeout(ADMISSION_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._budget = StepBudget(turns=turns_of(self._loop), host=self._address)
        # Packets that were read and aren't pushed yet.
        self._packets = list[Packet]()
        # How many of the publication's faults were sent.
        self._told_faults = 0

    async def run(self) -> None:
        """Carry one publisher's streams until it goes or is refused."""
        reason = ""
        try:
            async with self._deadline:
                with ReaderGuard("RTMP"):
                    await self._carry()
        except TimeoutError:
            silent = self._admission.limits.silent_seconds
            reason = f"nothing came for {silent:g} s" if self._publication else "it took too long to publish"
        except PublicationEndedError:
            pass
        except MediaError as error:
            reason = f"not a stream that can be published: {error}"
            self._refusals.write(self._address, reason=str(error))
        finally:
            publication, self._publication = self._publication, None
            if publication is not None:
                publication.end(reason)
                reason = publication.end_reason
            # The time-out refers to the task, and a cancelled task to this session: that would be a cycle.
            del self._deadline
        if reason:
            self._connection.end(reason)
        await self._say_goodbye()

    def ask_to_reconnect(self) -> None:
        """Ask the encoder to connect anew, if it knows how to."""
        if self._connection.request_reconnect("The server restarts.") and not self._transport.is_closing():
            self._writer.write(self._connection.data_to_send())

    async def _carry(self) -> None:
        """Read until the client's end or its refusal.

        Raises:
            TimeoutError: it is silent, or its publication was ended from this side.
            MediaError: it isn't RTMP, or no stream that can be published.
            PublicationEndedError: its publication was ended from this side.
        """
        while not self._connection.is_closed:
            data = await self._read()
            if not data:
                return
            self._budget.restart()
            async for portion in self._budget.portions(data, RTMP_PORTION_BYTES):
                self._connection.receive_data(portion)
                await self._on_events()
            await self._push_pending()
            await self._flush()
            self._check_progress()
            if self._publication is not None and len(data) < self._limits.rtmp_read_bytes:
                await self._gather(self._publication)

    async def _gather(self, publication: Publication) -> None:
        """Wait until several messages can be read at once."""
        # The channel consumes the packets now, and then knows when it needs more.
        await asyncio.sleep(0)
        limits, rest = self._limits, publication.rest(UNREAD_BYTES)
        seconds = limits.gather_seconds
        if rest is not None:
            seconds = max(limits.soonest_seconds, min(rest, REST_SECONDS))
        await asyncio.sleep(seconds)

    def _check_progress(self) -> None:
        """Check that messages are completed: single bytes of one now and then are no stream.

        Raises:
            MalformedError: one takes too long.
        """
        now, longest = self._loop.time(), FRAGMENT_SECONDS
        if self._publication is None or not self._connection.is_within_message:
            self._progressed = now
        elif now - self._progressed > longest:
            raise MalformedError(f"no whole message came for {longest:g} s")

    async def _read(self) -> bytes:
        if self._publication is None:
            self._resume()
            return await self._reader.read(self._limits.rtmp_read_bytes)
        data = self._read_at_once()
        if data is None:
            self._resume()
            data = await self._wait_for_data()
            if data and len(data) < self._limits.rtmp_read_bytes:
                # All bytes are read, so that the reader holds nothing back, and has paused nothing.
                self._pause()
        elif len(data) == self._limits.rtmp_read_bytes:
            # There may be more, and nothing was waited for: others have their turn.
            await asyncio.sleep(0)
        return data

    def _pause(self) -> None:
        if not self._transport.is_closing():
            self._is_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self._transport.is_closing():
            self._transport.resume_reading()
        self._is_paused = False

    def _read_at_once(self) -> bytes | None:
        """Read what has come while reading is paused: to let the event loop do so takes it two more turns.

        None where nothing has, reading isn't paused, or the connection is encrypted.
        """
        # Behind its end its descriptor may be another connection's.
        if not self._is_paused or self._transport.is_closing() or is_encrypted(self._transport):
            return None
        with contextlib.suppress(BlockingIOError):
            return os.read(self._transport.get_extra_info("socket").fileno(), self._limits.rtmp_read_bytes)
        return None

    async def _wait_for_data(self) -> bytes:
        """Read the next bytes.

        Raises:
            TimeoutError: the publisher is silent.
        """
        # A publisher that has nothing to send answers a ping, a frozen one doesn't.
        silent = self._admission.limits.silent_seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(silent * PING_SHARE):
                return await self._reader.read(self._limits.rtmp_read_bytes)
        self._connection.ping(round(self._loop.time() * 1000))
        await self._flush()
        async with asyncio.timeout(silent * ANSWER_SHARE):
            return await self._reader.read(self._limits.rtmp_read_bytes)

    async def _on_events(self) -> None:
        has_come = False
        for count, event in enumerate(self._connection.events(), 1):
            has_come = has_come or event != []
            if isinstance(event, list):
                self._receive_tags(event)
                await self._budget.spend()
            elif isinstance(event, Message):
                self._receive_tags([(event.kind, event.timestamp, event.payload)])
            else:
                await self._push_pending()
                await self._on_request(event)
            if count % PORTION_MESSAGES == 0:
                await self._budget.spend()
        if has_come:
            self._progressed = self._loop.time()

    def _receive_tags(self, tags: list[Tag]) -> None:
        """Demux messages of audio, video and metadata, which are tags of FLV."""
        if self._demuxer is not None:
            self._packets += self._demuxer.receive_tags(tags)

    async def _push_pending(self) -> None:
        """Push the collected packets to the channel."""
        packets, self._packets = self._packets, []
        publication, demuxer = self._publication, self._demuxer
        if publication is None or demuxer is None:
            return
        # First, so that they are known once the main video track is on air.
        for track, further in demuxer.take_further_video_tracks().items():
            await publication.receive_further_video_track(track, further)
        events = demuxer.take_events()
        if packets or demuxer.fault or events:
            await publication.receive_packets(packets, demuxer.fault, events)
        for fault in publication.faults[self._told_faults :]:
            self._connection.warn(fault)
        self._told_faults = len(publication.faults)

    async def _on_request(self, event: Event) -> None:
        if isinstance(event, ConnectRequest):
            self._encoder = event.encoder[:AGENT_CHARACTERS]
            if APPS.fullmatch(event.app):
                self._connection.accept_connect()
            else:
                self._connection.reject_connect(f"the application is {APP!r}: rtmp://HOST:PORT/{APP}/CHANNEL")
        elif isinstance(event, PublishRequest):
            await self._publish(event)
        else:
            self._end_publication()
        await self._flush()

    async def _publish(self, request: PublishRequest) -> None:
        """Admit a publisher, or refuse it."""
        publisher = Publisher("rtmp", self._address, self._encoder)
        # A name may begin in the application: "live/room" with "anna" is "live" with "room/anna".
        channel = "/".join((*request.app.split("/")[1:], request.name))
        self._deadline.reschedule(None)
        self.is_dispensable = False
        try:
            self._admission.find(channel, self._address)
            self._admission.check_key(channel, _key(request), self._address)
            approval = await self._admission.approve(channel, publisher)
            publication = self._admission.begin(
                channel, publisher, on_end=self._on_dismissed, approval=approval
            )
        except RefusedError as error:
            self.is_dispensable = True
            await asyncio.sleep(error.delay_seconds)
            self._connection.refuse_publish(str(error))
            return
        self._publication, self._told_faults = publication, 0
        self._budget = publication.budget
        self._progressed = self._loop.time()
        self._demuxer = FlvDemuxer(
            check_track=check_track, further_video_tracks=self._limits.further_video_tracks
        )
        self._connection.accept_publish()

    def _end_publication(self) -> None:
        if self._publication is not None:
            self._publication.end()
            self._publication = None
        self.is_dispensable = True
        self._deadline.reschedule(self._loop.time() + ADMISSION_SECONDS)

    def _on_dismissed(self, _reason: str) -> None:
        """Wake up, as the publication was ended from this side."""
        expire(self._deadline)

    async def _flush(self) -> None:
        data = self._connection.data_to_send()
        if data:
            # A transport that has closed raises other errors than a connection that breaks.
            if self._transport.is_closing():
                raise ConnectionResetError("the publisher has closed the connection")
            self._writer.write(data)
            async with asyncio.timeout(ADMISSION_SECONDS):
                await self._writer.drain()

    async def _say_goodbye(self) -> None:
        """Send what is left, and wait until the client has closed: else what it sent would reset all."""
        self._resume()
        # Where the client has reset the connection, ending our side of it isn't a ConnectionError.
        with contextlib.suppress(OSError):
            async with asyncio.timeout(self._limits.linger_seconds):
                await self._flush()
                if not self._transport.is_closing():
                    self._transport.write_eof()
                while await self._reader.read(self._limits.rtmp_read_bytes):
                    pass


def _key(request: PublishRequest) -> str:
    """Return the key that a publisher presents: in a query, or as a password."""
    return request.parameters.get("key") or request.password or request.parameters.get("password", "")
