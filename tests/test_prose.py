"""Sentences and names keep the rules of docs/developing.md, floor by floor."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import prose

HELD: tuple[str, ...] = (
    "media",
    "origin",
    "packager",
)
"""The floors, rooms and modules without a fault, which stay so; more are added as they are rewritten."""

CEILINGS: dict[tuple[str, str], int] = {}
"""How many faults of a kind a room may have, until it is rewritten: the numbers only fall."""


@pytest.mark.parametrize("name", HELD)
def test_the_sentences_and_names_of_a_room_keep_the_rules(name: str) -> None:
    folder = prose.ROOT / name
    assert prose.modules(folder)
    found: dict[tuple[str, str], list[str]] = {}
    for one in prose.faults(folder):
        path = one.path.relative_to(prose.ROOT)
        rooms = [room for room, kind in CEILINGS if kind == one.kind and path.is_relative_to(room)]
        place = (rooms or [str(path)])[0], one.kind
        found.setdefault(place, []).append(f"{path}:{one.line}: {one.kind}: {one.text}")
    assert {place: lines for place, lines in found.items() if len(lines) > CEILINGS.get(place, 0)} == {}


def sentence_faults(tmp_path: Path, text: str) -> list[tuple[str, int]]:
    path = tmp_path / "module.py"
    path.write_text(text, "utf-8")
    return [(fault.kind, fault.line) for fault in prose.faults_of_sentences(path)]


@pytest.mark.parametrize(
    "explanation",
    ["of the stream.", "its name.", "what people call\n            it.", "whether it is held.", ""],
)
def test_an_entry_that_repeats_name_and_type_is_a_fault(tmp_path: Path, explanation: str) -> None:
    text = f'def one(a: int) -> None:\n    """Do something.\n\n    Args:\n        a: {explanation}\n    """\n'
    assert sentence_faults(tmp_path, text) == [("short entries", 5)]


@pytest.mark.parametrize(
    "explanation",
    [
        "in seconds.",
        "bytes of the body.",
        "1 or 2.",
        "such as ``audio/mpeg``.",
        "ticks per second.",
        "None if unknown.",
        "media sequence number.",
        "the first byte wanted, counted in the file",
        "in decoding order.",
    ],
)
def test_an_entry_with_a_unit_a_range_code_or_a_clause_is_none(tmp_path: Path, explanation: str) -> None:
    text = f'class One:\n    """One of them.\n\n    Attributes:\n        a: {explanation}\n    """\n'
    assert sentence_faults(tmp_path, text) == []


@pytest.mark.parametrize("explanation", ["it.", "of it.", "likewise.", "the same.", "what it is."])
@pytest.mark.parametrize("section", ["Args", "Attributes", "Raises"])
def test_an_entry_that_points_elsewhere_is_a_fault(tmp_path: Path, section: str, explanation: str) -> None:
    text = f'"""A module.\n\n{section}:\n    a: {explanation}\n    b: seconds since the epoch.\n"""\n'
    assert sentence_faults(tmp_path, text) == [("empty entries", 4)]


@pytest.mark.parametrize(
    ("explanation", "is_fault"),
    [
        ("what is kept of the last five.", True),
        ("of those that are read in 3 s.", True),
        ("the same for the other 2 streams.", True),
        ("another one, if there is one.", True),
        ("most seconds that are left for them.", True),
        ("whatever 2 streams have in common.", False),
        ("the streams that have 2 tracks.", False),
        ("its length in bytes, or that of its first part.", False),
    ],
)
def test_an_entry_has_a_noun(tmp_path: Path, explanation: str, is_fault: bool) -> None:
    text = f'class One:\n    """One of them.\n\n    Attributes:\n        a: {explanation}\n    """\n'
    assert sentence_faults(tmp_path, text) == [("vague entries", 5)] * is_fault


def test_an_error_may_be_of_what_its_function_is_about(tmp_path: Path) -> None:
    text = 'def one() -> None:\n    """Read a file.\n\n    Raises:\n        OSError: it is gone.\n    """\n'
    assert sentence_faults(tmp_path, text) == []


@pytest.mark.parametrize(
    ("line", "is_fault"),
    [
        ("Give the bytes.", True),
        ("Tell whether it is so.", True),
        ("What a job is.", True),
        ("Those of the channel.", True),
        ("It is so.", True),
        ("Return the bytes.", False),
        ("Items of a list.", False),
        ("Given bytes are read.", False),
    ],
)
def test_a_docstring_begins_with_a_noun_or_with_return(tmp_path: Path, line: str, is_fault: bool) -> None:
    for text in (f'"""{line}"""\n', f'class One:\n    """{line}"""\n', f'A = 1\n"""{line}"""\n'):
        assert [kind for kind, _ in sentence_faults(tmp_path, text)] == ["first lines"] * is_fault


@pytest.mark.parametrize(
    ("line", "is_fault"),
    [
        ("Whether it is ready.", True),
        ("Return whether they end.", True),
        ("Why it is down.", True),
        ("Close them.", True),
        ("Say whether the channel is ready.", True),
        ("Take notice of a request.", True),
        ("Go on with the next event.", True),
        ("Looks at the queue in a minute.", False),
        ("Take a free lease.", False),
        ("Whether the channel is ready.", False),
        ("Items of it.", False),
        ("Close its socket.", False),
    ],
)
def test_a_docstring_names_what_it_is_about(tmp_path: Path, line: str, is_fault: bool) -> None:
    found = sentence_faults(tmp_path, f'class One:\n    """{line}"""\n')
    assert [kind for kind, _ in found] == ["vague beginnings"] * is_fault


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# It is asked again.\n", ["comments"]),
        ("a = 1  # likewise\n", ["comments", "vague phrases"]),
        ("# The file is open, and\n# it has a name.\n", []),
        ("a = 1  # the file is open\n# it has a name\n", ["comments"]),
        ("# Once\n# whoever asks for it has it.\n", ["vague phrases"]),
        ("# It's the file.\n# noqa\n#!lua\n", []),
        ("a = 1  # noqa: E501  # it is long\n", []),
    ],
)
def test_a_comment_begins_with_its_subject(tmp_path: Path, text: str, found: list[str]) -> None:
    path = tmp_path / "module.py"
    path.write_text(text, "utf-8")
    assert [one.kind for one in prose.faults_of_comments(path)] == found


@pytest.mark.parametrize(
    ("sentence", "count"),
    [
        ("What comes of it is told whoever asks.", 4),
        ("Requests of who waits tell of them.", 2),
        ("Seconds between two looks; likewise below.", 2),
        ("A listener who waits is known, as are clients who ask.", 0),
        ("The table says what the stream has, and foretells the rest.", 0),
        ("Telling them apart is what a name is for.", 0),
    ],
)
def test_phrases_in_the_place_of_nouns_are_faults(tmp_path: Path, sentence: str, count: int) -> None:
    found = sentence_faults(tmp_path, f'"""A module.\n\n{sentence}\n"""\n')
    assert [kind for kind, _ in found] == ["vague phrases"] * count


@pytest.mark.parametrize(
    ("call", "is_fault"),
    [
        ('log.warning("a file can\'t be opened", path=1)', False),
        ('log.info("S3 can be reached again")', False),
        ('log.info("publish_key was changed", channel=1)', False),
        ('log.bind(a=1)\nlog.info("track cut short" if 1 else "track skipped")', False),
        ('RefusalLog("publisher refused", 1)', False),
        ('log.error("file_unreadable", path=1)', True),
        ('log.info("draining")', True),
        ('log.info("A file is open")', True),
        ('log.exception("a file is open.")', True),
        ('log.debug("a file is open" if 1 else "file_open")', True),
        ('what = "file_open"\nlog.debug(what)', True),
        ('RefusalLog("refused", 1)', True),
    ],
)
def test_a_log_line_is_a_sentence(tmp_path: Path, call: str, is_fault: bool) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"import structlog\n\nlog = structlog.get_logger()\n{call}\n", "utf-8")
    assert [one.kind for one in prose.faults_of_log_events(path)] == ["log events"] * is_fault


def test_names_that_others_have_chosen_are_no_faults(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "class File:\n    def seek(self): ...\n    def tell(self): ...\n"
        "class Application:\n    async def __call__(self, scope, receive, send):\n"
        "        async def receive(): ...\n"
        "class Queue:\n    def take(self): ...\n    def _give(self): ...\n",
        "utf-8",
    )
    found = [(fault.text, fault.line) for fault in prose.faults_of_verbs(path)]
    assert sorted(found) == [("_give", 9), ("take", 8)]
