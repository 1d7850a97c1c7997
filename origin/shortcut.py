"""Answers without an ASGI task: plain requests for files that are open already, in the protocol class.

What the application's way does for such a request is done here too, by the same functions: preconditions and
ranges (`origin/selection.py`), the edge's header fields, the counters and the request log.
"""

from __future__ import annotations

import time
import urllib.parse

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from origin.edge import Ledger
from origin.openfiles import OpenFiles, Reply, Resolved, encoded
from origin.requesthead import PlainHead, WireLimits, read_plain, target_of
from origin.selection import Headers

AREA = "media"
"""Where requests for files are counted."""


class FileAnswer:
    """An answer on its way, whose bytes are those of an open file and what stands around them.

    Args:
        resolved: The file.
        head: The request.
        reply: The answer's bytes.

    Attributes:
        keep_alive: Whether the connection stays open behind it.
        begun_at: How many bytes the connection had sent before its body.
    """

    __slots__ = ("_is_held", "begun_at", "head", "keep_alive", "reply", "resolved", "started")

    def __init__(self, resolved: Resolved, head: PlainHead, reply: Reply) -> None:
        self.resolved = resolved
        self.head = head
        self.reply = reply
        self.keep_alive = True
        self.begun_at = 0
        self._is_held = False
        self.started = time.monotonic()

    @property
    def file(self) -> int:
        """The file's descriptor."""
        return self.resolved.shared.file.fd

    @property
    def path(self) -> str:
        """The path of the address that was asked for."""
        return urllib.parse.unquote(self.head.target.partition(b"?")[0].decode("ascii"))

    def hold(self) -> None:
        """Keep the file open until `release`: the answer doesn't end at once."""
        self.resolved.shared.acquire()
        self._is_held = True

    def release(self) -> None:
        """The answer has ended."""
        if self._is_held:
            self._is_held = False
            self.resolved.shared.release()

    def half_close(self) -> None:
        """The client sends nothing more; the answer goes on."""

    def hang_up(self) -> None:
        """The client has gone; the sender of the bytes will say so."""


class Shortcut:
    """What the connections of a server share for such answers.

    Args:
        files: The open files.
        ledger: Where requests are counted.
    """

    def __init__(self, files: OpenFiles, ledger: Ledger) -> None:
        self._files = files
        self._ledger = ledger
        self._common: tuple[Headers, bytes] = ((), b"")

    def answer(self, data: bytes, limits: WireLimits, default_headers: Headers) -> FileAnswer | None:
        """Decide the answer to a request.

        Args:
            data: The request as it came.
            limits: What it may cost.
            default_headers: Raw header fields of every answer of the server (Date).

        Returns:
            The answer, or None where the request has to go the application's way.
        """
        resolved = self._files.find(target_of(data))
        if resolved is None or (head := read_plain(data, limits)) is None:
            return None
        if self._common[0] is not default_headers:
            # The server makes a new list when the second changes.
            self._common = (default_headers, encoded(default_headers))
        return FileAnswer(resolved, head, resolved.reply(head, STATUS_LINE, self._common[1]))

    def record(self, answer: FileAnswer, sent: int, client: str | None) -> None:
        """Count an answer, and log it where requests are logged.

        Args:
            answer: The answer, at its end.
            sent: Bytes of its body that the kernel has taken.
            client: The client's address.
        """
        status = answer.reply.status
        self._ledger.count(AREA, status, sent)
        if self._ledger.log_requests:
            self._ledger.write(answer.head.method, answer.path, status, sent, answer.started, client)
