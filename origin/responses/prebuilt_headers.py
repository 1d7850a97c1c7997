"""Replies of the fast path with a representation whose usual headers are written beforehand.

Whole representations and single ranges have templates; whatever else a request says is decided as in the
application, by `origin/http/answer.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from origin.http.answer import Headers, answer, shared_headers
from origin.http.byte_ranges import SelectedRange, Span, select_span
from origin.http.representation import RepresentationMetadata
from origin.http1.fast_path import Reply, ResponseTemplate, encoded
from origin.http1.request_head import PlainFields
from origin.http1.response_head import STATUS_LINE
from origin.http1.sendfile import Piece

PiecesOf = Callable[[SelectedRange], Sequence[Piece]]
"""Places of a representation's bytes: in memory, or in a file from which the kernel sends."""


def same_range(part: SelectedRange) -> Sequence[Piece]:
    """Return the place of a representation that is a whole file."""
    return (part,)


class TemplatedRepresentation:
    """A representation with the headers of its responses.

    Args:
        representation: what is said of the representation.
        headers: raw header fields of every response, such as Cache-Control.
        common_headers: raw header fields that the server adds to every response of the application.
        now: seconds since the epoch.
        pieces_of: says where the bytes of a range are.
    """

    __slots__ = ("_headers", "_pieces_of", "representation", "size", "template")

    def __init__(
        self,
        representation: RepresentationMetadata,
        headers: Headers,
        common_headers: Headers,
        now: float,
        pieces_of: PiecesOf = same_range,
    ) -> None:
        self.representation = representation
        self.size = representation.size
        self._headers = (*headers, *common_headers)
        self._pieces_of = pieces_of
        lines = encoded((*shared_headers(representation, headers, now), *common_headers))
        self.template = ResponseTemplate(self.size, lines)

    def reply(self, method: str, request: PlainFields, span: Span | None, common: bytes, file: int) -> Reply:
        """Decide the response to a request, by the rules of `origin/http/answer.py`.

        Args:
            method: GET or HEAD.
            span: the parsed Range field, if it isn't among them.
            common: encoded header fields of every response of the server.
            file: descriptor of the file that ranges are sent from.
        """
        size = self.size
        if method == "GET" and not request.is_conditional and not request.has_range:
            part = SelectedRange(0, size - 1) if span is None else select_span(span, size)
            if part is not None and size:
                length = part.length
                if span is None:
                    head = self.template.whole(common)
                    return Reply(200, (head, *self._pieces_of(part)), length, length, file)
                head = self.template.part(b"%d-%d" % part, length, common)
                return Reply(206, (head, *self._pieces_of(part)), length, length, file)
        fields = request.fields
        if span is not None:
            last = b"" if span[1] is None else b"%d" % span[1]
            fields = (*fields, (b"range", b"bytes=%d-%b" % (span[0], last)))
        decided = answer(method, fields, self.representation, time.time(), self._headers)
        head = b"%b%b%b\r\n" % (STATUS_LINE[decided.status], common, encoded(decided.headers))
        pieces: list[Piece] = [head]
        file_bytes = text_bytes = 0
        for piece in decided.body:
            if isinstance(piece, SelectedRange):
                file_bytes += piece.length
                pieces += self._pieces_of(piece)
            else:
                text_bytes += len(piece)
                pieces.append(piece)
        return Reply(decided.status, pieces, file_bytes + text_bytes, file_bytes, file)
