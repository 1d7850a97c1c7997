"""Reads programme guides in XMLTV, from whatever source: bytes in, programmes out, without I/O.

Expat alone could be made to work for long: entities are refused where they are declared, elements may lie
within each other only so deep, and no token may be so long that reading it again and again takes time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from xml.parsers import expat

from media.errors import MalformedError, TooLargeError

PIECE_BYTES = 128 << 10
"""Bytes that are parsed at once, without letting other threads run."""

MAX_TOKEN_BYTES = 1 << 20
"""Longest tag or comment: older versions of Expat read an incomplete one anew with each piece."""

_DATE = re.compile(
    r"([0-9]{8})([0-9]{2})?([0-9]{2})?([0-9]{2})?(?: ?(?:([+-])([0-9]{2}):?([0-9]{2})|([A-Za-z]{1,5})))?"
)
_ZONES = {
    "UTC": 0,
    "GMT": 0,
    "Z": 0,
    "WET": 0,
    "BST": 1,
    "WEST": 1,
    "CET": 1,
    "CEST": 2,
    "EET": 2,
    "EEST": 3,
    "MSK": 3,
}
_ZONES |= {"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7}
_ZONES |= {"JST": 9, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13}
"""Hours east of UTC, by the names of zones: those of xmltv.dtd, of RFC 5322 §4.3, and common ones."""

_SPACE = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\ufffe\uffff]+")
"""White space, and characters that XML can't have (XML 1.0 §2.2)."""

_TEXTS = ("title", "sub-title", "desc", "category")
"""Elements of a programme whose text is kept; a guide has those before the last once for each language."""


@dataclass(frozen=True, slots=True)
class XmltvLimits:
    """How much of a guide is read.

    Attributes:
        programmes: most programmes.
        depth: most elements within each other.
        title_characters: as much of a title or a category is kept.
        description_characters: as much of a description is kept.
        categories: as many of a programme are kept.
    """

    programmes: int = 50_000
    depth: int = 16
    title_characters: int = 300
    description_characters: int = 2000
    categories: int = 8


@dataclass(frozen=True, slots=True)
class XmltvProgramme:
    """A programme of a guide.

    Attributes:
        channel: the guide's own name of the channel.
        start: seconds since the epoch.
        stop: seconds since the epoch; None where the guide has none.
        title: the first title, in one line, as the further texts are.
    """

    channel: str
    start: int
    stop: int | None
    title: str
    subtitle: str = ""
    description: str = ""
    categories: tuple[str, ...] = ()


