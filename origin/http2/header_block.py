"""Encodes and decodes blocks of header fields of HTTP/2 (HPACK, RFC 7541).

Blocks are encoded without a table that both sides keep (§6.1, §6.2.2). A field is encoded once, however often
and on however many connections it is sent: the table of the library hpack would save bytes, and take ten
times the processor time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hpack import Decoder, HeaderTuple
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

FIELDS_KEPT = 4096
"""Most encoded header fields that are cached; each has some dozen bytes."""

STRINGS_KEPT = 1024
"""Most decoded paths that are cached; each has at most some hundred bytes."""

SELDOM_AGAIN = frozenset((b"content-length", b"content-range", b"etag", b"last-modified"))
"""Fields whose values are new in most answers: to code them takes longer than to send what that saves."""

_HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
_WHOLE = {field: index for index, field in enumerate(HeaderTable.STATIC_TABLE, 1)}
_NAMES = {name: index for (name, _), index in reversed(_WHOLE.items())}


class CompressionError(ProtocolError):
    """A block of header fields can't be decoded (RFC 9113 §4.3)."""

    error_code = ErrorCodes.COMPRESSION_ERROR


class BlockDecoder(Decoder):
    """Decodes blocks of header fields; h2 would end the connection with the code of another error."""

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """Decode a block of header fields.

        Raises:
            OversizedHeaderListError: the fields are longer than is allowed.
            CompressionError: the block can't be decoded.
        """
        try:
            return super().decode(data, raw)
        except OversizedHeaderListError:
            raise
        except HPACKError as error:
            raise CompressionError(str(error)) from error


class StatelessEncoder:
    """Encodes blocks of header fields, each by itself, where h2 would use an encoder with a table.

    Attributes:
        header_table_size: the size of the table that the client would keep; it isn't used.
    """

    def __init__(self) -> None:
        self.header_table_size = 0

    def encode(self, headers: Iterable[tuple[bytes, bytes]], huffman: bool = True) -> bytes:
        """Encode a block of header fields."""
        del huffman
        return encoded_fields(headers)


def encoded_fields(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode a block of header fields, which means the same at any time."""
    return b"".join([encoded_field(name, value) for name, value in headers])


@functools.lru_cache(maxsize=FIELDS_KEPT)
def encoded_field(name: bytes, value: bytes) -> bytes:
    """Encode a header field: as one of the static table, or as a literal without indexing."""
    index = _WHOLE.get((name, value))
    if index is not None:
        return bytes((0x80 | index,))
    index = _NAMES.get(name, 0)
    start = _integer(index, 4) if index else b"\x00" + _string(name)
    return start + (_integer(len(value), 7) + value if name in SELDOM_AGAIN else _string(value))


def _string(data: bytes) -> bytes:
    """Encode a string, by Huffman's code where that is shorter (RFC 7541 §5.2)."""
    coded: bytes = _HUFFMAN.encode(data) if data else b""
    if len(coded) >= len(data):
        return _integer(len(data), 7) + data
    length = _integer(len(coded), 7)
    return bytes((0x80 | length[0],)) + length[1:] + coded


def _integer(number: int, bits: int) -> bytes:
    """Encode an integer with a prefix of some bits, before which zeros stand (RFC 7541 §5.1)."""
    most = (1 << bits) - 1
    if number < most:
        return bytes((number,))
    found, number = bytearray((most,)), number - most
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def literal_path(block: bytes) -> tuple[int, int] | None:
    """Return where the value of ``:path`` stands in a block of header fields, with its length before it.

    Args:
        block: one that could be decoded.

    Returns:
        First position and end; None where the block changes the table of fields, or its path is of the table.
    """
    found, at, end = None, 0, len(block)
    while at < end:
        first = block[at]
        if first & 0x80:
            _, at = _read_integer(block, at, 7)
            continue
        if first & 0x60:
            # §6.2.1, §6.3: a field that is added to the table, or another size of it.
            return None
        index, at = _read_integer(block, at, 4)
        if index:
            is_path = index in _PATH_INDEXES
        else:
            start = at
            at = _string_end(block, at)
            is_path = block[start:at] in _PATH_NAMES
        start, at = at, _string_end(block, at)
        if is_path:
            found = start, at
    return found if at == end else None


def read_string(block: bytes, start: int, end: int) -> bytes | None:
    """Decode a string (RFC 7541 §5.2) that takes exactly a part of a block; None where there is none."""
    length, at = _read_integer(block, start, 7)
    if at + length != end:
        return None
    data = block[at:end]
    if not block[start] & 0x80:
        return data
    try:
        return _decoded(data)
    except HPACKError:
        return None


@functools.lru_cache(maxsize=STRINGS_KEPT)
def _decoded(data: bytes) -> bytes:
    """Decode a string by Huffman's code; all viewers of a channel ask for the same parts at the same time."""
    return bytes(decode_huffman(data))


def _string_end(block: bytes, at: int) -> int:
    """Return the end of a string; behind the block's end where the block is cut."""
    length, at = _read_integer(block, at, 7)
    return at + length


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """Read an integer with a prefix of some bits (RFC 7541 §5.1), and return it with the position behind it.

    A longer one than two bytes, and one that is cut, ends behind the block's end.
    """
    most = (1 << bits) - 1
    if at >= len(block):
        return 0, len(block) + 1
    number = block[at] & most
    at += 1
    if number < most:
        return number, at
    for shift in (0, 7):
        if at >= len(block):
            break
        number += (block[at] & 0x7F) << shift
        at += 1
        if not block[at - 1] & 0x80:
            return number, at
    return 0, len(block) + 1


_PATH_INDEXES = (_NAMES[b":path"], _NAMES[b":path"] + 1)
_PATH_NAMES = (_integer(5, 7) + b":path", _string(b":path"))
