"""A real S3 server (SeaweedFS) in a process of its own, and the ways in which tests disturb it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import obstore
from obstore.store import S3Store

from tests.ports import kept_port
from tests.standstill import standing_still
from tests.tcp_proxy import TcpProxy
from tests.waiting import wait_for

KEY, SECRET = "AKIAHEADWATERTEST", "s3-secret-nobody-may-see"
READER = {"AWS_ACCESS_KEY_ID": "AKIAREADER", "AWS_SECRET_ACCESS_KEY": "s3-secret-of-a-reader"}
"""Credentials that may list and read objects, and not store any."""

BUCKET = "media"

S3_SERVER = Path(sys.executable).parent / "weed"
"""SeaweedFS, which ``make test`` installs."""

SOCKETS = Path("/tmp")
"""Where it has its Unix sockets, whatever its options are."""


@dataclass
class S3Server:
    """An S3 server that can be killed and started again, with what it had.

    Attributes:
        url: its address.
        folder: where it writes.
        command: that starts it.
        process: the server, once it was started.
    """

    url: str
    folder: Path
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.folder)
        wait_for(lambda: _has_bucket(self), "the S3 server")

    def kill(self) -> None:
        """End it at once, as the system would for want of memory."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def environment(self, url: str = "") -> dict[str, str]:
        """Give the variables by which it is found, or something before it."""
        return {
            "AWS_ENDPOINT_URL": url or self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def store(self, prefix: str = "") -> S3Store:
        return S3Store(
            BUCKET,
            prefix=prefix or None,
            endpoint=self.url,
            access_key_id=KEY,
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
        )

    def put_folder(self, folder: Path, prefix: str) -> str:
        """Store all files of a folder; give the address of that library."""
        store = self.store(prefix)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                obstore.put(store, str(path.relative_to(folder)), path.read_bytes())
        return f"s3://{BUCKET}/{prefix}"

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it answer nothing for a while: connections are made, and stay silent."""
        assert self.process is not None
        with standing_still(self.process.pid):
            yield


@contextlib.contextmanager
def s3_server_running(folder: Path, volumes: int = 16) -> Iterator[S3Server]:
    """Run an S3 server with one bucket.

    Args:
        volumes: of 64 MB each that the bucket may have.
    """
    if not S3_SERVER.exists():
        raise FileNotFoundError(f"{S3_SERVER}: make test installs this S3 server")
    config = folder / "s3.json"
    credentials = [{"accessKey": KEY, "secretKey": SECRET}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    reader = [{"accessKey": READER["AWS_ACCESS_KEY_ID"], "secretKey": READER["AWS_SECRET_ACCESS_KEY"]}]
    identities = [
        {"name": "tests", "credentials": credentials, "actions": actions},
        {"name": "reader", "credentials": reader, "actions": ["Read", "List"]},
    ]
    config.write_text(json.dumps({"identities": identities}))
    data = folder / "data"
    data.mkdir()
    with contextlib.ExitStack() as ports:
        names = [
            f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")
        ]
        given = {name: ports.enter_context(kept_port()) for name in names}
        options = [f"-{name}={port}" for name, port in given.items()]
        command = [
            *(str(S3_SERVER), "server", "-s3", f"-s3.config={config}", f"-dir={data}", "-ip=127.0.0.1"),
            *("-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=64", f"-volume.max={volumes}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", *options),
        ]
        server = S3Server(f"http://127.0.0.1:{given['s3.port']}", folder, command)
        try:
            server.start()
            yield server
        finally:
            if server.process is not None:
                server.kill()  # it takes half a minute to end where it is asked to
                _remove_sockets(given.values())
            shutil.rmtree(data, ignore_errors=True)


def _remove_sockets(ports: Iterable[int]) -> None:
    """Remove what a server that was killed leaves outside its folder: sockets that are named by its ports."""
    for port in ports:
        for path in SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
            path.unlink()


def _has_bucket(server: S3Server) -> bool:
    """Make the bucket, by the form of a request that any S3 server signs alike."""
    assert server.process is not None
    assert server.process.poll() is None
    made = subprocess.run(
        [
            *("curl", "-s", "-o", os.devnull, "-w", "%{http_code}", "-X", "PUT", "--max-time", "5"),
            *("--aws-sigv4", "aws:amz:us-east-1:s3", "-u", f"{KEY}:{SECRET}", f"{server.url}/{BUCKET}"),
        ],
        capture_output=True,
        check=False,
        text=True,
    )
    return made.stdout in ("200", "409")


class S3Proxy(TcpProxy):
    """A proxy before the S3 server."""

    def __init__(self, server: S3Server) -> None:
        super().__init__(server.port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"
