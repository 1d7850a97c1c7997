"""What `/api/library` says of the subtitles beside a film, also of those that come later."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import start_server
from tests.copied_channel import film
from tests.packager.vod.text.subtitled_films import srt
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for


def test_the_list_has_subtitles_of_folders_and_names_what_is_not_used(tmp_path: Path) -> None:
    library = tmp_path / "library"
    (library / "film" / "Subs" / "film").mkdir(parents=True)
    shutil.copyfile(film(), library / "film" / "film.mp4")
    (library / "film" / "film.part2.srt").write_text(srt())
    server = start_server("--library", str(library), "--port", "0")
    try:
        with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client:

            def item() -> dict[str, Any]:
                (found,) = client.get("/api/library", params={"path": "film/film.mp4"}).json()
                return dict(found)

            wait_for(lambda: item()["playable"] is not None, "the film's facts")
            assert item()["subtitles"] == []
            assert [one["file"] for one in item()["unused"]] == ["film.part2.srt"]
            (library / "film" / "Subs" / "film" / "2_English.srt").write_text(srt())
            wait_for(lambda: [one["language"] for one in item()["subtitles"]] == ["en"], "the new file")
            (track,) = item()["subtitles"]
            assert client.get(track["webvtt"]).text.startswith("WEBVTT")
            assert [one["file"] for one in item()["unused"]] == ["film.part2.srt"]
    finally:
        server.stop()
