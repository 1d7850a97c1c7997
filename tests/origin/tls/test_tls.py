"""HTTPS and RTMPS of a real server: certificates, their renewal, what is refused, and redirects."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from origin.tls.self_signed import make_certificate
from tests.certificates import careless
from tests.conftest import ServerProcess, start_server
from tests.descriptors import descriptors
from tests.fork_server import HEADWATER
from tests.keys import BEARER
from tests.origin.ingest.rtmp_refusals import FLV
from tests.origin.ingest.studio import KEY, LADDER, encoding
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

FILM_BYTES = 3_000_000


@dataclass
class Encrypted:
    """A server with TLS.

    Attributes:
        url: by HTTPS, without a slash at its end.
        film: the content of ``/media/film.mp4``.
    """

    server: ServerProcess
    url: str
    film: bytes
    folder: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def certificate(self, name: str = "localhost") -> x509.Certificate:
        """Give the certificate that a client gets which asks for a name."""
        with self.connection(name) as client:
            der = client.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)

    def connection(self, name: str = "localhost") -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.port), CLIENT_SECONDS)
        return careless().wrap_socket(raw, server_hostname=name)

    def get(self, path: str, **options: object) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", verify=careless(), timeout=CLIENT_SECONDS, **options)  # type: ignore[arg-type]


def configure(folder: Path, tls: str, more: str = "") -> Path:
    """Write a configuration with a library and TLS, and give its path."""
    (folder / "library").mkdir(exist_ok=True)
    film = folder / "library" / "film.mp4"
    if not film.exists():
        film.write_bytes(os.urandom(FILM_BYTES))
    config = folder / "headwater.toml"
    config.write_text(f'[library]\npath = "library"\n[tls]\nport = 0\n{tls}\n{more}')
    return config


@contextlib.contextmanager
def encrypted(folder: Path, tls: str, more: str = "") -> Iterator[Encrypted]:
    """Run a server with TLS."""
    server = start_server("--config", str(configure(folder, tls, more)), "--port", "0")
    try:
        found = wait_for(lambda: re.search(r"and at (https://\S+)/", server.text()), "the line about HTTPS")
        assert found is not None
        yield Encrypted(server, found[1], (folder / "library" / "film.mp4").read_bytes(), folder)
        assert server.stop() == 0, server.text()
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    """A server with a certificate of its own making, and many limits that are soon met."""
    limits = "[limits]\nheader_seconds = 1\nconnections_per_address = 8\nstalled_seconds = 2\n"
    folder = tmp_path_factory.mktemp("made")
    data = f'[server]\ndata = "{folder / "data"}"\n'
    with encrypted(folder, 'certificate = "self-signed"', limits + data) as one:
        yield one


def names(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.DNSName)


@pytest.mark.promise("tls.certificate", "tls.port")
def test_curl_gets_files_and_ranges(made: Encrypted) -> None:
    def curl(*words: str) -> bytes:
        command = ["curl", "--silent", "--fail", "--insecure", *words, f"{made.url}/media/film.mp4"]
        return subprocess.run(command, check=True, capture_output=True, timeout=CLIENT_SECONDS).stdout

    assert curl() == made.film
    assert curl("--range", "5-2000004") == made.film[5:2_000_005]
    assert curl("--range", "-7", "--tlsv1.2", "--tls-max", "1.2") == made.film[-7:]
    assert b"multipart/byteranges" in curl("--range", "0-9,1000000-1000009", "--include")
    head = curl("--head")
    assert b"etag" in head.lower()
    assert b"alt-svc" not in head.lower()


@pytest.mark.clause("RFC 8996 §4")
def test_old_versions_of_tls_are_refused_and_protocols_are_agreed_on(made: Encrypted) -> None:
    old = ["curl", "-sk", "--tlsv1.1", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", made.url]
    assert subprocess.run(old, timeout=CLIENT_SECONDS).returncode == 35, "a failed handshake"
    with made.connection() as client:
        assert client.version() == "TLSv1.3"
        assert client.selected_alpn_protocol() is None
    offering = careless()
    offering.set_alpn_protocols(["something", "http/1.1"])
    raw = socket.create_connection(("127.0.0.1", made.port), CLIENT_SECONDS)
    with offering.wrap_socket(raw) as client:
        assert client.selected_alpn_protocol() == "http/1.1"


def resumed(server: Encrypted, version: ssl.TLSVersion, name: str = "localhost") -> list[bool]:
    """Connect twice with a version of TLS; return of each connection whether a session was resumed."""
    context, session, found = careless(), None, list[bool]()
    context.minimum_version = context.maximum_version = version
    for _ in range(2):
        raw = socket.create_connection(("127.0.0.1", server.port), CLIENT_SECONDS)
        with context.wrap_socket(raw, server_hostname=name, session=session) as client:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while client.recv(1000):
                pass
            found.append(bool(client.session_reused))
            session = client.session
    return found


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_comes_back_resumes_its_session(made: Encrypted, version: ssl.TLSVersion) -> None:
    assert resumed(made, version) == [False, True]


def test_a_made_certificate_is_told_and_kept(made: Encrypted, tmp_path: Path) -> None:
    shown = re.search(r"self-signed, SHA-256 ([0-9A-F:]{95})\)", made.server.text())
    own = made.certificate()
    assert shown is not None
    assert own.fingerprint(hashes.SHA256()).hex(":").upper() == shown[1]
    assert "localhost" in names(own)
    kept = made.folder / "data" / "tls" / "self-signed.pem"
    assert kept.stat().st_mode & 0o077 == 0
    shutil.copytree(made.folder / "data" / "tls", tmp_path / "data" / "tls")
    data = f'[server]\ndata = "{tmp_path / "data"}"\n'
    with encrypted(tmp_path, 'certificate = "self-signed"', data) as again:
        assert again.certificate() == own
    # What isn't a certificate any more is made anew.
    (tmp_path / "data" / "tls" / "self-signed.pem").write_bytes(kept.read_bytes()[:400])
    with encrypted(tmp_path, 'certificate = "self-signed"', data) as anew:
        assert anew.certificate() != own


@pytest.mark.promise("limits.header_seconds")
def test_a_client_that_begins_no_handshake_is_counted_and_sent_away(made: Encrypted) -> None:
    with contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", made.port), CLIENT_SECONDS))
            for _ in range(8)
        ]
        # They are as many as one client may have.
        wait_for(lambda: answers_of_a_crowd(made), "a refusal for who comes then, or the end of the others")
        for one in silent:
            assert one.recv(100) == b"", "after limits.header_seconds"
    assert made.get("/health").json()["status"] == "ok"


def answers_of_a_crowd(made: Encrypted) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return made.get("/health").status_code in (200, 429)
    return False


def test_who_takes_nothing_is_cut_off_and_fills_no_memory(made: Encrypted) -> None:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(CLIENT_SECONDS)
    raw.connect(("127.0.0.1", made.port))
    with careless().wrap_socket(raw) as client:
        client.sendall(b"GET /media/film.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        wait_for(lambda: "dropped a client that takes nothing" in made.server.text(), "its being cut off")
    assert made.get("/media/film.mp4").content == made.film


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.0\r\n\r\n", b"\x80\x2e\x01\x00\x02", os.urandom(3000)])
def test_other_protocols_harm_nobody(made: Encrypted, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", made.port), CLIENT_SECONDS) as raw:
        raw.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            answer = raw.recv(1000)
            assert not sent.startswith(b"GET") or answer.startswith(b"HTTP/1.1 400 ")
    assert made.get("/media/film.mp4", headers={"range": "bytes=1-3"}).content == made.film[1:4]


def write(folder: Path, hosts: Sequence[str]) -> None:
    """Write a certificate and its key as certbot does, the key first."""
    folder.mkdir(exist_ok=True)
    text = make_certificate(hosts)
    begin = text.index(b"-----BEGIN PRIVATE KEY")
    (folder / "privkey.pem").write_bytes(text[begin:])
    (folder / "fullchain.pem").write_bytes(text[:begin])


@pytest.mark.clause("RFC 6066 §3")
def test_the_name_chooses_the_certificate(tmp_path: Path) -> None:
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    for name, hosts in (("a", ["one.example"]), ("b", ["*.many.example", "many.example"])):
        write(certificates / name, hosts)
    both = make_certificate(["three.example"])
    begin = both.index(b"-----BEGIN PRIVATE KEY")
    (certificates / "three.pem").write_bytes(both[:begin])
    (certificates / "three.key").write_bytes(both[begin:])
    with encrypted(tmp_path, 'certificate = "certificates"') as server:
        wanted = {
            "one.example": "one.example",
            "ONE.example": "one.example",
            "a.many.example": "*.many.example",
            "many.example": "*.many.example",
            "a.b.many.example": "one.example",
            "three.example": "three.example",
            "nobody.example": "one.example",
        }
        assert {name: names(server.certificate(name))[0] for name in wanted} == wanted
        assert resumed(server, ssl.TLSVersion.TLSv1_3, "a.many.example") == [False, True]


@pytest.mark.promise("tls.key")
@pytest.mark.clause("A renewed certificate is served without a dropped connection")
def test_a_renewed_certificate_is_there_without_a_drop_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "live", ["first.example"])
    with (
        encrypted(tmp_path, 'certificate = "live/fullchain.pem"\nkey = "live/privkey.pem"') as server,
        server.connection() as client,
    ):
        client.sendall(b"GET /media/film.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        begun = client.recv(1000)
        (tmp_path / "live" / "privkey.pem").write_bytes(b"half a k")
        server.server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "the changed certificates can't be used" in server.server.text(), "the refusal")
        assert names(server.certificate()) == ["first.example"]
        write(tmp_path / "live", ["second.example"])
        # Without a signal, too: the files are looked at.
        wait_for(lambda: names(server.certificate()) == ["second.example"], "the renewed certificate")
        found = bytearray(begun)
        while len(found.partition(b"\r\n\r\n")[2]) < len(server.film):
            found += client.recv(1 << 16)
        assert found.endswith(server.film)
        # And the connection goes on.
        client.sendall(b"GET /media/film.mp4 HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-4\r\n\r\n")
        assert client.recv(2000).startswith(b"HTTP/1.1 206 ")
        assert server.server.text().count("certificates read again") == 1


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "fullchain.pem").unlink(), "tls.certificate: "),
        (lambda folder: (folder / "fullchain.pem").write_text("nothing"), "it has none in PEM"),
        (lambda folder: (folder / "privkey.pem").unlink(), "tls.key: "),
        (lambda folder: (folder / "privkey.pem").write_text("nothing"), "no key without a password is in it"),
        (
            lambda folder: (folder / "privkey.pem").write_bytes(
                b"-----BEGIN" + make_certificate(["a"]).rpartition(b"-----BEGIN")[2]
            ),
            "it isn't the certificate's key",
        ),
    ],
    ids=["no certificate", "no PEM", "no key", "no key's PEM", "another key"],
)
def test_a_certificate_that_cant_be_used_ends_the_start_with_one_line(
    tmp_path: Path, spoil: object, words: str
) -> None:
    write(tmp_path / "live", ["first.example"])
    assert callable(spoil)
    spoil(tmp_path / "live")
    config = configure(tmp_path, 'certificate = "live/fullchain.pem"\nkey = "live/privkey.pem"')
    command = [str(HEADWATER), "serve", "--config", str(config), "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_SECONDS)
    lines = [line for line in ended.stderr.splitlines() if line.startswith("headwater: ")]
    assert (ended.returncode, len(lines)) == (1, 1), ended.stderr
    assert words in lines[0]
    assert "Traceback" not in ended.stderr


@pytest.mark.promise("tls.redirect")
def test_plain_http_leads_to_https_where_that_is_wanted(tmp_path: Path) -> None:
    with kept_port() as admin_port:
        more = f'[server]\nadmin_port = {admin_port}\nprotected = ["metrics"]\n'
        more += 'trusted_proxies = ["127.0.0.7"]\n'
        with encrypted(tmp_path, 'certificate = "self-signed"\nredirect = true', more) as server:
            plain = server.server.url
            for path in ("/", "/media/film.mp4?a=b", "/vod/film.mp4/master.m3u8"):
                answer = httpx.get(f"{plain}{path}", timeout=CLIENT_SECONDS)
                assert (answer.status_code, answer.headers["location"]) == (308, f"{server.url}{path}")
            posted = httpx.post(f"{plain}/live/none/end", headers=BEARER, timeout=CLIENT_SECONDS)
            assert posted.status_code == 308
            followed = httpx.get(
                f"{plain}/media/film.mp4", verify=careless(), follow_redirects=True, timeout=CLIENT_SECONDS
            )
            assert followed.content == server.film
            metrics = httpx.get(f"http://127.0.0.1:{admin_port}/metrics", timeout=CLIENT_SECONDS)
            assert metrics.status_code == 200
            # What a trusted proxy got by HTTPS is answered.
            transport = httpx.HTTPTransport(local_address="127.0.0.7")
            with httpx.Client(transport=transport, timeout=CLIENT_SECONDS) as proxy:
                fields = {"x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "https"}
                assert proxy.get(f"{plain}/media/film.mp4", headers=fields).content == server.film
                fields["x-forwarded-proto"] = "http"
                assert proxy.get(f"{plain}/media/film.mp4", headers=fields).status_code == 308


@pytest.mark.promise("tls.rtmps_port")
def test_an_encoder_publishes_by_rtmps(tmp_path: Path) -> None:
    with kept_port() as port:
        channel = f'[[live]]\nname = "studio"\nsource = "publish"\npublish_key = "{KEY}"\n{LADDER}'
        tls = f'certificate = "self-signed"\nrtmps_port = {port}'
        with encrypted(tmp_path, tls, channel) as server:
            wait_for(
                lambda: f"rtmps://127.0.0.1:{port}/live" in server.server.text(), "the line of the start"
            )
            with encoding(*FLV, f"rtmps://127.0.0.1:{port}/live/studio?key={KEY}"):
                wait_for(lambda: server.get("/api/live").json()[0]["state"] == "live", "its being live")
                assert server.get("/live/studio/master.m3u8").status_code == 200


def test_many_handshakes_at_once_leave_nothing_behind(made: Encrypted) -> None:
    pid = made.server.process.pid
    before = descriptors(pid)

    def ask(_: int) -> int:
        with contextlib.suppress(httpx.HTTPError):
            return made.get("/media/film.mp4", headers={"range": "bytes=0-9"}).status_code
        return 0

    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(ask, range(60))) == {206}
    wait_for(lambda: descriptors(pid) <= before, "their descriptors' being given back")
