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
from hpack.table import HeaderTable

FIELDS_KEPT = 4096
"""Most encoded header fields that are cached; each has some dozen bytes."""

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
    return start + _string(value)


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
