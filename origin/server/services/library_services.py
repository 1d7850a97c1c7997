"""The library's services: files, VOD that is made of them, thumbnails, and their list."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from origin.config.errors import CommandError
from origin.config.limit_options import LimitOptions
from origin.config.options import Config, LibraryOptions, data_folder, size
from origin.files.open_files import OpenFileCache
from origin.server.services.limits import Limits
from origin.server.services.s3_config import cache_folder, cache_limits, making
from origin.vod.answer_cache import AnswerCache
from origin.vod.contents import NO_MAKERS, MediaMakers
from origin.vod.handler import VodHandler
from packager.encode.encode_queue import EncodedMedia
from packager.encode.encoder_choice import choose_encoder
from packager.encode.encoder_speed import recorded_height
from packager.encode.preparation import Preparation
from packager.encode.renditions import NO_RENDITIONS, EncodedRenditions, renditions_of
from packager.ffmpeg.picture_encoder import SOFTWARE, PictureEncoder
from packager.jobs.limits import JobsLimits
from packager.library.catalogue import Catalogue, PackagingFacts
from packager.library.cover_art import CoverArt
from packager.library.file_listing import ListedFiles, ListedFolder
from packager.library.local_storage import Library, Withheld
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.s3.limits import S3Limits
from packager.vod import Titles
from packager.vod.film_facts import sequence_facts
from packager.vod.limits import TitleLimits
from packager.vod.sprites.sprite_maker import RemoteDrawing, SpriteLimits, SpriteMaker

if TYPE_CHECKING:
    from packager.s3.library import S3Library
    from packager.s3.segment_cache import BucketSegmentCache

log = structlog.get_logger()

S3_SCHEME = "s3://"
"""The prefix of a ``library.path`` in S3."""


@dataclass(frozen=True, slots=True)
class ServedLibrary:
    """The services for the files of one folder and their VOD, whose names clients must know.

    Attributes:
        storage: the folder, or where else they are.
        open_files: its files that stay open between requests.
        vod: answers requests for the files' HLS and DASH.
        renditions: the renditions of films that are encoded on request.
    """

    storage: Library | S3Library
    open_files: OpenFileCache
    titles: Titles
    vod: VodHandler
    renditions: EncodedRenditions

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
        encoded: the films' media that are encoded on request; None where nothing is encoded.
    """

    thumbnails: SpriteMaker | None
    encoded: EncodedMedia | None
    preparation: Preparation | None
    catalogue: Catalogue

    def check(self, *, needed: bool) -> bool:
        """Return whether the library can be listed; see ``check_library``."""
        return check_library(self.storage, needed=needed)


def check_library(storage: Library | S3Library, *, needed: bool) -> bool:
    """Return whether the library can be listed.

    Args:
        needed: whether a missing folder is an error.

    Raises:
        OSError: the folder is missing, isn't one, or may not be read; its ``filename`` is set.
        CommandError: the library contains the server's own data, or S3 refuses.
    """
    return check_folder(storage, needed=needed) if isinstance(storage, Library) else _check_bucket(storage)


