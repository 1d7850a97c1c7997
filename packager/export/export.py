"""VOD ahead of time: the same playlists and segments as on request, written to a folder for any web server.

A film is written to a folder whose name ends in ``.part``, its record last, and the folder is then put in its
place as a whole: so a run that was cut short continues where it was, and a player never meets half a film,
nor is an earlier one removed before the new one is complete. Links in the folders aren't followed, and only
files of such a run are overwritten.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from media.errors import MalformedError, MediaError
from packager.export.ladder import EncodingProgress, Ladder
from packager.export.package_record import (
    MASTER_NAME,
    RECORD_NAME,
    Identity,
    Record,
    empty_ours,
    is_whole,
    read_record,
    remove_others,
    remove_ours,
    require_ours,
    write,
    written,
)
from packager.export.sources import Folders, PackagedFilm, find_sources
from packager.library.local_storage import LocalFile, NotFoundError
from packager.library.title_files import RENDITION
from packager.reader_guard import ReaderGuard
from packager.safe_files import DataFolder, NotOursError, OpenFolder

if TYPE_CHECKING:
    from packager.export.film_outputs import Film, Output

UNDER_WAY = ".part"
"""Behind the name of a folder that is being written."""

OLD = ".old"
"""Behind the name of one that is being replaced."""

Progress = Callable[[str, int, int], None]
"""Takes the name of the input, the segments that are written, and the number of all of its."""

LOOK_SECONDS = 0.2
"""Pause between two checks whether another run still packages the same film to the same place."""

OTHER_RUN_SECONDS = 3600.0
"""Longest wait for another run that packages the same film to the same place; none is for a killed run."""

ENCODING_RUN_SECONDS = 48 * 3600.0
"""Longest wait for another run that also encodes."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The functions to which an export reports its progress.

    Attributes:
        left_out: called with a line about each track that isn't packaged.
        failed: called with each input that can't be packaged, and the reason.
        planned: called before anything is encoded with the name of each input, and its length in seconds.
        encoded: called with each piece that is encoded, or that an earlier run has encoded.
    """

    progress: Progress = lambda *_: None
    left_out: Callable[[str], None] = lambda _: None
    failed: Callable[[Exception], None] = lambda _: None
    planned: Callable[[str, float], None] = lambda *_: None
    encoded: EncodingProgress = lambda *_: None


@dataclass(frozen=True, slots=True)
class FilmOutcome:
    """The playlists that an export has written, and why other inputs failed.

    Attributes:
        films: the multivariant playlists of films.
        titles: the playlists of titles (``TITLE.720p.mp4``, …).
        failures: the reasons why other inputs couldn't be packaged.
    """

    films: list[Path] = field(default_factory=list)
    titles: list[Path] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    @property
    def playlists(self) -> list[Path]:
        """All multivariant playlists, those of titles last."""
        return self.films + self.titles

    def add(self, other: FilmOutcome) -> None:
        """Add the outcome of other films."""
        self.films.extend(other.films)
        self.titles.extend(other.titles)
        self.failures.extend(other.failures)

    def require(self) -> list[Path]:
        """Return the playlists, or raise the first failure."""
        if self.failures:
            raise self.failures[0]
        return self.playlists


@dataclass(frozen=True, slots=True)
class Package:
    """Films that are packaged together: the renditions of one title, or a film by itself.

    Packaging the same films twice, even at the same time, has the same result as once.

    Attributes:
        layout: how segments are laid out in files.
    """

    sources: tuple[PackagedFilm, ...]
    out: Path
    layout: str


def plan(inputs: Sequence[Path], out: Path, *, single_file: bool = False) -> list[Package]:
    """Find what is to be packaged.

    Args:
        inputs: files, and folders in which all media files are packaged.
        single_file: whether all segments of a track go into one file.

    Raises:
        MediaError: two inputs would have one place.
        OSError: a folder can't be read.
    """
    groups: dict[tuple[str, ...], list[PackagedFilm]] = {}
    for source in find_sources(inputs, out):
        match = RENDITION.fullmatch(source.path.name)
        place = source.place if match is None else (*source.folder, match["title"], "")
        groups.setdefault(place, []).append(source)
    layout = "single-file" if single_file else "segments"
    return [Package(tuple(sources), out, layout) for sources in groups.values()]


def export(
    inputs: Sequence[Path],
    out: Path,
    report: ExportReport | None = None,
    *,
    single_file: bool = False,
    ladder: Ladder | None = None,
) -> FilmOutcome:
    """Package films, except those that an earlier run has written and that haven't changed.

    Args:
        inputs: files, and folders in which all media files are packaged.
        out: the folder for the result; made when missing.
        report: the functions that are called during the export.
        single_file: whether all segments of a track go into one file.
        ladder: which renditions are encoded; None for none.

    Returns:
        The playlists, and why some inputs couldn't be packaged.

    Raises:
        MediaError: two inputs would have one place.
        OSError: writing failed; earlier files are unchanged.
    """
    outcome = FilmOutcome()
    packages = plan(inputs, out, single_file=single_file)
    if ladder is not None and report is not None:
        _announce(packages, report, ladder)
    for one in packages:
        outcome.add(package(one, report, ladder))
    return outcome


def _announce(packages: Iterable[Package], report: ExportReport, ladder: Ladder) -> None:
    """Report how long the films are of which something may have to be encoded."""
    for one in packages:
        if len(one.sources) == 1:
            exporter = _Exporter(one.out, one.layout, report, ladder)
            if seconds := exporter.seconds_left(one.sources[0]):
                report.planned(str(one.sources[0].path), seconds)


def package(
    one: Package,
    report: ExportReport | None = None,
    ladder: Ladder | None = None,
) -> FilmOutcome:
    """Package some films, and the title whose renditions they are; see `export`.

    Args:
        ladder: which renditions are encoded of a film by itself; a title has those that are its films.
    """
    report = report or ExportReport()
    outcome = FilmOutcome()
    ladder = ladder if len(one.sources) == 1 else None
    exporter = _Exporter(one.out, one.layout, report, ladder)
    done: list[_Done] = []
    for source in one.sources:
        with _noting_failure(outcome, report), _removing_empty(one.out.joinpath(*source.place[:-1])):
            done.append(exporter.export_film(source))
            outcome.films.append(one.out.joinpath(*source.place, MASTER_NAME))
    if len(done) > 1:
        with _noting_failure(outcome, report):
            place, renditions = _title(done)
            exporter.export_title(place, renditions)
            outcome.titles.append(one.out.joinpath(*place, MASTER_NAME))
    return outcome


@contextmanager
def _noting_failure(outcome: FilmOutcome, report: ExportReport) -> Iterator[None]:
    """Note that an input can't be packaged, so that others are; a full disk ends all."""
    try:
        yield
    except (MediaError, NotFoundError, NotOursError) as error:
        outcome.failures.append(error)
        report.failed(error)


