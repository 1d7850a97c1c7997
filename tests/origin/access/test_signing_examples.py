"""The examples of the documentation make tokens that the server takes, in each language that is installed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from origin.access.address_tokens import SigningKeys
from origin.http.path_prefixes import split_token
from tests import programs
from tests.patience import CLIENT_SECONDS

PAGE = Path(__file__).parents[3] / "docs" / "signed-addresses.md"
SECRET = "a-secret-of-november"  # of the tests


@pytest.mark.parametrize(
    ("program", "beginning", "code"),
    [
        ("python3", "signed =", f'import base64, hmac, time\nsecret = "{SECRET}"\n{{}}\nprint(address)'),
        (
            "node",
            "const signed",
            f'const crypto = require("crypto"), secret = "{SECRET}";\n{{}}\nconsole.log(address)',
        ),
        ("php", "$signed", f'$secret = "{SECRET}";\n{{}}\necho $address;'),
        ("sh", "signed=", f'secret="{SECRET}"\n{{}}\necho "$address"'),
    ],
)
def test_an_example_makes_a_valid_token(program: str, beginning: str, code: str) -> None:
    programs.program(program)
    found = re.search(rf"(?m)^    {re.escape(beginning)}.*\n(    .*\n)+", PAGE.read_text("utf-8"))
    assert found is not None
    example = code.replace("{}", re.sub(r"(?m)^    ", "", found[0]))
    if "openssl" in example:
        programs.program("openssl")
    option = "-c" if program in ("python3", "sh") else "-e" if program == "node" else "-r"
    command = [program, option, example]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=CLIENT_SECONDS)
    text, path = split_token(done.stdout.strip())
    token = SigningKeys([f"2026-11:{SECRET}"]).read(text)
    assert token is not None
    assert (token.name, path) == ("anna", "/live/demo/master.m3u8")
    assert token.covers(path)
