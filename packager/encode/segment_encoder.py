"""Encodes one segment of a film: an ffmpeg in a sandbox is fed with the samples that it needs.

A segment is a function of the film, the rendition and the number: every machine makes the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from media.errors import MalformedError, MediaError
from media.mp4.codecs.clean_aperture import Aperture
from media.mp4.codecs.decodable_entry import WAVPACK_ENTRY
from media.mp4.codecs.sample_entry import parse_sample_entry
from media.mp4.codecs.sequence_parameters import avc_parameter_sets, avc_parameters
from media.mp4.fragments.fragments import (
    Fragment,
    FragmentReader,
    InitSegment,
    write_fragment_header,
    write_samples_header,
)
from media.mp4.fragments.init_segment import write_init_segment
from media.mp4.fragments.moof import Sample
from media.mp4.movie.box_arrays import Int64
from media.mp4.movie.sample_table import Samples
from media.mp4.movie.track_box import TrackFacts
from packager.concurrency import usable_cores
from packager.encode.renditions import SOUND_FRAME, EncodedRendition, levels_of
from packager.encode.source_samples import (
    SourceSamples,
    picture_samples,
    pictures_within,
    sound_samples,
    subtitles_within,
)
from packager.ffmpeg.encode import picture_arguments, sound_arguments
from packager.ffmpeg.picture_encoder import DRIVER_FILES, SOFTWARE, THREADS, PictureEncoder
from packager.process.ffmpeg_discovery import BusyError, Tools, ToolsError
from packager.process.process import Process, run
from packager.process.sandbox import Sandbox
from packager.reader_guard import ReaderGuard
from packager.threads import SHARED_THREADS
from packager.vod.index.file_index import OfferedTrack
from packager.vod.movie.decode_times import decode_times_in_time
from packager.vod.movie.movie_reader import Read
from packager.vod.segments.segment import ShortReadError

ENCODER_MEMORY_BYTES = 3 << 29
"""Address space of an ffmpeg that encodes."""

SLOWEST = 20
"""How many times as long as a segment lasts its encoding may take."""

LEAST_SECONDS = 30.0
"""Longest time of encoding of the shortest segments."""

SLOWEST_DEVICE = 2
"""How many times as long as a segment lasts a device may take, within these bounds."""

LEAST_DEVICE_SECONDS, MOST_DEVICE_SECONDS = 7.5, 15.0
"""Longest times of a device for the shortest and longest segments: software has the rest of a request's."""

DEVICE_DESCRIPTORS = 256
"""Most open descriptors of an ffmpeg that uses a device, whose driver needs many."""

QUALITY, WORST_QUALITY = 23, 51
"""Constant rate factors of x264: the usual one, and the largest one."""

HALVING = 6
"""By how much larger a constant rate factor is that makes half as many bytes."""

LEAD_FRAMES = 8
"""AAC frames that are encoded before a segment of sound and dropped, so that no join is heard."""

TAIL_FRAMES = 4
"""AAC frames behind a segment at which the encoder looks ahead."""

LEAD_SECONDS = 1
"""Seconds of sound that are decoded before what is encoded: some codecs need as much to begin."""


INIT = -1
"""Stands for the init segment in place of a segment's number."""

MAX_ATTEMPTS = 2
"""How often software tries a segment before it is given up; a device tries it once."""

EncodeSegment = Callable[[Tools, EncodedRendition, int, tuple[int, int] | None, Read], Awaitable[bytes]]
"""Encodes a segment of a rendition, or a clip's share of it, from the film that a function reads."""


