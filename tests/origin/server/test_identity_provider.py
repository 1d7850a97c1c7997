"""The page on identity providers: what a proxy passes on opens what the token names, and nothing else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import httpx

from tests.conftest import start_server
from tests.copied_channel import copied_channel, film
from tests.key_sets import key_set
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

DOCUMENT = (Path(__file__).parents[3] / "docs" / "identity-provider.md").read_text("utf-8")
ISSUER = "https://id.example/realms/media"


def documented(backend_url: str) -> str:
    """Return the page's configuration with another address of the keys, and a channel that has a film."""
    (text,) = re.findall(r"\n\n((?:    .*\n|\n)+?)(?=\n\[oauth2-proxy)", DOCUMENT)
    text = re.sub(r"(?m)^    ", "", text)
    text = re.sub(r"https://\S+/certs", backend_url, text).replace("port = 8000", "port = 0")
    channel = copied_channel("studio", 'access = "signed"')
    return text[: text.index("[[live]]")] + channel


def test_the_configuration_opens_what_the_identity_token_names(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "film.mp4").hardlink_to(film())
    with key_set() as provider:
        provider.rotate("first")
        (tmp_path / "headwater.toml").write_text(documented(provider.url))
        claims = {"iss": ISSUER, "aud": "headwater", "sub": "anna"}
        with start_server(cwd=tmp_path) as server:
            token = provider.token("first", paths=["/live/studio", "/vod", "/media"], **claims)

            def get(path: str, bearer: str = token) -> httpx.Response:
                # As oauth2-proxy passes it on with pass_authorization_header.
                fields = {"authorization": f"Bearer {bearer}", "host": "media.example"}
                url = f"{server.url}{path}"
                return httpx.get(url, headers=fields if bearer else {}, timeout=CLIENT_SECONDS)

            wait_for(lambda: get("/live/studio/master.m3u8").status_code == 200, "the channel")
            assert get("/live/studio/source/media.m3u8").status_code == 200
            assert get("/vod/film.mp4/master.m3u8").status_code == 200
            assert "film.mp4" in get("/api/library").text
            assert get("/api/visitor").json()["url"] == "https://media.example"
            others = (
                "",
                provider.token("first", paths=["/live/other"], **claims),
                provider.token("first", paths=[], **claims),
                provider.token("first", paths=["/live/studio"], **{**claims, "aud": "another"}),
                provider.token("first", paths=["/live/studio"], **{**claims, "iss": "https://evil.example"}),
            )
            for other in others:
                assert get("/live/studio/master.m3u8", other).status_code in (401, 403)


def test_the_proxys_configuration_has_known_options() -> None:
    (text,) = re.findall(r"```ini\n(.+?)```", DOCUMENT, re.DOTALL)
    # Options of oauth2-proxy 7, of which each flag is a key with underscores.
    flags = """
        http-address upstreams provider oidc-issuer-url client-id client-secret cookie-secret redirect-url
        email-domains reverse-proxy pass-authorization-header pass-host-header flush-interval
    """
    assert set(tomllib.loads(text)) == {one.replace("-", "_") for one in flags.split()}
