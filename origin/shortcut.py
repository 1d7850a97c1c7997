"""Plain requests for files that are open already, answered on the connection.

What the application's way does for such a request is done here too, by the same functions: preconditions and
ranges (`origin/selection.py`), the edge's header fields, the counters and the request log.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from origin.answers import Line, WireAnswer
from origin.edge import Ledger
from origin.openfiles import OpenFiles, Resolved
from origin.requesthead import PlainHead, WireLimits, read_plain

AREA = "media"
"""Where requests for files are counted."""


class FileAnswer(WireAnswer):
    """An answer whose bytes are those of an open file and what stands around them.

    Args:
        resolved: The file.
        head: The request.
        ledger: Where it is counted.
    """

    __slots__ = ("_is_held", "_resolved")

    def __init__(self, resolved: Resolved, head: PlainHead, ledger: Ledger) -> None:
        super().__init__(head, ledger, AREA)
        self._resolved = resolved
        self._is_held = False

    def begin(self, line: Line) -> None:
        """Send what is asked for."""
        reply = self._resolved.reply(self.head, STATUS_LINE, line.fields(self))
        if not line.reply(self, reply):
            # The file must outlast those who find it.
            self._resolved.shared.acquire()
            self._is_held = True

    def ended(self, status: int, sent: int, line: Line) -> None:
        """Give the file back."""
        if self._is_held:
            self._is_held = False
            self._resolved.shared.release()
        super().ended(status, sent, line)


class FileShortcut:
    """Answers requests for open files.

    Args:
        files: The open files.
        ledger: Where requests are counted.
    """

    def __init__(self, files: OpenFiles, ledger: Ledger) -> None:
        self._files = files
        self._ledger = ledger

    def find(self, data: bytes, target: bytes, limits: WireLimits) -> FileAnswer | None:
        """The answer to a plain request for a file that is open; see `Responder`."""
        resolved = self._files.find(target)
        if resolved is None or (head := read_plain(data, limits)) is None:
            return None
        return FileAnswer(resolved, head, self._ledger)