class XmltvReader:
    """Reads a guide as it comes.

    Args:
        limits: bounds of time and memory for one guide.

    Attributes:
        fault: why the first programme that was left out was; empty where none was.
    """

    def __init__(self, limits: XmltvLimits | None = None) -> None:
        self.fault = ""
        self._limits = limits or XmltvLimits()
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._begin_doctype
        parser.EntityDeclHandler = self._refuse_entity
        parser.StartElementHandler = self._begin_element
        parser.EndElementHandler = self._end_element
        parser.CharacterDataHandler = self._take_text
        self._received = 0
        self._depth = 0
        self._found: list[XmltvProgramme] = []
        self._count = 0
        # The attributes of the programme that is open, its texts by element, and the pieces of the open one.
        self._attributes: dict[str, str] | None = None
        self._texts: dict[str, list[str]] = {}
        self._pieces: list[str] | None = None

    def receive_data(self, data: bytes) -> None:
        """Parse the next bytes.

        Raises:
            MalformedError: the guide isn't XML, or declares entities.
            TooLargeError: the guide has too many programmes, or elements too deep within each other.
        """
        for begin in range(0, len(data), PIECE_BYTES):
            piece = data[begin : begin + PIECE_BYTES]
            self._parse(piece, last=False)
            self._received += len(piece)
            if self._received - max(self._parser.CurrentByteIndex, 0) > MAX_TOKEN_BYTES:
                raise TooLargeError(f"a tag or a comment has more than {MAX_TOKEN_BYTES} bytes")

    def receive_eof(self) -> None:
        """Check that the guide is complete.

        Raises:
            MalformedError: the guide is cut.
        """
        self._parse(b"", last=True)

    def events(self) -> Iterator[XmltvProgramme]:
        """Yield the programmes that were read since the last call."""
        found, self._found = self._found, []
        yield from found

    def _parse(self, data: bytes, *, last: bool) -> None:
        try:
            self._parser.Parse(data, last)
        except expat.ExpatError as error:
            raise MalformedError(f"no XMLTV: line {error.lineno}: {expat.ErrorString(error.code)}") from error
        except (ValueError, LookupError) as error:  # an encoding that Expat doesn't know
            raise MalformedError("no XMLTV: an encoding that isn't known") from error

    def _begin_doctype(self, _name: str, _system: str | None, _public: str | None, has_subset: int) -> None:
        # Guides name XMLTV's own DTD, which isn't fetched; they need none of their own.
        if has_subset:
            raise MalformedError("no XMLTV: it has declarations of its own")

    def _refuse_entity(self, *_: object) -> None:
        raise MalformedError("no XMLTV: it declares entities")

    def _begin_element(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > self._limits.depth:
            raise TooLargeError(f"elements lie more than {self._limits.depth} deep within each other")
        if self._depth == 1 and name != "tv":
            raise MalformedError("no XMLTV: it begins with another element than <tv>")
        if self._depth == 2 and name == "programme":
            self._count += 1
            if self._count > self._limits.programmes:
                raise TooLargeError(f"more than {self._limits.programmes} programmes")
            self._attributes, self._texts = attributes, {}
        self._pieces = None
        if self._depth == 3 and name in _TEXTS:
            most = self._limits.categories if name == "category" else 1
            self._pieces = [] if len(self._texts.setdefault(name, [])) < most else None

    def _take_text(self, text: str) -> None:
        if self._pieces is not None:
            self._pieces.append(text[: self._limits.description_characters])

    def _end_element(self, name: str) -> None:
        if self._pieces is not None:
            most = self._limits.description_characters if name == "desc" else self._limits.title_characters
            self._texts[name].append(in_one_line("".join(self._pieces), most))
            self._pieces = None
        if self._depth == 2 and self._attributes is not None:
            try:
                self._found.append(self._programme(self._attributes))
            except MalformedError as error:
                # A date that can't be read costs its programme alone.
                self.fault = self.fault or str(error)
            self._attributes = None
        self._depth -= 1

    def _programme(self, attributes: dict[str, str]) -> XmltvProgramme:
        stop = attributes.get("stop")
        title, subtitle, description = ("".join(self._texts.get(name, ())) for name in _TEXTS[:3])
        return XmltvProgramme(
            attributes.get("channel", ""),
            read_date(attributes.get("start", "")),
            None if stop is None else read_date(stop),
            title,
            subtitle,
            description,
            tuple(filter(None, self._texts.get("category", ()))),
        )


def in_one_line(text: str, most: int) -> str:
    """Return a text without control characters and line ends, of so many characters at most."""
    return _SPACE.sub(" ", text).strip()[:most]


def read_xmltv(data: bytes, limits: XmltvLimits | None = None) -> list[XmltvProgramme]:
    """Read a whole guide.

    Raises:
        MalformedError: it isn't one, or no programme of it can be read.
        TooLargeError: it has too many programmes, or is too deep.
    """
    reader = XmltvReader(limits)
    reader.receive_data(data)
    reader.receive_eof()
    found = with_stops(reader.events())
    if reader.fault and not found:
        raise MalformedError(reader.fault)
    return found


def with_stops(programmes: Iterable[XmltvProgramme]) -> list[XmltvProgramme]:
    """Return programmes that end where XMLTV gives no end: with the beginning of the next one of the channel.

    The last programme of a channel is left out where it has no end.
    """
    found: list[XmltvProgramme] = []
    # By channel: the earliest beginning so far, and the one behind it.
    later: dict[str, tuple[int, int | None]] = {}
    ordered = sorted(programmes, key=lambda one: one.start)
    for one in reversed(ordered):
        first, second = later.get(one.channel, (one.start, None))
        following = second if first == one.start else first
        later[one.channel] = one.start, following
        stop = following if one.stop is None else one.stop
        if stop is not None:
            found.append(replace(one, stop=stop))
    found.reverse()
    return found


def read_date(text: str) -> int:
    """Read a date such as ``20261126201400 +0100`` in seconds since the epoch; without a zone it is UTC.

    Raises:
        MalformedError: it is none.
    """
    found = _DATE.fullmatch(text.strip()[:64])
    if found is None:
        raise MalformedError(f"no date of XMLTV: {text[:64]!r}")
    day, hour, minute, second, sign, hours, minutes, zone = found.groups()
    if zone is not None:
        if (east := _ZONES.get(zone.upper())) is None:
            raise MalformedError(f"no zone that is known: {text[:64]!r}")
        sign, hours = "+" if east >= 0 else "-", str(abs(east))
    try:
        time = (int(hour or 0), int(minute or 0), int(second or 0))
        date = datetime(int(day[:4]), int(day[4:6]), int(day[6:]), *time, tzinfo=UTC)
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        return int((date + offset if sign == "-" else date - offset).timestamp())
    except (ValueError, OverflowError) as error:
        raise MalformedError(f"no date of XMLTV: {text[:64]!r}") from error
