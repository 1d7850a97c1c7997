"""No secret is in what a real server writes or answers, or in what others see of its children."""

from __future__ import annotations

import base64
import contextlib
import http.server
import re
import signal
import socket
import socketserver
import threading
import typing
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import structlog

from origin.config import logging_setup
from origin.config.options import Config, EventOptions, LiveOptions, RadioOptions, TlsOptions, redactor_of
from origin.config.section import secrecy
from packager.process.ffmpeg_discovery import Tools
from tests.conftest import ServerProcess, start_server
from tests.fork_server import run_headwater
from tests.origin.server.secret_observer import Observer
from tests.waiting import wait_for

CANARY = re.compile(r"c4nary[0-9]+x")
"""What every secret here looks like."""


class Canaries:
    """Gives secrets, each another one."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def __call__(self) -> str:
        self.all.append(f"c4nary{len(self.all)}x")
        return self.all[-1]

    def found_in(self, text: str) -> list[str]:
        """Name those that a text has, in whatever way they are written."""
        coded = {
            one
            for one in self.all
            for user in ("source:", "admin:", ":", "user:", "")
            if base64.b64encode(f"{user}{one}".encode()).decode().rstrip("=") in text
        }
        return sorted({*CANARY.findall(text), *coded})


class Refusing(http.server.BaseHTTPRequestHandler):
    """Wants another password, or leads elsewhere with a token of its own."""

    token = ""

    def do_GET(self) -> None:
        if "redirect" in self.path:
            self.send_response(302)
            self.send_header("Location", f"/refused?token={self.token}")
        else:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.send_header("Set-Cookie", f"session={self.token}; Path=/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_request(self, *_: object) -> None:
        pass


class RefusingRtsp(socketserver.StreamRequestHandler):
    """RFC 7826 §17.4.2: another password is wanted, whatever is asked."""

    def handle(self) -> None:
        sequence = "0"
        for line in self.rfile:
            text = line.decode("latin-1").strip()
            if text.lower().startswith("cseq:"):
                sequence = text.partition(":")[2].strip()
            if not text:
                fields = f'CSeq: {sequence}\r\nWWW-Authenticate: Basic realm="x"\r\n'
                with contextlib.suppress(OSError):
                    self.wfile.write(f"RTSP/1.0 401 Unauthorized\r\n{fields}\r\n".encode())


@contextmanager
def listening(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield int(server.server_address[1])  # type: ignore[index]  # that of a TCP server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def sources(secret: Callable[[], str], tools: Tools, http: int, rtsp: int) -> dict[str, str]:
    """Live sources that all fail, by the name of their channel."""
    found = {
        "http": f"http://user:{secret()}@127.0.0.1:{http}/live.m3u8?token={secret()}",
        "redirected": f"http://user:{secret()}@127.0.0.1:{http}/redirect.ts?key={secret()}#{secret()}",
        "wronghost": f"http://user:{secret()}@no-such-host.invalid/a.ts?signature={secret()}",
        "closed": f"http://user:{secret()}@127.0.0.1:1/{'a' * 3000}?X-Amz-Signature={secret()}",
        "rtsp": f"rtsp://user:{secret()}@127.0.0.1:{rtsp}/stream?password={secret()}",
        "rtsphost": f"rtsp://user:{secret()}@no-such-host.invalid/stream",
    }
    if "srt" in tools.protocols:
        port = free_udp_port()
        found["srt"] = f"srt://127.0.0.1:{port}?passphrase={secret()}&streamid={secret()}"
        found["srtfragment"] = f"srt://127.0.0.1:{port}?streamid=#!::r=cam,u=me,s={secret()}"
    return found


def configuration(secret: Callable[[], str], tools: Tools, tmp_path: Path, http: int, rtsp: int) -> str:
    """A configuration that has a secret in every place that can have one."""
    lines = [
        "[server]",
        "port = 0",
        f'data = "{tmp_path}/data"',
        f'admin_token = "{secret()}-of-the-administrator"',
        "[log]",
        "requests = true",
        'level = "debug"',
    ]
    lines += ["[library]", f'path = "{tmp_path}/library"']
    for name, url in sources(secret, tools, http, rtsp).items():
        lines += ["[[live]]", f'name = "{name}"', f'source = "{url}"', f'publish_key = "{secret()}"']
    relays = {
        "relay.mp3": f"http://user:{secret()}@127.0.0.1:{http}/refused?token={secret()}",
        "led.mp3": f"http://user:{secret()}@127.0.0.1:{http}/redirect?sig={secret()}",
        "nohost.mp3": f"http://user:{secret()}@no-such-host.invalid:8000/?key={secret()}",
    }
    for name, url in relays.items():
        lines += ["[[radio]]", f'name = "{name}"', 'source = "relay"', f'url = "{url}"']
    lines += [
        "[[radio]]", 'name = "address.mp3"', f'source = "http://user:{secret()}@127.0.0.1:{http}/refused"',
        "[[radio]]", 'name = "published.mp3"', 'source = "publish"', f'source_password = "{secret()}"',
        f'listener_password = "{secret()} äß"', f'fallback = "http://user:{secret()}@127.0.0.1/?key={secret()}"',
        "[[radio]]", 'name = "folder.mp3"', f'folder = "http://user:{secret()}@127.0.0.1/"',
        f'source_password = "{secret()}"',
        "[[events]]", 'name = "news"', f'publish_token = "{secret()}"',
        f'relay = "http://user:{secret()}@127.0.0.1/?api_key={secret()}"', f'read_key = "{secret()}"',
        "[limits]", "wrong_password_seconds = 0.2",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def asked(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> str:
    """Give all of an answer: its header and what of its body comes at once."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return f"{answer.status} {answer.headers}{answer.read(1 << 20)!r}"
    except urllib.error.HTTPError as error:
        with error:
            return f"{error.code} {error.headers}{error.read()!r}"


