"""The manifests: that they fit each other and the server (tests/deploy/linters.py reads them by the schemas)."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from fastserve.settings import Settings
from fastserve.supervisor.cpus import WORKER_MEMORY_BYTES

from .commands import DEPLOY, PROJECT, Reader, stop_s
from .dockerfiles import stages

MANIFESTS: dict[str, dict[str, Any]] = {
    each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes" / "app.yaml").read_text())
}
SPEC: dict[str, dict[str, Any]] = {kind: each["spec"] for kind, each in MANIFESTS.items()}
POD: dict[str, Any] = SPEC["Deployment"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
PROBES = {name: CONTAINER[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}


@pytest.fixture
def settings(read: Reader) -> Settings:
    return read.settings(CONTAINER["args"])


def test_the_selectors_find_the_pods() -> None:
    labels = SPEC["Deployment"]["template"]["metadata"]["labels"]
    assert SPEC["Deployment"]["selector"]["matchLabels"] == labels
    assert SPEC["PodDisruptionBudget"]["selector"]["matchLabels"] == labels
    assert SPEC["Service"]["selector"] == labels


def test_the_autoscaler_decides_how_many_there_are() -> None:
    target = SPEC["HorizontalPodAutoscaler"]["scaleTargetRef"]
    deployment = MANIFESTS["Deployment"]
    assert target == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in SPEC["Deployment"]  # each `kubectl apply` would undo what it has done
    assert SPEC["PodDisruptionBudget"]["maxUnavailable"] < SPEC["HorizontalPodAutoscaler"]["minReplicas"]
    assert CONTAINER["resources"]["requests"]["cpu"]  # a utilisation is of what is requested


def test_the_container_listens_where_the_service_and_the_probes_look(settings: Settings) -> None:
    (port,) = CONTAINER["ports"]
    assert port["containerPort"] == settings.bind.port
    assert settings.bind.host == "0.0.0.0"
    assert [each["targetPort"] for each in SPEC["Service"]["ports"]] == [port["name"]]
    for probe in PROBES.values():
        assert probe.get("httpGet", probe.get("tcpSocket"))["port"] == port["name"]


def test_the_probes_ask_for_what_the_server_answers_by_itself(settings: Settings) -> None:
    for name in ("startup", "readiness"):
        assert PROBES[name]["httpGet"]["path"] == settings.status.ready_path
    # A server that drains says 503 there, and must not be killed for it.
    assert "httpGet" not in PROBES["liveness"]


def test_kubernetes_waits_longer_than_the_server_takes_to_stop(settings: Settings) -> None:
    assert POD["terminationGracePeriodSeconds"] >= stop_s(settings) + 5
    assert "lifecycle" not in CONTAINER  # no preStop that sleeps: --drain-delay


def test_a_pod_is_known_not_to_be_ready_while_it_drains(settings: Settings) -> None:
    probe = PROBES["readiness"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < settings.timeouts.drain_delay_s


def test_an_update_takes_no_pod_away_before_its_successor_is_ready() -> None:
    assert SPEC["Deployment"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_clients_with_old_connections_come_to_new_pods(settings: Settings) -> None:
    assert settings.connections.age_s


def test_the_limits_are_for_whole_workers(settings: Settings) -> None:
    limits = CONTAINER["resources"]["limits"]
    assert settings.processes.workers == "auto"
    assert int(limits["memory"].removesuffix("Mi")) * 2**20 >= int(limits["cpu"]) * WORKER_MEMORY_BYTES


def test_the_user_is_that_of_the_image() -> None:
    user = stages((PROJECT / "docs" / "deploy" / "docker" / "Dockerfile").read_text())[-1].last("USER")
    assert user is not None
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert str(POD["securityContext"]["runAsUser"]) == user.value


def test_what_is_read_only_has_a_folder_for_temporary_files() -> None:
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"] is True
    assert [each["mountPath"] for each in CONTAINER["volumeMounts"]] == ["/tmp"]
    assert [each["name"] for each in CONTAINER["volumeMounts"]] == [each["name"] for each in POD["volumes"]]


def test_the_variables_of_services_do_not_become_options() -> None:
    assert POD["enableServiceLinks"] is False