def _check_bucket(storage: S3Library) -> bool:
    """Ask S3 for the library's first page; an S3 that can't be reached now is only logged."""
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
    """Return whether the library's folder exists.

    Args:
        needed: whether a missing folder is an error.

    Raises:
        OSError: the folder is missing, isn't one, or may not be read; the error's ``filename`` is set.
        CommandError: the folder contains the server's own data, which must not be published.
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
    config: Config,
    tools: Tools | None,
    limits: Limits,
    files: Sequence[Path] = (),
    encoder: PictureEncoder = SOFTWARE,
) -> LibraryServices:
    """Make the services of a configuration's library.

    Args:
        tools: ffmpeg; None without it, and then without thumbnails and facts about the files.
        files: the configuration's files, which the library must not serve.
        encoder: the encoder of films' pictures.
    """
    drawing = None if tools is None else drawing_tools(config.library, tools)
    renditions = encoded_renditions(config, tools, encoder)
    served = make_served_library(config, limits, files, thumbnails=drawing is not None, renditions=renditions)
    thumbnails = None if drawing is None else _thumbnails(config, served.titles, drawing, limits)
    encoded = preparation = None
    if tools is not None and renditions.mode != "off":
        encoded = _encoded(config, served.titles, tools, limits, encoder)
        if (folder := data_folder(config, "encoded")) is not None:
            preparation = Preparation(encoded, served.titles, renditions, folder, limits.encode)
    covers = None if tools is None else _covers(served, tools)
    makers = MediaMakers(thumbnails, encoded, covers)
    return LibraryServices(
        served.storage,
        served.open_files,
        served.titles,
        _vod_handler(config, limits, served.titles, served.open_files, makers),
        renditions,
        thumbnails,
        encoded,
        preparation,
        _catalogue(config, served.storage, served.titles, tools, limits),
    )


def make_served_library(
    config: Config,
    limits: Limits,
    files: Sequence[Path],
    *,
    thumbnails: bool,
    renditions: EncodedRenditions = NO_RENDITIONS,
) -> ServedLibrary:
    """Make the services of the library's files and their VOD.

    Args:
        files: the configuration's files, which the library must not serve.
        thumbnails: whether there are thumbnails, which playlists then name.
        renditions: the renditions of films that are encoded on request.
    """
    storage = library_of(config, files, limits)
    open_files = OpenFileCache(
        config.limits.open_files if isinstance(storage, Library) else 0, config.limits.open_file_seconds
    )
    titles = Titles(
        storage,
        title_limits(config.limits, limits.titles),
        thumbnails=thumbnails,
        encoded=renditions.tracks,
    )
    vod = _vod_handler(config, limits, titles, open_files, NO_MAKERS)
    return ServedLibrary(storage, open_files, titles, vod, renditions)


def _vod_handler(
    config: Config, limits: Limits, titles: Titles, open_files: OpenFileCache, makers: MediaMakers
) -> VodHandler:
    return VodHandler(
        titles,
        config.library.max_age,
        open_files,
        AnswerCache(replace(limits.vod_segments, valid_seconds=config.limits.open_file_seconds)),
        limits.vod_segments,
        makers,
    )


def _encoded(
    config: Config, titles: Titles, tools: Tools, limits: Limits, encoder: PictureEncoder
) -> EncodedMedia:
    cache = replace(limits.encode.cache, disk_bytes=size(config.library.encoded_size))
    media = EncodedMedia(
        titles,
        tools,
        data_folder(config, "encoded"),
        replace(limits.encode, cache=cache),
        shared=_shared_segments(config.library, limits.s3),
    )
    media.picture_encoder = encoder
    return media


def shares_segments(options: LibraryOptions) -> bool:
    """Return whether encoded segments are stored in the library's bucket."""
    is_wanted = options.encoded_in_s3 and options.encode != "off" and size(options.encoded_size) > 0
    return is_wanted and options.path.startswith(S3_SCHEME)


def _shared_segments(options: LibraryOptions, limits: S3Limits) -> BucketSegmentCache | None:
    if not shares_segments(options):
        return None
    with making("library.path"):
        from packager.s3.segment_cache import BucketSegmentCache

        total_bytes = size(options.encoded_size)
        return BucketSegmentCache(options.path, replace(limits, encoded_bytes=total_bytes))


def _covers(served: ServedLibrary, tools: Tools) -> CoverArt:
    return CoverArt(served.storage, _listed_files(served.storage), tools, served.titles.facts.colour)


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
    return QueuedSprites(config.cluster.url, limits.thumbnails, limits)


def _catalogue(
    config: Config, storage: Library | S3Library, titles: Titles, tools: Tools | None, limits: Limits
) -> Catalogue:
    return Catalogue(
        _listed_files(storage),
        tools,
        PackagingFacts(
            titles.facts.obstacle,
            titles.facts.is_encoded,
            titles.facts.text,
            titles.facts.has_thumbnails,
            partial(sequence_facts, titles.sequence),
        ),
        limits=replace(limits.catalogue, most_files=config.limits.library_files),
    )


