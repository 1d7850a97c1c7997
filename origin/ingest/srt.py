"""Publishing to live channels over SRT, all on one port: ``srt://HOST:PORT?streamid=publish:CHANNEL:KEY``.

As OBS, ffmpeg, GStreamer and hardware encoders send it; nobody can watch over it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import structlog

from media.errors import MalformedError, UnsupportedError
from origin.access.authentication import GUESSABLE_CHARACTERS
from origin.access.refusal_log import RefusalLog
from origin.ingest.admission import IngestAdmission, RefusalReason, RefusedError
from origin.ingest.feeding import Feeding
from origin.ingest.libsrt import OVERLOAD, PACKAGE, HandshakeAnswer, Libsrt, LibsrtMissingError, SrtError
from origin.ingest.limits import IngestLimits
from origin.ingest.srt_receiver import SrtConnection, SrtReceiver
from origin.ingest.stream_id import StreamId, read_stream_id
from packager.reader_guard import ReaderGuard
from packager.sources.publication import Publisher
from packager.threads import SHARED_THREADS

CODES = {
    RefusalReason.UNKNOWN_CHANNEL: 1404,
    RefusalReason.OTHER_SOURCE: 1403,
    RefusalReason.WRONG_KEY: 1401,
    RefusalReason.DENIED: 1403,
    RefusalReason.UNANSWERED: 1503,
    RefusalReason.TAKEN: 1409,
    RefusalReason.TOO_MANY: OVERLOAD,
    RefusalReason.CLOSED: 1503,
}
"""The reason with which a caller is refused, of libsrt's access_control.h."""

BAD_REQUEST, BAD_MODE = 1400, 1405

log = structlog.get_logger()


BIND_AGAIN_SECONDS = 2.0
"""Pause between two attempts to bind a port that another program has."""


class SrtServer:
    """Accepts the connections of SRT publishers; a service of the server, which binds its port itself.

    Args:
        host: name or address on which it listens.
        passphrases: with which publishers must encrypt, by the channel's name, of those that have one.
    """

    name = "srt"

    def __init__(
        self,
        admission: IngestAdmission,
        host: str,
        port: int,
        limits: IngestLimits,
        passphrases: Mapping[str, str] | None = None,
    ) -> None:
        self._admission = admission
        self._host = host
        self._port = port
        self._limits = limits
        self._gate = SrtGate(admission, limits, {} if passphrases is None else passphrases)
        self._tasks = set[asyncio.Task[None]]()

    async def run(self) -> None:
        """Accept connections until cancelled, and then end them all."""
        try:
            library = await SHARED_THREADS.run(Libsrt)
        except LibsrtMissingError:
            advice = f"install {PACKAGE}"
            log.warning("nobody can publish over SRT", reason="libsrt is missing", advice=advice)
            await asyncio.get_running_loop().create_future()
        while True:
            try:
                await self._serve_connections(library)
            except (SrtError, socket.gaierror) as error:
                again_in = BIND_AGAIN_SECONDS
                told = {"reason": str(error), "advice": "or choose another with server.srt_port"}
                log.warning("srt can't listen", port=self._port, **told, again_in=again_in)
                await asyncio.sleep(again_in)

    async def _serve_connections(self, library: Libsrt) -> None:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            self._host, self._port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )
        addresses = [(int(family), (str(one[0]), self._port)) for family, *_, one in dict.fromkeys(found)]
        receiver = SrtReceiver(library, self._gate.judge, self._begin, self._limits)
        self._gate.receiver = receiver
        pool = ThreadPoolExecutor(1, "srt")
        idle = self._admission.limits.silent_seconds
        work = loop.run_in_executor(pool, receiver.run, addresses, idle)
        try:
            await asyncio.wait([work])
        finally:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            receiver.stop()
            pool.shutdown(wait=False)
            await work

    def _begin(self, connection: SrtConnection) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, connection: SrtConnection) -> None:
        try:
            await _SrtSession(self._admission, connection).run()
        except Exception:  # one broken connection must not take the others with it
            log.exception("srt connection broke")
        finally:
            connection.close()


class SrtGate:
    """Admission over SRT, in a thread of libsrt: nothing there waits or shares state.

    An answer can't be held back here. So an address that goes on guessing keys has to wait before its next
    try, which is refused meanwhile; such a try doesn't prolong the wait. A right key that is too long to be
    guessed is let in all the same, as somebody else behind the same address may be the one who guesses.

    Args:
        admission: knows the channels and their keys.
        passphrases: with which publishers must encrypt, by the channel's name.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        admission: IngestAdmission,
        limits: IngestLimits,
        passphrases: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._admission = admission
        self._limits = limits
        self._passphrases = passphrases
        self._refusals = RefusalLog("srt connection refused", limits.refusal_log, clock)
        self.receiver: SrtReceiver | None = None

    def judge(self, address: str, stream_id: bytes) -> HandshakeAnswer:
        """Decide how a caller's handshake is answered."""
        if self.receiver is None or self.receiver.is_full:
            return HandshakeAnswer(OVERLOAD)
        try:
            with ReaderGuard("SRT"):
                wanted = _stream_id_of(stream_id)
            if self._has_to_wait(address, wanted):
                return HandshakeAnswer(OVERLOAD)
            self._admission.find(wanted.channel)
            self._admission.check_key(wanted.channel, wanted.key, address)
            self._admission.check_room(wanted.channel)
        except RefusedError as error:
            code = CODES[error.reason]
            if error.reason is RefusalReason.WRONG_KEY:
                return HandshakeAnswer(code)  # the log has the refusal already
            return self._refused(code, address, error)
        except UnsupportedError as error:
            return self._refused(BAD_MODE, address, error)
        except MalformedError as error:
            return self._refused(BAD_REQUEST, address, error)
        return HandshakeAnswer(passphrase=self._passphrases.get(wanted.channel, ""))

    def _refused(self, code: int, address: str, error: Exception) -> HandshakeAnswer:
        """Log the reason of a caller's refusal, of which libsrt sends only a code; return the code."""
        self._refusals.write(address, code=code, reason=str(error))
        return HandshakeAnswer(code)

    def _has_to_wait(self, address: str, wanted: StreamId) -> bool:
        if self._admission.seconds_to_wait(address) <= 0:
            return False
        is_guessable = len(wanted.key) <= GUESSABLE_CHARACTERS
        return is_guessable or not self._admission.has_key(wanted.channel, wanted.key, address)


class _SrtSession:
    """One connection of a publisher that was let in.

    Args:
        admission: lets it in for good, in the event loop.
    """

    def __init__(self, admission: IngestAdmission, connection: SrtConnection) -> None:
        self._admission = admission
        self._connection = connection

    async def run(self) -> None:
        """Carry the stream to its end; why it is ended from here only the log says, as SRT can't."""
        wanted = _stream_id_of(self._connection.stream_id)
        publisher = Publisher("srt", self._connection.address)
        silent_seconds = self._admission.limits.silent_seconds
        feeding = Feeding(lambda _publication: silent_seconds)
        try:
            # Since the caller was let in the key may be another one, or somebody else have come.
            self._admission.check_key(wanted.channel, wanted.key, publisher.address)
            approval = await self._admission.approve(wanted.channel, publisher)
            publication = self._admission.begin(
                wanted.channel, publisher, on_end=feeding.dismiss, approval=approval
            )
        except RefusedError:
            return

        async def read() -> bytes | None:
            data = await self._connection.read()
            publication.link = self._connection.statistics
            return data or None

        await feeding.run(publication, read)


def _stream_id_of(raw: bytes) -> StreamId:
    return read_stream_id(raw.decode("utf-8", "replace"))
