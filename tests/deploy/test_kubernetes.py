"""The overlays, built as `kubectl apply -k` builds them, against the cluster's own schemas."""

import json
import os
import re
import subprocess
import sys
from base64 import b64decode
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from flashsale.settings import Settings
from flashsale.stopping import API_STOP_S, WORKER_STOP_S
from tests.deploy.files import (
    KUBERNETES,
    OVERLAYS,
    PRODUCTION,
    ROOT,
    Manifest,
    accepted,
    built,
    containers,
    manifests,
    ours,
    pods,
    run,
    the,
    tool,
)

KUBERNETES_VERSION = "1.34"
CUSTOM = {"ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PrometheusRule"}
CRDS = Path(sys.prefix) / "crds"
"""Where the Makefile puts requirements/crds.txt."""
VALIDATE_CUSTOM = """
import json, sys
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as monitoring

KINDS = {
    ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
    ("keda.sh/v1alpha1", "TriggerAuthentication"): keda.TriggerAuthentication,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): monitoring.ServiceMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): monitoring.PrometheusRule,
}


def lost(given, kept, path=""):
    # The models read past what they do not know: what does not come out again was unknown.
    if isinstance(given, dict):
        for name, value in given.items():
            if not isinstance(kept, dict) or name not in kept:
                yield f"{path}.{name}"
            else:
                yield from lost(value, kept[name], f"{path}.{name}")
    elif isinstance(given, list):
        for number, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{path}[{number}]")


for one in json.load(sys.stdin):
    kind = KINDS[one["apiVersion"], one["kind"]]
    kept = kind.model_validate(one).model_dump(mode="json", by_alias=True, exclude_unset=True)
    if unknown := list(lost(one, kept)):
        sys.exit(f"{one['kind']}: unknown {unknown}")
"""


