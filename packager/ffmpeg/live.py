"""ffmpeg's arguments for live channels: encoding a source to renditions, and remuxing to MPEG-TS."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import ffmpeg

from media.hls.attribute_values import decimal
from packager.ffmpeg.arguments import compile_arguments, pipe
from packager.ffmpeg.ladder import AudioRung, Rung
from packager.window.cadence import AAC_FRAME, SAMPLE_RATE, Cadence

PRESET = "ultrafast"
"""x264's preset, fast enough for a whole ladder on two cores."""

THREADS = 2
"""Threads of each video encoder."""

MOVFLAGS = "+frag_every_frame+empty_moov+default_base_moof+cmaf+frag_discont"
"""One fragment per frame, as the segmenter cuts by itself; frag_discont keeps decode times exact."""

FOLLOWING = {
    "fps_mode": "passthrough",
    "enc_time_base": "1:90000",
    "force_key_frames": "source",
    "g": 10_000,
    "keyint_min": 10_000,
}
"""Options with which an encoder keeps the source's timestamps and key frame positions.

Without a time base of its own it takes that of the guessed frame rate behind a filter graph.
"""

_LABEL = re.compile(r"\[s([0-9]+)\]")
"""A label between two filters, as ffmpeg-python writes it."""

CLOCK = ":".join(
    f"%{{eif:mod(floor(time(0)/{unit}),{wrap}):d:2}}" for unit, wrap in ((3600, 24), (60, 60), (1, 60))
)
"""drawtext's expression for the time of day (UTC) of a frame."""

MILLISECONDS = "%{eif:mod(floor(time(0)*1000),1000):d:3}"

STYLE = {"fontcolor": "white", "box": 1, "boxcolor": "black@0.6", "x": "(w-tw)/2"}

TONE = (
    "aevalsrc='0.15*sin(2*PI*220*pow(2,mod(floor(t)*5,24)/12)*t)"
    f"+0.3*sin(2*PI*1000*t)*lt(mod(t,1),0.05)':s={SAMPLE_RATE}"
)
"""A different note each second, with a beep at its beginning."""


REMUXER = {"format": "mpegts", "muxdelay": 0, "muxpreload": 0, "pes_payload_size": 0, "flush_packets": 1}
"""Output options of remuxing to MPEG-TS without delay."""


@dataclass(frozen=True, slots=True)
class LiveInput:
    """The input of a live channel's ffmpeg.

    Attributes:
        address: ffmpeg's URL of the input; empty for a test picture and a tone.
        is_looped: whether it is played in a loop.
        is_paced: whether it arrives in real time; otherwise ffmpeg reads with ``-re``.
        has_video: whether it has video; if not, a still picture is made.
        has_audio: whether it has audio; if not, silence is made.
        video_codec: ffmpeg's name of the video codec.
        keeps_audio: whether the audio can be passed through.
        is_framed: whether the audio is AAC with ADTS headers, which MP4 doesn't have.
        is_played_once: whether the channel ends with it.
        duration: duration in seconds, if known.
    """

    address: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    is_looped: bool = False
    is_paced: bool = False
    has_video: bool = True
    has_audio: bool = True
    video_codec: str = ""
    keeps_audio: bool = False
    is_framed: bool = False
    is_played_once: bool = False
    duration: Fraction | None = None


def encoder_arguments(
    source: LiveInput,
    name: str,
    ladder: Sequence[Rung],
    sounds: Sequence[AudioRung],
    cadence: Cadence,
    start: Fraction,
    *,
    captions: bool,
) -> list[str]:
    """Compile ffmpeg's arguments; output pipe i is the i-th rung, those behind the ladder the sounds.

    Args:
        name: the channel's name, shown in the test picture.
        ladder: the video renditions, or none.
        start: decode time in seconds of the first frame.
        captions: whether drawtext can write the clock and the name.

    Returns:
        Everything behind the program's name.
    """
    if ladder and ladder[0].copied:
        return _keeping(source, ladder[1:], sounds, start)
    top = ladder[0] if ladder else None
    picture, sound = _inputs(source, name, top, cadence, captions=captions)
    outputs = [
        ffmpeg.output(
            _scaled(branch, rung, test=not source.address or not source.has_video),
            pipe(index),
            **_video(rung, cadence),
            **_end(source),
            **_muxer(start),
        )
        for index, (branch, rung) in enumerate(zip(_branches(picture, "split", ladder), ladder, strict=True))
    ]
    sound = _exact(sound)
    if source.is_played_once:
        sound = sound.filter("apad")
    heard = list[Any]()
    for branch, rung in zip(_branches(sound, "asplit", sounds), sounds, strict=True):
        options = {**_audio(rung), **_end(source)}
        heard.append(
            ffmpeg.output(branch, pipe(len(outputs) + len(heard)), **options, **_muxer(start, late=True))
        )
    return _compiled(outputs, heard)


