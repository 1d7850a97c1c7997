"""Contents of the addresses of VOD except for segments: playlists, init segments, texts and sprites."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from media.dash import mpd
from media.hls.media_playlist import MEDIA_TYPE
from media.mp4.text import wvtt
from media.subtitles import webvtt
from origin.http.client_limits import network_of
from origin.vod.addresses import Address, Kind
from origin.vod.answer_cache import Content
from origin.vod.cache_control import Lifetime, VodCaching
from origin.vod.segment_cache import media_type_of
from packager.encode.encode_queue import EncodedMedia
from packager.library.cover_art import CoverArt
from packager.library.file_endings import PLAYLIST_ENDING
from packager.library.local_storage import NotFoundError
from packager.process.ffmpeg_discovery import BusyError
from packager.reader_guard import ReaderGuard
from packager.transient_errors import NotReadyError
from packager.vod import Titles
from packager.vod.clip_sequence import NO_TEXT, TRACKS, ClipSequence
from packager.vod.index.chapters import chapters_json
from packager.vod.movie.versioned_addresses import MediaVersion
from packager.vod.segments.clip import WHOLE
from packager.vod.sprites.sprite_maker import SpriteMaker


@dataclass(frozen=True, slots=True)
class MediaMakers:
    """The makers of media that films lack; None where another process makes them, or nothing does.

    Attributes:
        encoded: encodes segments of renditions that are offered to browsers without the film's codecs.
        covers: draws the covers in files of music.
    """

    thumbnails: SpriteMaker | None = None
    encoded: EncodedMedia | None = None
    covers: CoverArt | None = None


NO_MAKERS = MediaMakers()


class VodContents:
    """Makes the contents of addresses, in the threads of VOD.

    Args:
        makers: make the media that films lack.
    """

    def __init__(self, titles: Titles, caching: VodCaching, makers: MediaMakers) -> None:
        self._titles = titles
        self._caching = caching
        in_threads: dict[Kind, Callable[[Address], Content]] = {
            Kind.MULTIVARIANT_PLAYLIST: self._multivariant_playlist,
            Kind.MANIFEST: self._manifest,
            Kind.MEDIA_PLAYLIST: self._media_playlist,
            Kind.I_FRAME_PLAYLIST: self._i_frame_playlist,
            Kind.INIT: self._init,
            Kind.TEXT_PLAYLIST: self._text_playlist,
            Kind.TEXT_INIT: self._text_init,
            Kind.TEXT_SEGMENT: self._text_segment,
            Kind.TEXT_MP4_SEGMENT: self._text_mp4_segment,
            Kind.WHOLE_TEXT: self._whole_text,
            Kind.CHAPTERS: self._chapters,
        }
        # The second argument is the network of the client.
        self._makers: dict[Kind, Callable[[Address, str], Awaitable[Content]]] = {
            kind: partial(self._in_thread, make) for kind, make in in_threads.items()
        }
        self._encoded = makers.encoded
        if makers.covers is not None:
            self._makers[Kind.COVER] = partial(self._drawn, makers.covers.cover)
            self._makers[Kind.POSTER] = partial(self._drawn, makers.covers.poster)
        if makers.thumbnails is not None:
            self._thumbnails = makers.thumbnails
            self._makers[Kind.THUMBNAILS] = self._thumbnail_text
            self._makers[Kind.THUMBNAIL_PLAYLIST] = self._thumbnail_playlist
            self._makers[Kind.SPRITE] = self._sprite

    def has(self, address: Address) -> bool:
        """Return whether the content of an address can be made here."""
        if address.is_encoded:
            return self._encoded is not None
        return address.kind in self._makers

    async def make(self, address: Address, client: str) -> Content:
        """Make the content of an address.

        Args:
            client: the client's address; media are encoded, and texts of clips written, for networks in turn.

        Raises:
            NotFoundError, NotReadyError, ClipError, MediaError, OSError: it can't be made.
        """
        network = network_of(client)
        with ReaderGuard(address.film):
            if self._encoded is not None and address.is_encoded:
                return await self._encoded_media(self._encoded, address, network)
            return await self._makers[address.kind](address, network)

    async def _encoded_media(self, encoded: EncodedMedia, address: Address, network: str) -> Content:
        film, track, wanted = address.film, address.track, address.version
        if address.kind is Kind.INIT:
            data, version = await encoded.init(film, track, wanted, client=network)
        else:
            number, bounds = address.numbers[0], address.bounds
            data, version = await encoded.segment(film, track, number, bounds, wanted, client=network)
        media_type = media_type_of(not track.startswith("audio"))
        return Content(data, media_type, self.lifetime(wanted, version), is_text=False, is_kept=False)

    def lifetime(self, wanted: str | None, version: MediaVersion) -> Lifetime:
        """Return how long caches may keep media of a version, which the address has to name or not."""
        return self._caching.media(None if wanted is None else version.is_settled(time.time()))

    async def _in_thread(self, make: Callable[[Address], Content], address: Address, network: str) -> Content:
        key = address.content_target
        threads = self._titles.threads.of(network, key)
        if is_of_clip(address):
            threads = await self._titles.threads_for_clips(address.film, network, key)
        return await threads.run(make, address)

    def _playlist(self, data: bytes, media_type: str = MEDIA_TYPE) -> Content:
        return Content(data, media_type, self._caching.playlists)

    def _multivariant_playlist(self, address: Address) -> Content:
        if address.film.endswith(PLAYLIST_ENDING):
            return self._playlist(self._titles.sequence(address.film, "master", _sequence_master))
        return self._playlist(self._titles.multivariant_playlist(address.film, address.clip).encode())

    def _manifest(self, address: Address) -> Content:
        if address.film.endswith(PLAYLIST_ENDING):
            data = self._titles.sequence(address.film, "manifest", _sequence_manifest)
        else:
            data = self._titles.manifest(address.film, address.clip)
        return self._playlist(data, mpd.MEDIA_TYPE)

    def _media_playlist(self, address: Address) -> Content:
        film, track = address.film, address.track
        if not film.endswith(PLAYLIST_ENDING):
            return self._playlist(self._titles.media_playlist(film, track, address.clip).encode())
        if track not in TRACKS:  # before all clips are put together
            raise NotFoundError(track)
        return self._playlist(self._titles.sequence(film, f"track {track}", partial(_sequence_track, track)))

    def _i_frame_playlist(self, address: Address) -> Content:
        text = self._titles.i_frame_playlist(address.film, address.track, address.clip)
        return self._playlist(text.encode())

    def _text_playlist(self, address: Address) -> Content:
        film, track = address.film, address.track
        if film.endswith(PLAYLIST_ENDING):
            write = partial(_sequence_text, track)
            return self._playlist(self._titles.sequence(film, f"text {track}", write))
        return self._playlist(self._titles.text_playlist(film, track, address.clip))

    def _init(self, address: Address) -> Content:
        track = self._titles.segments.track(address.film, address.track, address.version)
        lifetime = self.lifetime(address.version, track.version)
        return Content(track.init, media_type_of(track.video), lifetime, is_text=False)

    def _text_lifetime(self, address: Address) -> Lifetime:
        track = self._titles.texts.track(address.film, address.track, address.version)
        return self.lifetime(address.version, track.version)

    def _text_init(self, address: Address) -> Content:
        return Content(wvtt.INIT, wvtt.MEDIA_TYPE, self._text_lifetime(address), is_text=False)

    def _text_segment(self, address: Address) -> Content:
        lifetime, write = self._text_lifetime(address), self._titles.texts.webvtt_segment
        data = write(address.film, address.track, *address.numbers, version=address.version)
        return Content(data, webvtt.MEDIA_TYPE, lifetime)

    def _text_mp4_segment(self, address: Address) -> Content:
        lifetime, write = self._text_lifetime(address), self._titles.texts.mp4_segment
        number, bounds = address.numbers[0], address.bounds
        data = write(address.film, address.track, number, bounds, version=address.version)
        return Content(data, wvtt.MEDIA_TYPE, lifetime, is_text=False, is_kept=False)

    def _whole_text(self, address: Address) -> Content:
        film, track = address.film, address.track
        if film.endswith(PLAYLIST_ENDING):
            if track != NO_TEXT:
                raise NotFoundError(track)
            self._titles.sequence(film, "master", _sequence_master)  # fails where there is no such playlist
            data = webvtt.segment([], 0)
        else:
            data = self._titles.whole_text(film, track)
        return Content(data, webvtt.MEDIA_TYPE, self._caching.media())

    def _chapters(self, address: Address) -> Content:
        data = chapters_json(self._titles.texts.chapters(address.film, address.clip))
        return Content(data, "application/json", self._caching.media())

    async def _drawn(
        self, draw: Callable[[str, str], Awaitable[bytes]], address: Address, network: str
    ) -> Content:
        try:
            data = await draw(address.film, network)
        except BusyError as error:
            raise NotReadyError from error
        return Content(data, "image/jpeg", self._caching.media(), is_text=False, is_kept=False)

    async def _thumbnail_text(self, address: Address, network: str) -> Content:
        text = await self._thumbnails.vtt(address.film, client=network)
        return self._playlist(text.encode(), webvtt.MEDIA_TYPE)

    async def _thumbnail_playlist(self, address: Address, network: str) -> Content:
        return self._playlist((await self._thumbnails.playlist(address.film, client=network)).encode())

    async def _sprite(self, address: Address, network: str) -> Content:
        number, version = address.numbers[0], address.version
        data = await self._thumbnails.sprite(address.film, number, version, client=network)
        # Where the film has been replaced since, its version isn't settled.
        lifetime = self.lifetime(
            address.version, await self._thumbnails.version(address.film, client=network)
        )
        return Content(data, "image/jpeg", lifetime, is_text=False, is_kept=False)


def is_of_clip(address: Address) -> bool:
    """Return whether the client has chosen the bounds of what is at an address.

    Raises:
        ClipError: the bounds aren't valid.
    """
    return address.clip != WHOLE or (
        address.bounds is not None and not address.film.endswith(PLAYLIST_ENDING)
    )


def _sequence_master(sequence: ClipSequence) -> bytes:
    return sequence.multivariant_playlist().render().encode()


def _sequence_manifest(sequence: ClipSequence) -> bytes:
    return sequence.manifest().render()


def _sequence_track(track: str, sequence: ClipSequence) -> bytes:
    playlist = sequence.media_playlist(track)
    if playlist is None:
        raise NotFoundError(track)
    return playlist.render().encode()


def _sequence_text(track: str, sequence: ClipSequence) -> bytes:
    playlist = sequence.text_playlist(track)
    if playlist is None:
        raise NotFoundError(track)
    return playlist.render().encode()
