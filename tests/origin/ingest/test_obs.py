"""OBS itself, on a screen that nobody sees, publishes to a channel as its users do."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.origin.ingest.studio import KEY, PROMPT, Studio, studio
from tests.ports import kept_port
from tests.srt import udp_port
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (shutil.which("obs") and shutil.which("Xvfb")), reason="no OBS or no Xvfb"),
]

PROFILE: Mapping[str, Mapping[str, object]] = {
    "General": {"Name": "studio"},
    "Video": {"BaseCX": 320, "BaseCY": 180, "OutputCX": 320, "OutputCY": 180, "FPSType": 0, "FPSCommon": 10},
    "Output": {"Mode": "Simple", "Reconnect": "true", "RetryDelay": 2, "MaxRetries": 20},
    "SimpleOutput": {
        "VBitrate": 300,
        "ABitrate": 96,
        "StreamEncoder": "x264",
        "Preset": "ultrafast",
        "UseAdvanced": "true",
        "x264Settings": "keyint=10",
    },
}
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "General": {"FirstRun": "true", "EnableAutoUpdates": "false"},
    "Basic": {
        "Profile": "studio",
        "ProfileDir": "studio",
        "SceneCollection": "studio",
        "SceneCollectionFile": "studio",
    },
    "BasicWindow": {"SysTrayEnabled": "false"},
}
SCENE_ITEM = {"id": 1, "name": "Colour", "visible": True, "pos": {"x": 0, "y": 0}, "scale": {"x": 1, "y": 1}}
COLOUR = {"color": 0xFF00AAFF, "width": 320, "height": 180}
SCENES: Mapping[str, object] = {
    "name": "studio",
    "current_scene": "Scene",
    "current_program_scene": "Scene",
    "scene_order": [{"name": "Scene"}],
    "sources": [
        {"id": "scene", "name": "Scene", "settings": {"id_counter": 1, "items": [SCENE_ITEM]}},
        {"id": "color_source_v3", "versioned_id": "color_source_v3", "name": "Colour", "settings": COLOUR},
    ],
}


def written(sections: Mapping[str, Mapping[str, object]]) -> str:
    lines = list[str]()
    for name, values in sections.items():
        lines += [f"[{name}]", *(f"{key}={value}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def screen() -> Iterator[str]:
    """A screen's name."""
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "800x600x24", "+extension", "GLX"]
    process = subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL)
    os.close(writer)
    try:
        with open(reader) as number:
            yield f":{number.readline().strip()}"
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def obs(folder: Path, screen: str, server: str, stream_key: str) -> Iterator[Path]:
    """Let OBS start streaming; gives its log."""
    home = folder / "home"
    profile = home / ".config/obs-studio/basic/profiles/studio"
    profile.mkdir(parents=True)
    (home / ".config/obs-studio/global.ini").write_text(written(SETTINGS))
    (profile / "basic.ini").write_text(written(PROFILE))
    (home / ".config/obs-studio/basic/scenes").mkdir()
    (home / ".config/obs-studio/basic/scenes/studio.json").write_text(json.dumps(SCENES))
    service = {"server": server, "key": stream_key, "use_auth": False}
    (profile / "service.json").write_text(json.dumps({"type": "rtmp_custom", "settings": service}))
    given = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "XDG_RUNTIME_DIR": str(home)}
    given |= {"DISPLAY": screen, "LIBGL_ALWAYS_SOFTWARE": "1", "QT_QPA_PLATFORM": "xcb"}
    command = "obs --multi --startstreaming --profile studio --collection studio --disable-updater"
    path = folder / "obs.log"
    with path.open("w") as log:
        process = subprocess.Popen(
            command.split(), env={**os.environ, **given}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        yield path
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Studio, str, str]]:
    """A channel, and what is typed into OBS as the server: that of RTMP, and that of SRT."""
    srt_port = udp_port()
    with kept_port() as port:
        folder = tmp_path_factory.mktemp("studio")
        with studio(
            folder, "", f"[server]\nrtmp_port = {port}\nsrt_port = {srt_port}\n", limits=PROMPT
        ) as one:
            yield one, f"rtmp://127.0.0.1:{port}/live", f"srt://127.0.0.1:{srt_port}"


@pytest.mark.clause("OBS publishes with the server and the stream key that the documentation names")
@pytest.mark.parametrize("protocol", ["rtmp", "srt"])
def test_obs_publishes_to_a_channel(
    hall: tuple[Studio, str, str], screen: str, tmp_path: Path, protocol: str
) -> None:
    channel, server, stream_key = hall[0], hall[1], f"studio?key={KEY}"
    channel.wait_for_state("idle")
    before = channel.media_playlist_so_far()
    if protocol == "srt":
        server, stream_key = f"{hall[2]}?streamid=publish:studio:{KEY}", ""
    with obs(tmp_path, screen, server, stream_key):
        channel.wait_for_state("live")
        assert channel.channel()["publisher"]["protocol"] == protocol
        channel.wait_for_timeline(before)
    channel.wait_for_state("idle")


def test_obs_says_why_it_was_refused(hall: tuple[Studio, str, str], screen: str, tmp_path: Path) -> None:
    channel, server, _ = hall
    channel.wait_for_state("idle")
    with obs(tmp_path, screen, server, "studio?key=wrong") as log:
        told = (
            "NetStream.Publish.BadName (wrong key: the channel's publish_key or server.admin_token is needed)"
        )
        wait_for(lambda: told in log.read_text(errors="replace"), "the reason in OBS's log")
    assert channel.channel()["state"] == "idle"
