"""Parser of the ``Chapters`` of a Matroska file (RFC 9559 §5.1.7)."""

from __future__ import annotations

from media.matroska import element_ids as ids
from media.matroska.ebml import Element, children, text, unsigned
from media.mp4.text.chapters import printable

_MILLISECOND = 1_000_000
"""Nanoseconds."""


def parse_chapters(data: bytes) -> tuple[tuple[int, str], ...]:
    """Read the payload of a ``Chapters`` element: start in milliseconds and title of each chapter.

    Chapters inside others are left out, and so are ordered editions, whose chapters are played in another
    order than that of the file.

    Raises:
        MalformedError: an element is cut off.
        TooLargeError: there are too many elements.
    """
    editions = [_children(data, one) for one in children(data, 0, len(data)) if one.kind == ids.EDITION_ENTRY]
    usable = [
        one
        for one in editions
        if not _number(data, one, ids.EDITION_FLAG_ORDERED)
        and not _number(data, one, ids.EDITION_FLAG_HIDDEN)
    ]
    usable.sort(key=lambda one: not _number(data, one, ids.EDITION_FLAG_DEFAULT))
    atoms = [one for one in usable[0] if one.kind == ids.CHAPTER_ATOM] if usable else []
    found = [_chapter(data, _children(data, atom)) for atom in atoms]
    return tuple(one for one in found if one is not None)


def _chapter(data: bytes, atom: list[Element]) -> tuple[int, str] | None:
    if _number(data, atom, ids.CHAPTER_FLAG_HIDDEN) or not _number(data, atom, ids.CHAPTER_FLAG_ENABLED, 1):
        return None
    displays = [one for one in atom if one.kind == ids.CHAPTER_DISPLAY]
    strings = [one for display in displays[:1] for one in _children(data, display)]
    title = next((text(data, one) for one in strings if one.kind == ids.CHAP_STRING), "")
    return _number(data, atom, ids.CHAPTER_TIME_START) // _MILLISECOND, printable(title)


def _children(data: bytes, parent: Element) -> list[Element]:
    return list(children(data, parent.payload, parent.end))


def _number(data: bytes, elements: list[Element], kind: int, default: int = 0) -> int:
    return next((unsigned(data, one) for one in elements if one.kind == kind), default)
