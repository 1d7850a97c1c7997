"""Reads WebVTT cues incrementally, and writes WebVTT segments of HLS (RFC 8216 §3.5). Without I/O.

The reader is stricter than players, which would silently drop cues: errors name the line. Styles, regions and
comments are skipped.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from media.errors import MalformedError, UnsupportedError

MEDIA_TYPE = "text/vtt"
HEADER = b"WEBVTT\n"
"""A file without cues."""

TICKS = 90_000
"""Ticks per second of an MPEG-2 timestamp."""

WRAP = 1 << 33
"""Number of values of an MPEG-2 timestamp."""

TOP = "line:5%"
"""Settings of a cue at the top of the picture."""

FACES = {"b": 1, "i": 2, "u": 4}
"""Tags of bold, italic and underlined text, and the bit of each in a set of faces."""

_TIME = r"(?:([0-9]{2,6}):)?([0-5][0-9]):([0-5][0-9])\.([0-9]{3})"
_TIMING = re.compile(rf"[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}(?:[ \t]+(.*))?", re.ASCII)
_SETTING = re.compile(r"(?:vertical|line|position|size|align):[A-Za-z0-9.,%-]{1,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cue:
    """A caption with the times between which it is shown.

    Attributes:
        start: milliseconds.
        end: milliseconds, above the start.
        text: one or more lines, in which ``-->`` doesn't occur.
        settings: position of the cue (§4.4), or nothing.
    """

    start: int
    end: int
    text: str
    settings: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CueLimits:
    """Limits of cues that are read.

    Attributes:
        line_characters: Longest line.
        lines: Most lines of a cue's text; a screen shows three or four.
    """

    line_characters: int = 4096
    lines: int = 32


DEFAULT_LIMITS = CueLimits()


class CueReader:
    """Reads the cues of a WebVTT file or an endless body incrementally; does no I/O."""

    def __init__(self, limits: CueLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._after_return = False
        self._line = 0
        self._state: Callable[[str], None] = self._signature
        self._timing: tuple[int, int, str] = (0, 0, "")
        self._text: list[str] = []
        self._found: list[Cue] = []

    def receive_data(self, data: bytes) -> None:
        """Parse the next bytes; ``cues`` returns the completed cues.

        Raises:
            MalformedError: with the line number; earlier cues are still available.
            UnsupportedError: the file has an X-TIMESTAMP-MAP.
        """
        self._push_text(self._decoder.decode(data))

    def receive_eof(self) -> None:
        """Note the end, which completes the last cue.

        Raises:
            MalformedError: the file ends within a cue's head, or is empty.
        """
        self._push_text(self._decoder.decode(b"", final=True))
        if self._pending:
            self._push_line(self._pending)
            self._pending = ""
        if self._state == self._signature:
            raise MalformedError("line 1: the file is empty")
        self._push_line("")

    def cues(self) -> Iterator[Cue]:
        """Return the completed cues, each once."""
        found, self._found = self._found, []
        return iter(found)

    def _push_text(self, text: str) -> None:
        if not text:
            return
        if self._after_return and text[0] == "\n":
            text = text[1:]  # the LF of a CR LF between two chunks
        self._after_return = text.endswith("\r")
        # §6.1: a NUL counts as U+FFFD.
        *lines, self._pending = split_lines(self._pending + text.replace("\0", "\ufffd"))
        for line in lines:
            self._push_line(line)
        if len(self._pending) > self._limits.line_characters:
            self._push_line(self._pending)

    def _push_line(self, line: str) -> None:
        self._line += 1
        if len(line) > self._limits.line_characters:
            raise self._wrong(f"more than {self._limits.line_characters} characters")
        self._state(line)

    def _wrong(self, reason: str) -> MalformedError:
        return MalformedError(f"line {self._line}: {reason}")

    def _signature(self, line: str) -> None:
        # §4.1: a byte order mark may stand before it.
        if not re.fullmatch(r"\ufeff?WEBVTT(?:[ \t].*)?", line):
            raise self._wrong("a file begins with WEBVTT")
        self._state = self._header

    def _header(self, line: str) -> None:
        if line.startswith("X-TIMESTAMP-MAP"):
            raise UnsupportedError(f"line {self._line}: X-TIMESTAMP-MAP is of another channel's time")
        if "-->" in line:
            raise self._wrong("no empty line between the header and the first cue")
        if not line:
            self._state = self._between

    def _between(self, line: str) -> None:
        if not line:
            return
        if re.match(r"NOTE(?:[ \t]|$)", line) or re.fullmatch(r"(?:STYLE|REGION)[ \t]*", line):
            self._state = self._passed_over
        elif "-->" in line:
            self._head(line)
        else:
            # A cue's identifier, which is dropped: identifiers of several files may collide.
            self._state = self._head

    def _passed_over(self, line: str) -> None:
        if "-->" in line:  # §4.1: neither comments nor styles nor regions have it
            raise self._wrong("no empty line between a comment, style or region and the cue behind it")
        if not line:
            self._state = self._between

    def _head(self, line: str) -> None:
        found = _TIMING.fullmatch(line)
        if found is None:
            raise self._wrong("expected a cue's times, such as 00:01.000 --> 00:02.500")
        start, end = _milliseconds(found.groups()[:4]), _milliseconds(found.groups()[4:8])
        if end <= start:  # §4.4
            raise self._wrong("a cue ends before it begins")
        self._timing = (start, end, valid_settings(found[9] or ""))
        self._state = self._body

    def _body(self, line: str) -> None:
        if "-->" in line:  # §4.4: a cue's text doesn't have it
            raise self._wrong("--> in a cue's text, or no empty line before the next cue")
        if line:
            if len(self._text) >= self._limits.lines:
                raise self._wrong(f"a cue of more than {self._limits.lines} lines")
            self._text.append(line)
            return
        start, end, settings = self._timing
        if self._text:
            self._found.append(Cue(start, end, "\n".join(self._text), settings))
        self._text = []
        self._state = self._between


def segment(cues: Iterable[Cue], origin: int, local: int = 0) -> bytes:
    """Write a segment for HLS.

    Args:
        cues: in order of their starts.
        origin: media time in whole seconds.
        local: time of the cues' own clock at the origin, in whole seconds.

    Returns:
        A WebVTT file.
    """
    # RFC 8216 §3.5: maps cue times to MPEG-2 timestamps of 33 bits.
    mapped = f"X-TIMESTAMP-MAP=LOCAL:{timestamp(1000 * local)},MPEGTS:{origin * TICKS % WRAP}\n\n"
    return HEADER + mapped.encode() + _blocks(cues)


def write_file(cues: Iterable[Cue]) -> bytes:
    """Write a file of cues in order of their starts."""
    return HEADER + b"\n" + _blocks(cues)


def _blocks(cues: Iterable[Cue]) -> bytes:
    # An empty line behind the last cue, too: some readers concatenate segments.
    return "".join(f"{_head(cue)}\n{cue.text}\n\n" for cue in cues).encode()


def split_lines(text: str) -> list[str]:
    """Split a text at its line ends, faster than a regular expression, which holds up all threads."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def valid_settings(text: str) -> str:
    """Return the valid ones of a cue's settings (§4.4)."""
    return " ".join(word for word in text.split() if _SETTING.fullmatch(word))


def escape(text: str) -> str:
    """Escape plain text for a cue (§4.2.2); empty lines, which would end the cue, are left out."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return without_empty_lines(escaped)


def without_empty_lines(text: str) -> str:
    """Remove empty lines, which would end the cue, and characters that a line of a cue can't have."""
    lines = split_lines(text.replace("\0", "\ufffd"))
    return "\n".join(line.replace("-->", "--&gt;") for line in lines if line.strip())


def face_tags(before: int, after: int) -> str:
    """Write the tags that end one set of faces and begin another."""
    ended = "".join(f"</{tag}>" for tag, bit in reversed(FACES.items()) if before & bit)
    return ended + "".join(f"<{tag}>" for tag, bit in FACES.items() if after & bit)


def timestamp(milliseconds: int) -> str:
    """Write a time (§4.2)."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"


def _head(cue: Cue) -> str:
    return f"{timestamp(cue.start)} --> {timestamp(cue.end)} {cue.settings}".rstrip()


def _milliseconds(groups: tuple[str | None, ...]) -> int:
    hours, minutes, seconds, rest = (int(group or 0) for group in groups)
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + rest
