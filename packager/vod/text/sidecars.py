"""Subtitle files beside a film: ``film.de.srt``, ``film.German.forced.vtt``, ``film.ass`` for ``film.mp4``.

They are foreign data: what can't be read is left out, with a line that says why, and the film is played.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import structlog

from media.errors import MediaError
from media.mp4.languages import known_language, named_language
from media.mp4.movie.box_arrays import Int64
from media.subtitles.character_encodings import decode
from media.subtitles.subtitle_file import SubtitleFileLimits, read_subtitle_file
from packager.blocking_calls import awaited, may_be_repeated
from packager.library.file_endings import SUBTITLE_ENDINGS
from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import FolderNames, LibraryFile, Storage
from packager.library.title_files import composed, media_stems
from packager.reader_guard import ReaderGuard
from packager.single_flight_cache import CacheLimits, SingleFlightCache
from packager.threads import ThreadLimits, Threads
from packager.transient_errors import will_pass
from packager.vod.text.cues import CueFacts, FileCues, TextLimits, facts_of

log = structlog.get_logger()

REFUSAL_BYTES = 1024
"""Memory of a refusal that is kept in place of cues."""

_FORCED = ("forced", "foreign")
_SDH = ("sdh", "cc", "hi")
_PURPOSES = (*_FORCED, *_SDH, "default")

_BETWEEN_WORDS = re.compile(r"[ _()\[\]+-]")
_BEFORE_PURPOSE = re.compile(rf"[ _-](?=(?:{'|'.join(_PURPOSES)})(?![^ _()\[\]+-]))", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,3}")
"""Number of a track or a file, by which rippers tell several of one language apart."""

MAX_FACTS = 1 << 16
"""Most entries that are remembered of what films' playlists say of files."""

READ_AT_ONCE = 2
"""Files that are read at once."""

MAX_FILE_BYTES = 2 << 20
"""Largest subtitle file; that of a film of two hours has 0.1 MB."""


@dataclass(frozen=True, slots=True)
class SidecarLimits:
    """The limits of subtitle files.

    Attributes:
        files: most files of one film.
        film_bytes: most bytes of all files of one film together; further files are left out.
        kept: of the cues of files, or why there are none, that are remembered.
        wait_seconds: how long a request waits while others are read.
        file: limits of one file's content.
    """

    files: int = 32
    film_bytes: int = 12 << 20
    kept: CacheLimits = field(default_factory=lambda: CacheLimits(items=1 << 15, nbytes=32 << 20))
    wait_seconds: float = 60.0
    file: SubtitleFileLimits = field(default_factory=SubtitleFileLimits)


@dataclass(frozen=True, slots=True)
class SidecarName:
    """The language (BCP 47, or None) and the purpose of a subtitle file, from its name."""

    name: str
    language: str | None = None
    default: bool = False
    forced: bool = False
    sdh: bool = False


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A subtitle file beside a film, whose cues are read when they are wanted.

    Attributes:
        path: relative to the library.
        refusal: why it isn't even read; empty where it is.
    """

    named: SidecarName
    path: str
    identity: tuple[int, ...]
    owner: Sidecars
    refusal: str = ""

    def cues(self) -> FileCues:
        """Return its cues, which are parsed once and kept for a while.

        Raises:
            NotFoundError: it has gone or changed meanwhile.
            OSError: it can't be read now.
        """
        content = self.owner.content(self)
        if isinstance(content, str):
            raise NotFoundError(f"{self.path}: {content}")
        return content


def parse_sidecar_name(name: str, stem: str) -> SidecarName | None:
    """Read the words between a film's name and the ending; None where one is neither language nor purpose."""
    parsed = _parsed(name, stem)
    return None if isinstance(parsed, str) else parsed


