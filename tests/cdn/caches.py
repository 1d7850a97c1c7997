"""Caches and proxies in front of an origin: nginx, Varnish, Apache Traffic Server, Caddy, HAProxy.

The configurations are those of `deploy/`, of which `docs/caches.md` speaks; what only a test needs (a folder
of its own, no change of user, the foreground) is given here.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.certificates import self_signed
from tests.ports import kept_port
from tests.programs import program
from tests.waiting import wait_for

DEPLOY = Path(__file__).parents[2] / "deploy"
SLICE = 1 << 20
"""Bytes of a slice, in the configurations of nginx and Traffic Server."""

KEYS = "keys.map"
"""File in the folder of an HAProxy that checks tokens: a line of each key, with its secret in Base64."""

START_SECONDS = 240.0
STOP_SECONDS = 120.0

TRAFFIC_SERVER_MODULES = Path("/usr/lib/trafficserver/modules")
TRAFFIC_SERVER_TEST_RECORDS = """
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.crash_log_helper STRING NULL
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 2
CONFIG proxy.config.cache.ram_cache.size INT 33554432
CONFIG proxy.config.log.logging_enabled INT 0
"""
TRAFFIC_SERVER_ADMITTED = """
ip_allow:
  - apply: in
    ip_addrs: 127.0.0.0/8
    action: allow
    methods: ALL