def encoders_at_once() -> int:
    """Return how many encoders may run at the same time: one for each two cores."""
    return max(1, usable_cores() // THREADS)


async def encode_init(tools: Tools, rendition: EncodedRendition, read: Read) -> bytes:
    """Encode the first picture of a rendition, for the init segment with what decoders must know.

    Raises:
        MediaError, ToolsError: it can't be encoded.
        ShortReadError, OSError: the film can't be read now.
    """
    track = rendition.track
    begin, end = int(track.times[0]), int(track.times[1])
    source = await SHARED_THREADS.run(picture_samples, rendition.source, begin, begin + 1)
    times = pictures_within(source, begin, end)
    bounds = int(times[0]), int(times[0]) + 1
    plain = replace(rendition, subtitles=None)
    init, _, _ = _read_output(await _run_picture(tools, plain, source, bounds, QUALITY, read))
    _check_entry(rendition, init)
    width, height = map(Fraction, rendition.size)
    facts = TrackFacts(
        1, b"vide", track.timescale, init.tracks[0].sample_entries[0], display_size=(width, height)
    )
    return write_init_segment(facts)


async def encode_segment(
    tools: Tools, rendition: EncodedRendition, number: int, bounds: tuple[int, int] | None, read: Read
) -> bytes:
    """Encode a segment of a rendition, or a clip's share of it.

    Args:
        bounds: begin and end of the share in ticks of the rendition; None: the whole segment.
        read: reads from the film's file; it may block.

    Raises:
        MediaError, ToolsError: it can't be encoded.
        ShortReadError, OSError: the film can't be read now.
    """
    begin, end = bounds or rendition.track.times[number : number + 2].tolist()
    if rendition.track.video:
        most = int(rendition.track.sizes[number])
        return await _encode_pictures(tools, rendition, number, (begin, end), most, read)
    return await _encode_sound(tools, rendition, number, (begin, end), read)


async def encode_piece(
    tools: Tools,
    rendition: EncodedRendition,
    number: int,
    bounds: tuple[int, int] | None,
    read: Read,
    encode: EncodeSegment = encode_segment,
) -> bytes:
    """Encode a segment as `encode_segment`, or the init segment; try once more where that fails.

    Raises:
        BusyError: the machine has no room for another process now.
        MediaError: it can't be encoded; the text says in one line why.
        ShortReadError, OSError: the film can't be read now.
    """
    reason = ""
    for _ in range(1 if rendition.encoder.nodes else MAX_ATTEMPTS):
        try:
            with ReaderGuard(rendition.track.name):
                if number == INIT:
                    return await encode_init(tools, rendition, read)
                return await encode(tools, rendition, number, bounds, read)
        except BusyError:
            raise
        except (ToolsError, MediaError) as error:
            # An encoder that was killed says nothing about the film: another one may succeed.
            reason = str(error)
    raise MalformedError(reason)


async def _encode_pictures(
    tools: Tools, rendition: EncodedRendition, number: int, bounds: tuple[int, int], most: int, read: Read
) -> bytes:
    begin, end = bounds
    stop = begin + 1 if rendition.is_i_frames else end
    source = await SHARED_THREADS.run(picture_samples, rendition.source, begin, stop)
    times = pictures_within(source, begin, stop)
    if rendition.track.most_frames:
        places = (times - times[0]) * rendition.track.most_frames // rendition.track.timescale
        times = times[np.unique(places, return_index=True)[1]]
    quality = QUALITY
    while True:
        output = await _run_picture(tools, rendition, source, (int(times[0]), stop), quality, read)
        init, samples, data = _read_output(output)
        _check_entry(rendition, init)
        if rendition.is_i_frames:
            # Subtitles that change within the frame's tick make another one of it.
            samples, data = samples[:1], data[: samples[0].size]
        if not samples[0].is_sync:
            raise MalformedError(f"segment {number} doesn't begin with a key frame")
        shown = np.maximum(_presentation(samples, times), begin)
        segment = _written(rendition, number, samples, shown, end, data)
        if len(segment) <= most:
            return segment
        if quality == WORST_QUALITY:
            raise MalformedError(f"segment {number} is too large at the lowest quality")
        # x264 can keep to a rate by itself, but then what its threads do depends on their timing.
        quality += 1 + math.ceil(HALVING * math.log2(len(segment) / most))
        quality = min(quality, WORST_QUALITY)


def _presentation(samples: Sequence[Sample], times: Int64) -> Int64:
    """Return when encoded pictures are presented: at the times of the source's, in the same order.

    The container's own times are right but for a constant. Pictures that the decoder couldn't make are
    missing, and then each is placed by its distance from the first.
    """
    columns = np.array([(sample.duration, sample.composition_offset) for sample in samples], np.int64)
    shown = np.cumsum(columns[:, 0]) - columns[:, 0] + columns[:, 1]
    if len(shown) == len(times):
        ranks = np.empty(len(shown), np.int64)
        ranks[np.argsort(shown, kind="stable")] = np.arange(len(shown))
        return times[ranks]
    if len(shown) > len(times):
        raise MalformedError(f"the encoder made {len(shown)} pictures of {len(times)}")
    return shown - int(shown.min()) + int(times[0])


async def _run_picture(
    tools: Tools,
    rendition: EncodedRendition,
    source: SourceSamples,
    bounds: tuple[int, int],
    quality: int,
    read: Read,
) -> bytes:
    profile, level = levels_of(rendition.track.entry.codec)
    scale, shown = rendition.track.timescale, None
    if rendition.subtitles is not None:
        shown_times = pictures_within(source, *bounds)
        begin, end = (int(time) * 1000 // scale for time in shown_times[[0, -1]])
        origin = source.presentation_start * 1000 // scale
        shown = await SHARED_THREADS.run(subtitles_within, rendition.subtitles, begin, end + 1, origin, read)
    arguments = picture_arguments(
        bounds=(bounds[0] + source.presentation_start, bounds[1] + source.presentation_start),
        size=rendition.size,
        profile=profile,
        level=level,
        quality=quality,
        rate=rendition.track.bitrate,
        timescale=scale,
        hdr=rendition.hdr,
        colour=rendition.colour,
        encoder=rendition.encoder,
        part=_shown_part(rendition.source),
        most_frames=rendition.track.most_frames,
        subtitles=None if shown is None else (shown.container, shown.canvas, shown.begin),
        matrix=rendition.matrix,
    )
    further = b"" if shown is None else shown.data
    seconds = (bounds[1] - bounds[0]) / scale
    return await _run(tools, arguments, source, seconds, read, further, rendition.encoder)


def _shown_part(source: OfferedTrack) -> Aperture | None:
    """Return the part of the source's turned pictures that is shown; None if all of them is."""
    part, entry = source.entry.aperture, source.entry
    return None if part is None else part.turned(source.rotation, (entry.width, entry.height))


async def _encode_sound(
    tools: Tools, rendition: EncodedRendition, number: int, bounds: tuple[int, int], read: Read
) -> bytes:
    track, source_track = rendition.track, rendition.source
    first, last = bounds[0] // SOUND_FRAME, bounds[1] // SOUND_FRAME
    rate, scale = track.timescale, source_track.timescale
    origin = (first - LEAD_FRAMES) * SOUND_FRAME
    begin = (origin - LEAD_SECONDS * rate) * scale // rate
    end = (last + TAIL_FRAMES) * SOUND_FRAME * scale // rate
    source = await SHARED_THREADS.run(sound_samples, source_track, begin, end, rate)
    # The frame before the first one of the film is part of the first segment: decoders begin with it.
    dropped = LEAD_FRAMES + (1 if number else 0)
    wanted = last - first + (0 if number else 1)
    arguments = sound_arguments(
        first=origin + source.presentation_start * rate // scale,
        count=(dropped + wanted + 1) * SOUND_FRAME,
        rate=rate,
        bitrate=rendition.track.bitrate,
        decoder="wavpack" if source_track.entry.kind == WAVPACK_ENTRY else "",
    )
    output = await _run(tools, arguments, source, (last - first) * SOUND_FRAME / rate, read)
    _, samples, data = _read_output(output)
    kept = samples[dropped : dropped + wanted]
    if len(kept) < wanted:
        raise MalformedError(
            f"the encoder made {len(samples)} frames of sound, {dropped + wanted} are needed"
        )
    skipped = sum(sample.size for sample in samples[:dropped])
    # Decode times count the frame before the beginning, which the init segment's edit list takes away.
    times = np.arange(first + (1 if number else 0), last + 1) * SOUND_FRAME
    sizes = [sample.size for sample in kept]
    return _written(
        rendition, number, kept, times, int(times[-1]) + SOUND_FRAME, data[skipped : skipped + sum(sizes)]
    )


def _written(
    rendition: EncodedRendition, number: int, samples: Sequence[Sample], times: Int64, end: int, data: bytes
) -> bytes:
    """Write a media segment of samples that are presented at some times, in decoding order."""
    decode_time = decode_times_in_time(times, end)
    columns = Samples(
        offset=np.zeros(len(samples), np.int64),
        size=np.array([sample.size for sample in samples], np.int64),
        decode_time=decode_time,
        composition_offset=times - decode_time[:-1],
        is_sync=np.array([sample.is_sync for sample in samples], np.bool_),
    )
    header = write_samples_header(
        sequence_number=number + 1,
        track_id=rendition.track.track_id,
        base_media_decode_time=int(decode_time[0]),
        samples=columns,
    )
    return header + data


def _read_output(output: bytes) -> tuple[InitSegment, list[Sample], bytes]:
    """Return the init segment, the samples and their data of what an encoder wrote."""
    init, fragments = _read_fragments(output)
    samples = [sample for fragment in fragments for sample in fragment.samples]
    return init, samples, b"".join(fragment.data for fragment in fragments)


def _read_fragments(output: bytes) -> tuple[InitSegment, list[Fragment]]:
    """Return the init segment, and the fragments, of which there is at least one."""
    reader = FragmentReader()
    reader.receive_data(output)
    reader.receive_eof()
    events = list(reader.events())
    init = next((event for event in events if isinstance(event, InitSegment)), None)
    fragments = [event for event in events if isinstance(event, Fragment)]
    if init is None or not fragments:
        raise MalformedError("nothing of it could be decoded")
    return init, fragments


def _check_entry(rendition: EncodedRendition, init: InitSegment) -> None:
    entry, wanted = parse_sample_entry(init.tracks[0].sample_entries[0]), rendition.track.entry
    # Drivers may set constraint flags and a lower level: decoders of what was promised decode that, too.
    kind, level = entry.codec[:-4], entry.codec[-2:]
    if kind != wanted.codec[:-4] or level > wanted.codec[-2:]:
        raise MediaError(f"the encoder made {entry.codec} in place of {wanted.codec}")
    size = avc_parameters(avc_parameter_sets(entry.payload(b"avcC"))[0]).size
    if size != rendition.size:
        raise MediaError(f"the encoder made pictures of {size} pixels in place of {rendition.size}")


def with_parameter_sets(init: bytes, segment: bytes, number: int) -> bytes:
    """Return a segment of pictures that begins with its parameter sets, for use with another init segment.

    Args:
        init: the init segment with which it was encoded.
        number: the segment's, from 0.
    """
    described, fragments = _read_fragments(init + segment)
    units = avc_parameter_sets(parse_sample_entry(described.tracks[0].sample_entries[0]).payload(b"avcC"))
    sets = b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)
    first, *others = fragments[0].samples
    header = write_fragment_header(
        sequence_number=number + 1,
        track_id=fragments[0].track_id,
        base_media_decode_time=fragments[0].base_media_decode_time,
        samples=[first._replace(size=first.size + len(sets)), *others],
    )
    return b"".join((header, sets, fragments[0].data))


def _longest(encoder: PictureEncoder, seconds: float) -> float:
    """Return the seconds in which a segment of such a length is encoded, or given up."""
    if not encoder.nodes:
        return max(LEAST_SECONDS, SLOWEST * seconds)
    return min(max(LEAST_DEVICE_SECONDS, SLOWEST_DEVICE * seconds), MOST_DEVICE_SECONDS)


def encoder_sandbox(encoder: PictureEncoder) -> Sandbox:
    """Return the sandbox of an ffmpeg that encodes."""
    plain = Sandbox(memory=ENCODER_MEMORY_BYTES, niceness=10)
    if not encoder.nodes:
        return plain
    return replace(plain, devices=encoder.nodes, read=DRIVER_FILES, files=DEVICE_DESCRIPTORS)


async def _run(
    tools: Tools,
    arguments: Sequence[str],
    source: SourceSamples,
    seconds: float,
    read: Read,
    further: bytes = b"",
    encoder: PictureEncoder = SOFTWARE,
) -> bytes:
    unread = list[Exception]()

    async def feed(process: Process) -> None:
        pieces = source.movie(read)
        try:
            while piece := await SHARED_THREADS.run(next, pieces, b""):
                await process.write(piece)
        except BrokenPipeError:  # the encoder has ended, and says why
            pass
        except (ShortReadError, OSError) as error:
            unread.append(error)
        finally:
            process.close_stdin()

    try:
        return await run(
            [tools.ffmpeg, *arguments],
            limit=_longest(encoder, seconds),
            sandbox=encoder_sandbox(encoder),
            feed=feed,
            further=further,
        )
    finally:
        # An encoder makes a shorter segment, or silence, of a film that was read in part: nobody may get it.
        if unread:
            raise unread[0]
