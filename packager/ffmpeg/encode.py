"""The command lines that encode one segment of a film: ffmpeg reads its samples from standard input."""

from __future__ import annotations

from typing import Any

import ffmpeg

from media.mp4.codecs.colour import BT709, Colour
from packager.ffmpeg.arguments import MAX_PIXELS, compile_arguments, pipe
from packager.ffmpeg.colours import MATRICES, filtered, matrix_names, to_sdr
from packager.ffmpeg.picture_encoder import SOFTWARE, THREADS, PictureEncoder

_FRAGMENTS = "empty_moov+default_base_moof+delay_moov+frag_keyframe"


def picture_arguments(
    *,
    bounds: tuple[int, int],
    size: tuple[int, int],
    profile: str,
    level: int,
    quality: int,
    rate: int,
    timescale: int,
    hdr: Colour | None = None,
    colour: Colour | None = None,
    encoder: PictureEncoder = SOFTWARE,
    part: tuple[int, int, int, int] | None = None,
    most_frames: int = 0,
    subtitles: tuple[str, tuple[int, int], int] | None = None,
    matrix: int = BT709,
) -> list[str]:
    """Compile ffmpeg's arguments for a segment's pictures: MP4 in, one fragment of H.264 out on pipe 0.

    Args:
        bounds: begin and end in ticks of what is read, the end excluded; earlier pictures are only decoded.
        size: width and height of the result in pixels.
        profile: of H.264, as x264 names it.
        level: of H.264 times ten.
        quality: the constant rate factor of x264.
        rate: bits per second that the buffer of one second is filled with.
        timescale: ticks per second of what is read and of the result.
        hdr: the source's colours if they are of HDR, which is mapped; else None.
        colour: the result's, by whose matrix pictures in RGB are converted; None: those of the pictures.
        part: left and top edge, width and height of what is shown of the source's pictures; None: all.
        most_frames: pictures that are kept of each second at most, counted from the begin; 0: all.
        subtitles: that are read from pipe 1: their container, width and height of what they are composed on,
            and the milliseconds at which the first ones are shown.
        matrix: the result's matrix coefficients, by which the subtitles are converted.
    """
    source = {"format": "mov", "threads": THREADS, "max_pixels": MAX_PIXELS, "an": None}
    pictures = ffmpeg.input("pipe:0", **source).video
    # Fields are joined to pictures before the cut, for which the next picture is needed.
    pictures = pictures.filter("yadif", mode="send_frame", deint="interlaced")
    pictures = pictures.filter("settb", f"1/{timescale}")
    pictures = pictures.filter("trim", start_pts=bounds[0], end_pts=bounds[1])
    if most_frames:
        place = f"floor(({{}}-{bounds[0]})*{most_frames}/{timescale})"
        later = f"gt({place.format('pts')},{place.format('prev_selected_pts')})"
        pictures = pictures.filter("select", f"isnan(prev_selected_pts)+{later}")
    if part is not None:
        left, top, width, height = part
        pictures = pictures.filter("crop", width, height, left, top, exact=1)
    matrices = {} if hdr is not None or colour is None else matrix_names(colour)
    pictures = pictures.filter("scale", *size, flags="bicubic", **matrices).filter("setsar", 1)
    # Behind the scaling: a picture of 8K takes 400 MB here.
    pictures = filtered(pictures, to_sdr(hdr)).filter("format", "yuv420p")
    if subtitles is not None:
        container, canvas, begin = subtitles
        facts = {"canvas_size": "{}x{}".format(*canvas), "itsoffset": f"{begin}ms"}
        shown = ffmpeg.input(pipe(1), format=container, **facts)["s:0"].filter("settb", f"1/{timescale}")
        shown = shown.filter("scale", *size, flags="bicubic", out_color_matrix=MATRICES[matrix])
        pictures = pictures.overlay(shown.filter("format", "yuva420p"), format="yuv420")
        # Behind the last picture another one follows where the subtitles end.
        pictures = pictures.filter("settb", f"1/{timescale}")
        pictures = pictures.filter("trim", start_pts=bounds[0], end_pts=bounds[1])
    options: dict[str, Any] = {
        "profile:v": profile,
        "level:v": level,
        **encoder.options,
        **encoder.rate_options(quality, rate),
        "enc_time_base": -1,
        "video_track_timescale": timescale,
    }
    if "bsf:v" in options:
        options["bsf:v"] = options["bsf:v"].format(level=level)
    if colour is not None:
        options |= {
            "color_primaries": colour.primaries,
            "color_trc": colour.transfer,
            "colorspace": colour.matrix,
            "color_range": "tv",
        }
    return encoder.device_arguments + _compiled(_taken_by(encoder, pictures), options)


