"""A server with something at each of its addresses, and every method of every route that it has."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from origin.server.services.limits import Limits
from packager.live.limits import LiveLimits
from packager.window.limits import PublishLimits
from tests.own_server import OwnServer

CONFIGURATION = """
[server]
rtmp_port = 1
admin_token = "{token}"
protected = ["api", "health", "metrics"]
trusted_proxies = ["127.0.0.1"]

[library]
path = "{folder}"
folders = {{ "private" = "signed" }}

[access]
keys = ["one:0123456789abcdef0123456789abcdef"]
viewers_per_name = 3

[limits]
wrong_passwords = 1000000

[[live]]
name = "studio"
source = "publish"
ladder = ["source", "240p"]
publish_key = "sesame"

[[radio]]
name = "source.mp3"
source = "publish"
source_password = "sesame"
listener_password = "simsim"

[[events]]
name = "news"
publish_token = "publish-here-publish"
read_key = "read-here-read-here"

[[events]]
name = "answers"
relay = "http://127.0.0.1:9/v1/chat/completions"
"""

NOBODY_WAITS = Limits(live=LiveLimits(publish=PublishLimits(blocked_target_durations=0, segment_seconds=0)))
"""Requests for a channel that isn't on air are answered at once."""

NAMES = {
    "/live": {"channel": "studio", "language": "en", "rendition": "240p", "name": "1.m4s", "path": "end"},
    "/radio": {"name": "source.mp3"},
    "/events/radio": {"name": "source.mp3"},
    "/events": {"name": "news"},
    "/relay": {"name": "answers"},
    "/media": {"path": "private/film.mp4"},
    "/vod": {"path": "film.mp4/video/media.m3u8"},
    "/embed": {"kind": "vod", "path": "film.mp4"},
    "/player": {"file": "page.js"},
    "/api": {"channel": "studio", "name": "viewer", "path": "film.mp4"},
}

_PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")


@dataclass(frozen=True)
class Target:
    """A method and the path of a route."""

    method: str
    path: str

    def request(self, query: str = "", fields: list[str] | None = None, body: bytes = b"") -> bytes:
        target = f"{self.path}?{query}" if query else self.path
        lines = [f"{self.method} {target} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *(fields or ())]
        if body or self.method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def targets(server: OwnServer) -> list[Target]:
    """Every method of every route, with names that exist; HEAD where there is no GET."""
    found = []
    for route in server.routes:
        names = next((value for prefix, value in NAMES.items() if route.path.startswith(prefix)), {})
        path = _PARAMETER.sub(functools.partial(_named, names), route.path)
        methods = set(route.methods or {"GET", "POST"})
        found += [
            Target(method, path) for method in sorted(methods - ({"HEAD"} if "GET" in methods else set()))
        ]
    return list(dict.fromkeys(found))


def _named(names: dict[str, str], found: re.Match[str]) -> str:
    return names.get(found[1], found[1])
