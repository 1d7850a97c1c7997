"""Names of a film's tracks for menus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from media.mp4.languages import language_name


def display_name(title: str, language: str | None, purposes: Sequence[str], kind: str = "") -> str:
    """Return a track's own name, or that of its language, or else of its kind, with its purposes."""
    if title:
        return title.replace('"', "'")
    name = kind if language is None else language_name(language)
    words = ", ".join(purposes)
    return f"{name} ({words})" if name and words else name or words


def distinct(names: Iterable[tuple[str, str]]) -> list[str]:
    """Return names, each followed by its second form where it occurs before."""
    found: list[str] = []
    for name, second in names:
        found.append(f"{name} ({second})".replace('"', "'") if name in found else name)
    return found
