"""The start says what to type into an encoder, as its fields are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import start_server
from tests.ports import kept_port

CHANNEL = '[[live]]\nname = "{}"\nsource = "publish"\n{}'
CONFIGURED = 'publish_key = "sesame"\n'
OBS = re.compile(r"^In OBS: Server (\S+), Stream Key (\S+?)(;.*)?$", re.MULTILINE)
SRT = re.compile(r"^Encoders publish over SRT to (srt://[^\s;]+)(;.*)?$", re.MULTILINE)


def announced(folder: Path, channels: str, more: str = "") -> tuple[str, int]:
    """Start a server with an RTMP port and end it; return its output, and the port."""
    config = folder / "headwater.toml"
    with kept_port() as port:
        config.write_text(f'[server]\nrtmp_port = {port}\n{more}[library]\npath = "{folder}"\n{channels}')
        server = start_server("--config", str(config), "--port", "0")
        assert server.stop() == 0
    return server.text(), port


@pytest.mark.parametrize(("names", "key"), [(("studio",), "studio"), (("one", "two"), "CHANNEL")])
def test_the_stream_key_has_the_name_of_the_one_channel(
    tmp_path: Path, names: tuple[str, ...], key: str
) -> None:
    text, port = announced(tmp_path, "".join(CHANNEL.format(name, CONFIGURED) for name in names))
    (said,) = OBS.finditer(text)
    assert said.groups() == (
        f"rtmp://127.0.0.1:{port}/live",
        f"{key}?key=KEY",
        "; KEY is the channel's publish_key, in the configuration",
    )
    assert "sesame" not in text


def test_a_key_that_the_start_makes_is_in_what_is_pasted(tmp_path: Path) -> None:
    channels = CHANNEL.format("one", "") + CHANNEL.format("two", "") + CHANNEL.format("three", CONFIGURED)
    with kept_port() as srt_port:
        more = f'srt_port = {srt_port}\ndata = "{tmp_path / "data"}"\n'
        first, port = announced(tmp_path, channels, more)
        second, _ = announced(tmp_path, channels, more)
    keys = dict(
        re.findall(r"^Publish to \S+/live/(\w+)/ingest\?key=(\S+) \(its hash is kept", first, re.MULTILINE)
    )
    assert set(keys) == {"one", "two"}
    server = f"rtmp://127.0.0.1:{port}/live"
    assert [said[:2] for said in OBS.findall(first)] == [
        (server, f"one?key={keys['one']}"),
        (server, f"two?key={keys['two']}"),
        (server, "three?key=KEY"),
    ]
    assert [said[0].partition("?")[2] for said in SRT.findall(first)][:2] == [
        f"streamid=publish:{name}:{keys[name]}" for name in ("one", "two")
    ]
    # Of the keys that the first start made only the hashes are left.
    assert not any(key in second for key in keys.values())
    assert [said[1:] for said in OBS.findall(second)] == [
        ("three?key=KEY", "; KEY is the channel's publish_key, in the configuration"),
        ("CHANNEL?key=KEY", "; KEY is the channel's publish_key, shown at its first start"),
    ]
