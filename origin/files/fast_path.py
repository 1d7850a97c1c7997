"""Plain requests for files that are open already, answered on the connection.

What the application's way does for such a request is done here too, by the same functions: preconditions and
ranges (`origin/http/select.py`), the common header fields, the counters and the request log.
"""

from __future__ import annotations

from origin.files.open_files import CachedFile, OpenFileCache
from origin.http.byte_ranges import ByteRange, Span, verbatim_range
from origin.http1.access_log import AccessLog
from origin.http1.fast_path import Again, AnsweringConnection, FastAnswer
from origin.http1.request_head import PlainFields, RequestLine, around_range

AREA = "media"
"""Where requests for files are counted."""


class FileAnswer(FastAnswer):
    """An answer whose bytes are those of an open file and what stands around them.

    Args:
        fast_path: What all of them share.
        resolved: The file.
        request: The request's first line.
        fields: Its header fields.
        span: What its Range says, if that isn't among the fields.
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
        """Send what is asked for."""
        reply = self._resolved.reply(self.request.method, self._fields, self._span, line.fields(self))
        if not line.reply(self, reply):
            self.hold()

    def hold(self) -> None:
        """Keep the file open until the end: it must outlast those who find it."""
        self._resolved.shared.acquire()
        self._is_held = True

    def ended(self, status: int, sent: int, line: AnsweringConnection) -> None:
        """Give the file back."""
        if self._is_held:
            self._is_held = False
            self._resolved.shared.release()
        super().ended(status, sent, line)

    def again(self, data: bytes) -> RepeatedFileRequest | None:
        """What answers this request with other ranges, if it has nothing but one."""
        request, fields = self.request, self._fields
        if self._span is None or fields.is_conditional or fields.has_range or request.method != "GET":
            return None
        return (
            None
            if self._fast_path.access_log.log_requests
            else RepeatedFileRequest(self._fast_path, request, fields, data)
        )


class RepeatedFileRequest:
    """A request for a range that a connection repeats, as players and CDNs do: only the range differs.

    Args:
        fast_path: What all of them share.
        request: The request's first line.
        fields: Its header fields, without the range.
        data: The whole head.
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
        """Answer the request with another range.

        Args:
            data: A head.
            common: Encoded header fields that every answer of the server has.

        Returns:
            The answer, of 206; None where it is another request or another answer.
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
        """Count an answer that is sent."""
        self._counter.add(length)

    def answer(self, part: ByteRange) -> FileAnswer:
        """The last answer as one that goes on."""
        if self._resolved is None:
            raise RuntimeError("there was no answer")
        answer = FileAnswer(self._fast_path, self._resolved, self._request, self._fields, part)
        answer.hold()
        return answer


class FileFastPath:
    """Answers requests for open files.

    Args:
        files: The open files.
        access_log: Where requests are counted.
    """

    def __init__(self, files: OpenFileCache, access_log: AccessLog) -> None:
        self.files = files
        self.access_log = access_log

    def find(self, request: RequestLine, fields: PlainFields, span: Span | None) -> FileAnswer | None:
        """The answer to a request for a file that is open; see `Responder`."""
        resolved = self.files.find(request.target)
        return None if resolved is None else FileAnswer(self, resolved, request, fields, span)
