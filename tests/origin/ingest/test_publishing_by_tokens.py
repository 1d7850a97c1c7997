"""Publishing with a token in the place of a key: over HTTP, RTMP, SRT, and to a station."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from origin.access.address_tokens import SigningKeys
from tests.origin.ingest.studio import Studio, encoder_arguments, encoding, studio
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.rtmp import publishing
from tests.srt import calling, udp_port
from tests.waiting import wait_for

KEYS = SigningKeys(["2026-11:a-secret-of-the-tests"])
DECIDED = re.compile(rb"onStatus.*NetStream\.Publish\.(Start|BadName)", re.DOTALL)
STATION = '[[radio]]\nname = "fm.mp3"\nsource = "publish"\nsource_password = "sesame"\nbitrate = 64\n'


@dataclass(frozen=True)
class Ports:
    """A server with the channel ``studio`` and the station ``fm.mp3``, and its ports."""

    studio: Studio
    rtmp: int
    srt: int


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    srt = udp_port()
    with kept_port() as rtmp:
        head = f"[server]\nrtmp_port = {rtmp}\nsrt_port = {srt}\n"
        head += f'[access]\nkeys = ["2026-11:a-secret-of-the-tests"]\n{STATION}'
        with studio(tmp_path_factory.mktemp("tokens"), head=head, limits={"wrong_passwords": 1000}) as one:
            made = Ports(one, rtmp, srt)
            wait_for(lambda: srt_refusal(made, "nowhere", "key") == 1404, "SRT's port")
            yield made


def token(path: str, seconds: float = 3600, *, may_publish: bool = True, client: str = "") -> str:
    return KEYS.sign(path, int(time.time() + seconds), may_publish=may_publish, client=client)


REFUSED = {
    "for viewers alone": token("/live/studio", may_publish=False),
    "for another channel": token("/live/studi"),
    "for a station": token("/radio/studio"),
    "of another client": token("/live/studio", client="192.0.2.7"),
    "signed by somebody else": SigningKeys(["2026-11:another-secret-here"]).sign(
        "/live/studio", int(time.time() + 3600), may_publish=True
    ),
    "that has expired": token("/live/studio", -10),
    "no token": "v1.nonsense",
}
ADMITTED = {
    "for the channel": token("/live/studio"),
    "for all channels": token("/live"),
    "for publishing alone": token("/live/studio/ingest"),
    "of this client": token("/live/studio", client="127.0.0.1"),
}


def rtmp_answer(ports: Ports, key: str) -> bytes:
    """Send all that comes before media, and give what is answered up to the decision."""
    found = b""
    with socket.create_connection(("127.0.0.1", ports.rtmp), CLIENT_SECONDS) as client:
        client.sendall(publishing(f"studio?key={key}"))
        with contextlib.suppress(ConnectionError):
            while not DECIDED.search(found) and (data := client.recv(65536)):
                found += data
    assert DECIDED.search(found)
    return found


def srt_refusal(ports: Ports, channel: str, key: str) -> int:
    """Call, and give the reason for the refusal; 0 for none."""
    with calling(ports.srt, f"publish:{channel}:{key}") as caller:
        return caller.refusal


def station_status(ports: Ports, password: str) -> str:
    """Connect as a source client of a station, and give the status of the answer."""
    host, port = ports.studio.server.url.removeprefix("http://").split(":")
    fields = {"Content-Type": "audio/mpeg", "Authorization": httpx.BasicAuth("source", password)._auth_header}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    with socket.create_connection((host, int(port)), CLIENT_SECONDS) as client:
        client.sendall(f"SOURCE /radio/fm.mp3 HTTP/1.0\r\n{lines}\r\n".encode())
        return client.recv(1000).split()[1].decode()


def test_an_encoder_publishes_by_http_with_a_token(ports: Ports) -> None:
    url = ports.studio.server.url
    for address in (
        f"{ports.studio.address}?key={token('/live/studio')}",
        f"{url}/t/{token('/live/studio/ingest')}/live/studio/ingest",
    ):
        with encoding(*encoder_arguments("mpegts").split(), "-method", "POST", address):
            ports.studio.wait_for_state("live")
        ports.studio.wait_for_state("idle")


def test_a_token_for_publishing_alone_changes_nothing_else(ports: Ports) -> None:
    for text, wanted in (
        (token("/live/studio/ingest"), 401),
        (token("/live/studio", may_publish=False), 401),
        (token("/live/studio"), 415),  # it isn't WebVTT
    ):
        fields = {"authorization": f"Bearer {text}", "content-type": "text/html"}
        address = f"{ports.studio.server.url}/live/studio/captions/de"
        assert ports.studio.client.post(address, headers=fields, content=b"nonsense").status_code == wanted


@pytest.mark.parametrize("kind", ADMITTED)
def test_rtmp_and_srt_admit_a_token(ports: Ports, kind: str) -> None:
    assert b"NetStream.Publish.BadName" not in rtmp_answer(ports, ADMITTED[kind])
    ports.studio.wait_for_state("idle")
    assert srt_refusal(ports, "studio", ADMITTED[kind]) == 0
    ports.studio.wait_for_state("idle")


@pytest.mark.parametrize("kind", REFUSED)
def test_any_other_token_is_refused_on_each_way(ports: Ports, kind: str) -> None:
    text = REFUSED[kind]
    put = httpx.put(f"{ports.studio.address}?key={text}", content=b"", timeout=CLIENT_SECONDS)
    assert put.status_code == 401
    assert b"NetStream.Publish.BadName" in rtmp_answer(ports, text)
    assert srt_refusal(ports, "studio", text) != 0
    assert text not in ports.studio.server.text()


def test_a_source_client_of_a_station_presents_a_token_as_its_password(ports: Ports) -> None:
    assert station_status(ports, token("/radio/fm.mp3")) == "200"
    wait_for(lambda: station_status(ports, "sesame") == "200", "the first one's end")
    for wrong in (token("/radio/fm.mp"), token("/live/studio"), token("/radio/fm.mp3", may_publish=False)):
        assert station_status(ports, wrong) == "401"
