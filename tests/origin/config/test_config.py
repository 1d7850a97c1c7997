"""Sources are merged in order; an error is one line that names source, key and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from origin.config.load import _PATHS, as_toml, load, moved_paths
from origin.config.options import (
    AnswerRelayOptions,
    ClusterOptions,
    Config,
    ConfigError,
    EventOptions,
    GrpcOptions,
    LibraryOptions,
    LiveOptions,
    LogOptions,
    RadioOptions,
    ServerOptions,
    TlsOptions,
    seconds,
)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "headwater.toml"
    path.write_text(text)
    return path


def test_without_any_source_the_defaults_hold() -> None:
    assert load(None, {}, {}) == Config()


def test_file_then_environment_then_options_win(tmp_path: Path) -> None:
    path = write(tmp_path, '[server]\nport = 1\nhost = "a"\n[library]\npath = "x"\nmax_age = 5\n')
    config = load(
        path,
        {"HEADWATER_SERVER_PORT": "2", "HEADWATER_LIBRARY_PATH": "y", "PATH": "/bin"},
        {"server": {"port": 3}},
    )
    assert (config.server.port, config.server.host) == (3, "a")
    assert (config.library.path, config.library.max_age) == ("y", 5)


def test_lists_come_from_the_environment_with_commas() -> None:
    given = {
        "HEADWATER_SERVER_NAMES": "a, b",
        "HEADWATER_SERVER_ALLOW_EMBED": "https://a.example,https://b.example",
        "HEADWATER_SERVER_CARRIED_PARAMETERS": "token",
    }
    server = load(None, given, {}).server
    assert server.names == ("a", "b")
    assert server.allow_embed == ("https://a.example", "https://b.example")
    assert server.carried_parameters == ("token",)


def test_an_empty_list_that_needs_an_item_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="hls_bitrates: expected a list, not less than 1"):
        load(None, {}, {"radio": [{"name": "a", "hls_bitrates": []}]})


def test_the_documented_example_is_valid(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [server]
        host = "127.0.0.1"
        port = 8000
        rtmp_port = 1935
        srt_port = 0

        [library]
        path = "library"

        [[live]]
        name = "demo"
        source = "testsrc"
        ladder = ["720p", "360p"]
        part_duration = 0.333
        segment_duration = 2.0
        dvr = "2h"
        publish_key = "k"

        [[radio]]
        name = "demo.mp3"
        source = "folder"
        folder = "music"
        bitrate = 128
        source_password = "p"
        fallback = "other"

        [[events]]
        name = "demo"
        publish_token = "t"
        relay = "http://127.0.0.1:1/v1/chat/completions"
        """,
    )
    config = load(path, {}, {})
    assert config.live[0].ladder == ("720p", "360p")
    assert seconds(config.live[0].dvr) == 7200
    assert config.radio[0].bitrate == 128
    assert config.events[0].relay is not None


