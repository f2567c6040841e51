"""Manifests for Kubernetes on the pages: those of the recipe fit together, and the probe asks where the app answers."""

import yaml

from tests.documents.pages import PAGES, blocks_of

MONITOR, DEPLOYMENT = (yaml.safe_load(text) for text in blocks_of(PAGES["docs/recipes/kubernetes.md"], "yaml"))
POD = DEPLOYMENT["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]


def test_the_monitor_selects_the_pods_of_the_deployment() -> None:
    assert (MONITOR["apiVersion"], MONITOR["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    chosen = MONITOR["spec"]["selector"]["matchLabels"]
    assert chosen.items() <= POD["metadata"]["labels"].items()
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"].items() <= POD["metadata"]["labels"].items()


def test_the_monitor_scrapes_the_named_port_on_which_the_app_listens() -> None:
    (endpoint,) = MONITOR["spec"]["podMetricsEndpoints"]
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports[endpoint["port"]] == 8000  # uvicorn's own default
    assert endpoint["path"] == "/metrics"
    assert "--port" not in CONTAINER["args"]


def test_the_workers_share_a_directory_that_is_mounted() -> None:
    (variable,) = CONTAINER["env"]
    assert variable["name"] == "PROMETHEUS_MULTIPROC_DIR"
    (mount,) = CONTAINER["volumeMounts"]
    assert variable["value"] == mount["mountPath"]
    (volume,) = POD["spec"]["volumes"]
    assert "emptyDir" in volume
    assert volume["name"] == mount["name"]
    assert "--workers" in CONTAINER["args"]


def test_the_probe_asks_for_the_path_that_the_page_gives_the_app() -> None:
    page = PAGES["docs/production.md"]
    (probe,) = (yaml.safe_load(text)["readinessProbe"] for text in blocks_of(page, "yaml"))
    assert probe["httpGet"] == {"path": "/readyz", "port": 8000}
    assert 'readiness_path="/readyz"' in page
