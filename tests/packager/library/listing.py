"""Folders of many files, and the listing of all of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from packager.concurrency import background_task
from packager.library.catalogue import Catalogue, Entry
from packager.library.file_listing import ListedFolder
from packager.library.file_probe import Facts
from packager.process.ffmpeg_discovery import Tools

THEN = 1_700_000_000 * 10**9


async def files(catalogue: Catalogue, patience: float | None = None) -> list[Entry]:
    """All files, however many pages they take."""
    found: list[Entry] = []
    after = None
    while True:
        page = await catalogue.page(after, patience=patience)
        found += [item for item in page.items if isinstance(item, Entry)]
        if page.after is None:
            return found
        after = page.after


def fill(root: Path, names: Iterable[str]) -> None:
    paths = [root / name for name in names]
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        path.write_bytes(b"1234")


async def listed(root: Path, tools: Tools | None) -> dict[str, Facts]:
    """Return what the catalogue of a folder has found in its files, by their paths."""
    catalogue = Catalogue(ListedFolder(root), tools)
    async with background_task(catalogue.run()):
        return {entry.path: entry.facts or Facts() for entry in await files(catalogue)}
