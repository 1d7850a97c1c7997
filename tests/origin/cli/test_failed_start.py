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


PUBLISHED = '[[live]]\nname = "a"\nsource = "publish"\n'
TLS = '[server]\nport = 0\n[tls]\ncertificate = "self-signed"\n'


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("[server]\nport = {port}\n", "server.port"),
        (
            '[server]\nport = 0\nprotected = ["api"]\nadmin_host = "127.0.0.1"\nadmin_port = {port}\n',
            "server.admin_port",
        ),
        (f"[server]\nport = 0\nrtmp_port = {{port}}\n{PUBLISHED}", "server.rtmp_port"),
        (f"{TLS}port = {{port}}\n", "tls.port"),
        (f"{TLS}port = 0\nrtmps_port = {{port}}\n{PUBLISHED}", "tls.rtmps_port"),
    ],
    ids=lambda one: one if "\n" not in one else "",
)
def test_a_port_in_use_names_the_option_that_chose_it(tmp_path: Path, text: str, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (tmp_path / "headwater.toml").write_text(text.format(port=port))
        result = run_headwater("serve", cwd=tmp_path)
    assert_one_line(result, 1, f"127.0.0.1:{port}: Address already in use; ", option)
    assert ("--port" in result.stderr) == (option == "server.port")


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
@pytest.mark.parametrize("section", ["", "admin_"])
def test_a_host_that_is_none_of_this_machines_names_the_option_that_chose_it(
    tmp_path: Path, host: str, section: str
) -> None:
    text = f'[server]\nport = 0\n{section}host = "{host}"\nadmin_port = {1024 if section else 0}\n'
    text += 'protected = ["api"]\n'
    (tmp_path / "headwater.toml").write_text(text)
    result = run_headwater("serve", cwd=tmp_path)
    assert_one_line(result, 1, host, f"server.{section}host")
    assert ("--host" in result.stderr) == (not section)
