"""The fast path for cached open files: simple requests are answered without the ASGI application.

Preconditions, ranges, common header fields, counters and the request log are handled by the same functions as
in the application.
"""

from __future__ import annotations

from origin.files.open_files import CachedFile, OpenFileCache
from origin.http.byte_ranges import SelectedRange, Span, verbatim_range
from origin.http1.access_log import AccessLog
from origin.http1.fast_path import Again, AnsweringConnection, FastAnswer
from origin.http1.request_head import PlainFields, RequestLine, around_range

AREA = "media"
"""The label of file requests in metrics."""


class FileAnswer(FastAnswer):
    """A response with bytes of an open file.

    Args:
        fast_path: the fast path that made it.
        span: the parsed Range field, if it isn't among the fields.
    """

    __slots__ = ("_fast_path", "_fields", "_is_held", "_resolved", "_span")

    def __init__(
        self,
        fast_path: FileFastPath,
        resolved: CachedFile,
        request: RequestLine,
        fields: PlainFields,
        span: Span | None,
    ) -> None:
        super().__init__(request, fast_path.access_log, AREA)
        self._fast_path = fast_path
        self._fields = fields
        self._resolved = resolved
        self._span = span
        self._is_held = False

    def begin(self, line: AnsweringConnection) -> None:
        """Send the response."""
        reply = self._resolved.reply(self.request.method, self._fields, self._span, line.fields(self))
        if not line.reply(self, reply):
            self.hold()

    def hold(self) -> None:
        """Keep the file open until the end of this response, even if the cache drops it."""
        self._resolved.shared.acquire()
        self._is_held = True

    def ended(self, status: int, sent: int, line: AnsweringConnection) -> None:
        """Release the file, and count the response."""
        if self._is_held:
            self._is_held = False
            self._resolved.shared.release()
        super().ended(status, sent, line)

    def again(self, data: bytes) -> RepeatedFileRequest | None:
        """Make the handler of further requests that differ only in their range; None if there can be none."""
        request, fields = self.request, self._fields
        if self._span is None or fields.is_conditional or fields.has_range or request.method != "GET":
            return None
        return (
            None
            if self._fast_path.access_log.log_requests
            else RepeatedFileRequest(self._fast_path, request, fields, data)
        )


class RepeatedFileRequest:
    """Answers requests on one connection that differ only in their range, as players and CDNs send them.

    Args:
        fast_path: the fast path that made it.
        fields: the header fields without Range.
    """

    __slots__ = (
        "_before",
        "_behind",
        "_counter",
        "_end",
        "_fast_path",
        "_fields",
        "_request",
        "_resolved",
        "_start",
        "status",
    )

    def __init__(
        self, fast_path: FileFastPath, request: RequestLine, fields: PlainFields, data: bytes
    ) -> None:
        self.status = 206
        self._fast_path = fast_path
        self._request = request
        self._fields = fields
        self._before, self._behind = around_range(data)
        self._start, self._end = len(self._before), -len(self._behind)
        self._counter = fast_path.access_log.counter(AREA, self.status)
        self._resolved: CachedFile | None = None

    def reply(self, data: bytes, common: bytes) -> Again | None:
        """Answer the same request with another range.

        Args:
            common: encoded header fields of every response of the server.

        Returns:
            A 206 response; None if the request differs otherwise or needs another status.
        """
        start, end = self._start, self._end
        if data[:start] != self._before or data[end:] != self._behind:
            return None
        resolved = self._resolved
        if resolved is None or not resolved.is_fresh:
            resolved = self._resolved = self._fast_path.files.fresh(self._request.target)
            if resolved is None:
                return None
        positions = data[start:end]
        part = verbatim_range(positions, resolved.size)
        if part is None:
            return None
        first, last = part
        head = resolved.template.part(positions, last + 1 - first, common)
        return head, first, last, resolved.shared.file.fd

    def count(self, length: int) -> None:
        """Count a response that was sent."""
        self._counter.add(length)

    def answer(self, part: SelectedRange) -> FileAnswer:
        """Make the last response one that continues, as not all of it could be sent at once."""
        if self._resolved is None:
            raise RuntimeError("there was no answer")
        answer = FileAnswer(self._fast_path, self._resolved, self._request, self._fields, part)
        answer.hold()
        return answer


class FileFastPath:
    """Answers requests for cached open files."""

    def __init__(self, files: OpenFileCache, access_log: AccessLog) -> None:
        self.files = files
        self.access_log = access_log

    def find(self, request: RequestLine, fields: PlainFields, span: Span | None) -> FileAnswer | None:
        """Find the response to a request; None if the file isn't cached. See `Responder`."""
        resolved = self.files.find(request.target)
        return None if resolved is None else FileAnswer(self, resolved, request, fields, span)