@contextmanager
def _removing_empty(folder: Path) -> Iterator[None]:
    """Remove the folders that were made for an input which then couldn't be packaged."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):  # a folder isn't empty
            for one in missing:
                one.rmdir()
        raise


@dataclass(frozen=True, slots=True)
class _Done:
    """A film that is packaged, by this run or an earlier one."""

    source: PackagedFilm
    identities: tuple[Identity, ...]


def _title(done: Iterable[_Done]) -> tuple[tuple[str, ...], list[_Done]]:
    """Return the place of the title whose renditions some films are, and the films by ascending height."""
    heights: list[tuple[int, _Done]] = []
    place: tuple[str, ...] = ()
    for one in done:
        match = RENDITION.fullmatch(one.source.path.name)
        if match is not None:
            place = (*one.source.folder, match["title"])
            heights.append((int(match["height"]), one))
    return place, [one for _, one in sorted(heights, key=lambda pair: pair[0])]


@dataclass(frozen=True, slots=True)
class _Exporter:
    """Writes films and titles below one folder.

    Attributes:
        layout: how segments are laid out in files.
        report: the functions that are called during the export.
        ladder: which renditions are encoded; None for none.
        folders: knows what is beside the films.
    """

    out: Path
    layout: str
    report: ExportReport
    ladder: Ladder | None = None
    folders: Folders = field(default_factory=Folders)

    def export_film(self, source: PackagedFilm) -> _Done:
        with source.open() as file:
            wanted = self._wanted(source, file)
            with DataFolder(self.out, source.place[:-1], shared=True).open(make=True) as parent:
                record = None
                while record is None:  # another run may have it under way, and put it in its place
                    record = self._there(parent, source.place[-1], wanted) or self._write_film(
                        parent, source, file, wanted
                    )
            for line in record.left_out:
                self.report.left_out(f"{source.path}: {line}")
            self.report.progress(str(source.path), record.segments, record.segments)
            return _Done(source, wanted.sources)

    def _wanted(self, source: PackagedFilm, file: LocalFile) -> Record:
        """Return the record of what is to be packaged, before anything is."""
        record = Record(self.layout, self.folders.identities(source, file))
        if self.ladder is None:
            return record
        return replace(record, ladder=self.ladder.name, encoder=self.ladder.encoder)

    def seconds_left(self, source: PackagedFilm) -> float:
        """Return how long a film is; 0 of one that is packaged already, or can't be."""
        from packager.vod.index.index_builder import read_index

        with suppress(MediaError, NotFoundError, NotOursError), source.open() as file:
            wanted = self._wanted(source, file)
            folder = DataFolder(self.out, source.place[:-1], shared=True)
            with suppress(FileNotFoundError), folder.open() as parent:
                if self._there(parent, source.place[-1], wanted) is not None:
                    return 0.0
            index = read_index(file.pread, file.size)
            return float(index.duration) if index.tracks or index.only_encoded else 0.0
        return 0.0

    def _there(self, parent: OpenFolder, name: str, wanted: Record) -> Record | None:
        """Return the record of a folder that is complete and of the same files; None if work is left.

        Raises:
            NotOursError: something else is in its place.
        """
        if parent.status(name) is None:
            return None
        with parent.folder(name) as folder:
            record = read_record(folder)
            if record is not None and record.of_same(wanted) and is_whole(folder, record):
                return record
            require_ours(folder)
        return None

    def _write_film(
        self, parent: OpenFolder, source: PackagedFilm, file: LocalFile, wanted: Record
    ) -> Record | None:
        """Write a film and put it in its place; None where another run has just done so."""
        # Not before there is something to write: of a rerun it would take most of the time.
        from packager.vod.segments.segment import ShortReadError

        name = source.place[-1]
        try:
            with ReaderGuard(source.path):
                film = self._read_film(source, file)
            under_way = name + UNDER_WAY
            record = replace(wanted, segments=film.segments, left_out=film.left_out)
            begun = self._begun(parent, under_way, record, str(source.path))
            if begun is None:
                return None
            with begun as folder, ReaderGuard(source.path):
                known = read_record(folder)
                if known is None or not is_whole(folder, known):
                    write(folder, RECORD_NAME, (record.render(),))
                    known = self._write_outputs(folder, film, str(source.path), record)
                record = known
                # Unfinished files of a killed run, and segments that are in a single file now.
                remove_others(folder, record)
                with source.open() as again:
                    if self.folders.identities(source, again) != wanted.sources:
                        raise MalformedError("the file was changed while it was packaged")
                _put_in_place(parent, under_way, name)
        except (MediaError, ShortReadError) as error:
            kind = type(error) if isinstance(error, MediaError) else MalformedError
            raise kind(f"{source.path}: {error}") from error
        return record

    def _read_film(self, source: PackagedFilm, file: LocalFile) -> Film:
        from packager.encode.renditions import NO_RENDITIONS
        from packager.export.film_outputs import read_film
        from packager.vod.text.sidecars import SidecarLimits, Sidecars
        from packager.vod.title_sets import TitleSets

        name, folders = source.path.name, self.folders.titles(source)
        beside = Sidecars(source.library, folders, SidecarLimits()).beside(name)
        title_set = TitleSets(source.library).beside(name)
        renditions = NO_RENDITIONS if self.ladder is None else self.ladder.renditions
        is_single = self.layout == "single-file"
        return read_film(name, file, beside, renditions, title_set, single_file=is_single)

    def _begun(self, parent: OpenFolder, name: str, record: Record, film: str) -> OpenFolder | None:
        """Open and lock the folder that is being written: as an earlier run left it, if that was of the same.

        None where it was put in its place, or removed, while another run had it locked.
        """
        folder = parent.folder(name, make=True)
        try:
            self._lock(folder, film, record)
            if not folder.is_at(parent, name):
                folder.close()
                return None
            earlier = read_record(folder)
            if earlier is None or not earlier.of_same(record) or earlier.encoder != record.encoder:
                empty_ours(folder)
            else:
                require_ours(folder)
        except BaseException:
            folder.close()
            raise
        return folder

    def _lock(self, folder: OpenFolder, film: str, record: Record) -> None:
        """Wait until no other run writes to a folder; the lock goes with the folder's descriptor."""
        until = time.monotonic() + (OTHER_RUN_SECONDS if self.ladder is None else ENCODING_RUN_SECONDS)
        while not folder.try_lock():
            if time.monotonic() > until:
                raise OSError(errno.EBUSY, "another run writes to it, and doesn't end", folder.path)
            self.report.progress(film, 0, record.segments)
            time.sleep(LOOK_SECONDS)

    def _write_outputs(self, folder: OpenFolder, film: Film, name: str, record: Record) -> Record:
        done = 0
        if self.ladder is not None and film.renditions:
            film, done = self._encode(folder, film, name, self.ladder), film.encoded_segments
        there, files = written(folder), dict[str, int]()
        self.report.progress(name, done, record.segments)
        with ExitStack() as stack:
            folders: dict[str, OpenFolder] = {"": folder}
            for output in film.outputs():
                parts = output.folder.split("/") if output.folder else []
                for at, part in enumerate(parts):
                    before, path = "/".join(parts[:at]), "/".join(parts[: at + 1])
                    if path not in folders:
                        folders[path] = stack.enter_context(folders[before].folder(part, make=True))
                if there.get(output.path) != output.size:
                    write(folders[output.folder], output.name, output.pieces())
                files[output.path] = output.size
                done += output.segments
                if output.segments:
                    self.report.progress(name, done, record.segments)
        record = replace(record, complete=True, files=files)
        write(folder, RECORD_NAME, (record.render(),))
        return record

    def _encode(self, folder: OpenFolder, film: Film, name: str, ladder: Ladder) -> Film:
        from packager.export.ladder_encoder import encode_ladder

        done, total = 0, film.segments

        def told(name: str, seconds: float, is_new: bool) -> None:
            nonlocal done
            self.report.encoded(name, seconds, is_new)
            if seconds:
                done += 1
                self.report.progress(name, done, total)

        return encode_ladder(film, ladder.tools, folder, told, name)

    def export_title(self, place: tuple[str, ...], renditions: Sequence[_Done]) -> None:
        """Write the playlists of a title beside the folders of its renditions."""
        record = Record(self.layout, tuple(identity for one in renditions for identity in one.identities))
        with DataFolder(self.out, place, shared=True).open(make=True) as folder:
            known = read_record(folder)
            if known is not None and known.of_same(record) and is_whole(folder, known):
                return
            from packager.export.film_outputs import title_texts

            with ExitStack() as stack:
                films: list[Film] = []
                for one in renditions:
                    file = stack.enter_context(one.source.open())
                    films.append(self._read_film(one.source, file))
                outputs = list(title_texts(films))
            for output in outputs:
                _check_like(folder, output)
            for output in outputs:
                write(folder, output.name, output.pieces())
            files = {output.name: output.size for output in outputs}
            write(folder, RECORD_NAME, (replace(record, complete=True, files=files).render(),))


def _put_in_place(parent: OpenFolder, under_way: str, name: str) -> None:
    """Rename a finished folder to its final name, in the place of an earlier one, which is removed."""
    old = name + OLD + UNDER_WAY
    if parent.status(old) is not None:
        remove_ours(parent, old)
    if parent.status(name) is not None:
        with parent.folder(name) as folder:
            require_ours(folder)
        parent.move(name, parent, old)
    parent.move(under_way, parent, name)
    if parent.status(old) is not None:
        remove_ours(parent, old)


def _check_like(folder: OpenFolder, output: Output) -> None:
    """Make sure that the file to overwrite begins as its replacement does."""
    if folder.status(output.name) is None:
        return
    begin = next(output.pieces())[:7]
    if folder.read_head(output.name, len(begin)) != begin:
        advice = "isn't written over, for it isn't of an earlier run; remove it, or choose another folder"
        raise NotOursError(folder.place_of(output.name), advice)