def trial_arguments(
    size: tuple[int, int], height: int, rate: int, seconds: float, encoder: PictureEncoder = SOFTWARE
) -> list[str]:
    """Compile ffmpeg's arguments that encode a test picture, and tell the processor time on standard error.

    Args:
        size: width and height of the test picture in pixels.
        height: of the result in pixels.
        rate: bits per second that the buffer of one second is filled with.
    """
    pictures = _test_picture(size, seconds).filter("scale", -2, height, flags="bicubic")
    pictures = _taken_by(encoder, pictures.filter("format", "yuv420p"))
    options = {**encoder.options, **encoder.rate_options(23, rate)}
    options.pop("bsf:v", None)
    output = ffmpeg.output(pictures, "-", **options, format="null")
    words = [*encoder.device_arguments, *compile_arguments(ffmpeg.get_args(output))]
    # The processor time is a message of the level "info".
    return [*words, "-loglevel", "info", "-nostats", "-benchmark"]


def sample_film_arguments(size: tuple[int, int], seconds: float) -> list[str]:
    """Compile ffmpeg's arguments that write a film of a test picture to pipe 0.

    Args:
        size: width and height of the test picture in pixels.
    """
    options = {"c:v": "libx264", "preset": "ultrafast", "pix_fmt": "yuv420p", "threads": THREADS}
    return _compiled(_test_picture(size, seconds), options)


def thumbnail_arguments(size: tuple[int, int]) -> list[str]:
    """Compile ffmpeg's arguments that decode an MP4 and write each picture to pipe 0, small and in RGB.

    Args:
        size: width and height of the small pictures in pixels.
    """
    pictures = ffmpeg.input("pipe:0", format="mov", threads=THREADS).video.filter("scale", *size)
    output = ffmpeg.output(pictures, pipe(0), format="rawvideo", pix_fmt="rgb24", vsync="passthrough")
    return compile_arguments(ffmpeg.get_args(output))


def _test_picture(size: tuple[int, int], seconds: float) -> Any:
    return ffmpeg.input(f"testsrc2=size={size[0]}x{size[1]}:rate=30:duration={seconds}", format="lavfi")


def _taken_by(encoder: PictureEncoder, pictures: Any) -> Any:
    """Return pictures in the form that an encoder takes."""
    if encoder.pixel_format != "yuv420p":
        pictures = pictures.filter("format", encoder.pixel_format)
    return pictures.filter("hwupload") if encoder.hardware_type else pictures


def sound_arguments(*, first: int, count: int, rate: int, bitrate: int, decoder: str = "") -> list[str]:
    """Compile ffmpeg's arguments for a segment's sound: MP4 in, one fragment of stereo AAC out on pipe 0.

    Args:
        first: the sample at which the result begins, counted from the beginning of what is read.
        count: how many samples it has; silence where the film has no more.
        rate: samples per second of the result.
        bitrate: of the result in bits per second.
        decoder: ffmpeg's name of the decoder, where the sample entry has none that it knows.
    """
    source = {"format": "mov", "threads": 1, "vn": None, **({"c:a": decoder} if decoder else {})}
    sound = ffmpeg.input("pipe:0", **source).audio
    sound = sound.filter("aresample", rate)
    # Gaps become silence, and everything before the first sample is cut off. This filter counts the first
    # sample by the rate of its input, so that another one resamples.
    sound = sound.filter("aresample", rate, **{"async": 1, "min_hard_comp": 0.02, "first_pts": first})
    sound = sound.filter("aformat", channel_layouts="stereo").filter("apad", whole_len=count)
    sound = sound.filter("atrim", end_sample=count)
    encoder = {"c:a": "aac", "aac_coder": "fast", "b:a": bitrate, "ar": rate, "threads": 1}
    return _compiled(sound, encoder)


def _compiled(stream: Any, encoder: dict[str, Any]) -> list[str]:
    muxer = {"format": "mp4", "movflags": _FRAGMENTS, "use_editlist": 0, "avoid_negative_ts": "disabled"}
    common = {"copyts": None, "vsync": "passthrough", "map_metadata": -1, "map_chapters": -1}
    exact = {"fflags": "+bitexact", "flags": "+bitexact"}
    output = ffmpeg.output(stream, pipe(0), **encoder, **muxer, **common, **exact)
    return compile_arguments(ffmpeg.get_args(output))