WRONG = [
    ("[server]\nprot = 1", "server.prot: unknown key; did you mean port? allowed: host, port"),
    (
        "[sever]\nport = 1",
        "sever: unknown key; did you mean server? allowed: server, tls, grpc, cluster, library",
    ),
    ('[server]\nport = "x"', "server.port: expected a whole number, not text"),
    ("[server]\nport = 70000", "server.port: expected a whole number, not more than 65535"),
    ('[server]\nhost = ""', "server.host: expected text, not empty"),
    ("[server]\nworkers = 0", "server.workers: not possible; allowed: a whole number from 1 to 256, or"),
    ("[server]\nworkers = 2.5", "server.workers: not possible; allowed: a whole number"),
    ('[server]\nworkers = "many"', "server.workers: not possible; allowed: a whole number"),
    (
        '[server]\nallow_origin = "a\\r\\nX: y"',
        "server.allow_origin: not possible; allowed: an origin such as",
    ),
    ('[server]\nallow_origin = "player.example"', "server.allow_origin: not possible"),
    (
        '[[events]]\nname = "a"\nallow_origin = "https://a.example/page"',
        "events[0].allow_origin: not possible; allowed: an origin such as",
    ),
    ('[library]\npath = ""', "library.path: expected text, not empty"),
    (
        '[[live]]\nname = "a"\nladder = ["700p"]',
        "live[0].ladder[0]: not possible; allowed: source, 1080p, 720p",
    ),
    ('[[live]]\nname = "../a"', "live[0].name: not possible; allowed: 1 to 64 letters"),
    ('[[live]]\nname = ".."', "live[0].name: not possible"),
    ('[[live]]\nname = "a\\n"', "live[0].name: not possible"),
    (
        '[server]\nallow_embed = ["https://site.example\\n"]',
        "server.allow_embed[0]: not possible; allowed: an origin",
    ),
    ('[server]\nuser = "nobody\\n"', "server.user: not possible; allowed: a user's name"),
    ('[[live]]\nname = "a"\nspeed = 1', "live[0].speed: unknown key; allowed: name, source, ladder"),
    ('[[live]]\nname = "a"\ndvr = "2 weeks"', "live[0].dvr: not possible; allowed: a duration such as 90s"),
    ('[[live]]\nname = "a"\ncaptions = ["e n"]', "live[0].captions[0]: not possible; allowed: a language"),
    ('[[live]]\nname = "a"\ncaptions = ["en", "EN"]', "live: captions of 'a': each language once"),
    ('[[live]]\nname = "a"\nladder = []', "live: ladder of 'a': at least one rendition, and each once"),
    (
        '[[live]]\nname = "a"\npart_duration = 1.5\nsegment_duration = 1',
        "live: part_duration of 'a': 1.5 is longer than its segment_duration, 1",
    ),
    ('[[live]]\nname = "a"', "live: source of 'a': is missing; allowed: 'publish', 'testsrc', a file"),
    ('[[live]]\nname = "a"\nsource = "/nope.mp4"', "live: source of 'a': '/nope.mp4' isn't there; allowed:"),
    ('[[live]]\nname = "a"\nsource = "gopher://x/"', "live: source of 'a': 'gopher://x/' isn't there"),
    *(
        (f'{table}\n{key} = "~nosuchuser/x"', f"{place}: '~nosuchuser' is nobody's home; allowed: a user's")
        for table, key, place in (
            ('[[live]]\nname = "a"', "source", "live: source of 'a'"),
            ('[[live]]\nname = "a"\nsource = "publish"', "offline", "live: offline of 'a'"),
            ('[[radio]]\nname = "a"', "folder", "radio: folder of 'a'"),
            ('[[radio]]\nname = "a"', "fallback", "radio: fallback of 'a'"),
            ('[[radio]]\nname = "a"', "intro", "radio: intro of 'a'"),
        )
    ),
    ('[[live]]\nname = "a"\nladder = ["360p", "360p"]', "live: ladder of 'a': at least one rendition"),
    ('[[radio]]\nsource = "folder"', "radio[0]: name is missing"),
    ('[[radio]]\nname = "a"\n[[radio]]\nname = "a"', "radio: the name 'a' is used twice"),
    ('[live]\nname = "a"', "live: expected a list, not a table; each begins with [[live]]"),
    (
        '[[live]]\nname = "a"\npart_duration = 3.0',
        "live[0].part_duration: expected a number, not more than 2",
    ),
    ('[[events]]\nname = "a"\nrelay_key = "…"', "events[0].relay_key: not possible; allowed: visible char"),
    ('[[events]]\nname = "a"\nrelay_key = "a\\nb"', "events[0].relay_key: not possible; allowed: visible"),
    ("[log]\nrequests = 1", "log.requests: expected true or false, not a whole number"),
    ("[server", "not valid TOML"),
    ("live = 1", "live: expected a list, not a whole number; each begins with [[live]]"),
]


