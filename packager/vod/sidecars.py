"""Subtitle files beside a film: ``film.de.srt``, ``film.de.forced.vtt``, ``film.srt`` for ``film.mp4``.

They are foreign data: what can't be read is left out, with a line that says why, and the film is played.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import charset_normalizer
import structlog

from media.errors import MalformedError, MediaError, TooLargeError
from media.mp4.languages import known_language
from media.subtitles.subtitle_file import SubtitleFileLimits, read_subtitle_file
from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import FolderNames, LibraryFile, Storage
from packager.library.title_files import media_stems
from packager.transient_errors import will_pass
from packager.vod.index import FileIndex
from packager.vod.single_flight_cache import CacheLimits, SingleFlightCache
from packager.vod.text_tracks import (
    TEXT_LIMITS,
    TIMESCALE,
    FileCues,
    ShiftedCues,
    TextLimits,
    TextTrack,
    with_name,
)
from packager.vod.versioned_addresses import UNVERSIONED, version_of

log = structlog.get_logger()

REFUSAL_BYTES = 1024
"""Memory of a refusal that is kept in place of cues."""

_FORCED = ("forced", "foreign")
_SDH = ("sdh", "cc", "hi")


_ENCODINGS = (
    ("ja", "cp932 euc_jp iso2022_jp"),
    ("zh yue cmn", "gb18030 big5 big5hkscs"),
    ("ko", "cp949 johab"),
    ("ru uk bg be sr mk kk", "cp1251 koi8_r koi8_u cp866 iso8859_5"),
    ("pl cs sk hu sl hr bs ro sq", "cp1250 iso8859_2 cp1251"),
    ("el", "cp1253 iso8859_7"),
    ("he yi", "cp1255 iso8859_8"),
    ("ar fa ur", "cp1256 iso8859_6"),
    ("tr az", "cp1254"),
    ("et lv lt", "cp1257 iso8859_13"),
    ("vi", "cp1258"),
    ("th", "cp874"),
    ("de en fr es it pt nl da sv no nb nn fi is ca eu ga gl", "cp1252"),
)
"""Encodings that were in use for languages before UTF-8."""

_FEW = 10
"""Text of which less than one byte in so many isn't ASCII is written in Latin letters."""


@dataclass(frozen=True, slots=True)
class SidecarLimits:
    """What subtitle files may cost.

    Attributes:
        file_bytes: largest file; that of a film of two hours has 0.1 MB.
        files: most files of one film.
        guess_bytes: how much of a file its encoding is guessed by.
        kept: of the cues of files, or why there are none, that are remembered.
        read_at_once: how many files are read at the same time.
        wait_seconds: how long a request waits while others are read.
        file: what one may have in it.
    """

    file_bytes: int = 2 << 20
    files: int = 32
    guess_bytes: int = 32 << 10
    kept: CacheLimits = field(default_factory=lambda: CacheLimits(items=1 << 15, nbytes=32 << 20))
    read_at_once: int = 2
    wait_seconds: float = 60.0
    file: SubtitleFileLimits = field(default_factory=SubtitleFileLimits)


@dataclass(frozen=True, slots=True)
class SidecarName:
    """What the name of a subtitle file says: language (BCP 47, or None), and what it is for."""

    name: str
    language: str | None = None
    default: bool = False
    forced: bool = False
    sdh: bool = False


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A subtitle file beside a film, with its cues.

    Attributes:
        named: what its name says.
        identity: changes with the file.
        content: its cues, or why there are none.
    """

    named: SidecarName
    identity: tuple[int, ...]
    content: FileCues | str


def parse_sidecar_name(name: str, stem: str) -> SidecarName | None:
    """Read the words between a film's name and the ending; None where one is neither language nor purpose."""
    words = name[len(stem) :].split(".")[1:-1]
    language: str | None = None
    flags: set[str] = set()
    for word in words:
        lowered, tag = word.lower(), known_language(word)
        # Of a file without a language, "hi" is Hindi; behind one it is "hearing impaired".
        if lowered in (*_FORCED, "default", *_SDH) and (lowered != "hi" or language is not None):
            flags.add(lowered)
        elif tag is not None and language is None:
            language = tag
        else:
            return None
    return SidecarName(
        name, language, "default" in flags, not flags.isdisjoint(_FORCED), not flags.isdisjoint(_SDH)
    )