def _parsed(name: str, stem: str) -> SidecarName | str:
    """Read the words between a film's name and the ending, or return why they aren't of a subtitle file."""
    words = list(_words(composed(name)[len(composed(stem)) :].split(".")[1:-1]))
    tags = {word: tag for word in words if (tag := known_language(word) or named_language(word)) is not None}
    # Of a file without another language, "hi" is Hindi; else it is "hearing impaired".
    languages = [word for word in tags if word.lower() != "hi"] or list(tags)
    flags = {word.lower() for word in words if word not in languages}
    if any(one not in _PURPOSES and not _NUMBER.fullmatch(one) for one in flags):
        return "its name has a word that is neither a language nor a purpose"
    if len(languages) > 1:
        return f"its name has several languages: {', '.join(languages)}"
    return SidecarName(
        name,
        tags[languages[0]] if languages else None,
        "default" in flags,
        not flags.isdisjoint(_FORCED),
        not flags.isdisjoint(_SDH),
    )


def _reason(name: str, stems: Sequence[str], most: int) -> str:
    """Return why a file of subtitles isn't used.

    Args:
        stems: with which its name has to begin.
        most: files of one film that are used.
    """
    if not name.lower().endswith(SUBTITLE_ENDINGS):
        return "it isn't one of the formats that are read: SRT, VTT, ASS and SSA"
    stem = next(filter(composed(name).startswith, map(composed, stems)), None)
    if stem is None:
        return "its name doesn't begin with the film's"
    rest = composed(name)[len(stem) :]
    if not rest.startswith("."):
        return f"no dot is behind the film's name, as in {stem}.{rest.lstrip(' _-')}"
    parsed = _parsed(name, stem)
    return parsed if isinstance(parsed, str) else f"the film has more than {most} subtitle files"


def _words(parts: Sequence[str]) -> Iterator[str]:
    """Yield the words of a name's parts: ``2_English`` has two, ``pt_BR`` is one language."""
    for part in itertools.chain.from_iterable(_BEFORE_PURPOSE.sub(" ", part).split(" ") for part in parts):
        is_language = known_language(part) is not None or named_language(part) is not None
        yield from (part,) if is_language else filter(None, _BETWEEN_WORDS.split(part))


