"""Contents of the playlists of a file or of a title (RFC 8216bis), which media.hls writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, pairwise, zip_longest
from urllib.parse import quote

from media.errors import UnsupportedError
from media.hls.attribute_values import quoted
from media.hls.media_playlist import ByteRange, Map, MediaPlaylist, Segment
from media.hls.multivariant import (
    CLOSED_CAPTIONS_GROUP,
    IFrameVariant,
    ImageVariant,
    Media,
    MultivariantPlaylist,
    SessionData,
    Variant,
    closed_captions,
)
from media.mp4.codecs.closed_captions import in_order
from media.mp4.fragments.sidx import sidx_bytes
from packager.vod.index.chapters import DATA_ID
from packager.vod.index.file_index import ONLY_I_FRAMES, FileIndex, OfferedTrack
from packager.vod.index.lengthened_tracks import HELD_DIFFERENCE, end_of, lengthened, plain_picture
from packager.vod.pictures.i_frame_file import IFrames, i_frame_variant
from packager.vod.pictures.storyboard import Storyboard
from packager.vod.segments.bandwidth import average_bandwidth, peak_bandwidth, target_duration
from packager.vod.segments.independent_segments import UNKNOWN, SegmentStarts
from packager.vod.sounds import sound_groups, sound_media
from packager.vod.text.text_playlists import TEXT_GROUP, text_media
from packager.vod.text.text_tracks import TextTrack

INIT_NAME = "init.mp4"
SEGMENT_SUFFIX = ".m4s"
SINGLE_FILE_NAME = "media.mp4"
"""Of a track's file that has all its segments."""

CHAPTERS_NAME = "chapters.json"

ROUNDING = Fraction(1, 1000)
"""Seconds by which times of the same picture may differ between files: some clocks have milliseconds."""


@dataclass(frozen=True, slots=True)
class OfferedFile:
    """A file that playlists and manifests offer.

    Attributes:
        prefix: the beginning of its addresses.
        i_frames: the I-frames that its tables mark, where they are offered by themselves, too.
        text_tracks: its subtitles and captions, those beside it too.
        left_out: a line for each of its text tracks, and each subtitle file beside it, that isn't offered.
        storyboard: thumbnails for the seek bar, of the first file for all.
        encoded_i_frames: the I-frames of an encoded picture, where they are offered by themselves.
    """

    prefix: str
    index: FileIndex
    starts: SegmentStarts = UNKNOWN
    i_frames: IFrames | None = None
    text_tracks: Sequence[TextTrack] = ()
    left_out: Sequence[str] = ()
    storyboard: Storyboard | None = None
    encoded_i_frames: OfferedTrack | None = None


Files = Sequence[OfferedFile]


def common_target_duration(indexes: Iterable[FileIndex]) -> int:
    """Return the target duration of all playlists of a film or a title (RFC 8216bis §6.2.4), in seconds."""
    return max(target_duration(track) for index in indexes for track in (*index.tracks, *index.encoded))


def media_playlist(track: OfferedTrack, target: int, lost_picture: str | None = None) -> MediaPlaylist:
    """Write the media playlist of a track.

    Args:
        target: the target duration of all playlists of the film.
        lost_picture: why the picture that belongs to this sound can't be packaged.

    Returns:
        A playlist of type VOD whose addresses are relative to its own.
    """
    if track.single_file:
        segments = _byte_ranges(track)
    else:
        folder = track.version.folder
        init = Map(f"{folder}{INIT_NAME}")
        segments = [
            Segment(f"{folder}{name}{SEGMENT_SUFFIX}", duration, init)
            for name, duration in zip(track.segment_names, track.durations, strict=True)
        ]
    comments = [] if lost_picture is None else [f"This is the sound alone: {lost_picture}"]
    return MediaPlaylist(
        target,
        segments,
        playlist_type="VOD",
        ended=True,
        comments=comments,
        i_frames_only=track.name.endswith(ONLY_I_FRAMES),
    )


def _byte_ranges(track: OfferedTrack) -> list[Segment]:
    """Return the segments of a track that is one file (§4.4.4.2)."""
    init = Map(SINGLE_FILE_NAME, ByteRange(len(track.init), 0))
    sizes = track.sizes.tolist()
    offsets = accumulate(sizes, initial=len(track.init) + sidx_bytes(len(sizes)))
    return [
        Segment(SINGLE_FILE_NAME, duration, init, byte_range=ByteRange(size, offset))
        for duration, size, offset in zip(track.durations, sizes, offsets, strict=False)
    ]


