"""The 147 cases of h2spec, a checker of HTTP/2 servers, against the started server.

Each has the checker's number and title, and accepts the answers that the checker accepts; the program itself
isn't needed.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.http2_case import CONFIG, Case
from tests.conformance.http2_frame_cases import FRAMES
from tests.conformance.http2_generic_cases import GENERIC
from tests.conformance.http2_hpack_cases import HPACK
from tests.conformance.http2_stream_cases import STREAMS
from tests.conftest import ServerProcess, start_server
from tests.http2_frames import FrameClient

CASES = (*GENERIC, *STREAMS, *FRAMES, *HPACK)
COUNTS = {"generic": 44, "http2": 95, "hpack": 8}
"""How many cases release 2.6.0 of the checker has in each of its groups, with the one of its strict mode."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("cases")
    (folder / "library").mkdir()
    (folder / "library" / "short.txt").write_text("short\n")
    (folder / "headwater.toml").write_text(CONFIG)
    with start_server("--config", "headwater.toml", "--library", "library", cwd=folder) as server:
        yield server


@pytest.mark.clause("RFC 9113 §5")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_of_h2spec_is_answered_by_the_rules(server: ServerProcess, case: Case) -> None:
    with FrameClient(server.url) as client:
        case.run(client)


def test_no_case_of_h2spec_is_missing() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert {group: sum(one.startswith(group) for one in names) for group in COUNTS} == COUNTS