class Sidecars:
    """Finds and reads the subtitle files of a library. Methods block; several threads may call them.

    Args:
        folders: lists the names in the library's folders.
    """

    def __init__(self, library: Storage, folders: FolderNames, limits: SidecarLimits) -> None:
        self._library = library
        self._folders = folders
        self._limits = limits
        bounds = ThreadLimits(threads=READ_AT_ONCE, wait_seconds=limits.wait_seconds)
        self._threads = Threads(bounds, "subtitles")
        # By their language, too: the encoding is guessed by that.
        self._kept = SingleFlightCache[tuple[tuple[int, ...], str | None], FileCues | str](
            limits.kept, _nbytes
        )
        self._facts = SingleFlightCache[tuple[tuple[int, ...], str | None, bytes], CueFacts](
            CacheLimits(items=MAX_FACTS)
        )

    def beside(self, path: str) -> list[Sidecar]:
        """Find the subtitle files of a film, in the order of their names.

        Args:
            path: the film's, relative to the library.

        Raises:
            OSError: the system has no room to look at them now; else what can't be read is left out.
        """
        folder, _, name = path.rpartition("/")
        found: list[Sidecar] = []
        try:
            names = self._names(folder, name)[: self._limits.files]
        except (OSError, ValueError) as error:  # the folder is gone, or not for us to list
            if isinstance(error, OSError) and will_pass(error):
                raise
            return []
        size = 0
        for named in names:
            path = f"{folder}/{named.name}".removeprefix("/")
            try:
                with self._library.open(path) as file:
                    refusal = self._refusal(file.size, size)
                    found.append(Sidecar(named, path, file.identity, self, refusal))
                    size += 0 if refusal else file.size
            except (NotFoundError, OSError) as error:  # the file is gone, or isn't readable
                if isinstance(error, OSError) and will_pass(error):
                    raise
        return found

    def _refusal(self, size: int, before: int) -> str:
        """Return why a file isn't read; empty if it is."""
        if size > MAX_FILE_BYTES:
            return f"{size} bytes: more than {MAX_FILE_BYTES}"
        if before + size > self._limits.film_bytes:
            return f"more than {self._limits.film_bytes} bytes of subtitle files with those before it"
        return ""

    def _names(self, folder: str, name: str) -> list[SidecarName]:
        found: dict[str, SidecarName] = {}
        for stem in media_stems(name):
            for one in self._folders.subtitles(folder, stem):
                named = parse_sidecar_name(one, stem)
                if named is not None:
                    found.setdefault(one, named)
            for below in self._folders.subtitles_below(folder, stem):
                named = parse_sidecar_name(below.words, "")
                if named is not None and below.name.lower().endswith(SUBTITLE_ENDINGS):
                    found.setdefault(below.name, replace(named, name=below.name))
        return list(found.values())

    def unused(self, path: str) -> list[tuple[str, str]]:
        """Name the files of subtitles that seem to be a film's and aren't used, each with the reason.

        Args:
            path: the film's, relative to the library.

        Raises:
            OSError: the system has no room to look at them now.
        """
        folder, _, name = path.rpartition("/")
        found: dict[str, str] = {}
        try:
            used = {one.name for one in self._names(folder, name)[: self._limits.files]}
            stems = media_stems(name)
            for stem in stems:
                for one in self._folders.unused(folder, stem):
                    found[one] = _reason(one, stems, self._limits.files)
                for below in self._folders.subtitles_below(folder, stem):
                    found[below.name] = _reason(below.words, ("",), self._limits.files)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and will_pass(error):
                raise
            return []
        return [(one, reason) for one, reason in found.items() if one not in used][: self._limits.files]

    def content(self, sidecar: Sidecar) -> FileCues | str:
        """Return a file's cues, or why there are none; parsed once, and kept for a while.

        Raises:
            LackingError: the file has to be read before, in the turn of a client.
            NotFoundError: it has gone or changed meanwhile.
            OSError: it can't be read now.
        """

        def make() -> FileCues | str:
            with self._library.open(sidecar.path) as file:
                if file.identity != sidecar.identity:
                    raise NotFoundError(f"{sidecar.path} has changed")
                return self._read(file, sidecar.named.language)

        def begin(client: str) -> asyncio.Future[FileCues | str]:
            return self._threads.of(client, key).submit(self._kept.get, key, make)

        key = sidecar.identity, sidecar.named.language
        kept = self._kept.find(key)
        if kept is not None:
            return kept
        return awaited(("subtitles", key), begin) if may_be_repeated() else self._kept.get(key, make)

    def facts(self, sidecar: Sidecar, times: Int64, limits: TextLimits) -> CueFacts:
        """Return what a film's playlists say of a file, without its cues where that is known already.

        Args:
            times: when each of the film's segments begins, by the time of the cues, and behind them the end.
            limits: most cues and bytes of a segment.

        Raises:
            NotFoundError: it has gone or changed meanwhile.
            OSError: it can't be read now.
        """
        if sidecar.refusal:
            return CueFacts(sidecar.refusal)

        def make() -> CueFacts:
            content = self.content(sidecar)
            return CueFacts(content) if isinstance(content, str) else facts_of(content, times, limits)

        key = sidecar.identity, sidecar.named.language, blake2b(times.tobytes(), digest_size=16).digest()
        return self._facts.get(key, make)

    def _read(self, file: LibraryFile, language: str | None) -> FileCues | str:
        try:
            with ReaderGuard(file.path):
                text = decode(file.pread(0, MAX_FILE_BYTES), language)
                return FileCues(read_subtitle_file(text, self._limits.file))
        except MediaError as error:
            log.warning("subtitles were left out", file=str(file.path), reason=str(error))
            return str(error)


def _nbytes(content: FileCues | str) -> int:
    return content.nbytes if isinstance(content, FileCues) else REFUSAL_BYTES
