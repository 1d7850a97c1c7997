"""``headwater doctor`` as an operator runs it, on machines where something is wrong."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from origin.cli.diagnosis import Verdict
from origin.cli.doctor import _data
from origin.config.options import Config, ServerOptions
from origin.tls.self_signed import make_certificate
from tests.conftest import start_server
from tests.fork_server import run_headwater

TCP_ULP = 31
"""linux/tcp.h."""

LINE = re.compile(r"(ok   |note |FAULT) ([a-z][\w. ]*): (\S.*)")
SUBJECTS = (
    "ffmpeg",
    "encoders",
    "films",
    "sandbox of ffmpeg",
    "descriptors",
    "server.port",
    "clock",
    "library",
    "proxies",
)


def found(text: str) -> dict[str, tuple[str, str]]:
    """Read the lines: verdict and text by subject, of several the last."""
    matches = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(matches), text
    return {match[2]: (match[1].strip(), match[3]) for match in matches if match is not None}


def configured(folder: Path, text: str) -> Path:
    (folder / "library").mkdir(exist_ok=True)
    config = folder / "headwater.toml"
    config.write_text(text)
    config.chmod(0o600)
    return config


def test_a_machine_that_has_all_is_told_so_a_line_each(tmp_path: Path) -> None:
    configured(
        tmp_path, f'[server]\nport = 0\ndata = "{tmp_path}/data"\n[[live]]\nname = "a"\nsource = "testsrc"\n'
    )
    result = run_headwater("doctor", cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    lines = found(result.stdout)
    assert set(lines) >= {*SUBJECTS, "data folder"}
    assert lines["library"] == ("ok", "library can be read")
    assert not (tmp_path / "data").exists(), "it only looks"


@pytest.mark.promise("headwater doctor")
@pytest.mark.parametrize(
    ("text", "subject", "words"),
    [
        ('[library]\npath = "nowhere"\n[[events]]\nname = "a"\n', "library", "library.path"),
        ('[server]\ndata = "headwater.toml/data"\n', "data folder", "give it to the user"),
        ('[server]\ntrusted_proxies = ["0.0.0.0/0"]\n', "proxies", "the proxies' own addresses"),
    ],
)
def test_what_cannot_work_is_a_fault_with_what_to_do(
    tmp_path: Path, text: str, subject: str, words: str
) -> None:
    configured(tmp_path, text)
    result = run_headwater("doctor", cwd=tmp_path, env={"HEADWATER_SERVER_PORT": "0"})
    verdict, told = found(result.stdout)[subject]
    assert (result.returncode, verdict) == (1, "FAULT")
    assert words in told


@pytest.mark.parametrize(
    ("days", "verdict", "words"),
    [
        (100, "ok", "valid for 9"),
        (5, "note", "renew it"),
        (0.5, "FAULT", "renew it"),
        (None, "FAULT", "No such file"),
    ],
)
def test_a_certificate_that_ends_soon_is_told(
    tmp_path: Path, days: float | None, verdict: str, words: str
) -> None:
    configured(tmp_path, '[tls]\nport = 0\ncertificate = "cert.pem"\n')
    if days is not None:
        (tmp_path / "cert.pem").write_bytes(make_certificate(["a.example"], days))
    result = run_headwater("doctor", cwd=tmp_path, env={"HEADWATER_SERVER_PORT": "0"})
    told = found(result.stdout)["tls.certificate"]
    assert (result.returncode, told[0]) == (int(verdict == "FAULT"), verdict)
    assert words in told[1]
    protocols = Path("/proc/sys/net/ipv4/tcp_available_ulp").read_text().split()
    kernel = "offers to do it, which isn't used" if "tls" in protocols else "offers no TLS"
    assert found(result.stdout)["tls"] == ("ok", f"the server encrypts by itself; the kernel {kernel}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_kernels_tls_is_named_where_the_server_encrypts(tmp_path: Path) -> None:
    configured(tmp_path, '[server]\nport = 0\n[tls]\ncertificate = "self-signed"\nport = 0\n')
    verdict, text = found(run_headwater("doctor", cwd=tmp_path).stdout)["tls"]
    offered = "offers to do it, which isn't used" if kernel_has_tls() else "offers no TLS"
    assert (verdict, text) == ("ok", f"the server encrypts by itself; the kernel {offered}")
    configured(tmp_path, "[server]\nport = 0\n")
    assert "tls" not in found(run_headwater("doctor", cwd=tmp_path).stdout)


def kernel_has_tls() -> bool:
    """Return whether the kernel takes its TLS for a connection (TCP_ULP, tls(7) of the kernel's manual)."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
    ):
        try:
            client.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        except OSError:
            return False
    return True


