"""A start that fails leaves nothing behind: no data folder, no secrets, no locks."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.fork_server import run_headwater
from tests.origin.cli.error_lines import assert_one_line

CHANNEL = '[[live]]\nname = "a"\nsource = "publish"\n[[events]]\nname = "b"\nhistory = "1h"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[server]\nport = 0\ndata = "data"\n[library]\npath = "nowhere"\n', "No such file or directory"),
        ('[server]\nport = 0\ndata = "films"\n[library]\npath = "films"\n', "would be published with it"),
        ('[server]\nport = {port}\ndata = "data"\n[library]\npath = "films"\n', "Address already in use"),
    ],
    ids=["no library", "data in the library", "a port in use"],
)
def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "films").mkdir()
    config = tmp_path / "headwater.toml"
    with socket.create_server(("127.0.0.1", 0)) as other:
        config.write_text(text.format(port=other.getsockname()[1]) + CHANNEL)
        assert_one_line(run_headwater("serve", cwd=tmp_path), 1, words)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["films", "headwater.toml"]
