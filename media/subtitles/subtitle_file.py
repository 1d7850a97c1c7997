"""Reads the cues of subtitle files, SubRip's (``.srt``), WebVTT's and ASS's, as leniently as players do.

Such files are written by hand and by many programs, so malformed cues are skipped. `webvtt` has the strict
reader, which reports a publisher's mistakes. There is no I/O here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from media.errors import MalformedError, TooLargeError
from media.subtitles.ass import SCRIPT_INFO, read_ass_file
from media.subtitles.cue_times import TIME, milliseconds
from media.subtitles.webvtt import TOP, Cue, split_lines, valid_settings, without_empty_lines


@dataclass(frozen=True, slots=True)
class SubtitleFileLimits:
    """Limits of a subtitle file.

    Attributes:
        cues: most cues: a film of two hours has 2,000.
        lines: most lines of a cue's text; further ones are left out.
        line_characters: longest line; the rest of a longer one is left out.
        searched_lines: most lines behind a cue's times in which its text is looked for.
        timing_characters: most characters of a line with a cue's times.
    """

    cues: int = 50_000
    lines: int = 16
    line_characters: int = 500
    searched_lines: int = 1000
    timing_characters: int = 1000


_TIMING = re.compile(rf"[ \t]*{TIME}[ \t]*-{{1,3}}>[ \t]*{TIME}(.*)")
_PART_OF_TIME = re.compile(r"[0-9][ \t]*[:;.,][ \t]*[0-9]")
_NUMBER = re.compile(r"[ \t]*[0-9]{1,9}[ \t]*", re.ASCII)
_KEPT_TAG = re.compile(r"&lt;(/?)([biu])&gt;", re.IGNORECASE)
# Neither goes over the beginning of another one: each character would be looked at 200 times.
_DROPPED_TAG = re.compile(r"</?(?:font|span|div|p|c)(?:[ \t][^<>\n]{0,200})?>", re.IGNORECASE)
_POSITION = re.compile(r"\{\\an?([1-9][0-9]?)\}")
_OVERRIDE = re.compile(r"\{\\[^{}\n]{0,200}\}")


def read_subtitle_file(text: str, limits: SubtitleFileLimits | None = None) -> list[Cue]:
    """Read the cues of a subtitle file, in SubRip, WebVTT or ASS.

    Args:
        text: of the whole file; the header "WEBVTT" tells WebVTT from SubRip, and a section's name tells ASS.

    Returns:
        The cues, in the order of their starts.

    Raises:
        MalformedError: the file has no cue.
        TooLargeError: the file has more cues than the limit.
    """
    limits = limits or SubtitleFileLimits()
    # Each part of a joined file may begin with a mark; CR CR LF ends a line that was converted twice.
    text = text.replace("\ufeff", "").replace("\r\r\n", "\n")
    if text.lstrip()[: len(SCRIPT_INFO)].lower() == SCRIPT_INFO:
        return read_ass_file(text, limits.cues, limits.lines * limits.line_characters)
    webvtt = text.startswith("WEBVTT")
    found: list[Cue] = []
    for start, end, settings, lines in _blocks(split_lines(text), limits, webvtt=webvtt):
        if len(found) >= limits.cues:
            raise TooLargeError(f"more than {limits.cues} cues")
        shown = "\n".join(line[: limits.line_characters] for line in lines[: limits.lines])
        if webvtt:
            shown = without_empty_lines(shown)
        else:
            shown, settings = subrip_cue(shown)
        if shown and end > start:
            found.append(Cue(start, end, shown, settings))
    if not found:
        raise MalformedError("there is no cue in the file")
    return sorted(found, key=lambda cue: cue.start)


def _blocks(
    lines: Sequence[str], limits: SubtitleFileLimits, *, webvtt: bool
) -> Iterator[tuple[int, int, str, Sequence[str]]]:
    """Yield times, settings and lines of text of each cue."""
    heads = [
        (at, timing)
        for at, line in enumerate(lines)
        if "->" in line and (timing := _timing(line, limits.timing_characters, webvtt=webvtt)) is not None
    ]
    for number, (at, match) in enumerate(heads):
        if not match:
            continue
        end = heads[number + 1][0] if number + 1 < len(heads) else len(lines)
        if webvtt:
            # §4.1: an empty line ends a cue; behind it are identifiers, comments and styles.
            end = next((line for line in range(at + 1, end) if not lines[line]), end)
        elif end < len(lines) and end > at + 1 and _NUMBER.fullmatch(lines[end - 1]):
            end -= 1  # the number of the next cue; an empty line doesn't end a text of SubRip
        times = milliseconds(match.groups()[:5]), milliseconds(match.groups()[5:10])
        text = [line for line in lines[at + 1 : min(end, at + 1 + limits.searched_lines)] if line.strip()]
        yield *times, valid_settings(match[11][:200]), text


def _timing(line: str, characters: int, *, webvtt: bool) -> re.Match[str] | Literal[""] | None:
    """Return the times of a cue's first line; empty if they can't be read, None of a line of text."""
    match = _TIMING.match(line) if len(line) <= characters else None
    # §6.1: a line with "-->" is the beginning of a cue; a text of SubRip may have an arrow.
    is_broken = "-->" in line and (webvtt or _PART_OF_TIME.search(line) is not None)
    return match or ("" if is_broken else None)


def subrip_cue(text: str) -> tuple[str, str]:
    """Convert the text of a SubRip cue to WebVTT, and return it with its settings."""
    return _webvtt_text(text), TOP if _is_on_top(text) else ""


def _is_on_top(text: str) -> bool:
    """Return whether a cue is placed at the top, as subtitles are where the picture itself has text."""
    found = _POSITION.search(text)
    return found is not None and found[0].startswith(r"{\an") and found[1] in ("7", "8", "9")


def _webvtt_text(text: str) -> str:
    """Convert the text of a SubRip cue to WebVTT: bold, italic and underline stay, fonts are dropped."""
    text = _DROPPED_TAG.sub("", _OVERRIDE.sub("", text.replace("\\N", "\n")))
    for character, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, escaped)
    # Existing entities stay entities.
    text = re.sub(r"&amp;(amp|lt|gt|nbsp|lrm|rlm);", r"&\1;", text)
    text = _KEPT_TAG.sub(lambda match: f"<{match[1]}{match[2].lower()}>", text)
    return without_empty_lines(text)