def remuxer_arguments(address: str, options: Mapping[str, Any], coding: Mapping[str, Any]) -> list[str]:
    """Compile the arguments that remux a stream to MPEG-TS on the first output pipe.

    Args:
        address: ffmpeg's URL of the stream.
        coding: output options that say what is copied and what is encoded.
    """
    played = ffmpeg.input(address, **options)
    return compile_arguments(
        ffmpeg.get_args(ffmpeg.output(played["V:0?"], played["a:0?"], pipe(0), **coding, **REMUXER))
    )


def repackager_arguments(container: str, output: str) -> list[str]:
    """Compile the arguments that copy a stream from one container into another, from pipe to pipe.

    Args:
        container: ffmpeg's name of the one.
        output: of the other: ``flv`` or ``mpegts``.
    """
    played = ffmpeg.input(
        "pipe:0", f=container, protocol_whitelist="pipe", fpsprobesize=0, analyzeduration=1_000_000
    )
    options = REMUXER if output == "mpegts" else {"format": output, "flvflags": "no_duration_filesize"}
    made = ffmpeg.output(played["V:0?"], played["a:0?"], pipe(0), c="copy", **{**options, "flush_packets": 1})
    return compile_arguments(ffmpeg.get_args(made))


def _keeping(
    source: LiveInput, encoded: Sequence[Rung], sounds: Sequence[AudioRung], start: Fraction
) -> list[str]:
    """Compile the arguments of a channel whose first rendition is the source's video without encoding.

    Encoded renditions keep its timestamps and key frame positions; audio is passed through if players support
    its codec.
    """
    played = ffmpeg.input(source.address, **source.options, **_pace(source))
    # Apple's players take HEVC only with its parameter sets in the sample entry.
    tag = {"tag:v": "hvc1"} if source.video_codec == "hevc" else {}
    copied = {"c:v": "copy", **tag, **_end(source)}
    outputs = [ffmpeg.output(played["V:0"], pipe(0), **copied, **_muxer(start, late=True))]
    for branch, rung in zip(_branches(played["V:0"], "split", encoded), encoded, strict=True):
        outputs.append(
            ffmpeg.output(
                _scaled(branch, rung, test=False),
                pipe(len(outputs)),
                **_rate(rung),
                **FOLLOWING,
                **_end(source),
                **_muxer(start),
            )
        )
    if source.keeps_audio:
        unframed = {"bsf:a": "aac_adtstoasc"} if source.is_framed else {}
        # FLAC in MP4 is experimental to ffmpeg before 6.1.
        sound, options = played["a:0"], {"c:a": "copy", "strict": "experimental", **unframed}
    else:
        sound, options = _exact(played.audio if source.has_audio else _silence()), _audio(sounds[0])
    options |= _end(source)
    return _compiled(
        outputs, [ffmpeg.output(sound, pipe(len(outputs)), **options, **_muxer(start, late=True))]
    )


def _compiled(pictures: Sequence[Any], sounds: Sequence[Any]) -> list[str]:
    """Compile the arguments of all outputs, with a filter graph each for the pictures and the sounds.

    ffmpeg begins with a graph once something has come of all its inputs: a sound that is announced and never
    comes would hold back the pictures.
    """
    together = ffmpeg.get_args(ffmpeg.merge_outputs(*pictures, *sounds))
    if not pictures:
        return compile_arguments(together)
    seen, heard = (ffmpeg.get_args(ffmpeg.merge_outputs(*some)) for some in (pictures, sounds))
    inputs = _inputs_of(together)
    if not _inputs_of(seen) == _inputs_of(heard) == inputs:
        # Their inputs are different ones: what is made here always comes.
        return compile_arguments(together)
    # Each graph has labels of its own.
    renamed = [_LABEL.sub(r"[sound\1]", word) for word in heard[len(inputs) :]]
    return compile_arguments([*seen, *renamed])


def _inputs_of(words: Sequence[str]) -> Sequence[str]:
    """Return the arguments up to the last input."""
    return words[: max(index for index, word in enumerate(words) if word == "-i") + 2]


def _exact(sound: Any) -> Any:
    """Make audio continuous from its beginning on, whatever gaps the source has, in whole frames from time 0.

    Where the source's format changes, ffmpeg begins with the filters anew: they mustn't fill what was before.
    """
    begin = f"round(STARTPTS*TB*SR/{AAC_FRAME})*{AAC_FRAME}/SR/TB"
    return sound.filter("aresample", SAMPLE_RATE, **{"async": 1}).filter("asetpts", f"{begin}+N/SR/TB")


