"""Converts Advanced SubStation Alpha (ASS) and SubStation Alpha (SSA), events and files, to text of WebVTT.

Bold, italic and underlined words and subtitles at the top stay; fonts, colours, positions and drawings are
dropped. There is no I/O here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from media.errors import MalformedError, TooLargeError
from media.subtitles.cue_times import TIME, milliseconds
from media.subtitles.webvtt import FACES, TOP, Cue, escape, face_tags, split_lines, without_empty_lines

MAX_STYLES = 128
"""Most styles of a file that are kept; those of plain text at the bottom needn't be."""

MAX_STYLE_LINES = 4096
"""Most lines of a file's head that are read."""

STYLE_NAME_CHARACTERS = 100
"""Longest name of a style."""

FIELDS = 9
"""Fields of an event in Matroska: ReadOrder, Layer, Style, Name, three margins, Effect and Text."""

_FACE_FIELDS = (("bold", "b"), ("italic", "i"), ("underline", "u"))
_PARTS = re.compile(r"(\{[^}]*\})|\\([Nnh])")
_ESCAPE = re.compile(r"()\\([Nnh])")
_TAG = re.compile(r"\\(?:([biu])(-?[0-9]{0,4})(?=[\\}])|(an?)([0-9]{1,2})|p([0-9]{1,2})(?=[\\}])|r([^\\}]*))")
_FILE_TIME = re.compile(rf"[ \t]*{TIME}[ \t]*")
_FILE_FIELDS = ("layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text")
"""Fields of an event in files that don't say any others."""

SCRIPT_INFO = "[script info]"
"""First section of a file, in lower case."""

MAX_EVENT_FIELDS = 64

_BOLD_WEIGHT = 600
"""Weight from which ``\\b`` is bold."""


class AssStyle(NamedTuple):
    """A style of ASS, as far as WebVTT can show it.

    Attributes:
        faces: bits of ``FACES``.
        top: whether text is placed at the top of the picture.
    """

    faces: int = 0
    top: bool = False


PLAIN = AssStyle()
AssStyles = Mapping[str, AssStyle]
"""The styles of a file by their names, without plain ones."""


def read_styles(head: str) -> AssStyles:
    """Read the styles of a file's head; lines that can't be read are skipped."""
    found: dict[str, AssStyle] = {}
    fields: list[str] = []
    legacy = within = False
    for line in head.splitlines()[:MAX_STYLE_LINES]:
        kind, _, content = line.partition(":")
        if line.startswith("["):
            section = line.strip().lower()
            within, legacy = section in ("[v4+ styles]", "[v4 styles]"), section == "[v4 styles]"
        elif within and kind == "Format":
            fields = [word.strip().lower() for word in content.split(",")]
        elif within and kind == "Style" and len(found) < MAX_STYLES:
            values = dict(zip(fields, map(str.strip, content.split(",")), strict=False))
            faces = sum(FACES[tag] for name, tag in _FACE_FIELDS if values.get(name, "0") not in ("0", ""))
            style = AssStyle(faces, _is_top(values.get("alignment", ""), legacy=legacy))
            if style != PLAIN:
                found[values.get("name", "")[:STYLE_NAME_CHARACTERS]] = style
    return found


def event_cue(event: str, styles: AssStyles) -> tuple[str, str]:
    """Convert an event as Matroska has it to a cue's text and settings; empty if nothing is shown.

    Raises:
        MalformedError: fields are missing.
    """
    fields = event.split(",", FIELDS - 1)
    if len(fields) < FIELDS:
        raise MalformedError(f"an event of {len(fields)} fields")
    style = styles.get(fields[2].strip().lstrip("*"), PLAIN)
    faces, written, top, drawing = style.faces, 0, style.top, False
    pieces: list[str] = []
    parts = _split(fields[FIELDS - 1])
    for at in range(0, len(parts), 3):
        text, overrides, character = [*parts[at : at + 3], None, None][:3]
        shown = (text or "") + {"N": "\n", "n": " ", "h": "\u00a0"}.get(character or "", "")
        if shown and not drawing:
            if faces != written and shown.strip():
                pieces.append(face_tags(written, faces))
                written = faces
            pieces.append(_escaped(shown))
        for face, on, alignment, position, scale, reset in _TAG.findall(overrides or ""):
            if face:
                faces = _with_face(faces, FACES[face], on, style.faces)
            elif alignment:
                top = _is_top(position, legacy=alignment == "a")
            elif scale:
                drawing = int(scale) > 0
            else:
                faces = styles.get(reset.strip(), PLAIN).faces if reset.strip() else style.faces
    pieces.append(face_tags(written, 0))
    shown = without_empty_lines("".join(pieces))
    return shown, TOP if top and shown else ""


def read_ass_file(text: str, most_cues: int, most_characters: int) -> list[Cue]:
    """Read the cues of a whole file, in the order of their starts; lines that can't be read are skipped.

    Args:
        most_characters: longest text of an event; the rest of a longer one is left out.

    Raises:
        MalformedError: the file has no event that shows text.
        TooLargeError: the file has more than `most_cues`.
    """
    styles = read_styles(text)
    found: list[Cue] = []
    order = list(_FILE_FIELDS)
    within = False
    for line in split_lines(text):
        kind, _, content = line.partition(":")
        if line.startswith("["):
            within = line.strip().lower() == "[events]"
        elif within and kind.strip() == "Format":
            order = [word.strip().lower() for word in content.split(",")][:MAX_EVENT_FIELDS]
        elif within and kind.strip() == "Dialogue" and order[-1:] == ["text"]:
            fields = dict(zip(order, content.split(",", len(order) - 1), strict=False))
            start, end = (_FILE_TIME.fullmatch(fields.get(name, "")) for name in ("start", "end"))
            if start is None or end is None or "text" not in fields:
                continue
            event = ",".join(
                ["", "", fields.get("style", ""), *[""] * (FIELDS - 4), fields["text"][:most_characters]]
            )
            shown, settings = event_cue(event, styles)
            begin, over = milliseconds(start.groups()), milliseconds(end.groups())
            if not shown or over <= begin:
                continue
            if len(found) >= most_cues:
                raise TooLargeError(f"more than {most_cues} cues")
            found.append(Cue(begin, over, shown, settings))
    if not found:
        raise MalformedError("there is no cue in the file")
    return sorted(found, key=lambda cue: cue.start)


def _split(text: str) -> list[str | None]:
    """Split a text: three entries each are plain text, the overrides behind it, and the escaped character."""
    # Behind the last "}" no overrides begin; after each "{" there, the rest would be searched for their end.
    end = text.rfind("}") + 1
    parts, rest = _PARTS.split(text[:end]), _ESCAPE.split(text[end:])
    return [*parts[:-1], parts[-1] + rest[0], *rest[1:]]


def _escaped(text: str) -> str:
    return "\n".join(escape(line) if line.strip() else line for line in text.split("\n"))


def _with_face(faces: int, bit: int, value: str, style: int) -> int:
    """Apply an override of one face: a number, or nothing for the style's own."""
    if not value:
        return faces & ~bit | style & bit
    number = int(value) if value != "-" else 0
    on = number in (1, -1) or (bit == FACES["b"] and number >= _BOLD_WEIGHT)
    return faces | bit if on else faces & ~bit


def _is_top(alignment: str, *, legacy: bool) -> bool:
    """Return whether an alignment, by a keypad's numbers or by those of SSA, is at the top."""
    number = int(alignment) if alignment.isascii() and alignment.isdigit() and len(alignment) < 3 else 0
    return 5 <= number <= 7 if legacy else 7 <= number <= 9
