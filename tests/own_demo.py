"""A demo of a test's own."""

from __future__ import annotations

from pathlib import Path

from packager.library.demo_media import cache_folder
from tests.conftest import ServerProcess, start_server
from tests.keys import ADMIN_TOKEN


def demo_in(cache: Path, admin_token: str | None = ADMIN_TOKEN) -> ServerProcess:
    """Start a demo with a cache folder of its own, which has the media that others have made."""
    (cache / "headwater").mkdir(exist_ok=True)
    for media in (cache_folder() / "headwater").glob("demo-*"):
        if (media / "library").is_dir():
            (cache / "headwater" / media.name).symlink_to(media)
    variables = {"XDG_CACHE_HOME": str(cache)}
    return start_server("--demo", "--port", "0", env=variables, admin_token=admin_token)
