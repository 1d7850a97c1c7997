"""JSON Web Tokens of somebody else's backend, whose keys are fetched, and keys that change at SIGHUP."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from origin.access.address_tokens import SigningKeys
from tests.conftest import ServerProcess, start_server
from tests.fork_server import run_headwater
from tests.key_sets import Backend, key_set
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

NOVEMBER, OCTOBER = "2026-11:a-secret-of-november", "2026-10:a-secret-of-october"
SECRET = "a-secret-that-only-the-backend-knows"
FILM = b"film" * 1000


@pytest.fixture
def backend() -> Iterator[Backend]:
    with key_set() as backend:
        yield backend


def configured(folder: Path, *lines: str, workers: int = 1) -> Path:
    (folder / "library" / "private").mkdir(parents=True, exist_ok=True)
    (folder / "library" / "private" / "film.mp4").write_bytes(FILM)
    text = f'[server]\nport = 0\nworkers = {workers}\n[library]\npath = "library"\n'
    text += 'folders = { private = "signed" }\n[access]\n' + "\n".join(lines)
    (folder / "headwater.toml").write_text(text)
    return folder / "headwater.toml"


def status(server: ServerProcess, token: str) -> int:
    path = f"/t/{token}/media/private/film.mp4"
    return httpx.get(f"{server.url}{path}", timeout=CLIENT_SECONDS).status_code


@pytest.mark.promise("…?token=TOKEN")
@pytest.mark.promise("access.jwt_keys")
def test_a_backend_whose_keys_are_fetched_admits_viewers(tmp_path: Path, backend: Backend) -> None:
    backend.rotate("first")
    configured(tmp_path, f'jwt_keys = ["{backend.url}"]')
    server = start_server(cwd=tmp_path)
    try:
        token = backend.token("first")
        assert status(server, token) == 200
        query = httpx.get(f"{server.url}/media/private/film.mp4?token={token}", timeout=CLIENT_SECONDS)
        cookies = {"headwater_token": token}
        cookie = httpx.get(f"{server.url}/media/private/film.mp4", cookies=cookies, timeout=CLIENT_SECONDS)
        assert query.content == cookie.content == FILM
        assert status(server, backend.token("first", paths=["/media/other"])) == 403
        expired = httpx.get(
            f"{server.url}/t/{backend.token('first', exp=int(time.time()) - 60)}/media/private/film.mp4"
        )
        assert (expired.status_code, expired.text) == (403, "the token has expired\n")
        listed = httpx.get(f"{server.url}/t/{token}/api/library", timeout=CLIENT_SECONDS)
        assert "private/film.mp4" in listed.text
        # Unknown keys don't make the server ask again and again.
        asked = backend.asked
        backend.rotate("second")
        for _ in range(20):
            assert status(server, backend.token("second")) == 403
        assert backend.asked - asked <= 1
        assert token not in server.text()
    finally:
        assert server.stop() == 0


def test_a_set_that_comes_late_or_is_broken_admits_nobody_and_harms_nothing(
    tmp_path: Path, backend: Backend
) -> None:
    backend.rotate("first")
    backend.answer = b"{" * 1_000_000
    configured(tmp_path, f'jwt_keys = ["{backend.url}", "HS256:{SECRET}"]')
    server = start_server(cwd=tmp_path)
    try:
        assert status(server, backend.token("first")) == 403
        wait_for(lambda: "the keys of web tokens can't be fetched" in server.text(), "the line of the log")
        claims = {"exp": int(time.time()) + 3600, "paths": ["/media/private"]}
        assert status(server, jwt.encode(claims, SECRET, "HS256")) == 200
        assert SECRET not in server.text()
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_token_harms_nothing_where_none_is_needed(tmp_path: Path, workers: int) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "film.mp4").write_bytes(FILM)
    text = f'[server]\nport = 0\nworkers = {workers}\n[library]\npath = "library"\n'
    text += f'[access]\nkeys = ["{OCTOBER}"]\n'
    (tmp_path / "headwater.toml").write_text(text)
    server = start_server(cwd=tmp_path)
    token = SigningKeys([OCTOBER]).sign("/media", int(time.time()) + 3600)
    try:
        for path in ("/media/film.mp4", f"/t/{token}/media/film.mp4", f"/media/film.mp4?token={token}"):
            for _ in range(4):
                assert httpx.get(f"{server.url}{path}", timeout=CLIENT_SECONDS).content == FILM
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_keys_change_while_the_server_runs(tmp_path: Path, workers: int) -> None:
    pem = tmp_path / "backend.pem"
    private = ec.generate_private_key(ec.SECP256R1())
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    pem.write_bytes(private.public_key().public_bytes(serialization.Encoding.PEM, kind))
    file = configured(tmp_path, f'keys = ["{OCTOBER}"]', workers=workers)
    server = start_server(cwd=tmp_path)
    expires = int(time.time()) + 3600
    old, new = (SigningKeys([key]).sign("/media/private", expires) for key in (OCTOBER, NOVEMBER))
    web = jwt.encode({"exp": expires, "paths": ["/media/private"]}, private, "ES256")
    try:

        def reloaded(*lines: str) -> None:
            count = server.text().count("configuration read again")
            text = file.read_text().partition("[access]")[0] + "[access]\n" + "\n".join(lines)
            file.write_text(text)
            server.process.send_signal(signal.SIGHUP)
            wait_for(lambda: server.text().count("configuration read again") > count, "the reload")

        def wait_for_statuses(*wanted: int) -> None:
            """Each on connections of its own, so that all workers are asked sooner or later."""
            for token, one in zip((old, new, web), wanted, strict=True):
                wait_for(lambda: {status(server, token) for _ in range(8)} == {one}, f"{one}")  # noqa: B023

        wait_for_statuses(200, 403, 403)
        reloaded(f'keys = ["{NOVEMBER}", "{OCTOBER}"]', f'jwt_keys = ["{pem}"]')
        wait_for_statuses(200, 200, 200)
        reloaded(f'keys = ["{NOVEMBER}"]')
        wait_for_statuses(403, 200, 403)
        assert (
            server.text().count('needs_restart="nothing"') + server.text().count("needs_restart=nothing") == 2
        )
        # A key that can't be read is one line, and changes nothing.
        file.write_text(file.read_text() + '\njwt_keys = ["missing.pem"]')
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "access.jwt_keys: missing.pem: No such file" in server.text(), "the line of the log")
        wait_for_statuses(403, 200, 403)
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("missing.pem", "missing.pem: No such file or directory"),
        ("HS256:short", "HS256:: a secret behind HS256: has at least 32 characters"),
        ("http://example.org/keys", "http://example.org/keys: allowed: https://, or http:// of this machine"),
        ("headwater.toml", "headwater.toml: no public key in PEM"),
    ],
)
def test_a_key_that_can_not_be_used_is_one_line_at_the_start(tmp_path: Path, key: str, reason: str) -> None:
    configured(tmp_path, f'jwt_keys = ["{key}"]')
    done = run_headwater("serve", cwd=tmp_path)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert f"access.jwt_keys: {reason}" in line
