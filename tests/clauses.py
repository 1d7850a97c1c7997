"""``python -m tests.clauses [PATH...]``: the table of which test shows which clause, from the tests' markers.

A test names what it shows by ``@pytest.mark.clause``: a clause of a public standard, a known weakness (CVE,
CWE), or a plain sentence where no standard says it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.syntax import nodes

ROOT = Path(__file__).parent.parent

MARKER = "pytest.mark.clause"

STANDARD = r"RFC (?:\d{3,5}|8216bis)|ISO/IEC \d+(?:-\d+)?|WHATWG [A-Z][A-Za-z]+|ID3v2\.[34]|RTMP 1\.0|AMF0"
SECTION = r"(?:§[0-9A-Z]+|Appendix [A-Z])(?:\.\d+)*"
RULE = r"(?: (?:MUST|SHOULD|SHALL) \d+[a-j]?)?"
CLAUSE = re.compile(rf"(?:{STANDARD}) {SECTION}{RULE}|CVE-\d{{4}}-\d{{4,}}|CWE-\d+")
LOOKS_LIKE_ONE = re.compile(r"RFC|ISO|WHATWG|ID3v|RTMP 1|AMF0|CVE|CWE|§|[A-Z]\d+\b")
"""With what no plain sentence begins."""

SENTENCE = re.compile(r"[A-Za-z][^.\n]*")
WORDS = 4
"""How many words a plain sentence has at least."""


def is_clause(text: str) -> bool:
    """Tell whether this is a known standard's name with a section, a CVE or a CWE."""
    return CLAUSE.fullmatch(text) is not None


def is_sentence(text: str) -> bool:
    """Tell whether this is a plain requirement in words, rather than a clause that is misspelt."""
    if LOOKS_LIKE_ONE.match(text) or "§" in text:
        return False
    return SENTENCE.fullmatch(text) is not None and len(text.split()) >= WORDS


def markers(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Give what the clause markers of a function say, also those of single parameters."""
    for decorator in function.decorator_list:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == MARKER:
                for argument in node.args:
                    assert isinstance(argument, ast.Constant), f"{function.name}: a clause is a literal"
                    assert isinstance(argument.value, str), f"{function.name}: a clause is text"
                    yield argument.value


def table(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Give the tests of each clause in these files or folders, as pytest names them."""
    found: dict[str, list[str]] = {}
    files = {file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])}
    for file in sorted(files):
        text = file.read_text("utf-8")
        for node in nodes(ast.parse(text)) if MARKER in text else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for clause in markers(node):
                    found.setdefault(clause, []).append(f"{file.relative_to(ROOT)}::{node.name}")
    return found


def order(clause: str) -> list[tuple[int, int, str]]:
    """Give a key by which sections come in the order of their numbers, and sentences behind clauses."""
    pieces = [
        (0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in re.split(r"(\d+)", clause)
    ]
    return [(0 if is_clause(clause) else 1, 0, ""), *pieces]


def main(*names: str) -> None:
    """Print the table of these files or folders, or of all tests."""
    clauses = table([Path(name).resolve() for name in names] or [ROOT / "tests"])
    for clause in sorted(clauses, key=order):
        sys.stdout.write(clause + "\n" + "".join(f"    {test}\n" for test in clauses[clause]))


if __name__ == "__main__":
    main(*sys.argv[1:])
