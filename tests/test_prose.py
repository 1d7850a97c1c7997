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


@pytest.mark.parametrize("name", HELD)
def test_the_sentences_and_names_of_a_room_keep_the_rules(name: str) -> None:
    folder = prose.ROOT / name
    assert prose.modules(folder)
    found = [
        f"{one.path.relative_to(prose.ROOT)}:{one.line}: {one.kind}: {one.text}"
        for one in prose.faults(folder)
    ]
    assert found == []


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