@pytest.mark.clause("CWE-532")
def test_no_secret_is_written_answered_or_shown_by_children(tools: Tools, tmp_path: Path) -> None:
    secret = Canaries()
    (tmp_path / "library").mkdir()
    Refusing.token = secret()
    refusing = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    rtsp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), RefusingRtsp)
    refusing.daemon_threads = rtsp.daemon_threads = True
    with listening(refusing) as http_port, listening(rtsp) as rtsp_port:
        config = tmp_path / "headwater.toml"
        config.write_text(configuration(secret, tools, tmp_path, http_port, rtsp_port))
        shown = run_headwater("serve", "--print-config", cwd=tmp_path)
        assert shown.returncode == 0
        assert "[[radio]]" in shown.stdout
        assert secret.found_in(shown.stdout + shown.stderr) == []
        server = start_server("-v", cwd=tmp_path)
        with Observer(server) as observer:
            try:
                answers = _troubled(server, secret, config)
            finally:
                server.stop()
    assert secret.found_in(server.text()) == []
    assert secret.found_in("\n".join(answers)) == []
    assert secret.found_in("\n".join(observer.seen)) == []
    assert any("ffmpeg" in one or "avio_reader" in one for one in observer.seen)


FAILING = ("http", "redirected", "wronghost", "closed", "rtsp", "rtsphost")
SILENT = ("relay.mp3", "led.mp3", "nohost.mp3", "address.mp3")
ADDRESSES = (
    "/health", "/metrics", "/api/library", "/api/live", "/api/radio", "/api/events", "/status-json.xsl",
    "/radio/published.mp3.m3u", "/radio/published.mp3.xspf", "/admin/stats", "/nowhere",
)  # fmt: skip
ASKED_WITH_A_KEY = ("/radio/published.mp3", "/live/http/metadata", "/events/news", "/nowhere", "/health")


def _troubled(server: ServerProcess, secret: Canaries, config: Path) -> list[str]:
    """Wait until every source has failed, ask everything, reload; give the answers."""

    def wait_for_lines(count: int, words: str) -> None:
        wait_for(lambda: server.text().count(words) >= count, f"a line with {words!r}", 120)

    for name in FAILING:
        wait_for_lines(1, f"channel={name} ")
    for name in SILENT:
        wait_for_lines(1, f"mount={name} ")
    wait_for_lines(1, "HTTP Request")
    answers = [asked(f"{server.url}{path}") for path in ADDRESSES]
    key = secret()
    basic, referer = base64.b64encode(f"source:{key}".encode()).decode(), f"http://x/?key={key}"
    for path in ASKED_WITH_A_KEY:
        queries = (f"?key={key}", f"%3Fkey={key}", f"?expires=1&signature={key}", f";key={key}")
        answers += [asked(f"{server.url}{path}{query}", Referer=referer) for query in queries]
        answers.append(asked(f"{server.url}{path}", Authorization=f"Basic {basic}", Cookie=f"key={key}"))
        answers.append(asked(f"{server.url}{path}", "POST", b"{}", Authorization=f"Bearer {key}"))
    text = config.read_text()
    wrong = (
        text.replace('publish_key = "', "publish_key = 5 # ", 1),
        text.replace('publish_key = "', 'publish_key = \\"', 1),
        text.replace('publish_key = "', 'publish_key = "\\x', 1),
        text.replace('name = "rtsp"', 'name = "http"', 1),
        f"{text}\n[[live]]\nname = 'x'\nunknown = '{secret()}'",
    )
    for count, one in enumerate(wrong, 1):
        config.write_text(one)
        server.process.send_signal(signal.SIGHUP)
        wait_for_lines(count, "the changed configuration can't be used")
    config.write_text(text.replace('level = "debug"', 'level = "info"'))
    server.process.send_signal(signal.SIGHUP)
    wait_for_lines(1, "configuration read again")
    return answers