def validated(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Ask kubernetes-validate, strictly: an unknown field is an error."""
    file = folder / "manifests.yaml"
    known = [one for one in yaml.safe_load_all(text) if one and one["kind"] not in CUSTOM]
    file.write_text(yaml.safe_dump_all(known))
    return run(tool("kubernetes-validate"), "--strict", "-k", KUBERNETES_VERSION, str(file))


def custom_validated(objects: list[Manifest]) -> subprocess.CompletedProcess[str]:
    """Ask the models of KEDA's and the Prometheus operator's resources, in a process apart."""
    assert CRDS.is_dir(), "make deploy-check installs requirements/crds.txt"
    return subprocess.run(
        [sys.executable, "-c", VALIDATE_CUSTOM],
        input=json.dumps(objects),
        env={**os.environ, "PYTHONPATH": str(CRDS)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_fits_the_cluster_s_schema(overlay: str, tmp_path: Path) -> None:
    """Strictly: an unknown field is an error."""
    done = validated(built(overlay), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_object_that_does_not_fit_is_found(tmp_path: Path) -> None:
    """The check can fail."""
    broken = built("production-kafka").replace("terminationGracePeriodSeconds", "gracePeriod")
    assert validated(broken, tmp_path).returncode != 0


@pytest.mark.parametrize("overlay", PRODUCTION)
def test_custom_resources_fit_their_schemas(overlay: str) -> None:
    """KEDA's and the Prometheus operator's."""
    objects = [one for one in manifests(overlay) if one["kind"] in CUSTOM]
    assert {one["kind"] for one in objects} == CUSTOM
    done = custom_validated(objects)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "breaks",
    [
        lambda spec: spec.update(maxReplicaCountt=3),
        lambda spec: spec.update(maxReplicaCount="many"),
        lambda spec: spec.pop("scaleTargetRef"),
        lambda spec: spec["triggers"][0].pop("type"),
    ],
)
def test_a_custom_resource_that_does_not_fit_is_found(breaks: Any) -> None:
    """Unknown, wrong and missing fields."""
    scaled = json.loads(json.dumps(the("production-kafka", "ScaledObject", "flashsale-worker")))
    breaks(scaled["spec"])
    assert custom_validated([scaled]).returncode != 0


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_as_restricted_as_the_strictest_standard_asks(overlay: str) -> None:
    """Kubernetes's `restricted` pod security standard; ours also cannot write."""
    for name, pod in pods(overlay).items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        # A Service called flashsale-… would put FLASHSALE_… variables in, which are no settings.
        assert pod["enableServiceLinks"] is False, name
        for one in containers(pod):
            context = one["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            if name.startswith("flashsale-"):
                assert context["readOnlyRootFilesystem"] is True, name
            assert "memory" in one["resources"]["limits"], name
    [space] = [one for one in manifests(overlay) if one["kind"] == "Namespace"]
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("overlay", PRODUCTION)
def test_workers_are_never_more_than_partitions(overlay: str) -> None:
    """One more would stand idle: each partition has one active worker."""
    scaled = the(overlay, "ScaledObject", "flashsale-worker")["spec"]
    [given] = [
        one["data"]["FLASHSALE_PARTITIONS"]
        for one in manifests(overlay)
        if one["kind"] == "ConfigMap"
    ]
    assert scaled["maxReplicaCount"] == int(given) == Settings().partitions
    assert scaled["minReplicaCount"] >= 2
    assert scaled["scaleTargetRef"]["name"] == "flashsale-worker"


@pytest.mark.parametrize("overlay", PRODUCTION)
def test_workers_outlast_a_lull_as_apis_do(overlay: str) -> None:
    """KEDA's `cooldownPeriod` is for the way to zero; above it the behaviour of its HPA decides."""
    scaled = the(overlay, "ScaledObject", "flashsale-worker")["spec"]
    assert "cooldownPeriod" not in scaled
    behavior = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    apis = the(overlay, "HorizontalPodAutoscaler", "flashsale-api")["spec"]["behavior"]
    assert behavior["scaleDown"] == apis["scaleDown"]


def test_scaling_looks_at_the_engine_s_own_topics_and_groups() -> None:
    """By the settings' defaults."""
    settings = Settings()
    kafka = the("production-kafka", "ScaledObject", "flashsale-worker")["spec"]["triggers"]
    watched = {(one["metadata"]["topic"], one["metadata"]["consumerGroup"]) for one in kafka}
    assert watched == {
        (settings.accepted_topic, settings.accepted_group),
        (settings.requests_topic, settings.consumer_group),
    }
    [rabbit] = the("production-rabbitmq", "ScaledObject", "flashsale-worker")["spec"]["triggers"]
    queues = re.compile(rabbit["metadata"]["queueName"])
    assert queues.match(settings.requests_topic)
    assert queues.match(f"{settings.accepted_topic}.0")
    assert not queues.match(f"{settings.requests_topic}.dlq")
    assert not queues.match(settings.orders_topic)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_time_to_drain(overlay: str) -> None:
    """PreStop, then the longest stop that is documented, and some seconds in reserve."""
    for name, stop_s in (("flashsale-api", API_STOP_S), ("flashsale-worker", WORKER_STOP_S)):
        pod = ours(overlay)[name]
        [one] = pod["containers"]
        before_s = one.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pod["terminationGracePeriodSeconds"] >= before_s + stop_s + 5, name
    [api] = ours(overlay)["flashsale-api"]["containers"]
    assert api["lifecycle"]["preStop"]["sleep"]["seconds"] > 0
    ready = api["readinessProbe"]
    found_after_s = ready["failureThreshold"] * ready["periodSeconds"] + ready["timeoutSeconds"]
    assert found_after_s * 1000 <= Settings().lame_duck_ms


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_ask_routes_on_the_port_that_the_command_serves(overlay: str) -> None:
    """The API's 8080, the worker's 8081; readiness is another question than life."""
    settings = Settings()
    port_of = {
        "flashsale-api": settings.http_port,
        "flashsale-worker": settings.worker_http.port,
    }
    for name, port in port_of.items():
        [one] = ours(overlay)[name]["containers"]
        assert one["ports"] == [{"name": "http", "containerPort": port}]
        asked = {probe: one[f"{probe}Probe"]["httpGet"]["path"] for probe in PROBES}
        assert asked == PROBES
        assert the(overlay, "Service", name)["spec"]["ports"][0]["port"] == port


PROBES = {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_stands_in_a_pod_and_each_process_has_its_own(overlay: str) -> None:
    """Secrets by reference, so that each process gets the least (docs/security.md)."""
    for name, pod in ours(overlay).items():
        mine = {"flashsale-setup": "flashsale-operator"}.get(name, name)
        for one in containers(pod):
            read = [found["secretRef"] for found in one["envFrom"] if "secretRef" in found]
            assert [found["name"].startswith(mine) for found in read] == [True]
            for variable in one.get("env", ()):
                assert variable["name"] == "FLASHSALE_BUS_URL"
                assert "@" not in variable["value"]


@pytest.mark.parametrize("overlay", PRODUCTION)
def test_production_commits_no_secret(overlay: str) -> None:
    """Neither a Secret nor a password in a setting."""
    assert not [one for one in manifests(overlay) if one["kind"] == "Secret"]
    for one in manifests(overlay):
        for name, value in one.get("data", {}).items():
            assert not re.search(r"PASSWORD|TOKEN|AUTH", name)
            assert not re.search(r"://[^/]*:[^/]*@", value)


def test_the_job_makes_what_processes_only_check() -> None:
    """Tables, topics, schemas and functions; without a registry no schemas."""

    def steps(overlay: str) -> list[list[str]]:
        return [one["args"] for one in containers(ours(overlay)["flashsale-setup"])]

    all_four = [
        ["db", "upgrade"],
        ["topics", "ensure"],
        ["schema", "register"],
        ["gate", "install"],
    ]
    assert steps("production-kafka") == steps("development") == all_four
    assert steps("production-rabbitmq") == [one for one in all_four if "schema" not in one]


@pytest.mark.parametrize("overlay", PRODUCTION)
def test_production_survives_a_node(overlay: str) -> None:
    """More than one of each, spread, and never all taken away together."""
    scaler = the(overlay, "HorizontalPodAutoscaler", "flashsale-api")["spec"]
    assert scaler["minReplicas"] >= 2
    assert scaler["scaleTargetRef"]["name"] == "flashsale-api"
    for name in ("flashsale-api", "flashsale-worker"):
        assert the(overlay, "PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1
        keys = {one["topologyKey"] for one in ours(overlay)[name]["topologySpreadConstraints"]}
        assert "kubernetes.io/hostname" in keys
        assert "replicas" not in the(overlay, "Deployment", name)["spec"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_find_the_pods_that_they_mean(overlay: str) -> None:
    """Services, budgets, policies and monitors: none selects nothing."""
    labels = [
        one["spec"]["template"]["metadata"]["labels"]
        for one in manifests(overlay)
        if one["kind"] in {"Deployment", "Job"}
    ]

    def finds(selector: dict[str, str]) -> bool:
        return any(selector.items() <= one.items() for one in labels)

    for one in manifests(overlay):
        if one["kind"] == "Service":
            assert finds(one["spec"]["selector"]), one["metadata"]["name"]
        if one["kind"] in {"PodDisruptionBudget", "Deployment"}:
            assert finds(one["spec"]["selector"]["matchLabels"]), one["metadata"]["name"]
        if one["kind"] == "NetworkPolicy":
            assert finds(one["spec"]["podSelector"].get("matchLabels", {})), one["metadata"]["name"]
        if one["kind"] == "ServiceMonitor":
            wanted = one["spec"]["selector"]["matchLabels"]
            services = [s for s in manifests(overlay) if s["kind"] == "Service"]
            matching = [s for s in services if wanted.items() <= s["metadata"]["labels"].items()]
            assert len(matching) == 2
            for endpoint in one["spec"]["endpoints"]:
                assert endpoint["path"] == "/metrics"
                for service in matching:
                    assert endpoint["port"] in {p["name"] for p in service["spec"]["ports"]}


@pytest.mark.parametrize("overlay", PRODUCTION)
def test_nothing_is_reachable_that_no_policy_names(overlay: str) -> None:
    """Denied both ways by default; the bus of the other overlay is not let out."""
    policies = [one for one in manifests(overlay) if one["kind"] == "NetworkPolicy"]
    [default] = [one for one in policies if one["metadata"]["name"] == "flashsale-nothing-else"]
    assert set(default["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert not default["spec"].get("ingress")
    assert not default["spec"].get("egress")
    let_out = {
        port["port"]
        for one in policies
        for rule in one["spec"].get("egress", ())
        for port in rule["ports"]
    }
    bus = {9092} if overlay.endswith("kafka") else {5671, 5672}
    assert let_out == {53, 6379, 5432, 4318, 443} | bus
    # Whoever's server listens elsewhere reads here why nothing answers.
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    told = page.partition("- **Network**")[2].partition("\n- **")[0]
    assert let_out <= {int(port) for port in re.findall(r"\d+", told)}
    # And by which labels a namespace is let in.
    for one in policies:
        for rule in one["spec"].get("ingress", ()):
            for who in rule["from"]:
                [(label, value)] = who["namespaceSelector"]["matchLabels"].items()
                assert f"`{label}={value}`" in told


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """Say whether a pod with these labels is meant."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        one["operator"] == "In" and labels.get(one["key"]) in one["values"]
        for one in selector.get("matchExpressions", ())
    )


def let_through(overlay: str, name: str, way: str) -> set[int]:
    """List the ports by which a pod may be asked, or may ask."""
    [labels] = [
        one["spec"]["template"]["metadata"]["labels"]
        for one in manifests(overlay)
        if one["kind"] in {"Deployment", "Job"} and one["metadata"]["name"] == name
    ]
    return {
        port["port"]
        for one in manifests(overlay)
        if one["kind"] == "NetworkPolicy" and selects(one["spec"]["podSelector"], labels)
        for rule in one["spec"].get(way, ())
        for port in rule.get("ports", ())
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_may_ask_the_servers_that_it_is_set_to(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, gate, bus, database and registry; and it is asked at its own door alone."""
    [config] = [one["data"] for one in manifests(overlay) if one["kind"] == "ConfigMap"]
    given = {**config, **secrets_of(overlay)}
    if "KAFKA_BOOTSTRAP_SERVERS" in config:
        given["FLASHSALE_BUS_URL"] = f"kafka://{config['KAFKA_BOOTSTRAP_SERVERS']}"
    settings = accepted(given, "worker", monkeypatch)
    asked = {53, 443}
    for url in (settings.gate_url, settings.bus_url, settings.database_url):
        asked |= {int(port) for port in re.findall(r":(\d+)(?=[,/]|$)", url.text)}
    if overlay == "development":
        asked |= {8080}  # the registry's
    doors = {"flashsale-api": {8080}, "flashsale-worker": {8081}, "flashsale-setup": set[int]()}
    for name, mine in doors.items():
        assert let_through(overlay, name, "egress") >= asked, name
        assert let_through(overlay, name, "ingress") == mine, name


def test_keda_asks_the_brokers_that_the_workers_ask() -> None:
    """By a variable of the worker's, with logins from the Secret that the page describes."""
    [config] = [one["data"] for one in manifests("production-kafka") if one["kind"] == "ConfigMap"]
    [worker] = ours("production-kafka")["flashsale-worker"]["containers"]
    [bus] = [one["value"] for one in worker["env"] if one["name"] == "FLASHSALE_BUS_URL"]
    for trigger in the("production-kafka", "ScaledObject", "flashsale-worker")["spec"]["triggers"]:
        variable = trigger["metadata"]["bootstrapServersFromEnv"]
        assert variable in config
        assert bus == f"kafka://$({variable})"
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    [row] = [line for line in page.splitlines() if line.startswith("| `flashsale-keda` |")]
    for overlay, name in (("production-kafka", "kafka"), ("production-rabbitmq", "rabbitmq")):
        scaled = the(overlay, "ScaledObject", "flashsale-worker")["spec"]
        for trigger in scaled["triggers"]:
            assert trigger["authenticationRef"]["name"] == f"flashsale-{name}"
        login = the(overlay, "TriggerAuthentication", f"flashsale-{name}")["spec"]
        for one in login["secretTargetRef"]:
            assert one["name"] == "flashsale-keda"
            assert f"`{one['key']}`" in row


def test_names_are_asked_of_whoever_answers_on_the_node_too() -> None:
    """A cache on the node is an address and no namespace's pod; some clusters have no other."""
    [rule] = the("production-kafka", "NetworkPolicy", "flashsale-names")["spec"]["egress"]
    assert {port["port"] for port in rule["ports"]} == {53}
    blocks = [ip_network(one["ipBlock"]["cidr"]) for one in rule["to"] if "ipBlock" in one]
    # NodeLocal DNSCache's default, and Google's Cloud DNS.
    for resolver in ("169.254.20.10", "169.254.169.254"):
        assert any(ip_address(resolver) in block for block in blocks), resolver


def test_the_throwaway_servers_are_asked_where_they_listen() -> None:
    """Each by its Service's name and port, which is its container's; Kafka tells its own."""
    services = {
        one["metadata"]["name"]: one["spec"]["ports"][0]["port"]
        for one in manifests("development")
        if one["kind"] == "Service"
    }
    for name, port in services.items():
        pod = pods("development")[name]
        assert {"containerPort": port}.items() <= pod["containers"][0]["ports"][0].items(), name
    secret = [
        b64decode(value).decode()
        for one in manifests("development")
        if one["kind"] == "Secret"
        for value in one["data"].values()
    ]
    told = "\n".join([built("development"), *secret])
    asked = re.findall(rf"\b({'|'.join(services)}):(\d{{4,5}})\b", told)
    assert {name for name, _ in asked} == {"redis", "postgres", "kafka", "registry"}
    for name, port in asked:
        assert int(port) == services[name], name
    [kafka] = pods("development")["kafka"]["containers"]
    given = {one["name"]: one["value"] for one in kafka["env"]}
    listens = dict(one.split("://") for one in given["KAFKA_LISTENERS"].split(","))
    assert given["KAFKA_ADVERTISED_LISTENERS"] == f"INSIDE://kafka{listens['INSIDE']}"
    assert given["KAFKA_CONTROLLER_QUORUM_VOTERS"] == f"1@localhost{listens['CONTROLLER']}"
    [postgres] = pods("development")["postgres"]["containers"]
    made = {one["name"]: one["value"] for one in postgres["env"]}
    login = f"{made['POSTGRES_USER']}:{made['POSTGRES_PASSWORD']}"
    assert f"postgresql+asyncpg://{login}@postgres:5432/{made['POSTGRES_DB']}" in secret


def test_a_java_server_s_heap_leaves_room_within_its_limit() -> None:
    """Kafka's own default is 1 GiB of heap alone, which its container's limit would end."""
    [kafka] = pods("development")["kafka"]["containers"]
    given = {one["name"]: one["value"] for one in kafka["env"]}
    heap = re.search(r"-Xmx(\d+)m", given["KAFKA_HEAP_OPTS"])
    assert heap is not None
    assert kafka["resources"]["limits"]["memory"] == "1Gi"
    assert int(heap[1]) <= 512


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_engine_takes_the_settings_that_a_pod_gives(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own check reads them with the secrets that docs/kubernetes.md lists."""
    [config] = [one["data"] for one in manifests(overlay) if one["kind"] == "ConfigMap"]
    for pod in ours(overlay).values():
        for one in containers(pod):
            direct = {
                variable["name"]: re.sub(
                    r"\$\((\w+)\)", lambda found: config[found[1]], variable["value"]
                )
                for variable in one.get("env", ())
            }
            settings = accepted(
                {**config, **secrets_of(overlay), **direct}, one["args"][0], monkeypatch
            )
            bus = "amqps" if overlay == "production-rabbitmq" else "kafka"
            assert settings.bus_url.scheme == bus


@pytest.mark.parametrize("overlay", PRODUCTION)
def test_the_page_s_database_url_says_whom_to_trust(overlay: str) -> None:
    """Who checks a certificate and names no authority looks for one in a home that pods lack."""
    given = urlsplit(secrets_of(overlay)["FLASHSALE_DATABASE_URL"])
    query = dict(parse_qsl(given.query))
    assert query["sslmode"] == "verify-full"
    # Debian's own bundle, which the image's base brings.
    assert query["sslrootcert"] == "/etc/ssl/certs/ca-certificates.crt"


def secrets_of(overlay: str) -> dict[str, str]:
    """Take the variables of the Secrets that the page tells to make."""
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    bus = {"production-kafka": "kafka", "production-rabbitmq": "rabbitmq"}.get(overlay)
    if bus is None:
        return {
            "FLASHSALE_DATABASE_URL": "postgresql+asyncpg://flashsale:flashsale@postgres:5432/flashsale",
            "FLASHSALE_ADMIN_TOKEN": "only-for-playing",
        }
    block = re.search(rf"```text {bus}\n(.*?)```", page, re.DOTALL)
    assert block is not None
    return dict(line.split("=", 1) for line in block[1].splitlines() if "=" in line)


def test_every_file_of_the_tree_is_built_by_some_overlay() -> None:
    """Nothing lies about that nobody checks."""
    reached = {
        *(one.resolve() for one in KUBERNETES.glob("base/*.yaml")),
        *(one.resolve() for one in KUBERNETES.glob("components/*/*.yaml")),
        *(one.resolve() for one in KUBERNETES.glob("overlays/*/*.yaml")),
    }
    named: set[Path] = set()
    for file in KUBERNETES.rglob("kustomization.yaml"):
        named.add(file.resolve())
        listed = yaml.safe_load(file.read_text())
        for entry in (*listed.get("resources", ()), *listed.get("components", ())):
            named.add((file.parent / entry).resolve())
    assert {file for file in reached if file not in named} == set()
