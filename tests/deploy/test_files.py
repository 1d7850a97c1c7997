"""Files of `deploy/` that can't be run here, judged by their own tools and held to what the server has."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import yaml
from prometheus_client.exposition import generate_latest

from origin.config.options import Config, LibraryOptions
from origin.server.endpoints.metrics import ServicesCollector, exposition
from origin.server.services.services import Services
from tests.conftest import start_server
from tests.patience import CLIENT_SECONDS
from tests.programs import program

DEPLOY = Path(__file__).parents[2] / "deploy"
TOOL_SECONDS = 240
MOST_EXPOSED = 2.5
"""By systemd's own measure, of 10; below 3 it calls a service OK."""

WATCHED = ("grafana/headwater.json", "prometheus/headwater.rules.yml")


def told(*command: str, cwd: Path = DEPLOY) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


async def scraped(folder: Path) -> set[str]:
    """Every name of a sample that `/metrics` can have, of a server that has nothing yet."""
    services = await asyncio.to_thread(Services, Config(library=LibraryOptions(path=str(folder))), None)
    text = (await exposition(ServicesCollector(services))).decode()
    # What is about the process is read from files, which blocks; in a server that is hardly any time.
    text += (await asyncio.to_thread(generate_latest, services.registry)).decode()
    names = set[str]()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return names


@pytest.mark.parametrize("name", WATCHED)
async def test_every_metric_that_is_watched_is_one_that_the_server_has(tmp_path: Path, name: str) -> None:
    text = await asyncio.to_thread((DEPLOY / name).read_text, "utf-8")
    used = set(re.findall(r"\b(?:headwater|process)_[a-z_]+\b", text))
    assert len(used) > 5
    assert used - await scraped(tmp_path) == set()


def test_every_panel_of_the_dashboard_asks_for_something_and_none_covers_another() -> None:
    dashboard = json.loads((DEPLOY / "grafana/headwater.json").read_text("utf-8"))
    taken = set[tuple[int, int]]()
    for panel in dashboard["panels"]:
        assert all(target["expr"].strip() for target in panel["targets"]), panel["title"]
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert max(columns) < 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_each_alert_fires_on_what_it_is_for_and_on_nothing_else() -> None:
    folder = DEPLOY / "prometheus"
    promtool = program("promtool", "prometheus")
    told(promtool, "check", "config", "prometheus.yml", cwd=folder)
    told(promtool, "test", "rules", "headwater.rules.test.yml", cwd=folder)
    alerts = set(re.findall(r"alert: (\w+)", (folder / "headwater.rules.yml").read_text("utf-8")))
    tests = (folder / "headwater.rules.test.yml").read_text("utf-8")
    fired = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n", tests))
    quiet = set(re.findall(r"alertname: (\w+)\n +exp_alerts: \[\]", tests))
    assert alerts == fired == quiet


def test_systemd_takes_the_units_and_finds_little_that_they_expose(tmp_path: Path) -> None:
    analyze = program("systemd-analyze", "systemd")
    shutil.copy(DEPLOY / "systemd/headwater.socket", tmp_path)
    # Only a program that is there can be verified.
    installed = Path(sys.executable).with_name("headwater")
    text = (DEPLOY / "systemd/headwater.service").read_text("utf-8")
    unit = tmp_path / "headwater.service"
    unit.write_text(text.replace("/opt/headwater/.venv/bin/headwater", str(installed)), "utf-8")
    assert str(installed) in unit.read_text("utf-8")
    said = told(analyze, "verify", "./headwater.service", "./headwater.socket", cwd=tmp_path)
    assert "headwater." not in said, said
    if "--offline" not in told(analyze, "--help", cwd=tmp_path):
        pytest.skip("this systemd judges no files, only units that run")
    exposure = told(analyze, "--no-pager", "security", "--offline=true", str(unit), cwd=tmp_path)
    (level,) = re.findall(r"Overall exposure level.*: ([0-9.]+)", exposure)
    assert float(level) < MOST_EXPOSED


def test_the_container_has_no_rights_and_nothing_to_write_but_its_data() -> None:
    image = (DEPLOY / "docker/Dockerfile").read_text("utf-8")
    stage = image.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", stage, re.MULTILINE)
    assert re.findall(r"^VOLUME (.+)$", stage, re.MULTILINE) == ["/data"]
    pinned = re.findall(
        r"^UV_VERSION := (\S+)$", (DEPLOY.parent / "Makefile").read_text("utf-8"), re.MULTILINE
    )
    assert re.findall(r"uv==(\S+)", image) == pinned
    compose = (DEPLOY / "docker/compose.yml").read_text("utf-8")
    service = compose_service(compose)
    assert service["read_only"] is True
    assert service["user"] == "10001:10001"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    # The first version of the command knows less of the file's format.
    if shutil.which("docker-compose") and not told("docker-compose", "version", "--short").startswith("1."):
        told("docker-compose", "--file", "docker/compose.yml", "config", "--quiet")


def compose_service(text: str, **variables: str) -> dict[str, Any]:
    """Read the service of a compose file with these variables, as Docker does (Compose specification, 12)."""
    filled = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1], found[2]), text)
    assert "$" not in filled
    (service,) = yaml.safe_load(filled)["services"].values()
    return cast(dict[str, Any], service)


def test_one_word_opens_the_container_to_the_local_network_and_another_one_is_its_user() -> None:
    compose = (DEPLOY / "docker/compose.yml").read_text("utf-8")
    closed = compose_service(compose)
    ports = "8000", closed["environment"]["HEADWATER_SERVER_RTMP_PORT"]
    assert closed["ports"] == [f"127.0.0.1:{port}:{port}" for port in ports]
    opened = compose_service(compose, LISTEN="0.0.0.0", PUID="1000", PGID="1001")  # what is tried
    assert opened["ports"] == [f"0.0.0.0:{port}:{port}" for port in ports]
    assert opened["user"] == "1000:1001"
    image = (DEPLOY / "docker/Dockerfile").read_text("utf-8")
    assert re.search(r"--mode 1777 /data\b", image)
    assert "devices" not in closed
    encoding = compose_service(re.sub(r"# (devices|group_add):", r"\1:", compose))
    assert (encoding["devices"], len(encoding["group_add"])) == (["/dev/dri:/dev/dri"], 1)


def test_without_a_configuration_the_container_has_an_empty_one_and_no_folder_in_its_place(
    tmp_path: Path,
) -> None:
    compose = (DEPLOY / "docker/compose.yml").read_text("utf-8")
    (mount,) = [one for one in compose_service(compose)["volumes"] if isinstance(one, dict)]
    assert mount["bind"] == {"create_host_path": False}
    assert mount["target"] in compose_service(compose)["command"]
    with start_server("--config", mount["source"], "--port", "0", "--library", str(tmp_path)) as server:
        assert httpx.get(f"{server.url}/health", timeout=CLIENT_SECONDS).status_code == 200