def test_a_data_folder_in_a_folder_that_is_closed_to_this_user_is_a_fault(tmp_path: Path) -> None:
    """`/root/data`, say: whoever may not search the folder above can't even ask whether it is there."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    config = Config(server=ServerOptions(data=str(closed / "headwater" / "data")))
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            found = list(_data(config))
            os._exit(0 if [one.verdict for one in found] == [Verdict.FAULT] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_channel_without_ffmpeg_is_a_fault_and_files_alone_are_not(tmp_path: Path) -> None:
    lacking = {"FFMPEG": "/nowhere/ffmpeg", "FFPROBE": "/nowhere/ffprobe", "HEADWATER_SERVER_PORT": "0"}
    configured(tmp_path, "")
    alone = run_headwater("doctor", cwd=tmp_path, env=lacking)
    assert (alone.returncode, found(alone.stdout)["ffmpeg"][0]) == (0, "note")
    configured(tmp_path, '[[live]]\nname = "a"\nsource = "testsrc"\n')
    needed = run_headwater("doctor", cwd=tmp_path, env=lacking)
    assert (needed.returncode, found(needed.stdout)["ffmpeg"][0]) == (1, "FAULT")
    assert "install ffmpeg" in needed.stdout


def test_a_port_that_another_program_has_is_a_fault_but_not_one_that_a_headwater_has(tmp_path: Path) -> None:
    configured(tmp_path, "")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        # It takes connections and says nothing: the look at it ends all the same.
        port = str(other.getsockname()[1])
        ports = {"HEADWATER_SERVER_PORT": port, "HEADWATER_GRPC_PORT": port}
        result = run_headwater("doctor", cwd=tmp_path, env=ports)
    assert (result.returncode, found(result.stdout)["server.port"][0]) == (1, "FAULT")
    assert found(result.stdout)["grpc.port"][0] == "FAULT"
    assert "Address already in use" in result.stdout
    server = start_server("--library", str(tmp_path / "library"), "--port", "0")
    try:
        port = server.url.rpartition(":")[2].rstrip("/")
        result = run_headwater("doctor", cwd=tmp_path, env={"HEADWATER_SERVER_PORT": port})
    finally:
        assert server.stop() == 0
    assert (result.returncode, found(result.stdout)["server.port"][0]) == (0, "ok")


@pytest.mark.clause("CWE-732")
def test_secrets_that_all_can_read_are_named_and_not_shown(tmp_path: Path) -> None:
    config = configured(tmp_path, '[server]\nport = 0\nadmin_token = "c4nary1x"\n')
    config.chmod(0o644)
    result = run_headwater("doctor", "--config", str(config), cwd=tmp_path)
    assert result.returncode == 0
    assert f"chmod 600 {config}" in found(result.stdout)["configuration"][1]
    assert "c4nary1x" not in result.stdout + result.stderr


def test_a_wrong_configuration_is_wrong_use(tmp_path: Path) -> None:
    configured(tmp_path, '[[live]]\nname = "a"\nsource = "/nope.mp4"\n')
    result = run_headwater("doctor", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "'/nope.mp4' isn't there" in result.stderr


@pytest.mark.promise("library.encoder")
def test_the_configured_encoder_alone_is_tried(tmp_path: Path) -> None:
    for encoder, is_told in (("vaapi", True), ("software", False)):
        configured(tmp_path, f'[server]\nport = 0\n[library]\npath = "library"\nencoder = "{encoder}"\n')
        lines = found(run_headwater("doctor", cwd=tmp_path).stdout)
        assert ("encoder vaapi" in lines) == is_told
        assert "encoder qsv" not in lines
