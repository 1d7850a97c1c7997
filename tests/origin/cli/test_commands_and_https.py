"""Commands that ask a server whose plain port leads everybody to HTTPS, with a certificate of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.fork_server import HEADWATER
from tests.keys import ADMIN_TOKEN
from tests.packager.films import film, run_ffmpeg
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.waiting import wait_for

KEY = "a-publish-key-of-tests"
CONFIG = """
[server]
port = {port}
data = "data"
names = ["localhost"]
publish_webhook = "http://127.0.0.1:{port}/api/reload?key={admin}"

[tls]
certificate = "self-signed"
port = {https}
redirect = true

[library]
folders = {{ "private" = "signed" }}

[[live]]
name = "studio"
source = "publish"
publish_key = "{key}"
ladder = ["source"]

[[radio]]
name = "fm.mp3"
source = "publish"
source_password = "{key}"
source_webhook = "http://localhost:{port}/api/reload?key={admin}"

[access]
jwt_keys = ["http://localhost:{port}/media/keys.json"]

[[live]]
name = "fresh"
source = "publish"
ladder = ["source"]

[[events]]
name = "news"

[[live]]
name = "pulled"
source = "http://localhost:{port}/media/film.mp4"
ladder = ["source"]

[[radio]]
name = "pulled.mp3"
source = "relay"
url = "http://127.0.0.1:{port}/media/tone.mp3"

[[relay]]
name = "answers"
upstreams = ["http://127.0.0.1:{port}/nothing/v1"]
token = "{key}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("https")
    (folder / "library" / "private").mkdir(parents=True)
    for name in ("film.mp4", "private/film.mp4"):
        shutil.copy(film("bframes.mp4"), folder / "library" / name)
    (folder / "library" / "keys.json").write_text('{"keys": []}')
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=60", folder / "library" / "tone.mp3")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with kept_port() as port, kept_port() as https:
        (folder / "headwater.toml").write_text(
            CONFIG.format(port=port, https=https, key=KEY, admin=ADMIN_TOKEN)
        )
        server = start_server(cwd=folder)
        yield server
        assert server.stop() == 0, server.text()


def run(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [str(HEADWATER), *words]
    variables = {**os.environ, "HEADWATER_SERVER_ADMIN_TOKEN": ADMIN_TOKEN, **env}
    return subprocess.run(
        command,
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )


def test_the_addresses_that_the_start_shows_are_those_that_take_what_is_published(
    folder: Path, server: ServerProcess
) -> None:
    assert re.search(r"Publish to https://\S+/live/fresh/ingest\?key=\S+", server.text())
    shown = re.search(r"Publish to (\S+/events/news) with the token (\S+)", server.text())
    assert shown is not None, server.text()
    address, token = shown.groups()
    fields = ("-H", f"Authorization: Bearer {token}", "-H", "Content-Type: text/plain")
    done = subprocess.run(
        ["curl", "-sS", "--cacert", certificate(folder), *fields, "-d", "hello", address],
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=True,
    )
    assert '"count":1' in done.stdout


def certificate(folder: Path) -> str:
    return str(folder / "data" / "tls" / "self-signed.pem")


def test_reload_trusts_the_certificate_of_the_configuration(server: ServerProcess, folder: Path) -> None:
    done = run(folder, "reload")
    assert (done.returncode, done.stdout) == (0, "read again; nothing needs a restart\n"), done.stderr


def test_reload_follows_a_server_to_https_with_the_trust_that_it_has(
    server: ServerProcess, folder: Path
) -> None:
    refused = run(folder, "reload", "--to", server.url)
    assert refused.returncode == 1
    assert "its certificate isn't trusted (self-signed certificate); SSL_CERT_FILE" in refused.stderr
    assert "--to" not in refused.stderr
    assert refused.stderr.count("\n") == 1
    plain = server.url.replace("http://", "https://")
    assert "it speaks no TLS" in run(folder, "reload", "--to", plain).stderr
    assert run(folder, "reload", "--to", server.url, "--insecure").returncode == 0
    assert run(folder, "reload", "--to", server.url, SSL_CERT_FILE=certificate(folder)).returncode == 0


def test_ingest_follows_a_server_to_https_with_the_trust_that_it_has(
    server: ServerProcess, folder: Path
) -> None:
    words = ["ingest", "library/film.mp4", "--channel", "studio", "--key", KEY, "--to", server.url]
    refused = run(folder, *words)
    assert refused.returncode == 1
    assert "SSL_CERT_FILE" in refused.stderr
    assert run(folder, *words, "--insecure").returncode == 0
    assert run(folder, *words, SSL_CERT_FILE=certificate(folder)).returncode == 0


def test_check_judges_a_server_that_leads_to_https(server: ServerProcess, folder: Path) -> None:
    url = f"{server.url}/vod/film.mp4/master.m3u8"
    refused = run(folder, "check", url)
    assert refused.returncode == 1
    assert "SSL_CERT_FILE" in refused.stderr
    for done in (
        run(folder, "check", url, "--insecure"),
        run(folder, "check", url, SSL_CERT_FILE=certificate(folder)),
    ):
        assert done.returncode == 0, done.stdout


def test_sign_prints_the_address_by_https(server: ServerProcess, folder: Path) -> None:
    (https,) = re.findall(r"https://[0-9.:]+", server.text())[:1]
    done = run(folder, "sign", "/media/private/film.mp4", "--name", "anna.b@example.org")
    assert done.stdout.startswith(https.replace("127.0.0.1", "localhost")), done.stderr
    signed = done.stdout.strip()

    def served() -> bytes:
        answer = httpx.get(signed, verify=False, timeout=CLIENT_SECONDS)
        return answer.content if answer.status_code == 200 else b""

    assert wait_for(served, "the library") == (folder / "library" / "film.mp4").read_bytes()


def test_webhooks_to_the_servers_own_plain_port_are_asked_by_https(server: ServerProcess) -> None:
    (https,) = re.findall(r"https://[0-9.:]+", server.text())[:1]
    audio, video = {"content-type": "audio/mpeg"}, {"content-type": "video/mp2t"}
    with httpx.Client(verify=False, timeout=CLIENT_SECONDS, auth=("source", KEY)) as client:
        source = client.put(f"{https}/radio/fm.mp3", content=b"no audio", headers=audio)
        publisher = client.put(f"{https}/live/studio/ingest", content=b"no video", headers=video)
    # A webhook that isn't reached, or refuses, is answered with 401, 403 or 503.
    assert {source.status_code, publisher.status_code} <= {200, 400, 415}, source.text + publisher.text


def test_all_that_the_server_fetches_of_its_own_plain_port_comes_by_https(server: ServerProcess) -> None:
    (https,) = re.findall(r"https://[0-9.:]+", server.text())[:1]
    with httpx.Client(verify=False, timeout=CLIENT_SECONDS) as client:

        def is_live() -> bool:
            return bool(client.get(f"{https}/api/item/live/pulled").json()[0]["state"] == "live")

        wait_for(is_live, "the channel whose source is this server")
        with client.stream("GET", f"{https}/radio/pulled.mp3") as station:
            assert station.status_code == 200
            assert next(station.iter_raw())
        asked = client.post(
            f"{https}/relay/answers/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": "hi"}]},
            headers={"authorization": f"Bearer {KEY}"},
        )
        # The upstream server's own answer, and not its redirect.
        assert asked.status_code == 404, asked.text
    wait_for(lambda: "the keys of web tokens have come" in server.text(), "the keys")
