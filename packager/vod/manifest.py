"""Contents of the DASH manifest of a file or of a title (ISO/IEC 23009-1), which media.dash.mpd writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from media.dash.durations import rounded_up
from media.dash.mpd import AdaptationSet, Period, Representation, StaticManifest, closed_captions
from media.dash.segment_addressing import SegmentBase, SegmentList, SegmentTemplate
from media.mp4.codecs.colour import Colour
from media.mp4.fragments.sidx import sidx_bytes
from media.mp4.text import wvtt
from packager.vod.index.file_index import OfferedTrack
from packager.vod.index.lengthened_tracks import plain_picture
from packager.vod.pictures.i_frame_file import MAX_PLAYOUT_RATE, index_bytes
from packager.vod.playlists import (
    INIT_NAME,
    SEGMENT_SUFFIX,
    SINGLE_FILE_NAME,
    Files,
    OfferedFile,
    caption_services,
    choose_sounds,
    choose_texts,
)
from packager.vod.segments.bandwidth import peak_bandwidth
from packager.vod.segments.independent_segments import SAP_CLOSED
from packager.vod.sounds import dash_accessibility, dash_roles, sound_names
from packager.vod.text.cues import TIMESCALE
from packager.vod.text.text_playlists import TEXT_FOLDER, text_names


def manifest(files: Files) -> StaticManifest:
    """Offer a file, or the renditions of a title, with the segments that HLS has.

    Args:
        files: the files whose tracks it has.

    Returns:
        A static manifest: an adaptation set for the video, one for its I-frames, one for each sound track.
    """
    videos = [(file, picture) for file in files for picture in file.index.pictures]
    base, sounds = choose_sounds(files)
    sets: list[AdaptationSet] = []
    trick_mode: list[AdaptationSet] = []
    captions = closed_captions(caption_services(files))
    kinds: dict[tuple[bool, Colour, bytes], list[int]] = {}
    for number, (_, video) in enumerate(videos):
        kinds.setdefault(_kind(video), []).append(number)
    for (_, colour, _), numbers in sorted(kinds.items(), key=lambda one: one[0][0]):
        shown = [_representation(videos[number][0].prefix, videos[number][1], number) for number in numbers]
        sap = _common([_access(*videos[number]) for number in numbers])
        video_set = AdaptationSet("video", shown, start_with_sap=sap, colour=colour, id=len(sets))
        sets.append(replace(video_set, accessibility=captions))
        shown_files = [videos[number][0] for number in numbers]
        is_encoded = videos[numbers[0]][1].is_encoded
        trick_mode += (_encoded_trick_mode if is_encoded else _trick_mode)(sets[-1], shown_files)
    for sound, label in zip(sounds, sound_names(sounds), strict=True):
        offered = [_representation(base, sound, 0)]
        sap = SAP_CLOSED
        if not sound.is_encoded:
            sap = _common([file.starts.sound for file in files if file.prefix == base])
        sets.append(
            AdaptationSet(
                "audio",
                offered,
                sound.language,
                start_with_sap=sap,
                label=label,
                roles=dash_roles(sound, main=sound is sounds[0]),
                accessibility=dash_accessibility(sound),
            )
        )
    sets += _text_sets(files)
    tiles = [file.storyboard.adaptation_set() for file in files if file.storyboard is not None]
    tracks = [*(video for _, video in videos), *sounds]
    return StaticManifest(
        # Players take what lies beyond its end for played already, and may stop before they come to it.
        duration=rounded_up(
            max(Fraction(int(track.times[-1]) - track.begin, track.timescale) for track in tracks)
        ),
        max_segment_duration=max(Fraction(track.longest, track.timescale) for track in tracks),
        # Behind the others: players that don't know trick mode take the first video that they find.
        periods=[Period("0", Fraction(0), None, [*sets, *trick_mode, *tiles])],
    )


def _kind(video: OfferedTrack) -> tuple[bool, Colour, bytes]:
    """Return a key that is equal for pictures that can follow each other in one adaptation set.

    Pictures of several colours can't; and players leave out whole sets whose codec they lack.
    """
    return video.is_encoded, video.entry.colour or Colour(), video.entry.kind if video.is_encoded else b""


def _access(file: OfferedFile, video: OfferedTrack) -> int:
    """Return the type of stream access point of a picture's segments, 0 if some have none."""
    return SAP_CLOSED if video.is_encoded else file.starts.video


