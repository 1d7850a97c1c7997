"""``make dev`` serves, and starts the server again when a file of the code changes."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.processes import end
from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent
CODE = ("media", "packager", "origin", "player")
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy the code and the Makefile to a folder that uses this one's environment."""
    folder = tmp_path / "copy"
    for name in CODE:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("vendor"))
    (folder / "player" / "vendor").symlink_to(ROOT / "player" / "vendor")
    shutil.copy2(ROOT / "Makefile", folder)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "headwater.toml").write_text(f'[library]\npath = "{tmp_path}"\n')
    return folder


@pytest.fixture
def log(copy: Path) -> Iterator[Path]:
    """Run ``make dev`` in the copy, with its output in a file; the environment isn't set up anew for it."""
    path = copy.parent / "log"
    set_up = ("--assume-old=.venv/.setup", "--assume-old=player/vendor/integrity.txt")
    command = ("make", *set_up, "dev", "PORT=0", f"ARGS=--config {copy.parent / 'headwater.toml'}")
    with path.open("wb") as output:
        process = subprocess.Popen(command, cwd=copy, stdout=output, stderr=subprocess.STDOUT)
    yield path
    end(process)


def test_a_changed_file_starts_the_server_again_from_the_changed_code(copy: Path, log: Path) -> None:
    def addresses() -> list[str]:
        return list(dict.fromkeys(ADDRESS.findall(log.read_text(errors="replace"))))

    (first,) = wait_for(addresses, "the first start")
    assert httpx.get(f"{first}/health").status_code == 200

    main = copy / "origin" / "cli" / "main.py"
    main.write_text(
        main.read_text().replace('    """Serve the library,', '    print("changed")\n    """Serve', 1)
    )
    _, second = wait_for(lambda: addresses()[1:] and addresses(), "the second start")
    assert httpx.get(f"{second}/health").status_code == 200
    written = log.read_text(errors="replace")
    assert "\nchanged\n" in written
    assert "debug" in written
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{first}/health")
