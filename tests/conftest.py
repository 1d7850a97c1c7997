"""What all tests share: nothing blocks the event loop, and a real server is one fixture away."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

from packager.process.ffmpeg_discovery import Tools
from tests.conformance.handfed import PARTS, HandFed, Track, make_material, on_air
from tests.copied_channel import film
from tests.fork_server import HEADWATER, close_fork_server, fork
from tests.forked_workers import COLLECTED_TESTS, ForkedWorkers
from tests.keys import ADMIN_TOKEN
from tests.known_tools import known_tools
from tests.loop_watch import LoopWatch, slowness
from tests.made_once import shared_folder
from tests.patience import CLIENT_SECONDS
from tests.processes import children_of
from tests.quick_ffmpeg import prefer_quick_ffmpeg
from tests.redis_server import RedisServer, redis_running
from tests.s3_server import S3Proxy, S3Server, s3_server_running
from tests.waiting import wait_for

# An example takes as long as a busy machine lets it, so hypothesis' deadline of 200 ms would fail at random.
settings.register_profile("headwater", deadline=None)
settings.load_profile("headwater")

pytest_plugins = [
    "tests.failures_at_once",
    "tests.leftovers",
    "tests.quick_selection",
    "tests.run_journal",
    "tests.tiers",
]

START_SECONDS = 900.0
"""Longest wait for a server to be up: without ``make test`` the first one makes the demo's media."""

STOP_SECONDS = 120.0
OURS = ("HEADWATER_WATCH_SECONDS",)
"""Variables for the tests alone: the server knows each that begins with its name, or refuses it."""

QUICK_FOLDER = "media"
PATIENT_FOLDERS = {"clients", "e2e"}
EARLY = {
    "clients": 0.8,
    "e2e": 0.8,
    "origin/radio": 0.6,
    "origin/recordings": 0.6,
    "origin/workers": 0.6,
    "packager/vod": 0.8,
    "test_architecture.py": 0.2,
}
"""Folders and files that take long, and in which first part of a run they come.

Otherwise one process is left with a long one at the end.
"""

PATIENT_SECONDS = 1500
"""How long a test of these folders may take: it waits for live media, and may be a server's first start."""

HELD_SECONDS = 0.1
"""Longest step of an event loop in any test, in processor time: five times what one may take."""

ARTIFACTS = Path(__file__).parent.parent / "artifacts"

# httpx waits for five seconds of its own accord, which a busy machine needs at times for what takes a moment.
for of_a_client in vars(httpx._config.DEFAULT_TIMEOUT_CONFIG):  # there is no other way for all
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, of_a_client, CLIENT_SECONDS)

# Where Python is forbidden to keep what it compiled, as in many images, each server compiles itself anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# As the program does for itself: without this, each Python of a test starts a thread for numpy's algebra.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@functools.cache
def top_folder_of(path: Path) -> str:
    """Name the folder of a test file: the first one below that of the tests."""
    return path.relative_to(Path(__file__).parent).parts[0]


@functools.cache
def folder_of(path: Path) -> str:
    """Name the folder whose files are spread over the run together: an early one, or the first one."""
    relative = path.relative_to(Path(__file__).parent)
    return next((folder for folder in EARLY if relative.is_relative_to(folder)), top_folder_of(path))


def fixtures_of(item: pytest.Item) -> Sequence[str]:
    """Name what a test uses, and what that uses in turn."""
    return item.fixturenames if isinstance(item, pytest.Function) else ()


