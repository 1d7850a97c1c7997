"""Who may have what a front keeps: the files of `deploy/` say it as the origin's own tables do."""

from __future__ import annotations

import re

import pytest

from origin.access.address_tokens import CLIP_PARAMETERS
from tests.cdn.caches import DEPLOY
from tests.cdn.front_rules import RULES


def lines_of(name: str) -> list[str]:
    """Return the lines of a file that aren't comments."""
    text = (DEPLOY / name).read_text("utf-8")
    return [line.strip() for line in text.splitlines() if not line.strip().startswith("#")]


@pytest.mark.parametrize("name", RULES)
def test_a_front_decides_by_the_rules_of_the_origin(name: str) -> None:
    lines = lines_of(name)
    assert [rule for rule in RULES[name] if lines.count(rule) != 1] == []


def test_no_front_knows_parameters_of_clips_or_splits_tokens_off_by_a_rule_of_its_own() -> None:
    names = "|".join(CLIP_PARAMETERS)
    own = re.compile(rf"/t/[^ ]*[\[(]|\b({names})\b[^ ]*[|=]")
    files = [
        path
        for folder in ("nginx", "haproxy", "varnish", "caddy", "trafficserver", "fleet")
        for path in sorted((DEPLOY / folder).iterdir())
    ]
    assert len(files) > 10
    known = {rule for rules in RULES.values() for rule in rules}
    further = {
        (path.name, line)
        for path in files
        for line in lines_of(str(path.relative_to(DEPLOY)))
        if own.search(line) and line not in known
    }
    assert further == set()