@pytest.mark.clause("CWE-732")
@pytest.mark.parametrize(("text", "expected"), WRONG)
def test_a_wrong_file_is_one_line_naming_the_key_and_what_is_allowed(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path, {}, {})
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert message.startswith((str(path), "live:", "radio:"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file or directory; name .* with --config"):
        load(tmp_path / "nowhere.toml", {}, {})


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("HEADWATER_SERVER_PROT", "1", "HEADWATER_SERVER_PROT: no such option; did you mean"),
        ("HEADWATER_NOTHING", "1", "HEADWATER_NOTHING: no such option; allowed: HEADWATER_SERVER_…"),
        ("HEADWATER_SERVER_PORT", "many", "HEADWATER_SERVER_PORT: expected a whole number"),
        ("HEADWATER_LOG_FORMAT", "xml", "HEADWATER_LOG_FORMAT: not possible; allowed: text, json"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {variable: value}, {})
    assert str(caught.value).startswith(expected)


def test_a_variable_is_converted_by_its_keys_type() -> None:
    environment = {"HEADWATER_LIBRARY_FOLLOW_SYMLINKS": "true", "HEADWATER_LIMITS_SHUTDOWN_SECONDS": "0.5"}
    config = load(None, environment, {})
    assert config.library.follow_symlinks is True
    assert config.limits.shutdown_seconds == 0.5


def test_the_printed_configuration_reads_back_and_hides_secrets() -> None:
    config = Config(live=(LiveOptions(name="a", publish_key="sesame", dvr="2h"),))
    text = as_toml(config)
    assert "sesame" not in text
    blotted = msgspec.structs.replace(config.live[0], publish_key="********")
    assert msgspec.toml.decode(text.encode(), type=Config) == msgspec.structs.replace(config, live=(blotted,))


def test_options_are_frozen() -> None:
    options: Any = Config().server
    with pytest.raises(AttributeError):
        options.port = 1


def test_trusted_proxies_are_addresses_and_networks(tmp_path: Path) -> None:
    path = write(tmp_path, '[server]\ntrusted_proxies = ["127.0.0.1", "2001:db8::/32"]\n')
    assert load(path, {}, {}).server.trusted_proxies == ("127.0.0.1", "2001:db8::/32")
    variables = {"HEADWATER_SERVER_TRUSTED_PROXIES": "10.0.0.0/8, ::1"}
    assert load(path, variables, {}).server.trusted_proxies == ("10.0.0.0/8", "::1")
    assert load(path, {"HEADWATER_SERVER_TRUSTED_PROXIES": ""}, {}).server.trusted_proxies == ()
    for wrong in ("nginx", "1.2.3", "10.0.0.0/33"):
        with pytest.raises(ConfigError, match=r"server\.trusted_proxies.*allowed: "):
            load(write(tmp_path, f'[server]\ntrusted_proxies = ["{wrong}"]\n'), {}, {})


@pytest.mark.parametrize("key", ["server.data", "library.path", "log.access"])
def test_a_home_of_nobody_is_an_error_that_names_the_key(tmp_path: Path, key: str) -> None:
    section, _, name = key.partition(".")
    path = write(tmp_path, f'[{section}]\n{name} = "~nosuchuser/x"\n')
    with pytest.raises(ConfigError, match=f"{key}: '~nosuchuser' is nobody's home; allowed: a user's"):
        load(path, {}, {})


BESIDE = """
[server]
data = "data"
[library]
path = "films"
[log]
access = "logs/access.log"
[[live]]
name = "file"
source = "loop.mp4"
offline = "slate.mp4"
[[live]]
name = "studio"
source = "publish"
offline = "gaps"
[[live]]
name = "pulled"
source = "udp://127.0.0.1:9999"
[[live]]
name = "test"
source = "testsrc"
offline = "/slate.mp4"
[[radio]]
name = "morning"
folder = "../music"
fallback = "night"
intro = "~/intro.mp3"
[[radio]]
name = "night"
fallback = "night.mp3"
intro = "jingle.mp3"
"""


def test_paths_in_the_file_are_relative_to_it_and_all_others_to_where_the_command_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "loop.mp4").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for named, beside in ((Path("../etc"), "../etc"), (tmp_path / "etc", str(tmp_path / "etc"))):
        write(tmp_path / "etc", BESIDE)
        config = load(named / "headwater.toml", {}, {})
        assert (config.server.data, config.library.path) == (f"{beside}/data", f"{beside}/films")
        assert config.log.access == f"{beside}/logs/access.log"
        assert [(one.source, one.offline) for one in config.live] == [
            (f"{beside}/loop.mp4", f"{beside}/slate.mp4"),
            ("publish", "gaps"),
            ("udp://127.0.0.1:9999", "gaps"),
            ("testsrc", "/slate.mp4"),
        ]
        assert [(one.folder, one.fallback, one.intro) for one in config.radio] == [
            (f"{beside}/../music", "night", "~/intro.mp3"),
            ("music", f"{beside}/night.mp3", f"{beside}/jingle.mp3"),
        ]
        assert f'path = "{beside}/films"\n' in as_toml(config)
        others = load(named / "headwater.toml", {"HEADWATER_SERVER_DATA": "d"}, {"library": {"path": "f"}})
        assert (others.server.data, others.library.path) == ("d", "f")


def test_each_option_that_names_a_file_is_relative_to_the_configuration() -> None:
    """An option of another one belongs into ``_PATHS``, or here."""
    names = (
        "path",
        "folder",
        "file",
        "data",
        "access",
        "intro",
        "offline",
        "fallback",
        "certificate",
        "key",
        "source",
    )
    found = {
        (section, key)
        for section, kind in {
            "server": ServerOptions,
            "tls": TlsOptions,
            "grpc": GrpcOptions,
            "library": LibraryOptions,
            "cluster": ClusterOptions,
            "live": LiveOptions,
            "radio": RadioOptions,
            "events": EventOptions,
            "relay": AnswerRelayOptions,
            "log": LogOptions,
        }.items()
        for key in kind.__struct_fields__
        if any(word in names for word in key.split("_"))
    }
    # A bucket, URLs, a password, and who may fetch something.
    others = {
        ("server", "dvr_path"),
        ("library", "access"),
        ("live", "access"),
        ("live", "recordings_access"),
        ("radio", "access"),
        ("radio", "source"),
        ("radio", "source_password"),
        ("radio", "source_webhook"),
        ("live", "publish_key"),
        ("events", "access"),
        ("events", "read_key"),
        ("events", "relay_key"),
        ("events", "relay_key_header"),
        ("relay", "read_key"),
        ("relay", "relay_keys"),
        ("relay", "relay_key_header"),
        ("relay", "relay_pass_key"),
    }
    assert found - others == {(section, key) for section, keys in _PATHS.items() for key in keys}


def test_what_an_earlier_version_found_elsewhere_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    file = write(etc, BESIDE)
    monkeypatch.chdir(tmp_path)
    assert list(moved_paths(file)) == []
    (tmp_path / "films").mkdir()
    (tmp_path / "loop.mp4").touch()
    (tmp_path / "etc" / "data").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "etc" / "data")
    assert list(moved_paths(file)) == [
        f"library.path: means {etc}/films, beside the configuration, and not {tmp_path}/films",
        f"live 'file': source: means {etc}/loop.mp4, beside the configuration, and not {tmp_path}/loop.mp4",
    ]
    monkeypatch.chdir(tmp_path / "etc")
    (tmp_path / "etc" / "films").mkdir()
    assert list(moved_paths(Path("headwater.toml"))) == []
