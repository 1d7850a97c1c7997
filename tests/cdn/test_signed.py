"""Caches before signed addresses: nginx, and Varnish behind an HAProxy.

Each viewer's token is checked, and one copy kept for all viewers.
"""

from __future__ import annotations

import base64
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from origin.access.address_tokens import SigningKeys
from tests.cdn.caches import KEYS as KEYS_FILE
from tests.cdn.caches import SLICE, Cache, running
from tests.cdn.conftest import OLD
from tests.conftest import start_server
from tests.copied_channel import film
from tests.patience import CLIENT_SECONDS

KEYS = ("2026-11:a-secret-of-november",)
SEGMENT = "/vod/private/film.mp4/video/0.m4s"


@pytest.fixture(params=["signed", "signed-varnish"])
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cache]:
    (tmp_path / "library" / "private").mkdir(parents=True)
    copy = shutil.copy(film(), tmp_path / "library" / "private" / "film.mp4")
    os.utime(copy, (OLD, OLD))
    config = tmp_path / "headwater.toml"
    config.write_text(
        f'[access]\nkeys = ["{KEYS[0]}"]\ncache = "front"\n[library]\npath = "library"\naccess = "signed"\n'
        '[server]\ntrusted_proxies = ["127.0.0.1"]\n'
    )
    server = start_server("--config", str(config), "--port", "0")
    (tmp_path / "cache").mkdir()
    try:
        with ExitStack() as stack:
            cache = stack.enter_context(running(request.param, server.url, tmp_path / "cache"))
            if request.param == "signed-varnish":
                key, _, secret = KEYS[0].partition(":")
                (tmp_path / "proxy").mkdir()
                (tmp_path / "proxy" / KEYS_FILE).write_text(
                    f"{key} {base64.b64encode(secret.encode()).decode()}\n"
                )
                origin = "http://{}:{}".format(*cache.address)
                cache = stack.enter_context(running("signed-haproxy", origin, tmp_path / "proxy"))
            yield cache
        assert "a-secret" not in server.text()
    finally:
        assert server.stop() == 0


@pytest.mark.promise("/api/signed")
def test_each_token_is_checked_and_one_copy_kept(front: Cache) -> None:
    keys, now = SigningKeys(KEYS), int(time.time())
    with httpx.Client(base_url="http://{}:{}".format(*front.address), timeout=CLIENT_SECONDS) as client:

        def fetched(token: str) -> tuple[int, str]:
            answer = client.get(f"/t/{token}{SEGMENT}")
            return answer.status_code, answer.headers.get("x-cache", "")

        tokens = [keys.sign("/vod/private", now + 3600, name) for name in ("anna", "bertha", "carla")]
        assert [fetched(token) for token in tokens] == [(200, "MISS"), (200, "HIT"), (200, "HIT")]
        for token in (
            keys.sign("/vod/private", now - 60),
            keys.sign("/vod/other", now + 3600),
            SigningKeys(["2026-11:another-secret-of-16"]).sign("/vod/private", now + 3600),
            "nonsense",
        ):
            assert fetched(token) == (403, "")
        playlist = client.get(f"/t/{tokens[1]}/vod/private/film.mp4/video/media.m3u8")
        assert playlist.status_code == 200
        assert "public" in playlist.headers["cache-control"]
        assert "v1." not in playlist.text
    if front.kind == "signed":
        log = (front.log.parent / "access.log").read_text()
        assert SEGMENT in log
        assert not any(token in log for token in tokens)


