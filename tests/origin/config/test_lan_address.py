"""Other devices of the network find the server: its address is printed, and a QR code in terminals."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from origin.config.lan_address import address_for_others, own_address, qr_code
from tests.fork_server import HEADWATER
from tests.qr_code import read

FINDER = ["#######", "#.....#", "#.###.#", "#.###.#", "#.###.#", "#.....#", "#######"]
"""ISO/IEC 18004 §6.3.3.1: the pattern in three corners."""

SECONDS = 60


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "127.8.8.8", "localhost", "host.example"])
def test_who_listens_for_this_machine_alone_has_no_address_for_others(host: str) -> None:
    assert address_for_others(host, 8000) is None


def test_an_address_that_is_listened_on_is_the_one_for_others() -> None:
    assert address_for_others("192.168.1.23", 80) == "http://192.168.1.23:80/"
    assert address_for_others("fd00::1", 8000) == "http://[fd00::1]:8000/"


def modules(drawn: str) -> list[str]:
    """Read what is drawn with half blocks: dark modules are where no white is."""
    rows: list[str] = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", drawn).splitlines():
        rows.append("".join("." if one in "█▀" else "#" for one in line))
        rows.append("".join("." if one in "█▄" else "#" for one in line))
    return rows


def test_the_qr_code_has_its_patterns_in_three_corners_and_a_quiet_zone() -> None:
    rows = modules(qr_code("http://192.168.1.23:8000/"))
    width = len(rows[0])
    assert set(rows[0] + rows[1]) == {"."}
    size = width - 4
    assert size in range(21, 178, 4)
    for top, left in ((2, 2), (2, 2 + size - 7), (2 + size - 7, 2)):
        assert [row[left : left + 7] for row in rows[top : top + 7]] == FINDER


@pytest.mark.clause("ISO/IEC 18004 §12")
@pytest.mark.parametrize(
    "text",
    [
        "http://10.0.0.1:80/",
        "https://192.168.178.123:8443/",
        "http://[2001:db8:1234:5678:9abc:def0:1234:5678]:8000/",
        "https://a-rather-long-name.of-a-host.in-some-domain.example:8443/live/",
    ],
)
def test_the_qr_code_says_the_address(text: str) -> None:
    assert code_in(qr_code(text)) == text


def code_in(drawn: str) -> str:
    """Return what a drawn QR code says."""
    return read(modules(drawn))


def drawn_in(told: str) -> str:
    """Return the lines of a terminal on which a code is drawn."""
    return "\n".join(line for line in told.splitlines() if "\x1b[97;40m" in line)


def is_whole(told: str) -> bool:
    """Return whether all of a code is drawn: it is as high as it is wide, and a line has two of its rows."""
    drawn = drawn_in(told)
    return bool(drawn) and told.endswith("\n") and len(rows := modules(drawn)) >= len(rows[0])


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["http", "https"])
def test_a_server_for_the_network_tells_a_terminal_where_others_find_it(
    tmp_path: Path, is_encrypted: bool
) -> None:
    outward = own_address(socket.AF_INET)
    if outward is None:
        pytest.skip("this machine has no network")
    ours, theirs = pty.openpty()
    words = ["serve", "--host", "0.0.0.0", "--port", "0", "--library", str(tmp_path)]
    if is_encrypted:
        config = tmp_path / "headwater.toml"
        data = f'[server]\ndata = "{tmp_path / "data"}"\n'
        config.write_text(f'{data}[tls]\ncertificate = "self-signed"\nport = 0\n')
        words += ["--config", str(config)]
    server = subprocess.Popen([HEADWATER, *words], stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    try:
        told, end = "", time.monotonic() + SECONDS
        while not is_whole(told):
            assert select.select([ours], [], [], max(0.0, end - time.monotonic()))[0], told
            told += os.read(ours, 65536).decode()
        found = re.search(r"Other devices find it at \S*?(https?://[0-9.]+:\d+/)", told)
        assert found is not None, told
        assert found[1].startswith(f"http{'s' * is_encrypted}://{outward}:")
        assert code_in(drawn_in(told)) == found[1]
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(found[1], timeout=SECONDS, context=trusting) as page:
            assert b"Headwater" in page.read()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(SECONDS)
        os.close(ours)
