"""``python -m tests.clauses [PATH...]``: the table of which test shows which clause, from the tests' markers.

A test names what it shows by ``@pytest.mark.clause``: a clause of a public standard, a known weakness (CVE,
CWE), or a plain sentence where no standard says it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.markers import ROOT, table

MARKER = "clause"

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


def order(clause: str) -> list[tuple[int, int, str]]:
    """Give a key by which sections come in the order of their numbers, and sentences behind clauses."""
    pieces = [
        (0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in re.split(r"(\d+)", clause)
    ]
    return [(0 if is_clause(clause) else 1, 0, ""), *pieces]


def main(*names: str) -> None:
    """Print the table of these files or folders, or of all tests."""
    clauses = table([Path(name).resolve() for name in names] or [ROOT / "tests"], MARKER)
    for clause in sorted(clauses, key=order):
        sys.stdout.write(clause + "\n" + "".join(f"    {test}\n" for test in clauses[clause]))


if __name__ == "__main__":
    main(*sys.argv[1:])
