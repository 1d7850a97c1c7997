"""The contents of outlines, to compare those from a file with those that are made of segments."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from packager.past.outlines import NO_TIMELINE, RECORD, Outline
from packager.window.model import Timeline


def contents(outlines: Iterable[Outline]) -> list[object]:
    return [
        (one.first, facts(one), timelines_of(one), [piece.render() for piece in one.pieces])
        for one in outlines
    ]


def timelines_of(outline: Outline) -> list[Timeline]:
    """Give the timelines that a block's numbers are of."""
    numbers = set(outline.records["timeline"].tolist()) - {NO_TIMELINE}
    return [outline.timelines[number] for number in sorted(numbers)]


def facts(outline: Outline) -> list[object]:
    """Give the facts of all numbers, whatever the denominators of seconds."""
    columns = (outline.records[field] for field in RECORD.names or ())
    return [
        [Fraction(*row) for row in one.tolist()] if one.ndim == 2 else (one.dtype, one.tolist())
        for one in columns
    ]
