"""Who may have what a front keeps: the files of `deploy/` say it as the origin's own tables do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from origin.access.address_tokens import CLIP_PARAMETERS
from tests.cdn.caches import DEPLOY, ERROR_LOG
from tests.cdn.front_rules import RULES


def lines_of(name: str) -> list[str]:
    """Return the lines of a file that aren't comments."""
    text = (DEPLOY / name).read_text("utf-8")
    return [line.strip() for line in text.splitlines() if not line.strip().startswith("#")]


@pytest.mark.parametrize("name", RULES)
def test_a_front_decides_by_the_rules_of_the_origin(name: str) -> None:
    lines = lines_of(name)
    assert [rule for rule in RULES[name] if lines.count(rule) != 1] == []


LOGGED = frozenset(
    ("$remote_addr", "$time_local", "$request_method", "$logged", "$status", "$body_bytes_sent")
) | {"$connection", "$server_protocol"}
"""Variables of nginx in which no client can have put a token or a key."""


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.conf")), ids=lambda path: path.name)
def test_the_log_of_a_front_has_no_address_with_its_token_or_query(path: Path) -> None:
    text = path.read_text("utf-8")
    formats = dict(re.findall(r"^\s*log_format (\w+) '([^']*)';$", text, re.MULTILINE))
    logs = re.findall(r"^\s*access_log (.*);$", text, re.MULTILINE)
    assert all(one == "off" or one.split()[-1] in formats for one in logs), logs
    assert {name for one in formats.values() for name in re.findall(r"\$\w+", one)} <= LOGGED


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.conf")), ids=lambda path: path.name)
def test_the_error_log_of_a_front_has_no_lines_about_usual_requests(path: Path) -> None:
    assert re.findall(r"^\s*error_log .*$", path.read_text("utf-8"), re.MULTILINE) == [ERROR_LOG]


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
