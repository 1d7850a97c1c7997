"""No publisher's key is in what a server writes, answers or asks, or in what others see of its children."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.keys import ADMIN_TOKEN
from tests.origin.ingest.rtmp_refusals import refused
from tests.origin.ingest.studio import KEY, PROMPT, encoder_arguments, encoding, studio
from tests.origin.server.secret_observer import Observer
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.rtmp import publishing
from tests.srt import calling, udp_port
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

WRONG, FORWARDED, PASSPHRASE = "wr0ng-key-51c2", "f0rward-key-77ad", "v4ult-phrase-d3e1"
SECRETS = (KEY, WRONG, FORWARDED, PASSPHRASE, ADMIN_TOKEN)


@contextlib.contextmanager
def webhook(asked: list[str]) -> Iterator[str]:
    """Give the address of a server that allows all, and keeps what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(
                f"{self.path} {self.headers} {self.rfile.read(int(self.headers['content-length']))!r}"
            )
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.clause("CWE-532")
def test_no_key_of_a_publisher_is_written_answered_or_shown(tmp_path: Path) -> None:
    asked, srt_port = list[str](), udp_port()
    with kept_port() as rtmp_port, kept_port() as nobody, webhook(asked) as url:
        head = (
            f'[log]\nlevel = "debug"\nrequests = true\naccess = "{tmp_path}/access.log"\n'
            f'[server]\nrtmp_port = {rtmp_port}\nsrt_port = {srt_port}\npublish_webhook = "{url}"\n'
            f'admin_token = "{ADMIN_TOKEN}"\n'
        )
        more = f'forward = ["rtmp://127.0.0.1:{nobody}/live/{FORWARDED}"]\nsrt_passphrase = "{PASSPHRASE}"'
        with studio(tmp_path, more, head, limits=PROMPT) as one, Observer(one.server) as observer:
            rtmp, srt = f"rtmp://127.0.0.1:{rtmp_port}/live", f"srt://127.0.0.1:{srt_port}"
            encrypted = ["-passphrase", PASSPHRASE, "-pbkeylen", "16"]
            ways = [
                [*encoder_arguments().split(), "-method", "PUT", f"{one.address}?key={KEY}"],
                [*encoder_arguments("flv").split(), f"{rtmp}/studio?key={KEY}"],
                [*encoder_arguments().split(), *encrypted, "-srt_streamid", f"studio?key={KEY}", srt],
            ]
            listed, answers = "", list[str]()
            for way in ways:
                with encoding(*way):
                    listed = one.wait_for_timeline(listed)
                    answers += [one.client.get(f"{one.server.url}{path}").text for path in ASKED]
                one.wait_for_state("idle")
            # Those who are refused, wherever their key stands.
            refused([*encoder_arguments("flv").split(), f"{rtmp}/studio?key={WRONG}"])
            refused([*encoder_arguments("flv").split(), f"{rtmp}/{WRONG}"])
            with calling(srt_port, f"publish:studio:{WRONG}") as caller:
                assert caller.refusal
            for address in (
                f"{one.address}?key={WRONG}",
                f"{one.address}/a?key={WRONG}",
            ):
                answers.append(one.client.put(address, content=b"x", headers={"Referer": address}).text)
            broken = publishing(f"studio?key={WRONG}", url=f"rtmp://me:{WRONG}@h/live?key={WRONG}")
            with socket.create_connection(("127.0.0.1", rtmp_port), CLIENT_SECONDS) as client:
                client.sendall(broken[:-9] + bytes(4000))
                client.settimeout(CLIENT_SECONDS)
                with contextlib.suppress(ConnectionError):
                    while client.recv(65536):
                        pass
            configuration = {"authentication": f"studio?key={WRONG}"}
            answers.append(one.client.post(f"{one.address}/multitrack", json=configuration).text)
            wait_for(lambda: "forward" in one.server.text(), "an attempt to push it on")
            text = one.server.text() + (tmp_path / "access.log").read_text()
    written = {
        "log": text,
        "answers": "".join(answers),
        "webhook": "".join(asked),
        "children": "".join(observer.seen),
    }
    assert len(asked) == len(ways)
    assert [(name, one) for name, words in written.items() for one in SECRETS if one in words] == []


ASKED = ("/api/live", "/metrics", "/health", "/live/studio/master.m3u8", "/api/live/studio/publish_key")
