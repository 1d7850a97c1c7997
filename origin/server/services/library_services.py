"""The library's services: files, VOD that is made of them, thumbnails, and their list."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from origin.config.errors import CommandError
from origin.config.options import Config, LibraryOptions, LimitOptions, data_folder, size
from origin.files.open_files import OpenFileCache
from origin.responses.response_middleware import cross_origin_headers
from origin.server.services.limits import Limits
from origin.server.services.s3_config import cache_folder, cache_limits, making
from origin.vod.answer_cache import AnswerCache
from packager.jobs.limits import JobsLimits
from packager.library.catalogue import Catalogue
from packager.library.file_listing import ListedFolder
from packager.library.local_storage import Library, Withheld
from packager.process.ffmpeg_discovery import Tools
from packager.s3.limits import S3Limits
from packager.vod import TitleLimits, Titles
from packager.vod.sprites.sprite_maker import RemoteDrawing, SpriteLimits, SpriteMaker

if TYPE_CHECKING:
    from packager.s3.library import S3Library

log = structlog.get_logger()

S3_SCHEME = "s3://"
"""The prefix of a ``library.path`` in S3."""


@dataclass(frozen=True, slots=True)
class ServedLibrary:
    """The services for the files of one folder and their VOD, whose names clients must know.

    Attributes:
        storage: the folder, or where else they are.
        open_files: its files that stay open between requests.
        vod_answers: playlists, manifests and init segments that were sent of late.
    """

    storage: Library | S3Library
    open_files: OpenFileCache
    titles: Titles
    vod_answers: AnswerCache

    def close(self) -> None:
        """Close open files, and remove copies on disk."""
        self.open_files.close()
        if not isinstance(self.storage, Library):
            self.storage.close()


@dataclass(frozen=True, slots=True)
class LibraryServices(ServedLibrary):
    """The services for the files of one folder, their list and their thumbnails.

    Attributes:
        thumbnails: the pictures; None where there are none.
        catalogue: the list of the files.
    """

    thumbnails: SpriteMaker | None
    catalogue: Catalogue

    def check(self, *, needed: bool) -> bool:
        """Return whether the library is there; see ``check_library``."""
        return check_library(self.storage, needed=needed)


def check_library(storage: Library | S3Library, *, needed: bool) -> bool:
    """Return whether the library is there.

    Args:
        needed: whether it is an error if its folder isn't.

    Raises:
        OSError: the folder is missing, isn't one, or may not be read; its ``filename`` is set.
        CommandError: it contains the server's own data, or S3 refuses.
    """
    return check_folder(storage, needed=needed) if isinstance(storage, Library) else _check_bucket(storage)


def _check_bucket(storage: S3Library) -> bool:
    """Ask S3 for the library's first page; where it can't be reached now, that passes."""
    from packager.s3.client import AccessRefusedError

    try:
        storage.check()
    except AccessRefusedError as error:
        advice = "AWS_* variables say where S3 is and who asks"
        raise CommandError(f"library.path {storage}: {error}; {advice}") from None
    except OSError as error:
        log.warning("the library can't be reached", library=str(storage), reason=str(error))
    return True


def check_folder(storage: Library, *, needed: bool) -> bool:
    """Return whether the library's folder is there.

    Args:
        needed: whether it is an error if it isn't.

    Raises:
        OSError: it is missing, isn't a folder, or may not be read; its ``filename`` is set.
        CommandError: it contains the server's own data, which must not be published.
    """
    root = storage.root
    try:
        with os.scandir(root) as entries:
            next(entries, None)
    except FileNotFoundError as error:
        if needed:
            raise _with_advice(error, root) from error
        return False
    except OSError as error:
        raise _with_advice(error, root) from error
    root = root.resolve()
    for data in (folder.resolve() for folder in storage.withheld.folders):
        if root == data or root.is_relative_to(data / "live"):
            told = "the server's data would be published with it; name another folder for one of them"
            raise CommandError(f"library.path {storage.root}, server.data {data}: {told}")
    return True


def make_library_services(
    config: Config, tools: Tools | None, limits: Limits, files: Sequence[Path] = ()
) -> LibraryServices:
    """Make what serves the library of a configuration.

    Args:
        tools: ffmpeg; None without it, and then without thumbnails and facts about the files.
        limits: those that aren't configured.
        files: the configuration's files, which the library must not serve.
    """
    drawing = None if tools is None else drawing_tools(config.library, tools)
    served = make_served_library(config, limits, files, thumbnails=drawing is not None)
    return LibraryServices(
        served.storage,
        served.open_files,
        served.titles,
        served.vod_answers,
        None if drawing is None else _thumbnails(config, served.titles, drawing, limits),
        _catalogue(config, served.storage, served.titles, tools, limits),
    )


def make_served_library(
    config: Config, limits: Limits, files: Sequence[Path], *, thumbnails: bool
) -> ServedLibrary:
    """Make what serves the library's files and their VOD.

    Args:
        limits: those that aren't configured.
        files: the configuration's files, which the library must not serve.
        thumbnails: whether there are small pictures, which playlists name then.
    """
    storage = library_of(config, files, limits)
    return ServedLibrary(
        storage,
        OpenFileCache(
            config.limits.open_files if isinstance(storage, Library) else 0,
            config.limits.open_file_seconds,
            cross_origin_headers(config.server.allow_origin),
        ),
        Titles(storage, title_limits(config.limits, limits.titles), thumbnails=thumbnails),
        AnswerCache(replace(limits.vod_answers, valid_seconds=config.limits.open_file_seconds)),
    )


def _thumbnails(config: Config, titles: Titles, drawing: Tools, limits: Limits) -> SpriteMaker:
    return SpriteMaker(
        titles,
        drawing,
        data_folder(config, "thumbnails"),
        thumbnail_limits(config.library, limits.thumbnails),
        time.monotonic,
        _elsewhere(config, limits.jobs),
    )


def _elsewhere(config: Config, limits: JobsLimits) -> RemoteDrawing | None:
    """Make what has thumbnails drawn by other processes, where machines share a Redis."""
    if not config.cluster.takes_jobs:
        return None
    try:
        # Here and not above: it needs an extra, which most servers don't have.
        from packager.jobs.sprite_job import QueuedSprites
    except ModuleNotFoundError as error:
        if error.name not in ("redis", "saq"):
            raise
        raise CommandError("cluster.url: Redis needs an extra; install headwater[cluster]") from None
    return QueuedSprites(config.cluster.url, limits.thumbnails, limits.queue)


def _catalogue(
    config: Config, storage: Library | S3Library, titles: Titles, tools: Tools | None, limits: Limits
) -> Catalogue:
    listing = replace(limits.catalogue.listing, files=config.limits.library_files)
    return Catalogue(
        ListedFolder(storage.root, storage.withheld) if isinstance(storage, Library) else storage,
        tools,
        titles.obstacle,
        text=titles.text,
        thumbnails=titles.has_thumbnails,
        limits=replace(limits.catalogue, listing=listing),
    )


def _with_advice(error: OSError, root: Path) -> OSError:
    advice = "name the folder of your media with --library, or see the demo with --demo"
    return OSError(error.errno, f"{error.strerror}; {advice}", str(root))


def library_of(config: Config, files: Sequence[Path], limits: Limits) -> Library | S3Library:
    """Make the library, which doesn't serve the configuration's files and the server's own data.

    Raises:
        CommandError: what S3 needs isn't there.
    """
    if config.library.path.startswith(S3_SCHEME):
        return _in_s3(config, limits.s3)
    data = (Path(config.server.data).expanduser(),) if config.server.data else ()
    return Library(
        Path(config.library.path).expanduser(),
        config.library.follow_symlinks,
        Withheld(tuple(path.absolute() for path in files), tuple(path.absolute() for path in data)),
    )


def _in_s3(config: Config, limits: S3Limits) -> S3Library:
    address = config.library.path
    with making("library.path"):
        # Here and not above: it is an extra, which most servers don't have.
        from packager.s3.library import S3Library

        return S3Library(address, cache_folder(config), cache_limits(config, limits))


def title_limits(configured: LimitOptions, limits: TitleLimits) -> TitleLimits:
    """Put what is configured of the limits of VOD titles into them."""
    movie = replace(limits.index.movie, moov_bytes=configured.vod_moov_bytes)
    index = replace(limits.index, movie=movie, samples=configured.vod_samples)
    return replace(limits, index_bytes=configured.vod_index_bytes, index=index)


def drawing_tools(options: LibraryOptions, tools: Tools) -> Tools | None:
    """Return the ffmpeg that makes thumbnails; None where they aren't wanted, or it can't."""
    if not options.thumbnails:
        return None
    lacking = tools.missing(encoders=("mjpeg",), filters=("fps", "scale", "setsar", "tile"))
    if lacking:
        log.warning("no thumbnails", reason=f"{tools.ffmpeg} lacks {', '.join(lacking)}")
    return None if lacking else tools


def thumbnail_limits(options: LibraryOptions, limits: SpriteLimits) -> SpriteLimits:
    """Put what is configured of the limits of thumbnails into them."""
    return replace(limits, cache=replace(limits.cache, disk_bytes=size(options.thumbnails_size)))
