"""AMF0 (Action Message Format 0), in which RTMP's commands and FLV's script tags are written."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from media.errors import MalformedError, TooLargeError, UnsupportedError

NUMBER, BOOLEAN, STRING, OBJECT, NULL, UNDEFINED, REFERENCE = 0, 1, 2, 3, 5, 6, 7
ECMA_ARRAY, OBJECT_END, STRICT_ARRAY, DATE, LONG_STRING, UNSUPPORTED = 8, 9, 10, 11, 12, 13
XML_DOCUMENT, TYPED_OBJECT, AMF3 = 15, 16, 17
"""AMF0 §2.1: type markers."""

_LONGEST_STRING = 0xFFFF

DEPTH = 16
"""Most objects inside each other."""

VALUES = 4096
"""Most values of a message, those in objects included."""

TEXT_BYTES = 256 << 10
"""Most bytes of all texts and names of a message: decoding megabytes of invalid UTF-8 takes long."""


@dataclass(frozen=True, slots=True)
class Date:
    """A date: milliseconds since 1970, UTC."""

    milliseconds: float


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to an earlier object, which isn't resolved, so that no value can contain itself."""

    index: int


Value: TypeAlias = "float | bool | str | Date | Reference | dict[str, Value] | list[Value] | None"
"""A value; undefined and unsupported ones are None."""


def read_values(data: bytes) -> list[Value]:
    """Read all AMF0 values in a message.

    Raises:
        MalformedError: the message isn't AMF0.
        TooLargeError: the values are nested too deeply, too many or too long.
        UnsupportedError: a value is AMF3.
    """
    reader = _AmfReader(data)
    values = list[Value]()
    while reader.place < len(data):
        values.append(reader.value(0))
    return values


class _AmfReader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._values = 0
        self._text_bytes = 0
        self._objects = 0
        self.place = 0

    def value(self, depth: int) -> Value:
        self._values += 1
        if self._values > VALUES:
            raise TooLargeError(f"more than {VALUES} values")
        marker = self._read_bytes(1)[0]
        if marker == NUMBER:
            return self._number()
        if marker == BOOLEAN:
            return self._read_bytes(1) != b"\0"
        if marker == STRING:
            return self._text(2)
        if marker in (LONG_STRING, XML_DOCUMENT):
            return self._text(4)
        if marker in (NULL, UNDEFINED, UNSUPPORTED):
            return None
        return self._complex(marker, depth)

    def _complex(self, marker: int, depth: int) -> Value:
        if marker == DATE:
            date = Date(self._number())
            # AMF0 §2.13: the time zone is reserved.
            self._read_bytes(2)
            return date
        if marker == REFERENCE:
            index = int.from_bytes(self._read_bytes(2), "big")
            if index >= self._objects:
                raise MalformedError("a reference to no object")
            return Reference(index)
        if marker == AMF3:
            raise UnsupportedError("AMF3")
        if marker not in (OBJECT, ECMA_ARRAY, STRICT_ARRAY, TYPED_OBJECT):
            raise MalformedError(f"a value of type {marker}")
        if depth >= DEPTH:
            raise TooLargeError(f"objects nested more than {DEPTH} deep")
        self._objects += 1
        if marker == STRICT_ARRAY:
            # A count of four thousand million fails at the first missing value.
            count = int.from_bytes(self._read_bytes(4), "big")
            return [self.value(depth + 1) for _ in range(count)]
        if marker == TYPED_OBJECT:
            self._text(2)
        if marker == ECMA_ARRAY:
            # AMF0 §2.10: its count is a hint, and many encoders write 0.
            self._read_bytes(4)
        return self._properties(depth)

    def _properties(self, depth: int) -> dict[str, Value]:
        found = dict[str, Value]()
        while True:
            name = self._text(2)
            if not name and self._data[self.place : self.place + 1] == bytes((OBJECT_END,)):
                self.place += 1
                return found
            found[name] = self.value(depth + 1)

    def _number(self) -> float:
        number: float = struct.unpack(">d", self._read_bytes(8))[0]
        return number

    def _text(self, width: int) -> str:
        raw = self._read_bytes(int.from_bytes(self._read_bytes(width), "big"))
        self._text_bytes += len(raw)
        if self._text_bytes > TEXT_BYTES:
            raise TooLargeError(f"more than {TEXT_BYTES} bytes of text")
        return raw.decode(errors="replace")

    def _read_bytes(self, size: int) -> bytes:
        start, self.place = self.place, self.place + size
        if self.place > len(self._data):
            raise MalformedError("an AMF0 value that is cut off")
        return self._data[start : self.place]


def write_values(values: Sequence[Value]) -> bytes:
    """Write values one behind the other; dictionaries as objects."""
    return b"".join(map(_write, values))


def _write(value: Value) -> bytes:
    if value is None:
        return bytes((NULL,))
    if isinstance(value, bool):
        return bytes((BOOLEAN, value))
    if isinstance(value, int | float):
        return bytes((NUMBER,)) + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode(errors="replace")
        if len(text) > _LONGEST_STRING:
            return bytes((LONG_STRING,)) + len(text).to_bytes(4, "big") + text
        return bytes((STRING,)) + len(text).to_bytes(2, "big") + text
    if isinstance(value, Date):
        return bytes((DATE,)) + struct.pack(">dh", value.milliseconds, 0)
    if isinstance(value, Reference):
        return bytes((REFERENCE,)) + value.index.to_bytes(2, "big")
    if isinstance(value, list):
        return bytes((STRICT_ARRAY,)) + len(value).to_bytes(4, "big") + write_values(value)
    properties = (_write_name(name) + _write(one) for name, one in value.items())
    return bytes((OBJECT,)) + b"".join(properties) + bytes((0, 0, OBJECT_END))


def _write_name(name: str) -> bytes:
    text = name.encode(errors="replace")[:_LONGEST_STRING]
    return len(text).to_bytes(2, "big") + text
