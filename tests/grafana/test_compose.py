"""The compose file, the Dockerfile and the configuration they mount, judged by the programs that read them."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.grafana.expressions import ROOT, dashboards
from tests.grafana.programs import prometheus_program

GRAFANA = ROOT / "grafana"
BIN = Path(sys.executable).parent


def _passes(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file as Compose itself resolves it."""
    return dict(json.loads(_passes(BIN / "docker-compose", "-f", "docker-compose.yml", "config", "--format", "json")))


def test_compose_refuses_a_misspelt_key(tmp_path: Path) -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8").replace("healthcheck:", "healthchek:", 1)
    (tmp_path / "docker-compose.yml").write_text(text)
    with pytest.raises(AssertionError, match="healthchek"):
        _passes(BIN / "docker-compose", "-f", tmp_path / "docker-compose.yml", "config", "-q")


def test_every_part_of_the_stack_is_there_with_a_pinned_version_and_a_health_check(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"postgres", "app", "load", "postgres-exporter", "prometheus", "alertmanager", "grafana"}
    for name, service in services.items():
        assert "build" in service or re.search(r":v?\d+\.\d+(\.\d+)?$", service["image"]), name
        assert "healthcheck" in service or name == "load"


def test_services_start_when_what_they_need_is_healthy(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy", f"{name} needs {needed}"


def test_ports_are_open_on_loopback_only(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for port in service.get("ports", ()):
            assert port["host_ip"] == "127.0.0.1", name


def test_what_is_mounted_exists(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for mount in service.get("volumes", ()):
            assert mount["type"] == "volume" or Path(mount["source"]).is_dir(), mount


def test_anonymous_readers_can_view_and_nobody_can_log_in(compose: dict[str, Any]) -> None:
    environment = compose["services"]["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    home = Path(environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (GRAFANA / "dashboards" / home.name).is_file()


def test_hadolint_finds_nothing_to_say_about_the_dockerfile() -> None:
    _passes(BIN / "hadolint", "Dockerfile")


def test_the_image_gets_what_the_dockerfile_copies() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert {name for line in copied for name in line.split()} == allowed


def test_prometheus_and_alertmanager_accept_their_configuration() -> None:
    _passes(prometheus_program("promtool"), "check", "config", "--lint=all", GRAFANA / "prometheus" / "prometheus.yml")
    _passes(prometheus_program("amtool"), "check-config", GRAFANA / "alertmanager" / "alertmanager.yml")


@pytest.mark.parametrize(
    ("alert", "receiver"),
    [
        ("severity=critical", "page"),
        ("severity=warning", "tickets"),
        ("severity=info", "nobody"),
    ],
)
def test_only_critical_alerts_page(alert: str, receiver: str) -> None:
    configuration = f"--config.file={GRAFANA / 'alertmanager' / 'alertmanager.yml'}"
    assert _passes(prometheus_program("amtool"), "config", "routes", "test", configuration, alert).strip() == receiver


def test_grafana_is_provisioned_with_the_data_source_and_every_dashboard(compose: dict[str, Any]) -> None:
    mounts = {mount["target"]: mount["source"] for mount in compose["services"]["grafana"]["volumes"]}
    provisioning = Path(mounts["/etc/grafana/provisioning"])
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text("utf-8"))["datasources"]
    assert source["type"] == "prometheus"
    assert source["isDefault"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "dbwatch.yml").read_text("utf-8"))["providers"]
    provided = Path(mounts[provider["options"]["path"]])
    assert {json.loads(path.read_text("utf-8"))["uid"] for path in provided.glob("*.json")} == set(dashboards())


def test_grafana_knows_how_often_prometheus_scrapes() -> None:
    source = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text("utf-8"))
    prometheus = yaml.safe_load((GRAFANA / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert source["datasources"][0]["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]


#: https://grafana.com/docs/grafana/latest/administration/provisioning/
_DATA_SOURCE_KEYS = {
    *("name", "type", "access", "orgId", "uid", "url", "user", "database", "basicAuth", "basicAuthUser"),
    *("withCredentials", "isDefault", "jsonData", "secureJsonData", "version", "editable"),
}
_PROVIDER_KEYS = {
    *("name", "orgId", "folder", "folderUid", "type", "disableDeletion", "updateIntervalSeconds", "allowUiUpdates"),
    "options",
}


def test_the_provisioning_files_have_the_documented_keys_only() -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text("utf-8"))
    providers = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "dbwatch.yml").read_text("utf-8"))
    assert sources["apiVersion"] == providers["apiVersion"] == 1
    assert set(sources) == {"apiVersion", "datasources"}
    assert set(providers) == {"apiVersion", "providers"}
    for source in sources["datasources"]:
        assert set(source) <= _DATA_SOURCE_KEYS
    for provider in providers["providers"]:
        assert set(provider) <= _PROVIDER_KEYS
        assert set(provider["options"]) <= {"path", "foldersFromFilesStructure"}