@pytest.mark.clause("RFC 3986 §3.2.1")
@pytest.mark.parametrize("key", ['source = "', 'source = "relay"\nurl = "'])
def test_a_relays_password_that_is_not_encoded_is_one_line_without_it(tmp_path: Path, key: str) -> None:
    """ "/", "?" and "#" end a user and password; what follows looks like a port then."""
    for sign in "/?#":
        text = f'[[radio]]\nname = "a.mp3"\n{key}http://user:p{sign}c4nary1x@host:8000/x"\n'
        (tmp_path / "headwater.toml").write_text(text)
        result = run_headwater("serve", cwd=tmp_path)
        assert result.returncode == 2
        assert "percent-encoded" in result.stderr
        assert not CANARY.search(result.stderr)
        assert "user" not in result.stderr


@pytest.mark.clause("CWE-532")
@pytest.mark.parametrize(
    "url", ["rtsp://user:p/c4nary1x@127.0.0.1:554/stream", "rtmp://user:c4nary1x@127.0.0.1/app/c4nary2x"]
)
def test_a_channels_source_that_cannot_be_played_is_one_line_without_its_secrets(
    tmp_path: Path, url: str
) -> None:
    (tmp_path / "headwater.toml").write_text(f'[[live]]\nname = "a"\nsource = "{url}"\n')
    result = run_headwater("serve", cwd=tmp_path)
    assert result.returncode == 2
    assert "source of 'a'" in result.stderr
    assert not CANARY.search(result.stderr)


@pytest.mark.clause("CWE-732")
def test_a_configuration_with_secrets_that_all_can_read_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    config = tmp_path / "headwater.toml"
    text = '[server]\nport = 0\n[[events]]\nname = "news"\n'
    for content, mode, is_warned_of in (
        (f'{text}publish_token = "secret"\n', 0o644, True),
        (f'{text}publish_token = "secret"\n', 0o640, False),
        (f'{text}relay = "http://user:pass@127.0.0.1/"\n', 0o604, True),
        (text, 0o644, False),
    ):
        config.write_text(content)
        config.chmod(mode)
        server = start_server(cwd=tmp_path)
        server.stop()
        assert ("chmod 600 headwater.toml" in server.text()) is is_warned_of


def test_every_key_that_is_called_like_a_secret_is_one() -> None:
    """Whoever adds a key finds this: `Secret` keeps it out of logs, tracebacks and --print-config."""
    for hint in typing.get_type_hints(Config).values():
        section = next(iter(typing.get_args(hint)), hint)
        for key, kind in typing.get_type_hints(section).items():
            # The key of a certificate is in a file, whose name is none.
            if kind in (int, float, bool) or (section, key) == (TlsOptions, "key"):
                continue
            if re.search("(password|passphrase|token|key|secret)$", key):
                assert secrecy(section).get(key) == "all", f"{section.__name__}.{key}"
            if re.search("(url|source|relay|forward|fallback|folder)$", key):
                # Of some URLs the path is hidden, too.
                assert secrecy(section).get(key) in ("in URL", "path"), f"{section.__name__}.{key}"


def test_options_as_text_are_without_their_secrets() -> None:
    config = Config(
        live=(LiveOptions("a", source="rtsp://user:c4nary1x@host/", publish_key="c4nary2x"),),
        radio=(RadioOptions("b", url="http://h/?key=c4nary3x", source_password="c4nary4x", fallback="x"),),
        events=(EventOptions("c", publish_token="c4nary5x"),),
    )
    for text in (repr(config), str(config), f"{config.live}", repr(config.radio[0])):
        assert not CANARY.search(text)
    assert "'rtsp://***@host/'" in repr(config.live[0])


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_line_of_the_log_has_a_secret_whoever_wrote_it(
    style: typing.Literal["text", "json"], capfd: pytest.CaptureFixture[str]
) -> None:
    """Also in tracebacks, objects, and lines of libraries; also where a long text is cut."""
    import logging

    config = Config(events=(EventOptions("c", publish_token="c4nary1x äß"),))
    logging_setup.configure("debug", style, redactor_of(config))
    log = structlog.get_logger()
    known = "c4nary1x äß"
    try:
        log.info("known", text=known, other={"a": (known,)}, coded=quote(known), path=Path(f"/{known}/x"))
        log.info("%s in the event", known)
        log.info("url", reason="http://user:c4nary2x@host/?key=c4nary3x refused")
        log.info("long", text=f"{'x' * (logging_setup.MAX_VALUE - 4)}{known}{'y' * 100_000}")
        log.info("longer", text=f"{'é' * (logging_setup.MAX_TEXT - logging_setup.LONGEST_SECRET - 4)}{known}")
        for name in ("httpx", "uvicorn.error", "asyncio"):
            logging.getLogger(name).error("HTTP Request: GET %s", f"http://u:c4nary4x@h/?a={known}")
        try:
            raise ValueError(f"wrong: {known} at http://u:c4nary5x@h/")
        except ValueError:
            log.exception("broke")
            logging.getLogger("asyncio").exception("broke, too")
        for handler in logging.getLogger().handlers:
            handler.close()
        written = capfd.readouterr().err
    finally:
        logging.basicConfig(handlers=[logging.NullHandler()], force=True)
        structlog.reset_defaults()
    assert written.count("broke") >= 2
    assert "Traceback" in written
    assert not CANARY.search(written)
    assert "nary1x" not in written
