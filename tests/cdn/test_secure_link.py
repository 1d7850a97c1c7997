"""An nginx that checks links by its own secure_link: it keeps one copy for all, and asks by its own token."""

from __future__ import annotations

import os
import shutil
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import md5

import httpx
import pytest

from origin.access.address_tokens import SigningKeys
from tests.cdn.caches import SLICE, Cache, running
from tests.cdn.conftest import OLD
from tests.conftest import start_server
from tests.copied_channel import film
from tests.patience import CLIENT_SECONDS

KEY = "2026-11:a-secret-of-november"
SECRET = "a secret of the site's own"
SEGMENT = "/vod/private/film.mp4/video/0.m4s"


def link(scope: str, expires: int, secret: str = SECRET) -> str:
    """Return what stands before a path in an address, as the head of the configuration says."""
    digest = md5(f"{expires}{scope} {secret}".encode(), usedforsecurity=False).digest()
    return f"/s/{urlsafe_b64encode(digest).decode().rstrip('=')},{expires}"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    """One before a server whose library and channel are for those with a token."""
    folder = tmp_path_factory.mktemp("secure-link")
    for name in ("private", "privates"):
        (folder / "library" / name).mkdir(parents=True)
        copy = shutil.copy(film(), folder / "library" / name / "film.mp4")
        os.utime(copy, (OLD, OLD))
    config = folder / "headwater.toml"
    config.write_text(
        f'[access]\nkeys = ["{KEY}"]\ncache = "front"\n[library]\npath = "library"\naccess = "signed"\n'
        '[server]\ntrusted_proxies = ["127.0.0.1"]\n'
    )
    (folder / "nginx").mkdir()
    token = SigningKeys([KEY]).sign("", int(time.time()) + 3600)
    (folder / "nginx" / "secrets.conf").write_text(
        f'map "" $link_secret {{ default "{SECRET}"; }}\nmap "" $origin_token {{ default "{token}"; }}\n'
    )
    server = start_server("--config", str(config), "--port", "0")
    try:
        with running("secure-link", server.url, folder / "nginx") as cache:
            yield cache
    finally:
        assert server.stop() == 0


@pytest.fixture
def client(front: Cache) -> Iterator[httpx.Client]:
    """One that asks the nginx."""
    with httpx.Client(base_url="http://{}:{}".format(*front.address), timeout=CLIENT_SECONDS) as found:
        yield found


def test_two_links_share_one_copy_and_lead_from_the_master_to_segments(
    client: httpx.Client, front: Cache
) -> None:
    now = int(time.time())
    links = [link("/vod/private", now + seconds) for seconds in (3600, 7200)]
    master = client.get(f"{links[0]}/vod/private/film.mp4/master.m3u8")
    assert (master.status_code, master.text[:7]) == (200, "#EXTM3U")
    assert "public" in master.headers["cache-control"]
    named = next(line for line in master.text.splitlines() if line and not line.startswith("#"))
    playlist = client.get(str(master.url.join(named)))
    segments = [line for line in playlist.text.splitlines() if line and not line.startswith("#")]
    assert segments
    wanted = [str(playlist.url.join(segments[0])).replace(links[0], one) for one in links]
    assert wanted[0] != wanted[1]
    answers = [client.get(address) for address in wanted]
    assert [(one.status_code, one.headers["x-cache"]) for one in answers] == [(200, "MISS"), (200, "HIT")]
    assert answers[0].content == answers[1].content
    log = (front.log.parent / "access.log").read_text()
    assert "/vod/private/film.mp4/master.m3u8" in log
    assert not any(one in log for one in links)
    for text in (master.text, playlist.text, log):
        assert "v1.2026-11" not in text


def test_a_link_is_for_its_scope_and_time_alone(client: httpx.Client) -> None:
    now = int(time.time())
    mine, neighbour = link("/vod/private", now + 3600), "/vod/privates/film.mp4/video/0.m4s"
    assert client.get(f"{mine}{SEGMENT}").status_code == 200
    assert client.get(f"{mine}{SEGMENT.replace('film', 'f%69lm')}").status_code == 200
    expired = client.get(f"{link('/vod/private', now - 60)}{SEGMENT}")
    assert (expired.status_code, expired.text) == (403, "the link has expired\n")
    climbing = ("/vod/private/../privates", "/vod/private/%2e%2e/privates", "/vod/private/..%2fprivates")
    for address in (
        f"{link('/vod/private', now + 3600, 'another secret')}{SEGMENT}",
        f"{link('/vod', now + 3600)}{SEGMENT}",
        f"{mine.replace(str(now + 3600), str(now + 7200))}{SEGMENT}",
        f"{mine}{neighbour}",
        *(f"{mine}{one}/film.mp4/video/0.m4s" for one in climbing),
        f"{mine}{neighbour.replace('privates', 'private%73')}",
        f"{mine}/media/private/film.mp4",
    ):
        answer = client.get(address)
        assert (answer.status_code, answer.text) == (403, "the link isn't valid for this address\n"), address
    own = SigningKeys([KEY]).sign("/vod/privates", now + 3600)
    fields = {"Authorization": f"Bearer {own}", "Cookie": f"headwater_token={own}"}
    for address in (SEGMENT, neighbour, f"/t/{own}{neighbour}", f"{mine}{SEGMENT}x/../../..{neighbour}"):
        assert client.get(address, headers=fields).status_code in (403, 404), address
    assert client.post(f"{mine}{SEGMENT}").status_code == 403


@pytest.mark.promise("access.cache")
def test_a_file_is_fetched_in_the_slices_that_are_asked_for(client: httpx.Client) -> None:
    whole, expires = film().read_bytes(), int(time.time()) + 3600
    last = (len(whole) - 1) // SLICE * SLICE
    for later, cached in ((0, "MISS"), (60, "HIT")):
        target = f"{link('/media/private', expires + later)}/media/private/film.mp4"
        answer = client.get(target, headers={"Range": f"bytes={last}-"})
        assert (answer.status_code, answer.headers["x-cache"]) == (206, cached)
        assert answer.content == whole[last:]
    assert client.get("/media/private/film.mp4").status_code == 404