def multivariant_playlist(files: Files) -> MultivariantPlaylist:
    """Offer the tracks of one file, or join the renditions of a title.

    Args:
        files: the beginning of each file's addresses, relative to the playlist's, and its index; at least
            one, in the order of the playlist.

    Returns:
        A playlist whose addresses lead to the files' own playlists.
    """
    base, sounds = choose_sounds(files)
    groups = sound_groups(sounds)
    # Copied pictures come first: players that can play them begin with one.
    videos = sorted(
        ((file.prefix, picture) for file in files for picture in file.index.pictures),
        key=lambda one: one[1].is_encoded,
    )
    captions = caption_services(files)
    texts = choose_texts(files)
    media: list[Media] = []
    variants: list[Variant] = []
    for number, group in enumerate(groups):
        group_id = "audio" if number == 0 else f"audio-{number + 1}"
        listed = bool(videos) or len(group) > 1
        uris = [_playlist_uri(base, track) for track in group]
        media += sound_media(group, uris, group_id) if listed else []
        if not videos:
            variants.append(_sound_variant(group, base, group_id if listed else None))
        for prefix, video in videos:
            variants.append(_video_variant(video, prefix, group, group_id))
    if not groups:
        variants = [_video_variant(video, prefix, (), None) for prefix, video in videos]
    if captions:
        variants = [replace(variant, closed_captions=quoted(CLOSED_CAPTIONS_GROUP)) for variant in variants]
        media += closed_captions(captions)
    elif not any(file.starts.captions for file in files):
        # §4.4.6.2: NONE is said of all variants or of none.
        variants = [replace(variant, closed_captions="NONE") for variant in variants]
    if texts is not None and texts.text_tracks:
        variants = _with_texts(variants, texts)
        media += text_media(texts.prefix, texts.text_tracks, texts.index.text.query)
    chapters = [
        SessionData(DATA_ID, f"{file.prefix}{CHAPTERS_NAME}{file.index.text.query}")
        for file in files
        if file.index.chapters
    ]
    pictures: list[IFrameVariant | ImageVariant] = [
        i_frame_variant(file.prefix, plain_picture(file.index.video), file.i_frames)
        for file in files
        if file.index.video is not None and file.i_frames is not None
    ]
    pictures += [
        _i_frame_variant(file.prefix, file.encoded_i_frames)
        for file in files
        if file.encoded_i_frames is not None
    ]
    pictures += [file.storyboard.variant() for file in files if file.storyboard is not None]
    return MultivariantPlaylist(
        variants,
        media,
        comments=_comments(files),
        independent=all(file.starts.independent for file in files),
        session_data=chapters[:1],
        pictures=pictures,
    )


def _comments(files: Files) -> list[str]:
    """Write comments about tracks that are left out, and why."""
    comments = [f"Left out: {file.prefix}{line}" for file in files for line in file.index.left_out]
    # Files of a title share the subtitle files that lie beside them.
    comments += dict.fromkeys(f"Left out: {line}" for file in files for line in file.left_out)
    # Files mark H.264's pictures at recovery points as sync samples, too. By ISO/IEC 14496-15 only those of
    # IDR are, and decoders begin with no others.
    comments += [
        f"No I-frame playlist: not every segment of {file.prefix}{file.index.video.name}"
        " begins with a picture that can be decoded by itself"
        for file in files
        if file.index.video is not None and not file.starts.lone_pictures
    ]
    return comments


def title_files(
    renditions: Sequence[tuple[str, FileIndex, SegmentStarts]], *, are_held: bool = True
) -> Files:
    """Return a title's renditions with addresses relative to its own: they stay where the files are.

    Args:
        renditions: name, index and segments' beginnings of each file.
        are_held: whether the last picture of shorter ones stays until the longest ends.

    Raises:
        UnsupportedError: their segments don't begin at the same times; the text says which files', and where.
    """
    longest = max(
        (index.video for _, index, _ in renditions if index.video is not None), key=end_of, default=None
    )
    if are_held and longest is not None:
        renditions = [(name, _held(index, longest), starts) for name, index, starts in renditions]
    videos = [(name, index.video) for name, index, _ in renditions if index.video is not None]
    for one, other in pairwise(videos):
        _require_alignment(one, other)
    return [OfferedFile(f"../{quote(name)}/", index, starts) for name, index, starts in renditions]


def _held(index: FileIndex, longest: OfferedTrack) -> FileIndex:
    """Let a film's last picture stay until a longer picture ends, with segments that begin when that's do."""
    video = index.video
    if video is None or end_of(longest) - end_of(video) <= HELD_DIFFERENCE:
        return index
    times = [Fraction(time, longest.timescale) for time in longest.times[len(video.times) - 1 :].tolist()]
    longer = lengthened(video, times)
    return index if longer is None else replace(index, tracks=(longer, *index.sounds))


