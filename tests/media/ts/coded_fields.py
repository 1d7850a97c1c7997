"""H.264 in MPEG-TS whose pictures are coded as fields, of I_PCM macroblocks (ISO/IEC 14496-10 §7.3.3)."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from media.ts.tables import ElementaryStream, ProgramMap, StreamType
from tests.media.ts.rewritten_streams import association, packed, program_map

WAYS = ("one packet", "one packet and delimiter", "packets of their own")
"""How both fields of a picture are put into PES packets."""

PID, SOUND_PID, MAP_PID, ACROSS, DOWN = 0x100, 0x101, 0x1000, 4, 2
"""PIDs of picture, sound and map; macroblocks of a field of 64 by 32 pixels."""

DELIMITER = b"\0\0\0\1\x09\x10"


class _Bits:
    """Fields of a NAL unit, the highest bit first."""

    def __init__(self) -> None:
        self.text = ""

    def fixed(self, length: int, value: int) -> _Bits:
        self.text += f"{value:0{length}b}"
        return self

    def golomb(self, *values: int) -> _Bits:
        for value in values:
            code = f"{value + 1:b}"
            self.text += "0" * (len(code) - 1) + code
        return self

    def aligned(self) -> bytes:
        self.text += "0" * (-len(self.text) % 8)
        found, self.text = self.text, ""
        return int(found, 2).to_bytes(len(found) // 8, "big") if found else b""

    def trailing(self) -> bytes:
        return self.fixed(1, 1).aligned()


def _unit(header: int, payload: bytes) -> bytes:
    """Write a NAL unit behind a start code, without one within it (§7.4.1.1)."""
    out, zeros = bytearray((header,)), 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes(out)


def _sets(*, frames_only: bool) -> bytes:
    rows = DOWN * 2 if frames_only else DOWN
    head = _Bits().fixed(24, 77 << 16 | 30).golomb(0, 0, 2, 2).fixed(1, 0).golomb(ACROSS - 1, rows - 1)
    head = head.fixed(1, 1) if frames_only else head.fixed(2, 0)
    sequence = head.fixed(3, 0b100).trailing()
    picture = _Bits().golomb(0, 0).fixed(2, 0).golomb(0, 0, 0).fixed(3, 0).golomb(0, 0, 0).fixed(3, 0b100)
    return _unit(0x67, sequence) + _unit(0x68, picture.trailing())


def _slice(number: int, key: int | None, bottom: bool | None, frame_number: int) -> bytes:
    """Write a picture, or one of its fields, of one slice.

    Args:
        key: the number of an IDR picture, modulo 2; None of another.
        bottom: which field it is; None for a picture.
    """
    bits = _Bits().golomb(0, 7, 0).fixed(4, frame_number)
    if bottom is not None:
        bits.fixed(2, 2 | bottom)
    bits = bits.fixed(1, 0) if key is None else bits.golomb(key).fixed(2, 0)
    bits.golomb(0, 1)
    rows, data = DOWN if bottom is not None else 2 * DOWN, b""
    for block in range(ACROSS * rows):
        level = 40 + (number * 3 + block * 20 + 10 * bool(bottom)) % 170
        data += bits.golomb(25).aligned() + bytes((level,)) * 256 + bytes((128,)) * 128
    return _unit(0x61 if key is None else 0x65, data + b"\x80")


def _pes(data: bytes, time: int, start: bytes = b"\0\0\1\xe0\0\0") -> bytes:
    stamp = struct.pack(">BHH", 0x21 | time >> 29 & 14, time >> 14 & 0xFFFE | 1, time << 1 & 0xFFFE | 1)
    return start + b"\x84\x80\x05" + stamp + data


def _packets(data: bytes, counters: count[int], pid: int = PID) -> bytes:
    """Put a PES packet into packets, the last one stuffed (§2.4.3.5)."""
    out = b""
    for at in range(0, len(data), 184):
        part = data[at : at + 184]
        room = 184 - len(part)
        field = (
            b"" if not room else bytes((room - 1,)) + (b"\0".ljust(room - 1, b"\xff") if room > 1 else b"")
        )
        head = (0 if at else 0x4000) | pid, (0x30 if room else 0x10) | next(counters) & 15
        out += struct.pack(">BHB", 0x47, *head) + field + part
    return out


def adts_frames(data: bytes) -> list[bytes]:
    """Divide AAC in ADTS (ISO/IEC 14496-3 §1.A.3.2) into its frames."""
    found, at = list[bytes](), 0
    while at < len(data):
        size = int.from_bytes(data[at + 3 : at + 6], "big") >> 5 & 0x1FFF
        found.append(data[at : at + size])
        at += size
    return found


@dataclass(frozen=True)
class Frames:
    """Frames of sound of 48 kHz.

    Attributes:
        kind: the stream's type.
        samples: of each frame.
    """

    data: Sequence[bytes]
    kind: int = StreamType.AAC
    samples: int = 1024


class _Sound:
    """Frames of sound of 48 kHz, each in a PES packet, between pictures."""

    def __init__(self, frames: Frames) -> None:
        self._left = deque(frames.data)
        self._step = frames.samples * 90_000 // 48_000
        self._time = 90_000
        self._counters = count()

    def until(self, time: int) -> bytes:
        """Write the frames that begin before a time, in ticks of 90 kHz."""
        out = b""
        while self._left and self._time < time:
            frame = self._left.popleft()
            start = b"\0\0\1\xc0" + struct.pack(">H", len(frame) + 8)
            out += _packets(_pes(frame, self._time, start), self._counters, SOUND_PID)
            self._time += self._step
        return out


def stream(way: str, pictures: int, each: int = 1, sound: Frames | None = None) -> bytes:
    """Write 25 pictures a second, of which each fiftieth one is an IDR picture.

    Args:
        way: one of ``WAYS``; or "frames", whose pictures aren't of fields.
        each: how many pictures are in a PES packet.
    """
    tables, counters = (count(), count()), count()
    sound = sound or Frames(())
    streams = (
        ElementaryStream(0x1B, PID),
        *([ElementaryStream(sound.kind, SOUND_PID)] if sound.data else []),
    )
    program, heard = ProgramMap(PID, streams), _Sound(sound)
    out, held, begun = b"", b"", 90_000
    for number in range(pictures):
        key = number // 50 % 2 if number % 50 == 0 else None
        if key is not None:
            out += b"".join(packed(0, [association((1, MAP_PID))], tables[0]))
            out += b"".join(packed(MAP_PID, [program_map(program)], tables[1]))
        begun, frame = 90_000 + 3600 * number, number % 50 % 16
        out += heard.until(begun)
        sets = _sets(frames_only=way == "frames") if key is not None else b""
        if way == "frames":
            held += DELIMITER + sets + _slice(number, key, None, frame)
            if number % each == each - 1:
                out += _packets(_pes(held, begun - 3600 * (each - 1)), counters)
                held = b""
            continue
        top = DELIMITER + sets + _slice(number, key, False, frame)
        bottom = _slice(number, None, True, frame)
        if way == "one packet":
            out += _packets(_pes(top + DELIMITER + bottom, begun), counters)
        elif way == "one packet and delimiter":
            out += _packets(_pes(top + bottom, begun), counters)
        else:
            out += _packets(_pes(top, begun), counters)
            out += _packets(_pes(DELIMITER + bottom, begun + 1800), counters)
    return out
