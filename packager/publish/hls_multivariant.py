"""Makes a live channel's multivariant playlist (RFC 8216bis §4.4.6)."""

from __future__ import annotations

from collections.abc import Sequence

from media.hls.multivariant import IFrameVariant, Media, MultivariantPlaylist, Variant
from media.mp4.languages import LANGUAGE_NAMES
from packager.window.cadence import Cadence
from packager.window.rendition import Rendition, variant_renditions

AUDIO_GROUP = "audio"
CAPTIONS_GROUP = "captions"


def multivariant_playlist(
    renditions: Sequence[Rendition],
    cadence: Cadence,
    *,
    suffix: str = "",
    pictures: Sequence[IFrameVariant] = (),
) -> MultivariantPlaylist:
    """Write a channel's multivariant playlist.

    Args:
        renditions: the channel's, each with a timeline.
        suffix: put behind every URI: ``?`` and query parameters, percent-encoded.
        pictures: its I-frame playlists, which players show while a viewer seeks.

    Returns:
        The playlist: a variant for each video rendition, sound as one group, captions as one; without video,
        a variant for each audio rendition.
    """
    primary = variant_renditions(renditions)
    sound = [one for one in renditions if one not in primary and one.language is None]
    captions = [one for one in renditions if one.language is not None]
    # §4.4.6.2: BANDWIDTH counts what is played together, the largest of each group.
    others = [*sound[:1], *sorted(captions, key=lambda one: -one.window.finished.totals.peak_bandwidth)[:1]]
    variants = [
        _variant(one, others, cadence, suffix, audio=bool(sound), captions=bool(captions)) for one in primary
    ]
    media = [_audio(one, suffix, default=one is sound[0]) for one in sound]
    media += [_captions(one, one.language, suffix) for one in captions if one.language is not None]
    return MultivariantPlaylist(variants, media, pictures=pictures)


def _variant(
    rendition: Rendition,
    others: Sequence[Rendition],
    cadence: Cadence,
    suffix: str,
    *,
    audio: bool,
    captions: bool,
) -> Variant:
    """Return the variant of a rendition that is played together with others."""
    played = [rendition, *others]
    # Text has no codec that players would have to know.
    coded = [one for one in played if one.language is None]
    timelines = [one.window.timeline for one in coded if one.window.timeline is not None]
    entries = [one.entry for one in timelines]
    frame_rate = (timelines[0].frame_rate if timelines else None) or cadence.frame_rate
    return Variant(
        uri=f"{rendition.name}/media.m3u8{suffix}",
        bandwidth=sum(map(_peak, played)),
        average_bandwidth=sum(one.window.finished.totals.average_bandwidth or one.bitrate for one in played),
        codecs=",".join(entry.codec for entry in entries),
        resolution=timelines[0].resolution if timelines and rendition.video else None,
        frame_rate=frame_rate if rendition.video else None,
        audio=AUDIO_GROUP if audio else None,
        subtitles=CAPTIONS_GROUP if captions else None,
    )


def _peak(rendition: Rendition) -> int:
    """Bits per second at most; where many segments are too short to count, their average may be more."""
    totals = rendition.window.finished.totals
    return max(totals.peak_bandwidth or rendition.bitrate, totals.average_bandwidth)


def _audio(rendition: Rendition, suffix: str, *, default: bool) -> Media:
    timeline = rendition.window.timeline
    return Media(
        type="AUDIO",
        group_id=AUDIO_GROUP,
        name=rendition.name,
        uri=f"{rendition.name}/media.m3u8{suffix}",
        default=default,
        autoselect=True,
        channels=None if timeline is None else timeline.entry.channels,
    )


def _captions(rendition: Rendition, language: str, suffix: str) -> Media:
    return Media(
        type="SUBTITLES",
        group_id=CAPTIONS_GROUP,
        name=LANGUAGE_NAMES.get(language.lower(), language),
        uri=f"{rendition.name}/media.m3u8{suffix}",
        language=language,
        # Shown to those who asked their player for captions, and to who chooses them.
        autoselect=True,
    )
