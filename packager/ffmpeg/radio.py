"""ffmpeg's arguments for radio stations: decoding, encoding to MP3, and measuring loudness."""

from __future__ import annotations

from pathlib import Path

import ffmpeg
from ffmpeg.nodes import FilterableStream

from packager.ffmpeg.arguments import LOCAL_PROTOCOLS, compile_arguments, local_input, pipe

PEAK = 0.89
"""Limit for amplified tracks: 1 dB below full scale, which leaves headroom for the encoder."""


def decoder_arguments(sample_rate: int, channels: int) -> list[str]:
    """Compile the arguments that decode frames of MP3 on standard input, track after track.

    Args:
        sample_rate: of the samples, in Hz: interleaved floats of 32 bits on the first output pipe.
    """
    source = ffmpeg.input(
        "pipe:0", format="mp3", protocol_whitelist="pipe", probesize=2048, analyzeduration=0, threads=1
    )
    # Gaps from frames that ffmpeg drops are filled by timestamps, so that sample counts stay exact.
    timed = source["a:0"].filter("aresample", sample_rate, min_hard_comp=0.001, **{"async": 1})
    return _decoding(timed, sample_rate, channels)


def file_decoder_arguments(path: Path, sample_rate: int, channels: int) -> list[str]:
    """Compile the arguments that decode one file of MPEG audio; see ``decoder_arguments``."""
    source = ffmpeg.input(local_input(path), format="mp3", protocol_whitelist=LOCAL_PROTOCOLS)
    return _decoding(source["a:0"], sample_rate, channels)


def _decoding(source: FilterableStream, sample_rate: int, channels: int) -> list[str]:
    output = ffmpeg.output(
        source,
        pipe(0),
        format="f32le",
        acodec="pcm_f32le",
        ar=sample_rate,
        ac=channels,
        flush_packets=1,
        threads=1,
    )
    return compile_arguments(ffmpeg.get_args(output))


def encoder_arguments(sample_rate: int, channels: int, bitrate: int, *, limited: bool) -> list[str]:
    """Compile the arguments that encode samples on standard input to MP3 on the first output pipe.

    Args:
        sample_rate: of the samples, in Hz: interleaved floats of 32 bits.
        bitrate: kbit/s, constant.
        limited: whether what is too loud is limited.
    """
    shape = {"ar": sample_rate, "ac": channels}
    source = ffmpeg.input("pipe:0", format="f32le", protocol_whitelist="pipe", **shape)["a:0"]
    if limited:
        source = source.filter("alimiter", limit=PEAK, level="disabled", latency=1)
    output = ffmpeg.output(
        source,
        pipe(0),
        format="mp3",
        acodec="libmp3lame",
        audio_bitrate=f"{bitrate}k",
        map_metadata=-1,
        write_xing=0,
        id3v2_version=0,
        flush_packets=1,
        threads=1,
    )
    return compile_arguments(ffmpeg.get_args(output))


def loudness_arguments(path: Path, seconds: float) -> list[str]:
    """Compile the arguments that measure a track's loudness (EBU R 128); the result goes to output pipe 0.

    Args:
        seconds: how much of it is measured.
    """
    source = ffmpeg.input(local_input(path), format="mp3", protocol_whitelist=LOCAL_PROTOCOLS, t=seconds)
    metered = source["a:0"].filter("ebur128", metadata=1)
    told = metered.filter("ametadata", mode="print", key="lavfi.r128.I", file=pipe(0))
    return compile_arguments(ffmpeg.get_args(ffmpeg.output(told, "-", format="null", threads=1)))