def _listed_files(storage: Library | S3Library) -> ListedFiles:
    """Return what lists the files of a storage."""
    return ListedFolder(storage.root, storage.withheld) if isinstance(storage, Library) else storage


def _with_advice(error: OSError, root: Path) -> OSError:
    advice = "name the folder of your media with --library, or see the demo with --demo"
    return OSError(error.errno, f"{error.strerror}; {advice}", str(root))


def library_of(config: Config, files: Sequence[Path], limits: Limits) -> Library | S3Library:
    """Make the library, which doesn't serve the configuration's files and the server's own data.

    Raises:
        CommandError: the extra for S3 isn't installed, or the address isn't possible.
    """
    if config.library.path.startswith(S3_SCHEME):
        return _in_s3(config, limits.s3)
    data = (Path(config.server.data).expanduser(),) if config.server.data else ()
    return Library(
        Path(config.library.path).expanduser(),
        config.library.follow_symlinks,
        Withheld(tuple(path.absolute() for path in files), tuple(path.absolute() for path in data)),
        may_go=True,
    )


def _in_s3(config: Config, limits: S3Limits) -> S3Library:
    address = config.library.path
    with making("library.path"):
        # Here and not above: it is an extra, which most servers don't have.
        from packager.s3.library import S3Library

        return S3Library(address, cache_folder(config), cache_limits(config, limits))


def title_limits(configured: LimitOptions, limits: TitleLimits) -> TitleLimits:
    """Return the limits of VOD titles, with the configured ones."""
    return replace(
        limits,
        index_bytes=configured.vod_index_bytes,
        movie=replace(limits.movie, moov_bytes=configured.vod_moov_bytes),
        samples=configured.vod_samples,
    )


def drawing_tools(options: LibraryOptions, tools: Tools) -> Tools | None:
    """Return the ffmpeg that makes thumbnails; None where they aren't wanted, or it can't."""
    if not options.thumbnails:
        return None
    lacking = tools.missing(encoders=("mjpeg",), filters=("fps", "scale", "setsar", "tile"))
    if lacking:
        log.warning("no thumbnails are made", reason=f"{tools.ffmpeg} lacks {', '.join(lacking)}")
    return None if lacking else tools


async def encoder_of(config: Config, tools: Tools | None, limits: Limits) -> PictureEncoder:
    """Return the encoder of films' pictures, which a trial may choose."""
    if config.library.encode == "off" or tools is None:
        return SOFTWARE
    nodes, folder = Path(limits.tools.device_nodes), data_folder(config, "encoded")
    return await choose_encoder(tools, config.library.encoder, nodes, folder)


def encoded_renditions(config: Config, tools: Tools | None, encoder: PictureEncoder) -> EncodedRenditions:
    """Return the renditions that this machine encodes on request, as far as they are wanted."""
    if config.library.encode == "off" or tools is None:
        return NO_RENDITIONS
    try:
        renditions = renditions_of(config.library.encode, tools)
    except ToolsError as error:
        log.warning("films aren't encoded", reason=str(error))
        return NO_RENDITIONS
    if not renditions.maps_hdr:
        log.warning("HDR films aren't encoded", reason=f"{tools.ffmpeg} lacks the filter zscale or tonemap")
    height = recorded_height(tools, data_folder(config, "encoded"), encoder)
    renditions = replace(renditions, profile=encoder.profile)
    return renditions if height is None else replace(renditions, largest=height)


def thumbnail_limits(options: LibraryOptions, limits: SpriteLimits) -> SpriteLimits:
    """Return the limits of thumbnails, with the configured ones."""
    return replace(limits, cache=replace(limits.cache, disk_bytes=size(options.thumbnails_size)))
