"""Limits of a request's head, checked while it is still incomplete."""

from __future__ import annotations

from origin.http1.request_head import HttpLimits


class HeadLimits:
    """Counts the bytes and fields of a request's head, and refuses one that exceeds its limits.

    Attributes:
        hosts: the values of its Host fields.
        codings: the values of its Transfer-Encoding fields.
    """

    __slots__ = (
        "_began",
        "_bytes",
        "_fields",
        "_limits",
        "_line",
        "_unparsed",
        "codings",
        "hosts",
    )

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._began = False
        self._bytes = self._unparsed = self._fields = 0
        # The incomplete first line; None once it is right, or if its beginning is unknown.
        self._line: bytes | None = None
        self.hosts: list[bytes] = []
        self.codings: list[bytes] = []

    def begin(self) -> None:
        """Start counting at the first byte of a request."""
        self._began = True
        self._bytes = self._unparsed = self._fields = 0
        self._line = b""
        self.hosts = []
        self.codings = []

    def add(self, name: bytes, value: bytes) -> bool:
        """Count a field of the head or the trailer; return whether it is within the limits."""
        self._fields += 1
        self._bytes += len(name) + len(value) + 4
        if name == b"host":
            self.hosts.append(value.strip(b" \t"))
        elif name == b"transfer-encoding":
            self.codings.append(value)
        return self._fields <= self._limits.header_fields and self._bytes <= self._limits.header_bytes

    def judge(self, data: bytes, *, is_all: bool) -> int | None:
        """Count bytes that belong to an incomplete head.

        The parser reports whole fields only; this bounds the bytes that it keeps of an endless one.

        Args:
            data: the bytes.
            is_all: whether all of them are this head's; otherwise the end of a body may precede it.

        Returns:
            The status to refuse the request with; None if its head may go on.
        """
        began, self._began = self._began, False
        if began and not is_all:
            self._line = None
            return None
        self._unparsed += len(data)
        if self._unparsed > self._limits.header_bytes:
            return 431
        if self._line is not None:
            line, end, _ = (self._line + data).lstrip(b"\r\n").partition(b"\n")
            self._line = None if end else line
            # RFC 9112 §2.3, appendix C.1: HTTP/0.9 has no version, and nothing would come behind this line.
            if end and len(line.split()) < 3:
                return 400
        return None