def _silence() -> Any:
    return ffmpeg.input(f"anullsrc=sample_rate={SAMPLE_RATE}", format="lavfi", re=None)


def _audio(rung: AudioRung) -> dict[str, Any]:
    return {"c:a": "aac", "b:a": rung.bitrate, "ac": 2}


def _branches(stream: Any, name: str, rungs: Sequence[object]) -> Sequence[Any]:
    """Split a stream with the named filter, once for each rung."""
    if len(rungs) < 2:
        return [stream] * len(rungs)
    split = stream.filter_multi_output(name, len(rungs))
    return [split[index] for index in range(len(rungs))]


def _inputs(
    source: LiveInput, name: str, top: Rung | None, cadence: Cadence, *, captions: bool
) -> tuple[Any, Any]:
    """Return the video stream (None if no rendition has video) and the audio stream."""
    rate = cadence.frame_rate
    if not source.address:
        tone = ffmpeg.input(TONE, format="lavfi", re=None)
        if top is None:
            return None, tone
        test = f"testsrc2=size={top.width}x{top.height}:rate={rate}"
        picture = ffmpeg.input(test, format="lavfi", re=None)
        return _captioned(picture, name, top) if captions else picture, tone
    played = ffmpeg.input(source.address, **source.options, **_pace(source))
    if top is None:
        return None, played.audio
    if source.has_video:
        # From 0 and without a gap, so that every boundary has its key frame.
        steady = played.video.filter("fps", fps=str(rate), start_time=0).filter("setpts", "N/FR/TB")
        if source.is_played_once:
            steady = steady.filter("tpad", stop=-1, stop_mode="clone")
    else:
        steady = ffmpeg.input(
            f"color=c=0x101820:size={top.width}x{top.height}:rate={rate}", format="lavfi", re=None
        )
        steady = _labelled(steady, name, top) if captions else steady
    return steady, played.audio if source.has_audio else _silence()


def _pace(source: LiveInput) -> dict[str, Any]:
    """Return the input options for reading in a loop and in real time."""
    looped = {"stream_loop": -1} if source.is_looped else {}
    return looped if source.is_paced else {**looped, "re": None}


def _end(source: LiveInput) -> dict[str, Any]:
    """Return the option that ends all renditions of an input that is played once at the same time."""
    return {} if not source.is_played_once or source.duration is None else {"t": decimal(source.duration, 6)}


def _captioned(picture: Any, name: str, top: Rung) -> Any:
    size = top.height // 10
    clock = f"{CLOCK}.{MILLISECONDS}"
    return _labelled(
        picture.filter("drawtext", text=clock, fontsize=size, y=f"h-{2 * size}", **STYLE), name, top
    )


def _labelled(picture: Any, name: str, top: Rung) -> Any:
    size = top.height // 10
    return picture.filter("drawtext", text=name, expansion="none", fontsize=size // 2, y=size, **STYLE)


def _scaled(picture: Any, rung: Rung, *, test: bool) -> Any:
    if test:
        return picture.filter("scale", rung.width, rung.height).filter("format", "yuv420p")
    # The picture keeps the shape in which it is seen: pixels may be wider than high.
    width = f"2*round(min({rung.width},{rung.height}*dar)/2)"
    height = f"2*round(min({rung.height},{rung.width}/dar)/2)"
    fitted = picture.filter("scale", width, height)
    padded = fitted.filter("pad", rung.width, rung.height, "(ow-iw)/2", "(oh-ih)/2")
    return padded.filter("setsar", 1).filter("format", "yuv420p")


def _video(rung: Rung, cadence: Cadence) -> dict[str, Any]:
    return {**_rate(rung), "g": cadence.gop, "keyint_min": cadence.gop}


def _rate(rung: Rung) -> dict[str, Any]:
    return {
        "c:v": "libx264",
        "preset": PRESET,
        "tune": "zerolatency",
        "threads": THREADS,
        "b:v": rung.bitrate,
        "maxrate": rung.bitrate * 5 // 4,
        "bufsize": rung.bitrate,
        "sc_threshold": 0,
    }


def _muxer(start: Fraction, *, late: bool = False) -> dict[str, Any]:
    """Return the muxer's options; ``late`` for codecs whose configuration comes with the first packets."""
    return {
        "format": "mp4",
        "movflags": MOVFLAGS + ("+delay_moov" if late else ""),
        "use_editlist": 0,
        "avoid_negative_ts": "disabled",
        "output_ts_offset": decimal(start, 6),
        "flush_packets": 1,
    }
