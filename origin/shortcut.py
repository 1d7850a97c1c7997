"""Plain requests for files that are open already, answered on the connection.

What the application's way does for such a request is done here too, by the same functions: preconditions and
ranges (`origin/selection.py`), the edge's header fields, the counters and the request log.
"""

from __future__ import annotations

from origin.answers import Line, WireAnswer
from origin.byteranges import Span
from origin.edge import Ledger
from origin.openfiles import OpenFiles, Resolved
from origin.requesthead import PlainFields, RequestLine

AREA = "media"
"""Where requests for files are counted."""


class FileAnswer(WireAnswer):
    """An answer whose bytes are those of an open file and what stands around them.

    Args:
        resolved: The file.
        request: The request's first line.
        fields: Its header fields.
        span: What its Range says, if that isn't among the fields.
        ledger: Where it is counted.
    """

    __slots__ = ("_fields", "_is_held", "_resolved", "_span")

    def __init__(
        self,
        resolved: Resolved,
        request: RequestLine,
        fields: PlainFields,
        span: Span | None,
        ledger: Ledger,
    ) -> None:
        super().__init__(request, ledger, AREA)
        self._fields = fields
        self._resolved = resolved
        self._span = span
        self._is_held = False

    def begin(self, line: Line) -> None:
        """Send what is asked for."""
        reply = self._resolved.reply(self.request.method, self._fields, self._span, line.fields(self))
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

    def find(self, request: RequestLine, fields: PlainFields, span: Span | None) -> FileAnswer | None:
        """The answer to a request for a file that is open; see `Responder`."""
        resolved = self._files.find(request.target)
        return None if resolved is None else FileAnswer(resolved, request, fields, span, self._ledger)