def _trick_mode(shown: AdaptationSet, files: Files) -> list[AdaptationSet]:
    """Offer the I-frames of an adaptation set's files for seeking and winding, where there are any."""
    frames = [
        Representation(
            id=f"{representation.id}-iframes",
            base_url=f"{file.prefix}{plain_picture(file.index.video).name}/{file.index.video.version.folder}{file.i_frames.name}",
            bandwidth=peak_bandwidth(file.i_frames),
            codecs=file.index.video.entry.codec,
            segments=SegmentBase(
                file.index.video.timescale,
                len(file.index.video.init),
                index_bytes(file.i_frames),
                file.index.video.begin,
            ),
            resolution=file.index.video.resolution,
            max_playout_rate=MAX_PLAYOUT_RATE,
        )
        for representation, file in zip(shown.representations, files, strict=True)
        if file.index.video is not None and file.i_frames is not None
    ]
    if not frames or shown.id is None:
        return []
    return [AdaptationSet("video", frames, colour=shown.colour, trick_mode_of=[shown.id])]


def _encoded_trick_mode(shown: AdaptationSet, files: Files) -> list[AdaptationSet]:
    """Offer the I-frames of encoded pictures, of each file once."""
    frames = [
        replace(_representation(prefix, track, number), frame_rate=None, max_playout_rate=MAX_PLAYOUT_RATE)
        for number, (prefix, track) in enumerate({one.prefix: one.encoded_i_frames for one in files}.items())
        if track is not None
    ]
    if not frames or shown.id is None:
        return []
    return [AdaptationSet("video", frames, colour=shown.colour, trick_mode_of=[shown.id])]


def _common(types: Sequence[int]) -> int:
    """Return the type of stream access point that all segments begin with at worst; 0 if some have none."""
    return max(types) if all(types) else 0


def _text_sets(files: Files) -> list[AdaptationSet]:
    """Offer the text tracks, each as WebVTT in fragments of MP4."""
    file = choose_texts(files)
    if file is None or not file.text_tracks:
        return []
    text = file.index.text
    media = f"{text.mp4_name}{SEGMENT_SUFFIX}"
    segments = SegmentTemplate(TIMESCALE, text.times.tolist(), INIT_NAME, media, text.first, text.offset)
    sets = []
    names = text_names(file.text_tracks)
    for number, (track, label) in enumerate(zip(file.text_tracks, names, strict=True)):
        address = f"{file.prefix}{TEXT_FOLDER}/{track.name}/{track.version.folder}"
        rate = track.cues.bandwidth(text.whole)
        offered = Representation(f"text-{number}", address, rate, wvtt.CODECS, segments)
        role = "forced-subtitle" if track.forced else "caption" if track.sdh else "subtitle"
        roles = (role, "main") if track.default else (role,)
        sets.append(AdaptationSet("text", [offered], track.language, label=label, roles=roles))
    return sets


def _representation(prefix: str, track: OfferedTrack, number: int) -> Representation:
    return Representation(
        id=f"{track.name}-{number}" if track.video else track.name,
        base_url=f"{prefix}{track.name}/{SINGLE_FILE_NAME if track.single_file else track.version.folder}",
        bandwidth=peak_bandwidth(track),
        codecs=track.entry.codec,
        segments=_segments(track),
        resolution=track.resolution if track.video else None,
        frame_rate=track.frame_rate if track.video else None,
        sample_rate=track.entry.sample_rate,
        channels=track.entry.channels,
        joc_complexity=track.entry.joc_complexity,
        supplemental_codecs=track.entry.supplemental_codec,
    )


def _segments(track: OfferedTrack) -> SegmentTemplate | SegmentList | SegmentBase:
    """Return the addresses of segments: by numbers, or if a clip trims some, each by its name."""
    if track.single_file:
        return SegmentBase(track.timescale, len(track.init), sidx_bytes(len(track.sizes)))
    times: Sequence[int] = track.times.tolist()
    names = track.segment_names
    if all(map(str.isdigit, names)):
        media = f"$Number${SEGMENT_SUFFIX}"
        return SegmentTemplate(track.timescale, times, INIT_NAME, media, int(names[0]), track.begin)
    media_names = [f"{name}{SEGMENT_SUFFIX}" for name in names]
    return SegmentList(track.timescale, times, INIT_NAME, media_names, track.begin)
