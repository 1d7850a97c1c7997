"""Other addresses of stations: for listeners, source clients, playlists and titles."""

from __future__ import annotations

import subprocess
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import httpx
import pytest

from origin.config.load import load
from origin.config.options import ConfigError
from tests.clients.programs import environment
from tests.conftest import start_server
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.processes import end
from tests.waiting import wait_for

STATION = '[[radio]]\nname = "{}"\nsource = "publish"\nsource_password = "sesame"\naliases = {}\n'


@pytest.mark.parametrize(
    ("aliases", "told"),
    [
        ('["morning.mp3"]', "radio[0].aliases[0]: not possible; allowed: a path such as /morning.mp3"),
        ('["/../x"]', "allowed: a path such as /morning.mp3"),
        ('["/a b"]', "allowed: a path such as /morning.mp3"),
        ('["/media/x.mp3"]', "radio 'one.mp3': aliases: '/media/x.mp3': something else is there"),
        ('["/admin/x"]', "something else is there"),
        ('["/status.xsl"]', "something else is there"),
        ('["/radio/two.mp3"]', "something else is there"),
        ('["/radio/two.mp3.pls"]', "something else is there"),
        ('["/other"]', "radio 'two.mp3': aliases: '/other': radio 'one.mp3' has it too"),
        ('["/x", "/x"]', "radio 'one.mp3' has it too"),
    ],
)
def test_an_alias_that_is_no_path_of_its_own_is_an_error(tmp_path: Path, aliases: str, told: str) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(STATION.format("one.mp3", aliases) + STATION.format("two.mp3", '["/other"]'))
    with pytest.raises(ConfigError) as raised:
        load(file, {}, {})
    assert told in str(raised.value)


@pytest.mark.promise("radio.aliases")
def test_a_station_is_at_its_aliases_too(tmp_path: Path) -> None:
    aliases = '["/morning.mp3", "/shows/live", "/radio/former.mp3"]'
    (tmp_path / "headwater.toml").write_text(STATION.format("one.mp3", aliases))
    server = start_server("--port", "0", cwd=tmp_path)
    made = ["-re", "-f", "lavfi", "-i", "sine", "-b:a", "64k", "-content_type", "audio/mpeg", "-f", "mp3"]
    to = f"icecast://source:sesame@{server.url.partition('://')[2]}/morning.mp3"
    # A PUT without framing, as a station's own address gets it.
    source = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", *made, to], env=environment())
    try:
        with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client:

            def playing() -> list[dict[str, object]]:
                found: list[dict[str, object]] = client.get("/status-json.xsl?mount=/shows/live").json()[
                    "icestats"
                ]["source"]
                return found

            wait_for(playing, "the source", CLIENT_SECONDS)
            for path in ("/morning.mp3", "/shows/live", "/radio/former.mp3", "/radio/one.mp3"):
                with client.stream("GET", path) as answer:
                    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/mpeg")
                    assert answer.headers["access-control-allow-origin"] == "*"
                    assert next(answer.iter_raw())[:1] == b"\xff"
                assert f"{server.url}/radio/one.mp3" in client.get(f"{path}.m3u").text
            query = {"mode": "updinfo", "mount": "/morning.mp3", "song": "Dawn"}
            titled = client.get("/admin/metadata", params=query, auth=("source", "sesame"))
            assert titled.status_code == 200
            wait_for(lambda: playing()[0].get("title") == "Dawn", "the title", CLIENT_SECONDS)
            addresses = ["/radio/one.mp3", "/morning.mp3", "/shows/live", "/radio/former.mp3"]
            everything = client.get("/status-json.xsl").json()["icestats"]["source"]
            assert [urlsplit(one["listenurl"]).path for one in everything] == addresses
            assert urlsplit(str(playing()[0]["listenurl"])).path == "/shows/live"
            assert len(playing()) == 1
            with client.stream("GET", "/morning.mp3") as listening:
                audio = listening.iter_raw()  # what isn't held closes the connection
                next(audio)

                def asked(path: str) -> ElementTree.Element:
                    return ElementTree.fromstring(client.get(path, auth=("admin", ADMIN_TOKEN)).text)

                # As AzuraCast looks for it, and counts who listens.
                at_alias = "source[@mount='/morning.mp3']/listeners"
                wait_for(lambda: asked("/admin/stats").findtext(at_alias) == "1", "it", CLIENT_SECONDS)
                stats = asked("/admin/stats")
                assert [one.get("mount") for one in stats.iter("source")] == addresses
                assert (stats.findtext("listeners"), stats.findtext("sources")) == ("1", "1")
                one = asked("/admin/stats?mount=/morning.mp3")
                assert urlsplit(one.findtext("source/listenurl") or "").path == "/morning.mp3"
                mounts = asked("/admin/listmounts")
                assert [one.get("mount") for one in mounts.iter("source")] == addresses
                heard = asked("/admin/listclients?mount=/morning.mp3")
                assert heard.findtext("source[@mount='/morning.mp3']/Listeners") == "1"
            refused = client.put("/shows/live", content=b"x", headers={"content-type": "audio/mpeg"})
            assert refused.status_code == 401
            assert client.get("/shows").status_code == 404
    finally:
        end(source)
        server.stop()