def pytest_configure(config: pytest.Config) -> None:
    """Have a folder for media that the run's processes share: the one without an input starts the others."""
    config.pluginmanager.register(COLLECTED_TESTS)
    if not hasattr(config, "workerinput"):
        folder = shared_folder()
        config.add_cleanup(folder.cleanup)
        programs = Path(folder.name, "bin")
        programs.mkdir()
        prefer_quick_ffmpeg(programs)
        plugins = config.pluginmanager
        # What is imported before a process measures its coverage wouldn't be covered.
        if plugins.hasplugin("xdist") and not plugins.hasplugin("_cov"):
            plugins.register(ForkedWorkers())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage meanwhile: all that is made stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread each folder's files over the run, so that neither browsers nor encoders come all at once.

    What needs no media comes last: small pieces, which the processes share until all of them are done. Within
    a file those come last that look at the demo's server: its encoder takes a third of a core while it runs.
    """
    folders: dict[str, list[Path]] = {}
    for path in dict.fromkeys(item.path for item in items):
        folders.setdefault(folder_of(path), []).append(path)
    places = {
        path: (folder == QUICK_FOLDER, (number + 0.5) / len(paths) * EARLY.get(folder, 1.0), path)
        for folder, paths in folders.items()
        for number, path in enumerate(paths)
    }
    items.sort(key=lambda item: (places[item.path], "demo_server" in fixtures_of(item)))
    for item in items:
        if top_folder_of(item.path) in PATIENT_FOLDERS:
            item.add_marker(pytest.mark.timeout(PATIENT_SECONDS))


def pytest_unconfigure() -> None:
    """End the process that starts this one's servers."""
    close_fork_server()


def pytest_collection_finish() -> None:
    """Take what is there for the whole run, thousands of tests, out of what is searched for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def nothing_blocks_the_event_loop() -> Iterator[BlockBuster]:
    with blockbuster_ctx(["media", "packager", "origin"]) as blockbuster:
        # The one place that sends files: from the page cache, in bounded steps, to a socket that never waits.
        blockbuster.functions["os.sendfile"].can_block_in(
            "origin/http1/sendfile.py", {"_step", "begin_range"}
        )
        # Until the child has executed its program, which vfork(2) waits for in any case.
        blockbuster.functions["os.read"].can_block_in("subprocess.py", "_execute_child")
        # The measuring of coverage itself.
        blockbuster.functions["threading.Lock.acquire"].can_block_in("coverage/collector.py", "lock_data")
        yield blockbuster


@pytest.fixture(scope="session", autouse=True)
def certificates_read_once() -> Iterator[None]:
    """Let httpx read Mozilla's certificates once: it does for each client and each ``httpx.get``."""
    with pytest.MonkeyPatch.context() as patch:
        made = functools.cache(httpx.create_ssl_context)
        patch.setattr("httpx._transports.default.create_ssl_context", made)
        yield


@pytest.fixture(scope="session", autouse=True)
def measured_loops() -> Iterator[LoopWatch]:
    slowness()  # the first of the times with which later ones are compared
    with LoopWatch().running() as watch:
        yield watch


@pytest.fixture(autouse=True)
def nothing_holds_the_event_loop(measured_loops: LoopWatch) -> Iterator[LoopWatch]:
    """Whoever expects less asks it for the longest step."""
    measured_loops.reset()
    yield measured_loops
    held = measured_loops.longest
    if held.seconds > HELD_SECONDS and held.seconds > HELD_SECONDS * slowness():
        pytest.fail(f"the event loop was held by {held.seconds:.3f} s of computing:\n{held.where}")


