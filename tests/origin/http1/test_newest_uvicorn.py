"""The server runs on uvicorn's newest release, of which it uses what uvicorn documents."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import start_server

ROOT = Path(__file__).parents[3]
INSTALL_SECONDS = 120
SERVE_SECONDS = 120

SERVE = """
import asyncio, pathlib, sys, uvicorn
from origin.files.open_files import OpenFileCache
from origin.files.handler import FileHandler, file_routes
from starlette.applications import Starlette
from origin.http1.protocol import http_protocol
from origin.http1.limits import HttpLimits
from packager.library.local_storage import Library

async def ask(server):
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for field in ("Range: bytes=2-4", "Connection: close"):
        writer.write(f"GET /media/digits.mp4 HTTP/1.1\\r\\nHost: a\\r\\n{field}\\r\\n\\r\\n".encode())
        print((await reader.readuntil(b"\\r\\n\\r\\n")).split(b"\\r\\n")[0].decode())
        print((await reader.readexactly(3 if field.startswith("Range") else 10)).decode())
    print((await reader.read()).decode(), end="")

class Server(uvicorn.Server):
    async def main_loop(self):
        await self.on_tick(0)
        await ask(self)

handler = FileHandler(Library(pathlib.Path(sys.argv[1])), open_files=OpenFileCache())
files = Starlette(routes=file_routes(handler))
options = dict(port=0, lifespan="off", log_config=None, proxy_headers=False)
print(pathlib.Path(uvicorn.__file__).parent.parent)
Server(uvicorn.Config(files, http=http_protocol(HttpLimits()), **options)).run()
"""


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with uvicorn as its index has it now, and nothing else."""
    uv = shutil.which("uv") or ROOT / ".tools/bin/uv"
    if not Path(uv).exists():
        pytest.skip("there is no uv to install uvicorn with")
    folder = tmp_path_factory.mktemp("uvicorn")
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", folder, "uvicorn"]
    try:
        done = subprocess.run(
            [*map(str, command), "--python", sys.executable],
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
            cwd=folder,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the package index doesn't answer")
    if done.returncode:
        pytest.skip(f"the package index can't be reached: {done.stderr.strip()[-200:]}")
    return folder


def test_ranges_are_answered_on_the_newest_release(newest: Path, tmp_path: Path) -> None:
    (tmp_path / "digits.mp4").write_bytes(b"0123456789")
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=SERVE_SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{newest}{os.pathsep}{ROOT}"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        str(newest),
        "HTTP/1.1 206 Partial Content",
        "234",
        "HTTP/1.1 200 OK",
        "0123456789",
    ]


def test_a_whole_server_starts_serves_and_ends_on_the_newest_release(newest: Path, tmp_path: Path) -> None:
    """It replaces undocumented steps of `uvicorn.Server.serve`: the listening, the loop, the end."""
    (tmp_path / "digits.mp4").write_bytes(b"0123456789")
    server = start_server("--library", str(tmp_path), "--port", "0", env={"PYTHONPATH": str(newest)})
    try:
        with httpx.Client(base_url=server.url, timeout=SERVE_SECONDS) as client:
            answer = client.get("/media/digits.mp4", headers={"range": "bytes=2-4"})
            assert (answer.status_code, answer.content) == (206, b"234")
            health = client.get("/health")
            assert (health.status_code, health.json()["ready"]) == (200, True)
            assert "date" in health.headers
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()
    assert "Traceback" not in server.text()


def test_nothing_is_imported_that_uvicorn_keeps_for_itself() -> None:
    """Its face is `uvicorn`; of modules behind that, types alone are named, which a type checker reads."""
    found = set()
    for path in (ROOT / "origin").rglob("*.py"):
        tree = ast.parse(path.read_text())
        typing_only = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if node in typing_only:
                continue
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("uvicorn"):
                found.add(f"{path.relative_to(ROOT)}: {node.module}")
            elif isinstance(node, ast.Import):
                found |= {
                    f"{path.relative_to(ROOT)}: {n.name}" for n in node.names if n.name.startswith("uvicorn.")
                }
    assert found == set()