def decode(data: bytes, language: str | None, guess_bytes: int) -> str:
    """Decode a file whose encoding nobody has said, and whose language perhaps its name says.

    Raises:
        MalformedError: it isn't text.
    """
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        sample = data[:guess_bytes]
        guess = charset_normalizer.from_bytes(sample, cp_isolation=_candidates(sample, language)).best()
        if guess is None:  # the name says another language than the text is in
            guess = charset_normalizer.from_bytes(sample).best()
        if guess is None:
            raise MalformedError("its encoding can't be told") from None
        return data.decode(guess.encoding, "replace")
    if "\0" in text[:guess_bytes]:
        raise MalformedError("it isn't text")
    return text


def _candidates(sample: bytes, language: str | None) -> list[str] | None:
    """Give the encodings among which one is guessed; None: all that there are.

    A guess among all takes a few letters with accents for Chinese; that the language is known, or that nearly
    all bytes are ASCII, tells better.
    """
    for languages, encodings in _ENCODINGS:
        if language is not None and language.partition("-")[0] in languages.split():
            return encodings.split()
    few = sum(byte >= 0x80 for byte in sample) * _FEW < len(sample)
    return ["cp1252", "cp1250", "cp1254"] if few else None


class Sidecars:
    """Finds and reads the subtitle files of a library. It blocks, and several threads may use it at once.

    Args:
        library: where they are.
        folders: knows the names in its folders.
        limits: what they may cost.
    """

    def __init__(self, library: Storage, folders: FolderNames, limits: SidecarLimits) -> None:
        self._library = library
        self._folders = folders
        self._limits = limits
        self._reading = threading.BoundedSemaphore(limits.read_at_once)
        # By their language, too: the encoding is guessed by that.
        self._kept = SingleFlightCache[tuple[tuple[int, ...], str | None], FileCues | str](
            limits.kept, _nbytes
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
        for named in names:
            try:
                with self._library.open(f"{folder}/{named.name}".removeprefix("/")) as file:
                    found.append(Sidecar(named, file.identity, self._content(file, named.language)))
            except (NotFoundError, OSError) as error:  # it is gone, or not for everybody
                if isinstance(error, OSError) and will_pass(error):
                    raise
        return found

    def _names(self, folder: str, name: str) -> list[SidecarName]:
        found: dict[str, SidecarName] = {}
        for stem in media_stems(name):
            for one in self._folders.subtitles(folder, stem):
                named = parse_sidecar_name(one, stem)
                if named is not None:
                    found.setdefault(one, named)
        return list(found.values())

    def _content(self, file: LibraryFile, language: str | None) -> FileCues | str:
        def make() -> FileCues | str:
            if not self._reading.acquire(timeout=self._limits.wait_seconds):
                raise TimeoutError(f"{file.path} waits for others to be read")
            try:
                return self._read(file, language)
            finally:
                self._reading.release()

        return self._kept.get((file.identity, language), make)

    def _read(self, file: LibraryFile, language: str | None) -> FileCues | str:
        try:
            if file.size > self._limits.file_bytes:
                raise TooLargeError(f"{file.size} bytes: more than {self._limits.file_bytes}")
            text = decode(file.pread(0, self._limits.file_bytes), language, self._limits.guess_bytes)
            return FileCues(read_subtitle_file(text, self._limits.file))
        except MediaError as error:
            log.warning("subtitles_left_out", file=str(file.path), reason=str(error))
            return str(error)


def _nbytes(content: FileCues | str) -> int:
    return content.nbytes if isinstance(content, FileCues) else REFUSAL_BYTES


def all_text_tracks(
    index: FileIndex, sidecars: Sequence[Sidecar], limits: TextLimits = TEXT_LIMITS
) -> tuple[Sequence[TextTrack], Sequence[str]]:
    """Join a film's own text tracks and those of the files beside it.

    Returns:
        The tracks, each of another name; and a line for each file that isn't offered.
    """
    tracks = list(index.text_tracks)
    lines: list[str] = []
    early = round(index.lead_in * TIMESCALE)
    times = index.text_times - early
    for one in sidecars:
        named, content = one.named, one.content
        if isinstance(content, FileCues):
            try:
                content.require_modest(times, limits)
            except TooLargeError as error:
                content = str(error)
        if isinstance(content, str):
            lines.append(f"{named.name}: {content}")
            continue
        cues = ShiftedCues(content, early)
        version = version_of(one.identity, index.version) if index.version.name else UNVERSIONED
        flags = named.default, named.forced, named.sdh
        track = TextTrack("", named.language, "", cues, *flags, named.name, version)
        tracks.append(with_name(track, [other.name for other in tracks]))
    return tracks, lines
