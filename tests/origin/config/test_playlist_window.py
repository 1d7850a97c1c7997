"""How much of a DVR the live playlist lists, and where that can't be chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from origin.config.load import load
from origin.config.options import listed_seconds
from origin.config.warnings import unserved

DISK = '[server]\ndata = "data"\n'
BUCKET = f'{DISK}dvr_path = "s3://bucket/dvr"\n'
CLUSTER = '[cluster]\nurl = "redis://127.0.0.1"\n'


def write(folder: Path, server: str, *lines: str) -> Path:
    path = folder / "headwater.toml"
    path.write_text("\n".join((server, "[[live]]", 'name = "a"', 'source = "testsrc"', *lines, "")))
    return path


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (('dvr = "30d"',), 6 * 3600),
        (('dvr = "30d"', 'playlist_window = "0"'), 30 * 86_400),
        (('dvr = "30d"', 'playlist_window = "3h"'), 3 * 3600),
        (('dvr = "1h"', 'playlist_window = "3h"'), 3600),
        (('playlist_window = "3h"',), 0),
        (('dvr = "30d"', 'playlist_window = "3h"', "event = true"), 30 * 86_400),
    ],
)
def test_all_of_a_dvr_is_listed_if_its_playlist_is_no_shorter(
    tmp_path: Path, lines: tuple[str, ...], expected: float
) -> None:
    (channel,) = load(write(tmp_path, DISK, *lines), {}, {}).live
    assert listed_seconds(channel) == expected


@pytest.mark.parametrize(
    ("server", "lines", "is_warned"),
    [
        (DISK, (), False),
        (DISK, ('playlist_window = "3h"',), False),
        (DISK, ('playlist_window = "3h"', "event = true"), True),
        (BUCKET, ('playlist_window = "3h"',), False),
        (BUCKET + CLUSTER, ('playlist_window = "3h"',), False),
        (DISK + CLUSTER, ('playlist_window = "3h"',), True),
        ("", ('playlist_window = "3h"',), True),
    ],
)
def test_a_playlist_window_without_effect_is_warned_of(
    tmp_path: Path, server: str, lines: tuple[str, ...], is_warned: bool
) -> None:
    found = unserved(load(write(tmp_path, server, *lines), {}, {}))
    assert any("playlist_window" in one for one in found) is is_warned