@pytest.fixture(scope="session")
def tools() -> Tools:
    """The machine's ffmpeg; asked in a thread, so that tests with a loop of their own can use it too."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(known_tools).result()


@pytest.fixture(scope="session")
def material(tools: Tools) -> dict[str, Track]:
    """What channels that are fed by hand publish; nothing changes it."""
    return make_material(tools)


@pytest.fixture
def fed(material: dict[str, Track], tools: Tools, tmp_path: Path) -> Iterator[HandFed]:
    """A channel on a real socket, with eight segments and two parts."""
    with on_air(material, tools, tmp_path) as fed:
        fed.publish(8 * PARTS + 2)
        yield fed


@dataclass
class ServerProcess:
    """A real ``headwater`` process; ``url`` ends without a slash. As a context it ends, and ends well."""

    process: subprocess.Popen[str]
    url: str = ""
    output: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.stop() == 0 or error is not None, self.text()[-4000:]

    def text(self) -> str:
        return "".join(self.output)

    def children(self) -> list[int]:
        """Process ids of the ffmpegs that it runs now."""
        return children_of(self.process.pid)

    def command_lines(self) -> dict[int, bytes]:
        """Their command lines, by process id."""
        found: dict[int, bytes] = {}
        for pid in self.children():
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes()
        return found

    def encoder(self, word: bytes = b"") -> int:
        """Wait until there is exactly one with this word in its command line; give its process id.

        A channel whose encoder stood still for long is between two of them for a moment.
        """

        def only() -> list[int]:
            pids = [pid for pid, line in self.command_lines().items() if line and word in line]
            return pids if len(pids) == 1 else []

        return wait_for(only, "one encoder")[0]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; give the exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


def start_server(
    *arguments: str,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    admin_token: str | None = ADMIN_TOKEN,
    program: Sequence[str] = (str(HEADWATER),),
    seconds: float = START_SECONDS,
    fresh: bool = False,
) -> ServerProcess:
    """Start ``headwater serve`` with these arguments, and wait until it announces its address.

    Args:
        arguments: of the command.
        cwd: where.
        env: more variables.
        stdin: its standard input.
        admin_token: what may change something; None: the server makes one.
        program: what the command is, where it isn't the one that is installed.
        seconds: how long it may take until it is up.
        fresh: whether it must have a process of its own, and be no fork of one that has imported it.
    """
    given = {name: value for name, value in os.environ.items() if name not in OURS}
    if admin_token is not None:
        given["HEADWATER_SERVER_ADMIN_TOKEN"] = admin_token
    given |= env or {}
    forked = None if fresh else fork(program, ("serve", *arguments), cwd=cwd, env=given, stdin=stdin)
    server = ServerProcess(
        forked
        or subprocess.Popen(
            [*program, "serve", *arguments],
            cwd=cwd,
            env=given,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    )
    process = server.process

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                server.output.append(line)

    threading.Thread(target=read, daemon=True).start()

    def announced() -> str:
        if process.poll() is not None:
            raise AssertionError(f"ended with status {process.returncode}:\n{server.text()}")
        match = re.search(r"Headwater is at (http://\S+)/", server.text())
        return "" if match is None else match.group(1)

    try:
        server.url = wait_for(announced, "the server's start", seconds)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return server


@contextlib.contextmanager
def demo(name: str, *arguments: str) -> Iterator[ServerProcess]:
    """Run a server with the demo's films, channel and station; its log is kept by this name."""
    server = start_server("--demo", "--port", "0", *arguments)
    yield server
    server.stop()
    ARTIFACTS.mkdir(exist_ok=True)
    (ARTIFACTS / f"{name}-demo-server.log").write_text(server.text())


@contextlib.contextmanager
def small_demo(name: str, folder: Path) -> Iterator[ServerProcess]:
    """Run one whose channel encodes a small film in two sizes: the demo's own takes a third of a core."""
    config = folder / "headwater.toml"
    config.write_text(f'[[live]]\nname = "demo"\nsource = "{film()}"\nladder = ["360p", "240p"]\n')
    with demo(name, "--config", str(config)) as server:
        yield server


@pytest.fixture(scope="module")
def demo_server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """One server with the demo for all tests of a file that only look at it."""
    with demo(request.path.stem) as server:
        yield server


# Of a module: a server that waits for the end of a run takes more than another start.
@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server with an empty bucket; each test has a prefix of its own in it."""
    with s3_server_running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis; whoever disturbs it leaves it running."""
    with redis_running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def s3_proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    proxy = S3Proxy(s3_server)
    yield proxy
    proxy.close()
