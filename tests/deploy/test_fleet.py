"""Several nodes as `deploy/` has them: what compose and Kubernetes start, and nginx in front of them."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.cdn.caches import DEPLOY, Cache, running
from tests.fork_server import HEADWATER
from tests.ports import kept_port

COMMAND_SECONDS = 240
KUBERNETES = "1.31"
"""A release whose schemas the manifests are held to; they use nothing newer."""


class Nodes:
    """Servers that tell which one was asked, and answer 503 while they aren't to be ready.

    Attributes:
        unready: the ports of those.
        asked: how often each port was asked by a method.
    """

    def __init__(self) -> None:
        self.unready = set[int]()
        self.asked = Counter[tuple[str, int]]()

    @contextlib.contextmanager
    def running(self, count: int) -> Iterator[list[int]]:
        """Run so many, and give their ports."""
        with contextlib.ExitStack() as stack:
            ports = []
            for _ in range(count):
                server = stack.enter_context(
                    http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
                )
                thread = threading.Thread(target=server.serve_forever)
                thread.start()
                stack.callback(thread.join)
                stack.callback(server.shutdown)
                ports.append(server.server_address[1])
            yield ports

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        nodes = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                assert isinstance(self.server, http.server.HTTPServer)
                port = self.server.server_port
                nodes.asked[self.command, port] += 1
                body = str(port).encode()
                is_refused = port in nodes.unready or self.path.startswith("/live/still/")
                self.send_response(503 if is_refused else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815  # http.server's names

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


def ask(proxy: Cache, method: str, channel: str = "studio") -> tuple[int, str]:
    with contextlib.closing(http.client.HTTPConnection(*proxy.address, timeout=COMMAND_SECONDS)) as client:
        client.request(method, f"/live/{channel}/master.m3u8")
        answer = client.getresponse()
        return answer.status, answer.read().decode()


def test_any_node_is_asked_and_another_where_one_is_gone_or_not_ready(tmp_path: Path) -> None:
    nodes = Nodes()
    with nodes.running(2) as (first, second), kept_port() as nobodys:
        addresses = ",".join(f"127.0.0.1:{port}" for port in (first, second, nobodys))
        with running("fleet", f"http://{addresses}", tmp_path) as proxy:
            told = Counter(ask(proxy, "GET") for _ in range(30))
            assert set(told) == {(200, str(first)), (200, str(second))}
            nodes.unready.add(first)
            assert {ask(proxy, "GET") for _ in range(10)} == {(200, str(second))}
            # RFC 9110 §9.2.2: what may have changed something isn't asked for again.
            nodes.unready.add(second)
            before = nodes.asked.copy()
            assert ask(proxy, "POST")[0] in (502, 503)
            assert sum((nodes.asked - before).values()) <= 1


def test_a_channel_that_stands_still_everywhere_costs_no_other_a_node(tmp_path: Path) -> None:
    with Nodes().running(2) as (first, second):
        addresses = f"127.0.0.1:{first},127.0.0.1:{second}"
        with running("fleet", f"http://{addresses}", tmp_path) as proxy:
            for _ in range(5):
                assert ask(proxy, "GET", "still")[0] == 503
                assert ask(proxy, "GET")[0] == 200


def manifests() -> list[dict[str, Any]]:
    text = (DEPLOY / "kubernetes/headwater.yaml").read_text("utf-8")
    return [document for document in yaml.safe_load_all(text) if document]


def named(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in documents if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("document", manifests(), ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_a_manifest_is_what_kubernetes_takes(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_the_metrics_to_scale_by_are_made_of_those_that_a_server_has() -> None:
    rules = yaml.safe_load((DEPLOY / "kubernetes/prometheus-adapter.yaml").read_text("utf-8"))
    made = set[str]()
    for rule in rules["rules"]["custom"]:
        series = rule["seriesQuery"].partition("{")[0]
        assert series in ("headwater_sent_bytes_total", "headwater_connections")
        renaming = rule.get("name", {"matches": "$", "as": ""})
        made.add(re.sub(renaming["matches"], renaming["as"].replace("${1}", r"\1"), series, count=1))
    (scaler,) = (one for one in manifests() if one["kind"] == "HorizontalPodAutoscaler")
    metrics = (one for one in scaler["spec"]["metrics"] if one["type"] == "Pods")
    assert made == {one["pods"]["metric"]["name"] for one in metrics}


def checked(folder: Path, config: str, environment: dict[str, str]) -> str:
    """Give a configuration as the server understands it in the environment of a node."""
    file = folder / "headwater.toml"
    file.write_text(config, "utf-8")
    done = subprocess.run(
        [HEADWATER, "serve", "--config", str(file), "--print-config"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("kind", "role"), [("StatefulSet", "packager"), ("Deployment", "edge")], ids=["packager", "edge"]
)
def test_what_a_pod_starts_reads_its_configuration_and_is_probed_where_it_answers(
    tmp_path: Path, kind: str, role: str
) -> None:
    documents = manifests()
    pod = named(documents, kind, f"headwater-{role}")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == ["serve", "--config", "/etc/headwater/headwater.toml"]
    config = named(documents, "ConfigMap", "headwater")["data"]["headwater.toml"]
    printed = checked(tmp_path, config, {one["name"]: one["value"] for one in container["env"]})
    assert f'role = "{role}"' in printed
    drain, shutdown = (
        float(value) for value in re.findall(r"(?:drain|shutdown)_seconds = ([0-9.]+)", printed)
    )
    assert pod["terminationGracePeriodSeconds"] > drain + shutdown
    probe = container["readinessProbe"]
    assert probe["httpGet"]["path"] == "/health"
    assert drain > probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert container["securityContext"]["readOnlyRootFilesystem"]


@pytest.mark.parametrize("name", ["packager", "standby", "edge1", "edge2"])
def test_what_compose_starts_reads_its_configuration(tmp_path: Path, name: str) -> None:
    compose = yaml.safe_load((DEPLOY / "fleet/compose.yml").read_text("utf-8"))
    service = compose["services"][name]
    assert set(service["depends_on"]) <= set(compose["services"])
    # Compose puts values of its own environment in place of these.
    environment = {
        key: re.sub(r"^\$\{\w+:\?.*\}$", "a", value) for key, value in service["environment"].items()
    }
    printed = checked(tmp_path, '[[live]]\nname = "studio"\nsource = "publish"\n', environment)
    assert f'role = "{"edge" if name.startswith("edge") else "packager"}"' in printed
    drain, shutdown = (
        float(value) for value in re.findall(r"(?:drain|shutdown)_seconds = ([0-9.]+)", printed)
    )
    assert float(service["stop_grace_period"].removesuffix("s")) > drain + shutdown
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
