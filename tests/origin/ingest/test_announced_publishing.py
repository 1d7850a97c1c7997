"""The start says what to type into an encoder, as its fields are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import start_server
from tests.ports import kept_port

CHANNEL = '[[live]]\nname = "{}"\nsource = "publish"\npublish_key = "sesame"\n'


@pytest.mark.parametrize(("names", "key"), [(("studio",), "studio"), (("one", "two"), "CHANNEL")])
def test_the_stream_key_has_the_name_of_the_one_channel(
    tmp_path: Path, names: tuple[str, ...], key: str
) -> None:
    config = tmp_path / "headwater.toml"
    channels = "".join(map(CHANNEL.format, names))
    with kept_port() as port:
        config.write_text(f'[server]\nrtmp_port = {port}\n[library]\npath = "{tmp_path}"\n{channels}')
        server = start_server("--config", str(config), "--port", "0")
        assert server.stop() == 0
    assert f"In OBS: Server rtmp://127.0.0.1:{port}/live, Stream Key {key}?key=KEY" in server.text()
