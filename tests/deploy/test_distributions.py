"""What `make dist` builds is installed into an empty environment, and serves the demo there."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.patience import CLIENT_SECONDS

ROOT = Path(__file__).parents[2]
UV = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
SECONDS = 240


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build as `make dist` does; return the folder of what is built."""
    folder = tmp_path_factory.mktemp("dist")
    recipe = (ROOT / "Makefile").read_text("utf-8").partition("\ndist: setup\n")[2].partition("\n\n")[0]
    assert "$(UV) build --quiet --out-dir dist" in recipe
    run(UV, "build", "--quiet", "--out-dir", folder, "--python", sys.executable)
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an empty environment; return that environment."""
    place = tmp_path_factory.mktemp("environment") / "env"
    run(UV, "venv", "--quiet", "--python", sys.executable, place)
    (wheel,) = built.glob("*.whl")
    run(UV, "pip", "install", "--quiet", "--python", place / "bin" / "python", wheel)
    return place


@pytest.fixture
def demo(installed: Path, tmp_path: Path) -> Iterator[str]:
    """Serve the demo by what is installed; return the server's address."""
    command = [str(installed / "bin" / "headwater"), "serve", "--demo", "--port", "0"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            assert server.stdout is not None
            read = list[str]()
            for line in server.stdout:
                read.append(line)
                if found := re.search(r"Headwater is at (http://\S+)/", line):
                    break
            else:
                pytest.fail("".join(read))
            yield found[1]
        finally:
            server.terminate()
            server.communicate(timeout=SECONDS)


def test_the_wheel_has_the_page_with_its_players_and_no_tests(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"player/vendor/hls.min.mjs", "player/vendor/hls.LICENSE.txt", "player/index.html"} <= {*names}
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {
        "media",
        "origin",
        "packager",
        "player",
    }


def test_the_source_distribution_has_what_builds_and_tests_it(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"Makefile", "hatch_build.py", "pyproject.toml", "LICENSE", "tests/conftest.py"} <= names


@pytest.mark.timeout(600)
async def test_the_demo_is_served_from_an_empty_environment(demo: str) -> None:
    async with httpx.AsyncClient(base_url=demo, timeout=CLIENT_SECONDS) as client:
        page = await client.get("/")
        assert page.status_code == 200
        scripts = re.findall(r"(?:src|href)=\"(/?player/[^\"]+)\"", page.text)
        assert scripts
        for script in [*scripts, "player/vendor/hls.min.mjs"]:
            assert (await client.get(f"/{script.lstrip('/')}")).status_code == 200, script
        films = (await client.get("/api/library")).json()
        assert films
        async with asyncio.timeout(SECONDS):
            while (await client.get("/live/demo/master.m3u8")).status_code != 200:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("environment", "refusal"),
    [
        ({}, "UV_PUBLISH_TOKEN is missing"),
        ({"UV_PUBLISH_TOKEN": "t"}, "IMAGE is missing"),
    ],
)
def test_a_release_asks_for_credentials_before_it_builds(environment: dict[str, str], refusal: str) -> None:
    done = subprocess.run(
        ["sh", ROOT / "deploy" / "release.sh"],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, refusal in done.stderr) == (1, True)
