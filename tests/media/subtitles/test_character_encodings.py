"""Subtitle files are decoded as they were written, whether or not anybody says how that was."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import pytest

from media.errors import MalformedError
from media.subtitles.character_encodings import decode
from tests.packager.vod.text.subtitle_languages import WRITTEN


def subrip(lines: tuple[str, ...]) -> str:
    return "".join(
        f"{number}\r\n00:00:{number:02},000 --> 00:00:{number:02},900\r\n{line}\r\n\r\n"
        for number, line in enumerate(lines * 3, 1)
    )


def encoded(text: str, encoding: str) -> bytes:
    """Encode a text; what cp1258 has of Vietnamese are letters and the marks of their tones."""
    if encoding != "cp1258":
        return text.encode(encoding)
    forms = []
    for character in text:
        letter, *marks = list(unicodedata.normalize("NFD", character))
        tones = [mark for mark in marks if mark in "\u0300\u0301\u0303\u0309\u0323"]
        rest = [mark for mark in marks if mark not in tones]
        forms += [unicodedata.normalize("NFC", "".join((letter, *rest))), *tones]
    return "".join(forms).encode(encoding)


def written() -> Iterator[tuple[str, str, str, bytes]]:
    for one in WRITTEN:
        for encoding in one.encodings.split():
            text = subrip(one.lines)
            yield one.language, encoding, text, encoded(text, encoding)


@pytest.mark.parametrize("is_named", [False, True])
def test_of_thirty_languages_in_their_usual_encodings_19_of_20_are_decoded_as_written(
    is_named: bool,
) -> None:
    assert len({language for language, *_ in written()}) >= 30
    files = list(written())
    wrong = [
        f"{language} {encoding}"
        for language, encoding, text, data in files
        if unicodedata.normalize("NFC", decode(data, language if is_named else None)) != text
    ]
    assert len(wrong) <= len(files) / 20, wrong


@pytest.mark.parametrize("is_named", [False, True])
def test_a_byte_that_is_not_utf_8_costs_its_character_alone(is_named: bool) -> None:
    for one in WRITTEN:
        text = subrip((*one.lines, "café"))
        broken = text.encode().replace("café".encode(), "café".encode("latin-1"), 1)
        assert decode(broken, one.language if is_named else None) == text.replace("café", "caf\ufffd", 1)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("language", ["de", "ru", "zh", "ar"])
def test_utf_16_needs_no_mark(encoding: str, language: str) -> None:
    text = subrip(next(one.lines for one in WRITTEN if one.language == language))
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_says_the_encoding(encoding: str) -> None:
    text = subrip(WRITTEN[0].lines)
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize("data", [bytes(1000), bytes(range(256)) * 8, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_what_is_no_text_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError, match="it isn't text"):
        decode(data)
