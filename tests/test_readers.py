"""Bytes from outside are read in a `ReaderGuard`, wherever malformed ones are handled."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.markers import ROOT
from tests.syntax import nodes, tree_of

ERRORS = frozenset(("MediaError", "MalformedError", "UnsupportedError", "TooLargeError"))

WITHIN_OTHERS: Mapping[str, int] = {
    "origin/cli/main.py": 1,
    "origin/ingest/segmented_publishing.py": 1,
    "origin/server/endpoints/prepared_films.py": 1,
    "packager/cluster/commands.py": 2,
    "packager/encode/encode_queue.py": 3,
    "packager/encode/preparation.py": 1,
    "packager/export/export.py": 1,
    "packager/export/ladder_encoder.py": 1,
    "packager/radio/folder_station.py": 1,
    "packager/sources/pullers/rtsp_relay.py": 1,
    "packager/vod/file_lookup.py": 1,
    "packager/vod/film_facts.py": 2,
    "packager/vod/index/chapters.py": 2,
    "packager/vod/index/index_builder.py": 7,
    "packager/vod/index/index_cache.py": 1,
    "packager/vod/movie/bounded_references.py": 2,
    "packager/vod/text/cues.py": 3,
    "packager/vod/text/text_tracks.py": 2,
    "packager/vod/titles.py": 1,
}
"""Handlers whose guard is in what they call, or around it. This list only gets shorter."""

OWN_BYTES: Mapping[str, int] = {
    "origin/workers/worker_process.py": 1,
    "packager/encode/encoder_choice.py": 1,
    "packager/live/encoder_run.py": 1,
    "packager/live/pulled_slate.py": 1,
    "packager/live/run.py": 1,
    "packager/replication/log_follower.py": 1,
    "packager/replication/log_server.py": 1,
    "packager/sources/pullers/rtsp_srt_puller.py": 1,
}
"""Handlers of what this server's own processes have written."""


def unguarded(path: Path) -> Iterator[int]:
    """Return the lines of ``try`` statements that handle malformed bytes without a guard."""
    for statement in nodes(tree_of(path)):
        if not isinstance(statement, ast.Try | ast.TryStar):
            continue
        handled = {one.id for handler in statement.handlers for one in _names(handler.type)}
        read = {one.id for line in statement.body for one in _names(line)}
        if handled & ERRORS and "ReaderGuard" not in read:
            yield statement.lineno


def _names(node: ast.AST | None) -> Iterator[ast.Name]:
    return (one for one in ast.walk(node) if isinstance(one, ast.Name)) if node is not None else iter(())


def test_whatever_fails_in_a_reader_is_handled_where_malformed_bytes_are() -> None:
    modules = [path for floor in ("packager", "origin") for path in (ROOT / floor).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): [*unguarded(path)] for path in modules}
    counts = Counter({path: len(lines) for path, lines in found.items() if lines})
    assert counts == Counter(WITHIN_OTHERS) + Counter(OWN_BYTES), found


def test_a_handler_without_a_guard_is_noticed(tmp_path: Path) -> None:
    faulty, guarded = tmp_path / "faulty.py", tmp_path / "guarded.py"
    faulty.write_text("try:\n    read()\nexcept (OSError, MediaError):\n    pass\n")
    assert [*unguarded(faulty)] == [1]
    guarded.write_text("try:\n    with ReaderGuard(1):\n        read()\nexcept MediaError:\n    pass\n")
    assert [*unguarded(guarded)] == []
