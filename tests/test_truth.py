"""No module takes what is there and false, such as an empty mapping, for what isn't there."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.program_modules import MODULES, ROOT
from tests.syntax import tree_of
from tests.truth_tests import Declarations, declarations, truth_tests


def test_what_may_be_false_though_it_was_given_is_compared_with_none() -> None:
    declared = declarations(MODULES)
    found = [
        f"{path.relative_to(ROOT)}:{one}" for path in MODULES for one in truth_tests(tree_of(path), declared)
    ]
    assert not found, "write `is None`, or compare the length with 0"


FAULTS = """
class Keys:
    def __len__(self) -> int: ...

class Options:
    limit: int | None

class Server:
    def __init__(self, keys: Mapping[str, str] | None = None, own: Keys = ...) -> None:
        self._keys = keys or {}
        self._own = own or Keys()
        self._later: deque[int] | None = None

    def run(self, seconds: float | None, token: str | None, options: Options) -> None:
        wait = seconds if seconds else 10.0
        if not token:
            return
        most = options.limit or 5
        while self._later and wait:
            pass
"""


def test_the_check_sees_each_way_to_ask_for_the_truth(tmp_path: Path) -> None:
    (tmp_path / "faults.py").write_text(FAULTS)
    found = list(truth_tests(ast.parse(FAULTS), declarations([tmp_path / "faults.py"])))
    assert sorted(one.partition(": ")[2] for one in found) == sorted(
        ["keys", "own", "seconds", "token", "options.limit", "self._later"]
    )


FINE = """
def run(name: str | None, count: int | None, size: tuple[int, int] | None, names: list[str]) -> None:
    print(name or "", count or 0, size or (1, 1), names or ["all"])
    if count is None or count > 5:
        print("many")
"""


def test_what_means_the_same_where_it_is_false_and_where_it_is_none_may_be_asked_for() -> None:
    assert not list(truth_tests(ast.parse(FINE), Declarations()))
