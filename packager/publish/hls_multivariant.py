"""Makes a live channel's multivariant playlist (RFC 8216bis §4.4.6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from media.hls.attribute_values import quoted
from media.hls.multivariant import (
    CLOSED_CAPTIONS_GROUP,
    IFrameVariant,
    Media,
    MultivariantPlaylist,
    Variant,
    closed_captions,
)
from media.mp4.codecs.closed_captions import in_order
from media.mp4.languages import language_name
from packager.window.model import Timeline
from packager.window.rendition import Rendition, RenditionFacts, variant_renditions
from packager.window.segment_totals import SegmentTotals

AUDIO_GROUP = "audio"
CAPTIONS_GROUP = "captions"


class SpanTotals(NamedTuple):
    """The sums over the listed segments of a rendition, their last timeline, and captions in the picture."""

    totals: SegmentTotals
    timeline: Timeline | None
    closed_captions: frozenset[str] = frozenset()


class _Described(NamedTuple):
    """A rendition with the sums over its segments, and the last of their timelines.

    Attributes:
        average: bits per second on average.
        peak: bits per second at most; where many segments are too short to count, the average may be more.
    """

    rendition: RenditionFacts
    totals: SegmentTotals
    timeline: Timeline | None
    average: int
    peak: int


def live_totals(renditions: Iterable[Rendition]) -> Mapping[str, SpanTotals]:
    """Return the sums over the segments of the live playlists."""
    windows = {one.name: one.window for one in renditions}
    return {
        name: SpanTotals(window.finished.totals, window.timeline, window.closed_captions)
        for name, window in windows.items()
    }


def _described(rendition: RenditionFacts, span: SpanTotals) -> _Described:
    totals, timeline, _ = span
    average = totals.average_bandwidth
    peak = max(totals.peak_bandwidth or rendition.bitrate, average)
    return _Described(rendition, totals, timeline, average or rendition.bitrate, peak)


def multivariant_playlist(
    renditions: Sequence[RenditionFacts],
    frame_rate: Fraction,
    totals: Mapping[str, SpanTotals],
    *,
    suffix: str = "",
    pictures: Sequence[IFrameVariant] = (),
) -> MultivariantPlaylist:
    """Write the multivariant playlist of a channel, a span or a recording.

    Args:
        renditions: each with a timeline; video from large to small, then the sound, then captions.
        frame_rate: frames per second, where a timeline doesn't say others.
        totals: the sums over the segments that are listed, by rendition.
        suffix: put behind every URI: ``?`` and query parameters, percent-encoded.
        pictures: its I-frame playlists, which players show while a viewer seeks.

    Returns:
        The playlist: a variant for each video rendition, sound as one group, captions as one; without video,
        a variant for each audio rendition.
    """
    found = {one.name: _described(one, totals[one.name]) for one in renditions}
    primary = variant_renditions(renditions)
    sound = [one for one in renditions if one not in primary and one.language is None]
    captions = [one for one in renditions if one.language is not None]
    # §4.4.6.2: BANDWIDTH counts what is played together, the largest of each group.
    texts = sorted(captions, key=lambda one: -found[one.name].totals.peak_bandwidth)
    others = [found[one.name] for one in (*sound[:1], *texts[:1])]
    variants = [
        _variant(found[one.name], others, frame_rate, suffix, audio=bool(sound), captions=bool(captions))
        for one in primary
    ]
    media = [_audio(found[one.name], suffix, default=one is sound[0]) for one in sound]
    media += [_captions(one, one.language, suffix) for one in captions if one.language is not None]
    if services := in_order(totals[one.name].closed_captions for one in primary):
        variants = [replace(one, closed_captions=quoted(CLOSED_CAPTIONS_GROUP)) for one in variants]
        media += closed_captions(services)
    return MultivariantPlaylist(variants, media, pictures=pictures)


def _variant(
    described: _Described,
    others: Sequence[_Described],
    frame_rate: Fraction,
    suffix: str,
    *,
    audio: bool,
    captions: bool,
) -> Variant:
    """Return the variant of a rendition that is played together with others."""
    rendition, played = described.rendition, [described, *others]
    # Text has no codec that players would have to know.
    coded = [one for one in played if one.rendition.language is None]
    timelines = [one.timeline for one in coded if one.timeline is not None]
    entries = [one.entry for one in timelines]
    frame_rate = (timelines[0].frame_rate if timelines else None) or frame_rate
    return Variant(
        uri=f"{rendition.name}/media.m3u8{suffix}",
        bandwidth=sum(one.peak for one in played),
        average_bandwidth=sum(one.average for one in played),
        codecs=",".join(entry.codec for entry in entries),
        resolution=timelines[0].resolution if timelines and rendition.video else None,
        frame_rate=frame_rate if rendition.video else None,
        audio=AUDIO_GROUP if audio else None,
        subtitles=CAPTIONS_GROUP if captions else None,
    )


def _audio(described: _Described, suffix: str, *, default: bool) -> Media:
    rendition, timeline = described.rendition, described.timeline
    return Media(
        type="AUDIO",
        group_id=AUDIO_GROUP,
        name=rendition.name,
        uri=f"{rendition.name}/media.m3u8{suffix}",
        default=default,
        autoselect=True,
        channels=None if timeline is None else timeline.entry.channels,
    )


def _captions(rendition: RenditionFacts, language: str, suffix: str) -> Media:
    return Media(
        type="SUBTITLES",
        group_id=CAPTIONS_GROUP,
        name=language_name(language),
        uri=f"{rendition.name}/media.m3u8{suffix}",
        language=language,
        # Shown to those who asked their player for captions, and to who chooses them.
        autoselect=True,
    )
