"""HLS of a film behind caches, and what passes through them; by the commands that the documentation has."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from packager.process.ffmpeg_discovery import Tools
from tests.cdn.caches import DEPLOY, running
from tests.cdn.conftest import Origin
from tests.ports import kept_port
from tests.programs import program
from tests.waiting import wait_for

MADE = (
    "-f lavfi -i testsrc2=size=160x90:rate=10:duration=20 -f lavfi -i sine=duration=20 -g 20 -pix_fmt yuv420p"
)
_REQUESTS = re.compile(r'^headwater_requests_total\{area="vod",status="(\d+)"\} (\S+)', re.MULTILINE)


@pytest.fixture(scope="module")
def film(lasting_origin: Origin, tools: Tools) -> str:
    path = lasting_origin.library / "film.mp4"
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error", *MADE.split(), "-c:v", "libx264", "-c:a", "aac"]
    subprocess.run([*command, str(path)], check=True, timeout=120)
    return "/vod/film.mp4/master.m3u8"


def asked(origin: Origin) -> int:
    """Return how often the origin was asked for media and playlists of films."""
    text = httpx.get(f"{origin.server.url}/metrics", timeout=60).text
    return sum(int(float(count)) for _, count in _REQUESTS.findall(text))


def addresses(client: httpx.Client, master: str) -> list[str]:
    """Return the addresses of a film's HLS, depth first."""
    found, waiting = [], [master]
    while waiting:
        address = waiting.pop()
        if address in found:
            continue
        found.append(address)
        if address.partition("?")[0].endswith(".m3u8"):
            text = client.get(address).raise_for_status().text
            named = [line for line in text.splitlines() if line and not line.startswith("#")]
            named += re.findall(r'URI="([^"]+)"', text)
            waiting += [
                urljoin(address, one) for one in named if "thumbnails" not in one and "burn" not in one
            ]
    return found


@pytest.mark.parametrize("kind", ["nginx", "varnish"])
def test_the_hls_of_a_film_is_fetched_once_for_all(
    lasting_origin: Origin, film: str, kind: str, tmp_path: Path
) -> None:
    with running(kind, lasting_origin.server.url, tmp_path) as cache:
        base = f"http://{cache.address[0]}:{cache.address[1]}"
        with httpx.Client(timeout=120) as client:
            own = addresses(client, f"{base}{film}")
            own = [one for one in own if "-720p" not in one and "-480p" not in one and "-360p" not in one]
            assert len(own) > 10
            first = [client.get(one).raise_for_status().content for one in own]
            direct = [
                client.get(f"{lasting_origin.server.url}{one.removeprefix(base)}").content for one in own
            ]
            assert first == direct
            before = asked(lasting_origin)
            assert [client.get(one).content for one in own] == first
            assert asked(lasting_origin) - before == 0


def test_what_no_cache_keeps_passes_through_and_nothing_that_changes_something(
    lasting_origin: Origin, tmp_path: Path
) -> None:
    with running("nginx", lasting_origin.server.url, tmp_path) as cache:
        base = f"http://{cache.address[0]}:{cache.address[1]}"
        with httpx.Client(timeout=120) as client:
            for address in ("/", "/api/library", "/api/live", "/health"):
                direct = client.get(f"{lasting_origin.server.url}{address}")
                through = client.get(f"{base}{address}")
                assert (through.status_code, through.headers["content-type"]) == (
                    direct.status_code,
                    direct.headers["content-type"],
                )
                assert "x-cache" not in through.headers
            assert client.get(f"{base}/admin/").status_code == 403
            assert client.post(f"{base}/api/reload").status_code == 403
            assert (
                client.get(f"{base}/radio/none.mp3").text
                == client.get(f"{lasting_origin.server.url}/radio/none.mp3").text
            )


@pytest.mark.parametrize("kind", ["nginx", "varnish"])
def test_the_commands_of_the_page_on_caches_start_a_cache(
    lasting_origin: Origin, film: str, kind: str, tmp_path: Path
) -> None:
    page = (DEPLOY.parent / "docs" / "caches.md").read_text()
    block = page.partition("mkdir -p /var/cache/headwater")[2].partition("The server needs")[0]
    lines = re.sub(r"\\\n\s+", "", "mkdir -p /var/cache/headwater" + block).splitlines()
    commands = [one.strip() for one in lines if one.startswith(("mkdir", "    "))]
    mine = [one for one in commands if ("varnish" in one) == (kind == "varnish")]
    assert len(mine) == {"nginx": 3, "varnish": 2}[kind]
    server = {"nginx": program("nginx", "nginx"), "varnish": program("varnishd", "varnish")}[kind]
    origin = lasting_origin.server.url.removeprefix("http://")
    with kept_port() as port:
        script = "\n".join(mine).replace("/var/cache/headwater", f"{tmp_path}/cache")
        script = script.replace("/etc/nginx", str(tmp_path)).replace("/etc/varnish", str(tmp_path))
        script = script.replace("@ORIGIN@|127.0.0.1:8000", f"@ORIGIN@|{origin}").replace(
            "@PORT@|80|", f"@PORT@|127.0.0.1:{port}|"
        )
        script = script.replace("@PORT@|8000|", f"@PORT@|{origin.rpartition(':')[2]}|").replace(
            "-a :80", f"-a 127.0.0.1:{port}"
        )
        # In the foreground, as the user of the test, and in its folder.
        options = f"daemon off; pid {tmp_path}/pid;" + (" user root;" if os.geteuid() == 0 else "")
        script = script.replace("nginx -c", f"exec {server} -g '{options}' -e {tmp_path}/log -c")
        script = script.replace("varnishd -f", f"exec {server} -F -n {tmp_path}/work -j none -f")
        process = subprocess.Popen(["/bin/sh", "-ec", script], cwd=DEPLOY.parent)
        try:

            def answers() -> bool:
                try:
                    return httpx.get(f"http://127.0.0.1:{port}{film}", timeout=60).status_code == 200
                except httpx.TransportError:
                    assert process.poll() is None
                    return False

            wait_for(answers, "the film through the cache")
        finally:
            process.terminate()
            process.wait(120)