"""
TRAFFIC_SERVER_LAYOUT = """
prefix: {folder}
exec_prefix: {folder}
bindir: /usr/bin
sbindir: /usr/bin
sysconfdir: {folder}/etc
datadir: {folder}/cache
includedir: {folder}
libdir: /usr/lib/trafficserver
libexecdir: /usr/lib/trafficserver/modules
localstatedir: {folder}/run
runtimedir: {folder}/run
logdir: {folder}/log
mandir: {folder}
infodir: {folder}
cachedir: {folder}/cache
"""


ERROR_LOG = "error_log stderr crit;"
"""The level of what nginx writes without addresses of requests."""


@dataclass(frozen=True)
class Cache:
    """A running cache.

    Attributes:
        kind: nginx, varnish, trafficserver, background for Traffic Server that fetches whole files, http2
            for an nginx that keeps nothing, with TLS, plain for one that only passes on, websocket for
            one that passes WebSockets on, too, signed for one that checks tokens, secure-link for one that
            checks links of its own, fleet for one before several nodes, caddy, haproxy, or caddy-tls,
            haproxy-tls and trafficserver-tls with TLS.
        address: Where it listens.
        log: What it wrote on its output, or its error log.
    """

    kind: str
    address: tuple[str, int]
    log: Path

    def fetches(self, size: int) -> int:
        """How many fetches a whole file of `size` bytes takes: Varnish's is one."""
        return 1 if self.kind == "varnish" else -(-size // SLICE)


@contextlib.contextmanager
def running(kind: str, origin: str, folder: Path) -> Iterator[Cache]:
    """Run a cache until the block ends.

    Args:
        kind: One of those that `Cache` names.
        origin: The origin's address as a URL without a slash at its end; a fleet's has several addresses
            with commas between. With the scheme h2c, Caddy and HAProxy speak HTTP/2 to it.
        folder: An empty folder for all that it writes, and the certificate of one with TLS.
    """
    with kept_port() as port:
        yield from _running(kind, origin, folder, port)


def _running(kind: str, origin: str, folder: Path, port: int) -> Iterator[Cache]:
    makers: dict[str, Callable[[str, int, Path], list[str]]] = {
        "nginx": _caching_nginx,
        "http2": _http2_nginx,
        "plain": _plain_nginx,
        "websocket": functools.partial(_plain_nginx, name="nginx/websocket.conf"),
        "signed": _signed_nginx,
        "secure-link": functools.partial(_signed_nginx, name="nginx/secure-link.conf"),
        "fleet": _fleet_nginx,
        "varnish": _varnish,
        "signed-varnish": functools.partial(_varnish, name="signed"),
        "trafficserver": _traffic_server,
        "trafficserver-tls": _encrypting_traffic_server,
        "background": functools.partial(_traffic_server, remap="background"),
        "caddy": _caddy,
        "caddy-tls": _encrypting_caddy,
        "haproxy": _haproxy,
        "haproxy-tls": _encrypting_haproxy,
        "signed-haproxy": _checking_haproxy,
    }
    command = makers[kind](origin.removeprefix("http://"), port, folder)
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for(lambda: _listens(process, port, log), f"{kind}'s start", START_SECONDS)
        yield Cache(kind, ("127.0.0.1", port), log)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _listens(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"ended with status {process.returncode}:\n{log.read_text('utf-8')}")
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _write(source: str, target: Path, **values: str) -> Path:
    """Write a configuration with its @NAMES@ replaced."""
    text = (DEPLOY / source).read_text("utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    target.write_text(text, "utf-8")
    return target


def _caching_nginx(origin: str, port: int, folder: Path) -> list[str]:
    path = program("nginx", "nginx")
    modules = subprocess.run([path, "-V"], capture_output=True, text=True, check=True, timeout=120).stderr
    if "http_slice_module" not in modules:
        pytest.skip("this nginx has no slice module (Debian: apt-get install nginx)")
    words = _nginx(path, folder, "nginx/cache.conf", ORIGIN=origin, PORT=str(port))
    # Tests look for what it says of slices, which only an administrator who looks for a fault has it say.
    config = folder / "nginx.conf"
    config.write_text(config.read_text("utf-8").replace(ERROR_LOG, "error_log stderr error;"), "utf-8")
    return words


def _http2_nginx(origin: str, port: int, folder: Path) -> list[str]:
    made = self_signed(folder)
    values = {"ORIGIN": origin, "PORT": str(port), "CHAIN": str(made.chain), "KEY": str(made.key)}
    return _nginx(program("nginx", "nginx"), folder, "nginx/http2.conf", **values)


def _plain_nginx(origin: str, port: int, folder: Path, name: str = "nginx/plain.conf") -> list[str]:
    values = {"ORIGIN": f"http://{origin}", "PORT": str(port)}
    return _nginx(program("nginx", "nginx"), folder, name, **values)


def _signed_nginx(origin: str, port: int, folder: Path, name: str = "nginx/signed.conf") -> list[str]:
    return _nginx(program("nginx", "nginx"), folder, name, ORIGIN=origin, PORT=str(port))


def _fleet_nginx(origin: str, port: int, folder: Path) -> list[str]:
    nodes = " ".join(f"server {address} max_fails=0;" for address in origin.split(","))
    path = program("nginx", "nginx")
    return _nginx(path, folder, "fleet/nginx.conf", NODES=nodes, PORT=f"127.0.0.1:{port}")


def _nginx(path: str, folder: Path, name: str, **values: str) -> list[str]:
    config = _write(name, folder / "nginx.conf", FOLDER=str(folder), **values)
    # One process: a worker of another user couldn't write into the test's folder.
    main = f"daemon off; master_process off; pid {folder}/nginx.pid;"
    return [path, "-c", str(config), "-p", str(folder), "-e", "stderr", "-g", main]


def _varnish(origin: str, port: int, folder: Path, name: str = "headwater") -> list[str]:
    path = program("varnishd", "varnish")
    host, _, origin_port = origin.rpartition(":")
    cache = _write("varnish/headwater.vcl", folder / "headwater.vcl", HOST=host, PORT=origin_port)
    config = _write(
        f"varnish/{name}.vcl", folder / f"{name}.vcl", HOST=host, PORT=origin_port, CACHE=str(cache)
    )
    # A client that stands still between its connection and its request isn't to be sent away.
    listen = ("-a", f"127.0.0.1:{port}", "-T", "none", "-p", "timeout_idle=120")
    return [path, "-F", "-j", "none", "-n", str(folder), *listen, "-s", "malloc,256M", "-f", str(config)]


def _caddy(origin: str, port: int, folder: Path, *names: str) -> list[str]:
    path = program("caddy", "caddy")
    # It keeps certificates in its home, and has an interface for administration on a fixed port.
    home = (f"HOME={folder}", f"XDG_DATA_HOME={folder}", f"XDG_CONFIG_HOME={folder}")
    options = "{\n\tadmin off\n\tauto_https disable_redirects\n\tdefault_bind 127.0.0.1\n}\n"
    config = folder / "Caddyfile"
    config.write_text(options + (DEPLOY / "caddy/Caddyfile").read_text("utf-8"), "utf-8")
    scheme, _, address = origin.rpartition("://")
    site = f"HEADWATER_SITE=http://stream.example:{port}"
    protocol = f"HEADWATER_PROTOCOL={scheme or 'http'}"
    words = [path, "run", "--adapter", "caddyfile", "--config", str(config)]
    return ["env", *home, site, protocol, f"HEADWATER_ORIGIN={address}", *names, *words]


def _encrypting_caddy(origin: str, port: int, folder: Path) -> list[str]:
    made = self_signed(folder)
    names = (f"HEADWATER_SITE=https://127.0.0.1:{port}", f"HEADWATER_TLS=tls {made.chain} {made.key}")
    return _caddy(origin, port, folder, *names)


def _haproxy(origin: str, port: int, folder: Path, *names: str) -> list[str]:
    path = program("haproxy", "haproxy")
    scheme, _, address = origin.rpartition("://")
    bind = f"HEADWATER_BIND=127.0.0.1:{port}"
    protocol = ["HEADWATER_PROTOCOL=h2"] if scheme == "h2c" else []
    words = [path, "-db", "-f", str(DEPLOY / "haproxy/haproxy.cfg")]
    return ["env", bind, f"HEADWATER_ORIGIN={address}", *protocol, *names, *words]


def _encrypting_haproxy(origin: str, port: int, folder: Path) -> list[str]:
    made = self_signed(folder)
    together = folder / "stream.pem"
    together.write_bytes(made.chain.read_bytes() + made.key.read_bytes())
    return _haproxy(origin, port, folder, f"HEADWATER_CERTIFICATE={together}")


def _checking_haproxy(origin: str, port: int, folder: Path) -> list[str]:
    return _haproxy(origin, port, folder, f"HEADWATER_KEYS={folder / KEYS}")


def _traffic_server(origin: str, port: int, folder: Path, remap: str = "remap") -> list[str]:
    path = program("traffic_server", "trafficserver")
    if not (TRAFFIC_SERVER_MODULES / "slice.so").exists():
        pytest.skip("slice.so isn't installed (Debian: apt-get install trafficserver-experimental-plugins)")
    for name in ("etc", "cache", "run", "log"):
        (folder / name).mkdir()
    config = folder / "etc"
    records = _write("trafficserver/records.config", config / "records.config", PORT=str(port))
    records.write_text(records.read_text("utf-8") + TRAFFIC_SERVER_TEST_RECORDS, "utf-8")
    admin = _write("trafficserver/admin.config", config / "admin.config")
    _write(f"trafficserver/{remap}.config", config / "remap.config", ORIGIN=origin, ADMIN=str(admin))
    (config / "storage.config").write_text(f"{folder}/cache 256M\n", "utf-8")
    (config / "ip_allow.yaml").write_text(TRAFFIC_SERVER_ADMITTED, "utf-8")
    (folder / "runroot.yaml").write_text(TRAFFIC_SERVER_LAYOUT.format(folder=folder), "utf-8")
    return [path, f"--run-root={folder}"]


def _encrypting_traffic_server(origin: str, port: int, folder: Path) -> list[str]:
    words = _traffic_server(origin, port, folder)
    made = self_signed(folder)
    records = folder / "etc" / "records.config"
    records.write_text(records.read_text("utf-8").replace(f" {port}:", f" {port}:ssl:"), "utf-8")
    values = {"CHAIN": str(made.chain), "KEY": str(made.key)}
    _write("trafficserver/ssl_multicert.config", folder / "etc" / "ssl_multicert.config", **values)
    return words
