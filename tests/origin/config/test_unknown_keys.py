"""Keys and variables that nothing has: the one that was meant is asked about, before all that are allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from origin.config.load import load
from origin.config.options import ConfigError

ALL = "; allowed: host, port, rtmp_port"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[server]\nprot = 1", "server.prot: unknown key; did you mean port? allowed: host, port, rtmp_port"),
        ("[server]\nRTMP-Port = 1", "server.RTMP-Port: unknown key; did you mean rtmp_port? allowed: host"),
        ('[server]\nlevel = "info"', "server.level: unknown key; did you mean log.level? allowed: host"),
        ("port = 1", "port: unknown key; did you mean server.port? allowed: server, tls"),
        ('[lives]\nname = "a"', "lives: unknown key; did you mean live? allowed: server, tls"),
        ('[[live]]\nname = "a"\nsegment = 2', "live[0].segment: unknown key; allowed: name, source"),
        (
            '[[live]]\nname = "a"\nsourc = "x"',
            "live[0].sourc: unknown key; did you mean source? allowed: name",
        ),
        ('[[live]]\nname = "a"\nbitrate = 1', "live[0].bitrate: unknown key; did you mean radio.bitrate?"),
        ('[server]\nyp_url = "http://a/b"', "server.yp_url: went with version 0.2, as the server announces"),
        ("[server]\nweather = 1", f"server.weather: unknown key{ALL}"),
        (f"[server]\n{'x' * 100_000} = 1", f"x: unknown key{ALL}"),
    ],
    ids=lambda one: one[:40],
)
def test_an_unknown_key_is_asked_about(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "headwater.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, {}, {})
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("SERVER_PROT", "HEADWATER_SERVER_PORT"),
        ("SEVER_PORT", "HEADWATER_SERVER_PORT"),
        ("PORT", "HEADWATER_SERVER_PORT"),
        ("SERVER_LEVEL", "HEADWATER_LOG_LEVEL"),
        ("RTMP_PORT", "HEADWATER_SERVER_RTMP_PORT"),
        ("WEATHER", None),
        # It exists, but only for each channel: no variable can set it.
        ("SERVER_LADDER", None),
    ],
)
def test_an_unknown_variable_is_asked_about(tmp_path: Path, variable: str, meant: str | None) -> None:
    name = f"HEADWATER_{variable}"
    (tmp_path / "headwater.toml").write_text("")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "headwater.toml", {name: "1"}, {})
    asked = "" if meant is None else f"did you mean {meant}? "
    assert str(caught.value).startswith(f"{name}: no such option; {asked}allowed: ")


def test_a_variable_of_a_key_that_went_says_so() -> None:
    with pytest.raises(ConfigError, match=r"^HEADWATER_SERVER_YP_URL: went with version 0\.2"):
        load(None, {"HEADWATER_SERVER_YP_URL": "http://a/b"}, {})