def test_a_token_is_for_what_is_signed_alone(front: Cache) -> None:
    keys, expires = SigningKeys(KEYS), int(time.time()) + 3600
    with httpx.Client(base_url="http://{}:{}".format(*front.address), timeout=CLIENT_SECONDS) as client:

        def fetched(token: str, target: str) -> int:
            return client.get(f"/t/{token}{target}").status_code

        for path in ("", "/vod", "/vod/private", "/vod/private/film.mp4", "/vod/private/film.mp4/video"):
            assert fetched(keys.sign(path, expires), SEGMENT) == 200
            assert fetched(keys.sign(path, expires), SEGMENT.replace("film", "f%69lm")) == 200
        narrow = keys.sign("/vod/private/film.mp4/audio", expires)
        for target in (
            SEGMENT,
            "/vod/private/film.mp4/audio/%2e%2e/video/0.m4s",
            SEGMENT.replace("/video", "//video"),
        ):
            assert fetched(narrow, target) in (403, 404)
        playlist = "/vod/private/film.mp4/master.m3u8"
        assert (
            fetched(keys.sign("/vod/private", expires, allows_clips=True), f"{playlist}?start=1&end=2") == 200
        )
        for query in ("start=1&end=2", "st%61rt=1&%65nd=2"):
            assert fetched(keys.sign("/vod/private", expires), f"{playlist}?{query}") == 403


def test_why_an_address_is_refused_is_passed_on_and_nothing_but_reading_goes_through(front: Cache) -> None:
    keys, now = SigningKeys(KEYS), int(time.time())
    with httpx.Client(base_url="http://{}:{}".format(*front.address), timeout=CLIENT_SECONDS) as client:
        for token, reason in (
            (keys.sign("/vod/private", now - 60), "the token has expired"),
            (keys.sign("/vod/other", now + 3600), "the token isn't valid for this address"),
        ):
            answer = client.get(f"/t/{token}{SEGMENT}")
            assert (answer.status_code, answer.headers["cache-control"]) == (403, "no-store")
            assert reason in answer.text
            assert answer.headers["access-control-allow-origin"] == "*"
            answer = client.post(f"/t/{token}{SEGMENT}")
            assert (answer.status_code, "token" in answer.text) == (403, False)
        assert client.post(f"/t/{keys.sign('/vod/private', now + 3600)}{SEGMENT}").status_code == 403


def test_no_client_is_believed_about_its_address(front: Cache) -> None:
    """A token that is bound to a client is valid for that one, whatever others claim to be."""
    expires, own, forged = int(time.time()) + 3600, "127.0.0.2", "192.0.2.7"
    way, url = httpx.HTTPTransport(local_address=own), "http://{}:{}".format(*front.address)
    with httpx.Client(base_url=url, transport=way, timeout=CLIENT_SECONDS) as client:
        for address, status in ((forged, 403), (own, 200)):
            token = SigningKeys(KEYS).sign("/vod/private", expires, client=address)
            for fields in ({}, {"X-Forwarded-For": forged}, {"Forwarded": f"for={forged}"}):
                assert client.get(f"/t/{token}{SEGMENT}", headers=fields).status_code == status


@pytest.mark.parametrize("front", ["signed"], indirect=True)
def test_nginx_asks_for_the_slices_of_a_file_that_its_viewers_need(front: Cache) -> None:
    keys, expires, whole = SigningKeys(KEYS), int(time.time()) + 3600, film().read_bytes()
    last = (len(whole) - 1) // SLICE * SLICE
    with httpx.Client(base_url="http://{}:{}".format(*front.address), timeout=CLIENT_SECONDS) as client:
        for name, cached in (("anna", "MISS"), ("bertha", "HIT")):
            target = f"/t/{keys.sign('/media/private/film.mp4', expires, name)}/media/private/film.mp4"
            answer = client.get(target, headers={"Range": f"bytes={last}-"})
            assert (answer.status_code, answer.headers["x-cache"]) == (206, cached)
            assert answer.content == whole[last:]
    kept = sum(path.stat().st_size for path in (front.log.parent / "cache").rglob("*") if path.is_file())
    assert kept < SLICE + len(whole) - last


@pytest.mark.parametrize("front", ["signed-varnish"], indirect=True)
def test_what_a_viewer_gets_by_a_cookie_is_for_nobody_else(front: Cache) -> None:
    token = SigningKeys(KEYS).sign("/vod/private", int(time.time()) + 3600)
    with httpx.Client(base_url="http://{}:{}".format(*front.address), timeout=CLIENT_SECONDS) as client:
        cookie = {"Cookie": f"theme=dark; headwater_token={token}"}
        assert [client.get(SEGMENT, headers=fields).status_code for fields in (cookie, {})] == [200, 403]
