"""The command lines that make the demo's media: three films and an album of small tunes."""

from __future__ import annotations

import itertools
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

import ffmpeg

from packager.process.ffmpeg_discovery import Tools

FRAME_RATE = 30
GOP_FRAMES = 60
FILM_SECONDS = 72
RENDITIONS = (("720p", 1280, 720, 2000), ("480p", 854, 480, 900), ("240p", 426, 240, 300))
"""Name, width, height and kbit/s of the film's video renditions."""

CHAPTER_SECONDS = 20
CHAPTERS = ("Spring", "Rapids", "Delta")
"""Titles of the river's chapters."""

SUBTITLES = {
    "eng": (
        "This film has chapters, subtitles and two sounds.",
        "The menu of the player has the other language.",
        "Marks on the seek bar are the chapters.",
    ),
    "deu": (
        "Dieser Film hat Kapitel, Untertitel und zwei Tonspuren.",
        "Im Menü des Players steht die andere Sprache.",
        "Die Marken auf dem Balken sind die Kapitel.",
    ),
}
"""Lines of the river's subtitles by language, one for each chapter."""

CHORDS = {"eng": (220.0, 277.18, 329.63), "deu": (174.61, 220.0, 261.63)}
"""The river's sounds by language, in hertz."""

TUNES = (
    ("01 Meltwater", "Headwater Ensemble", 220.0, (0, 4, 7, 11), (-0.7453, 0.1127, 200)),
    ("02 Gravel Bed", "Headwater Ensemble", 196.0, (0, 3, 7, 10), (-0.1011, 0.9563, 90)),
    ("03 Confluence", "The Tributaries", 261.63, (0, 5, 9, 12), None),
)
"""File name, artist, lowest note in hertz, the chord in semitones, and the cover: its place in the Mandelbrot
set and its hue in degrees."""

TUNE_SECONDS = 40

MUSIC = "library/music"
"""Folder of the tunes in the demo's folder."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A run of ffmpeg for demo media: the files it makes, and its arguments without the outputs' folder.

    Attributes:
        label: the name that a progress bar shows.
        outputs: paths relative to the demo's folder, for which ``{0}``, ``{1}`` … stand in the arguments.
        arguments: ffmpeg's arguments behind the global options.
    """

    label: str
    outputs: tuple[str, ...]
    arguments: tuple[str, ...]


def recipes(tools: Tools) -> list[Recipe]:
    """All that the demo is made of; without drawtext the films have only their test picture's small clock."""
    captions = "drawtext" in tools.filters
    return [
        _film(captions=captions),
        _river(captions=captions),
        _moov_last(),
        *(_tune(*tune) for tune in TUNES),
    ]


def _film(*, captions: bool) -> Recipe:
    """Return the run that makes a film in three renditions with the same key frames."""
    source = ffmpeg.input(
        f"testsrc2=size=1280x720:rate={FRAME_RATE}:duration={FILM_SECONDS}", format="lavfi"
    ).filter("noise", alls=6, allf="t")
    if captions:
        box = {"fontcolor": "white", "box": 1, "boxcolor": "black@0.6"}
        source = source.drawtext(
            text="%{pts:hms}", fontsize=72, x="(w-tw)/2", y="h-140", escape_text=False, **box
        )
    tone = ffmpeg.input(
        # one note of a pentatonic scale a second, so that a seek can be heard
        f"aevalsrc='0.2*sin(2*PI*220*pow(2,mod(floor(t)*5,24)/12)*t)':s=48000:d={FILM_SECONDS}",
        format="lavfi",
    ).asplit()
    pictures = source.split()
    outputs = []
    for index, (_, width, height, rate) in enumerate(RENDITIONS):
        picture = pictures[index]
        if captions:
            picture = picture.drawtext(text=f"{height}p", fontsize=48, fontcolor="white", x=40, y=40)
        outputs.append(
            ffmpeg.output(
                picture.filter("scale", width, height).filter("format", "yuv420p"),
                tone[index],
                f"{{{index}}}",
                format="mp4",
                **_x264(rate),
                **{"c:a": "aac", "b:a": "128k", "ac": 2, "movflags": "+faststart"},
            )
        )
    names = tuple(f"library/film.{name}.mp4" for name, *_ in RENDITIONS)
    return Recipe("film in three renditions", names, _arguments(outputs))


def _river(*, captions: bool) -> Recipe:
    """Return the run that makes a film with chapters, and with sounds and subtitles in two languages."""
    seconds = CHAPTER_SECONDS * len(CHAPTERS)
    colours = {"c0": "0x0b3d5c", "c1": "0x1fa2a6", "c2": "0xd9e8c5", "nb_colors": 3, "speed": 0.02, "seed": 7}
    source = ":".join(f"{name}={value}" for name, value in colours.items())
    picture = ffmpeg.input(f"gradients=size=1280x720:rate=25:duration={seconds}:{source}", format="lavfi")
    for number, title in enumerate(CHAPTERS if captions else ()):
        begin = CHAPTER_SECONDS * number
        shown = f"between(t,{begin},{begin + CHAPTER_SECONDS})"
        picture = picture.drawtext(
            text=title, fontsize=96, fontcolor="white", x="(w-tw)/2", y="(h-th)/2", enable=shown
        )
    waves = [
        "+".join(f"0.08*sin(2*PI*{hertz}*t)*(0.6+0.4*sin(PI*t/{3 + at}))" for at, hertz in enumerate(chord))
        for chord in CHORDS.values()
    ]
    sounds = [ffmpeg.input(f"aevalsrc='{wave}':s=48000:d={seconds}", format="lavfi") for wave in waves]
    texts = [ffmpeg.input(_data(_srt(lines)), format="srt") for lines in SUBTITLES.values()]
    languages = {
        f"metadata:s:{kind}:{at}": f"language={language}"
        for kind in "as"
        for at, language in enumerate(CHORDS)
    }
    output = ffmpeg.output(
        picture.filter("format", "yuv420p"),
        *sounds,
        *texts,
        ffmpeg.input(_data(_chapters()), format="ffmetadata")["a?"],
        "{0}",
        format="matroska",
        map_chapters=len(sounds) + len(texts) + 1,
        **_x264(1200) | {"g": 50, "keyint_min": 50},
        **{"c:a": "aac", "b:a": "96k", "ac": 2, "c:s": "srt", "metadata:g:0": "title=The River"},
        **languages,
    )
    return Recipe("film with chapters and languages", ("library/river.mkv",), _arguments([output]))