def _require_alignment(one: tuple[str, OfferedTrack], other: tuple[str, OfferedTrack]) -> None:
    """Refuse two renditions between which a player couldn't change at each segment.

    RFC 8216bis §6.2.4 wants matching timestamps of matching content, ISO/IEC 23009-1 §5.3.3.2 that segments
    don't overlap.
    """
    times = [track.times[:-1].tolist() for _, track in (one, other)]
    scales = [track.timescale for _, track in (one, other)]
    # In ticks of both timescales multiplied: a title of a day has tens of thousands of segments.
    allowed = (ROUNDING + sum(Fraction(1, scale) for scale in scales)) * scales[0] * scales[1] // 1
    for number, (first, second) in enumerate(zip_longest(*times)):
        if first is None or second is None:
            told = [f"{len(starts)} segments" for starts in times]
        elif abs(first * scales[1] - second * scales[0]) <= allowed:
            continue
        else:
            seconds = [Fraction(time, scale) for time, scale in zip((first, second), scales, strict=True)]
            told = [f"segment {number} at {float(second):.3f} s" for second in seconds]
        raise UnsupportedError(
            f"{one[0]} and {other[0]} aren't renditions of one title, for their key frames aren't at the same"
            f" times: {told[0]} and {told[1]}"
        )


def choose_sounds(files: Files) -> tuple[str, tuple[OfferedTrack, ...]]:
    """Choose the file whose sound goes with every rendition: of the longest, that with the highest bitrate.

    Returns:
        The beginning of its addresses, and its sound tracks; none where no file has any.
    """
    with_sound = [(file.prefix, file.index.all_sounds) for file in files if file.index.all_sounds]
    end = max((end_of(sounds[0]) for _, sounds in with_sound), default=Fraction(0))
    with_sound = [one for one in with_sound if end - end_of(one[1][0]) <= HELD_DIFFERENCE]
    return max(with_sound, key=lambda item: average_bandwidth(item[1][0]), default=("", ()))


def caption_services(files: Files) -> tuple[str, ...]:
    """Return the captions that any of the files has in its picture, such as ``CC1`` and ``SERVICE1``."""
    return in_order(file.starts.services for file in files)


def choose_texts(files: Files) -> OfferedFile | None:
    """Choose the file whose text goes with every rendition: the one that has most tracks."""
    return max(files, key=lambda file: len(file.text_tracks), default=None)


def _with_texts(variants: Sequence[Variant], file: OfferedFile) -> list[Variant]:
    """Offer the text tracks with all variants."""
    rate = max(track.cues.bandwidth(file.index.text.whole) for track in file.text_tracks)
    return [replace(one, bandwidth=one.bandwidth + rate, subtitles=TEXT_GROUP) for one in variants]


def _video_variant(
    video: OfferedTrack, prefix: str, group: Sequence[OfferedTrack], group_id: str | None
) -> Variant:
    return Variant(
        _playlist_uri(prefix, video),
        # §4.4.6.2: with the rendition of each group that needs most
        bandwidth=peak_bandwidth(video) + max(map(peak_bandwidth, group), default=0),
        average_bandwidth=_average(video, *group),
        codecs=_codecs(video, *group),
        supplemental_codecs=video.entry.supplemental_codec,
        resolution=video.resolution,
        frame_rate=video.frame_rate,
        audio=group_id,
        video_range=video.entry.video_range,
    )


def _i_frame_variant(prefix: str, track: OfferedTrack) -> IFrameVariant:
    return IFrameVariant(
        _playlist_uri(prefix, track),
        bandwidth=peak_bandwidth(track),
        codecs=track.entry.codec,
        resolution=track.resolution,
        video_range=track.entry.video_range,
    )


def _average(video: OfferedTrack | None, *group: OfferedTrack) -> int | None:
    """Return the average rate of a picture and of the sound that needs most; None if any is encoded later."""
    if any(track.is_bounded for track in (video, *group) if track is not None):
        return None
    picture = 0 if video is None else average_bandwidth(video)
    return picture + max(map(average_bandwidth, group), default=0)


def _sound_variant(group: Sequence[OfferedTrack], base: str, group_id: str | None) -> Variant:
    return Variant(
        _playlist_uri(base, group[0]),
        bandwidth=max(map(peak_bandwidth, group)),
        average_bandwidth=_average(None, *group),
        codecs=_codecs(*group),
        audio=group_id,
    )


def _codecs(*tracks: OfferedTrack) -> str:
    """Name every codec that is needed for some of the tracks once."""
    return ",".join(dict.fromkeys(track.entry.codec for track in tracks))


def _playlist_uri(prefix: str, track: OfferedTrack) -> str:
    return f"{prefix}{track.name}/media.m3u8{track.query}"
