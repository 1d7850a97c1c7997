"""Finds a folder's tracks, orders them and names them."""

from __future__ import annotations

import os
import secrets
import shlex
from io import StringIO
from itertools import islice
from pathlib import Path

from media.mp3.id3 import Tags
from packager.natural_order import natural_key
from packager.radio.limits import StationLimits

PLAYLISTS = (".m3u", ".m3u8")
MP3 = (".mp3",)

OTHER_SOUND = (".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp2", ".oga", ".ogg", ".opus", ".wav", ".wma")
"""Endings of music that a folder's station doesn't play."""

MAX_NAMES = 1_000_000
"""Most names of files and folders that are looked at, up to the end of a folder."""

MAX_PLAYLIST_LINES = 100_000
"""Most lines of a playlist that are read."""

MAX_PLAYLIST_BYTES = 4 << 20
"""Most bytes of a playlist that are read."""


def display(path: Path | str) -> str:
    """Make a path safe to log and to show: file names needn't be UTF-8, and may have line breaks."""
    return " ".join(os.fsencode(path).decode("utf-8", "replace").split())


def track_title(tags: Tags, path: Path) -> str:
    """Return a track's title: ``Artist - Title`` as far as tagged, else the file's name."""
    if not tags.title:
        return _name_of(path)
    return f"{tags.artist} - {tags.title}" if tags.artist else tags.title


def _name_of(path: Path) -> str:
    """Return a file's name without its ending: UTF-8, or Latin-1 as of old systems."""
    name = os.fsencode(path.stem)
    try:
        text = name.decode()
    except UnicodeDecodeError:
        text = name.decode("latin-1")
    return " ".join(text.split())


def find_tracks(folder: Path, limits: StationLimits) -> list[Path]:
    """List the MP3s of a folder and its subfolders, without hidden ones. Blocks: call it in a thread.

    Args:
        folder: or a playlist (``.m3u``, ``.m3u8``), whose order is kept; or one MP3.
        limits: how much of it is read.

    Returns:
        At most ``limits.tracks`` regular files in natural order (2 before 10); none if the folder can't be
        read.
    """
    if folder.suffix.lower() in PLAYLISTS:
        return _listed(folder, limits, MP3)
    if folder.is_file():
        return [folder]
    return _in_folder(folder, limits, MP3)


def find_unplayed(folder: Path, limits: StationLimits) -> list[Path]:
    """List the music of a folder, or of a playlist, that isn't played since it isn't MP3. Blocks.

    Returns:
        At most ``limits.tracks`` regular files, in the order of ``find_tracks``.
    """
    if folder.suffix.lower() in PLAYLISTS:
        return _listed(folder, limits, OTHER_SOUND)
    return _in_folder(folder, limits, OTHER_SOUND)


def how_to_play(path: Path) -> str:
    """Return what to do with a file of music that isn't MP3, with a command line that can be pasted."""
    shown = shlex.quote(display(path)), shlex.quote(display(path.with_suffix(".mp3")))
    return f"a folder's station plays MP3: ffmpeg -i {shown[0]} -b:a 192k {shown[1]}"


def why_no_tracks(folder: Path, limits: StationLimits) -> str:
    """Return why ``find_tracks`` finds nothing, and what would help. Blocks: callers use a thread."""
    if not folder.exists():
        return "it isn't there: set the station's folder to one that has MP3s, or make it"
    if not os.access(folder, os.R_OK):
        return "it may not be read: change its permissions"
    others = find_unplayed(folder, limits)
    if others:
        return f"no MP3 is in it, but {len(others)} other files of music; {how_to_play(others[0])}"
    return "no MP3 is in it: put some there, they are heard by themselves"


def _in_folder(folder: Path, limits: StationLimits, endings: tuple[str, ...]) -> list[Path]:
    """List files of a folder and its subfolders by their endings, without hidden ones, in natural order."""
    found: list[Path] = []
    looked_at = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=natural_key)
        paths = (Path(parent, name) for name in names if not name.startswith("."))
        found += (path for path in paths if path.suffix.lower() in endings and path.is_file())
        looked_at += len(names) + 1
        if len(found) >= limits.tracks or looked_at >= MAX_NAMES:
            break
    found.sort(key=lambda path: [natural_key(part) for part in path.relative_to(folder).parts])
    return found[: limits.tracks]


def _listed(playlist: Path, limits: StationLimits, endings: tuple[str, ...]) -> list[Path]:
    """Read a playlist; entries that don't exist, have other endings or are URLs are left out."""
    try:
        with playlist.open("rb") as file:
            data = file.read(MAX_PLAYLIST_BYTES)
    except OSError:
        return []
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    lines = (line.strip() for line in islice(StringIO(text, newline=None), MAX_PLAYLIST_LINES))
    paths = (Path(playlist.parent, line) for line in lines if line and not line.startswith("#"))
    found = (path for path in paths if path.suffix.lower() in endings and path.is_file())
    return list(islice(found, limits.tracks))


def shuffled(paths: list[Path], last: Path | None) -> list[Path]:
    """Return the tracks in random order, not beginning with the one that was just played."""
    order = list(paths)
    secrets.SystemRandom().shuffle(order)
    if order[0] == last:
        order.append(order.pop(0))
    return order