def _srt(lines: Sequence[str]) -> str:
    """Return subtitles in SubRip, of which each line is shown in the middle of a chapter."""
    cues = (
        f"{at + 1}\n00:00:{begin + 2:02},000 --> 00:00:{begin + CHAPTER_SECONDS - 4:02},000\n{line}\n"
        for at, line in enumerate(lines)
        for begin in (CHAPTER_SECONDS * at,)
    )
    return "\n".join(cues)


def _chapters() -> str:
    """Return the river's chapters as ffmpeg reads them."""
    chapters = (
        f"[CHAPTER]\nTIMEBASE=1/1\nSTART={begin}\nEND={begin + CHAPTER_SECONDS}\ntitle={title}\n"
        for begin, title in zip(itertools.count(0, CHAPTER_SECONDS), CHAPTERS, strict=False)
    )
    return ";FFMETADATA1\n" + "".join(chapters)


def _data(text: str) -> str:
    """Return a URL that is the text itself (RFC 2397)."""
    return f"data:text/plain;base64,{b64encode(text.encode()).decode()}"


def _moov_last() -> Recipe:
    """A second film whose moov box stands behind the media data, as most cameras write it."""
    picture = ffmpeg.input("mandelbrot=size=640x360:rate=25:end_scale=0.001:end_pts=1500", format="lavfi")
    tone = ffmpeg.input(
        "aevalsrc='0.1*sin(2*PI*(110+4*t)*t)|0.1*sin(2*PI*(165+4*t)*t)':s=44100", format="lavfi"
    )
    output = ffmpeg.output(
        picture.filter("format", "yuv420p"),
        tone,
        "{0}",
        format="mp4",
        t=40,
        **_x264(800) | {"g": 100, "keyint_min": 25},
        **{"c:a": "aac", "b:a": "96k"},
    )
    return Recipe("film with moov at the end", ("library/mandelbrot.mp4",), _arguments([output]))


def _tune(
    name: str, artist: str, lowest: float, chord: Sequence[int], cover: tuple[float, float, int] | None
) -> Recipe:
    """An arpeggio over a soft chord, with a cover perhaps."""
    notes = "+".join(
        f"eq(mod(floor(4*t),{len(chord)}),{index})*{semitones}" for index, semitones in enumerate(chord)
    )
    pluck = (
        f"0.35*exp(-7*mod(t,0.25))*sin(2*PI*{lowest}*pow(2,({notes}+12*mod(floor(t/2),2))/12)*mod(t,0.25))"
    )
    pad = "+".join(f"0.05*sin(2*PI*{lowest / 2 * 2 ** (semitones / 12):.3f}*t)" for semitones in chord)
    picture = []
    if cover is not None:
        x, y, hue = cover
        source = f"mandelbrot=size=500x500:start_scale=0.004:start_x={x}:start_y={y}:maxiter=900"
        picture = [ffmpeg.input(source, format="lavfi").filter("trim", end_frame=1).filter("hue", h=hue)]
    output = ffmpeg.output(
        ffmpeg.input(f"aevalsrc='{pluck}+{pad}':s=44100:d={TUNE_SECONDS}", format="lavfi"),
        *picture,
        "{0}",
        format="mp3",
        ac=2,
        **{
            "c:a": "libmp3lame",
            "b:a": "128k",
            "metadata:g:0": f"title={name[3:]}",
            "metadata:g:1": f"artist={artist}",
            "metadata:g:2": "album=Headwater Demo",
        },
        **({"c:v": "mjpeg", "disposition:v": "attached_pic"} if picture else {}),
    )
    return Recipe(f"music: {name[3:]}", (f"{MUSIC}/{name}.mp3",), _arguments([output]))


def _x264(kilobits: int) -> dict[str, str | int]:
    return {
        "c:v": "libx264",
        "preset": "superfast",
        "profile:v": "high",
        "b:v": f"{kilobits}k",
        "maxrate": f"{kilobits * 5 // 4}k",
        "bufsize": f"{kilobits * 2}k",
        "bf": 2,
        "g": GOP_FRAMES,
        "keyint_min": GOP_FRAMES,
        "sc_threshold": 0,
    }


def _arguments(outputs: Sequence[object]) -> tuple[str, ...]:
    return tuple(ffmpeg.get_args(ffmpeg.merge_outputs(*outputs) if len(outputs) > 1 else outputs[0]))
