"""Any damage to a DVR's index and files: a start loses that, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packager.dvr.disk_rendition import DvrFolder
from packager.dvr.index import INDEX
from packager.window.model import LiveSegment
from tests.conformance.handfed import NUMBER, Track
from tests.packager.stored_segments import contents, make_segments, store

pytestmark = pytest.mark.timeout(600)

MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "digit", "cut", "insert", "repeat", "zero", "end"]),
        st.integers(0, 10**6),
        st.integers(0, 300),
        st.binary(min_size=1, max_size=50),
    ),
    max_size=4,
)
"""What happens to an index: what, where in millionths of it, over how many bytes, and with which."""


FAULTS = st.dictionaries(
    st.integers(NUMBER, NUMBER + 13),
    st.tuples(
        st.sampled_from(["remove", "truncate", "other", "noise", "longer", "link", "folder"]),
        st.integers(0, 10**6),
        st.binary(min_size=1, max_size=400),
    ),
    max_size=5,
)
"""What happens to segments' files, by their numbers."""


@pytest.fixture
def fourteen(material: dict[str, Track]) -> Callable[[], list[LiveSegment]]:
    """Gives segments; a function, which is told in few words."""
    segments = make_segments(material["240p"], 14, breaks=(NUMBER + 6,))
    return lambda: segments


@settings(
    deadline=None,
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(mutations=MUTATIONS, faults=FAULTS, init=st.booleans())
def test_whatever_happens_to_the_index_and_to_files_a_start_loses_no_more(
    mutations: list[tuple[str, int, int, bytes]],
    faults: dict[int, tuple[str, int, bytes]],
    init: bool,
    fourteen: Callable[[], list[LiveSegment]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    segments = fourteen()
    path = tmp_path_factory.mktemp("dvr") / "240p"
    store(path, segments)
    published = {one.number: one.data for one in segments}
    text = (path / INDEX).read_bytes()
    for mutation in mutations:
        text = mutated(text, *mutation)
    (path / INDEX).write_bytes(text)
    for number, fault in faults.items():
        spoil(path / f"{number}.m4s", published, number, *fault)
    if init:
        (path / f"init-{NUMBER + 6}.mp4").write_bytes(b"gone")
    before = [what for name, what in contents(path).items() if name != INDEX and what[1][4:8] != b"ftyp"]
    found = DvrFolder(path).load()
    media = {number: line for number, line in found.lines.items() if line.parts}
    listed = {number: (path / f"{number}.m4s").read_bytes() for number in media}
    assert listed.items() <= published.items()
    assert [line.size for line in media.values()] == [len(data) for data in listed.values()]
    if not mutations and not init:
        assert set(listed) == set(published) - set(faults)
    assert list(found.lines) == sorted(found.lines)
    after = list(contents(path).values())
    for what in before:
        assert after.count(what) >= before.count(what), "nothing that was there is gone"
    again = DvrFolder(path).load()
    assert dict(again.lines) == dict(found.lines)


def mutated(text: bytes, what: str, millionths: int, length: int, new: bytes) -> bytes:
    """Let something happen to an index."""
    at = len(text) * millionths // 10**6
    put = {
        "flip": (at, new[:2], at + 1),
        "digit": (at, (b"0", b"9", b"99999", b"-", b".5")[length % 5], at + 1),
        "cut": (at, b"", at + length),
        "insert": (at, new, at),
        "repeat": (at + length, b"", at),
        "zero": (at, bytes(len(text[at : at + length])), at + length),
        "end": (at, b"", len(text)),
    }
    begin, middle, end = put[what]
    return text[:begin] + middle + text[end:]


def spoil(
    file: Path, published: dict[int, bytes], number: int, what: str, millionths: int, noise: bytes
) -> None:
    """Let something happen to a file; its length changes, for by that it is known."""
    data = published[number]
    file.unlink()
    if what == "truncate":
        file.write_bytes(data[: len(data) * millionths // (10**6 + 1)])
    elif what == "other":
        others = sorted(set(published) - {number})
        file.write_bytes(published[others[millionths % len(others)]])
    elif what == "noise":
        file.write_bytes(noise)
    elif what == "longer":
        file.write_bytes(data + noise)
    elif what == "link":
        file.symlink_to("/etc/passwd")
    elif what == "folder":
        file.mkdir()
