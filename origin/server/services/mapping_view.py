"""A view of a mapping by what its values have, which is never out of date."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

Whole = TypeVar("Whole")
Part = TypeVar("Part")


class MappingView(Mapping[str, Part]):
    """Maps names to what a function returns of another mapping's values, at the moment of each look."""

    def __init__(self, whole: Mapping[str, Whole], part_of: Callable[[Whole], Part]) -> None:
        self._whole = whole
        self._part_of = part_of

    def __getitem__(self, name: str) -> Part:
        return self._part_of(self._whole[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole)

    def __len__(self) -> int:
        return len(self._whole)
