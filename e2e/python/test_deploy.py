"""The files below deploy/: they are well-formed, agree with each other and with the binary, and keep no secrets."""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import ROOT, write_project

BINARY = os.environ["THREADYARD_BIN"]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted(it for it in (DEPLOY / "kubernetes").glob("*.yaml") if it.name != "secret.yaml")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
ROLES = ("api", "worker", "sender")
SECRET = re.compile("PASSWORD|SECRET|TOKEN|_URI$|_KEY$")
# What the server must do beside waiting for runs when it stops: handing over, ending workers, closing connections.
STOPPING_S = 10


def run(*command: str | Path, **more: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tool(name: str, *arguments: str | Path) -> str:
    """A program of a package that is installed beside Python."""
    return run(Path(sys.executable).parent / name, *arguments)


def resources(kind: str | None = None) -> Iterator[dict[str, Any]]:
    for file in MANIFESTS:
        for resource in yaml.safe_load_all(file.read_text()):
            if kind in (None, resource["kind"]):
                yield resource


def deployment(role: str) -> dict[str, Any]:
    return next(it for it in resources("Deployment") if it["metadata"]["name"] == f"threadyard-{role}")


def pods() -> dict[str, dict[str, Any]]:
    """The pods of each role, and of the migration."""
    specs = {role: deployment(role)["spec"]["template"]["spec"] for role in ROLES}
    return specs | {"migrate": next(resources("Job"))["spec"]["template"]["spec"]}


def settings() -> dict[str, str]:
    """What servers of a cluster share."""
    kustomization = next(resources("Kustomization"))
    return dict(it.split("=", 1) for it in kustomization["configMapGenerator"][0]["literals"])


def dockerfile(name: str) -> list[tuple[str, str]]:
    """The instructions of an image, each as a word and the rest."""
    lines = [line for line in (DEPLOY / name).read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def arguments_of(name: str) -> dict[str, str]:
    return dict(rest.split("=", 1) for word, rest in dockerfile(name) if word == "ARG" and "=" in rest)


def image_variables() -> dict[str, str]:
    """What is set where the image runs."""
    instructions = dockerfile("Dockerfile")
    last_stage = max(place for place, (word, _) in enumerate(instructions) if word == "FROM")
    pairs = " ".join(rest for word, rest in instructions[last_stage:] if word == "ENV")
    return dict(pair.split("=", 1) for pair in pairs.split())


def servers() -> dict[str, dict[str, Any]]:
    return {name: COMPOSE["services"][name] for name in ("server", *ROLES)}


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.project"])
def test_a_linter_finds_nothing_in_the_images(name: str) -> None:
    tool("hadolint", DEPLOY / name)


def test_compose_has_the_form_it_must_have() -> None:
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_manifests_have_the_form_they_must_have() -> None:
    files = [file for file in MANIFESTS if file.name != "kustomization.yaml"]
    tool("kubernetes-validate", "--strict", "--quiet", *files)


def test_kustomize_knows_all_manifests() -> None:
    named = set(next(resources("Kustomization"))["resources"])
    # Secrets are applied apart: those that are made of the example are nobody else's.
    assert named == {it.name for it in MANIFESTS} - {"kustomization.yaml", "secret.example.yaml"}
    made = {it["name"] for it in next(resources("Kustomization"))["configMapGenerator"]}
    for pod in (pods()[role] for role in ROLES):
        assert {it["configMapRef"]["name"] for it in pod["containers"][0]["envFrom"] if "configMapRef" in it} == made


def test_everything_that_is_set_exists() -> None:
    read = run(BINARY, "serve", "--help") + run(BINARY, "migrate", "--help")
    known = set(re.findall(r"\[env: (\w+)", read))
    known |= set(re.findall(r'setting\("(\w+)"\)', (ROOT / "crates/server/src/telemetry/mod.rs").read_text()))
    environments = [*servers().values(), COMPOSE["services"]["migrate"]]
    given = {name for service in environments for name in service["environment"]} | set(settings())
    given |= {name for secret in resources("Secret") for name in secret["stringData"]}
    given |= {it["name"] for pod in pods().values() for it in pod["containers"][0].get("env", [])}
    given |= set(image_variables()) - {"VIRTUAL_ENV", "PATH", "HOME"}
    assert given <= known, given - known
    # The same in prose, where Compose has variables of its own.
    text = "".join(file.read_text() for file in DEPLOY.rglob("*") if file.is_file())
    own = set(re.findall(r"^(\w+)=", (DEPLOY / ".env.example").read_text(), re.MULTILINE))
    named = set(re.findall(r"\b(?:THREADYARD|LG|BG_JOB|LANGGRAPH|N_JOBS)_[A-Z_]+\b", text))
    assert named <= known | own, named - known - own
    entry = json.loads(dict(dockerfile("Dockerfile"))["ENTRYPOINT"])
    assert entry[:2] == ["threadyard", "serve"] and all(it in read for it in entry if it.startswith("-"))
    assert "--check" in read, "README.md names it"
    assert set(re.findall(r"^ +- (\w+): ", read, re.MULTILINE)) == {"all", *ROLES}


def test_compose_asks_for_what_its_example_has() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text())) | {"COMPOSE_PROFILES"}
    assert asked == set(re.findall(r"^(\w+)=", (DEPLOY / ".env.example").read_text(), re.MULTILINE))
    profiles = {name: service["profiles"] for name, service in servers().items()}
    assert profiles == {"server": ["single"]} | {role: ["roles"] for role in ROLES}
    roles = {name: service["environment"]["THREADYARD_ROLE"] for name, service in servers().items()}
    assert roles == {"server": "all"} | {role: role for role in ROLES}
    for role in ROLES:
        assert {"name": "THREADYARD_ROLE", "value": role} in pods()[role]["containers"][0]["env"]


def test_nothing_runs_as_root_or_writes_to_its_image() -> None:
    uid = int(arguments_of("Dockerfile")["SERVER_UID"])
    assert uid >= 1000
    users = {
        name: [rest for word, rest in dockerfile(name) if word == "USER"]
        for name in ("Dockerfile", "Dockerfile.project")
    }
    assert users["Dockerfile"] == ["${SERVER_UID}:${SERVER_UID}"] and users["Dockerfile.project"][-1] == f"{uid}:{uid}"
    for pod in pods().values():
        rights = pod["securityContext"]
        assert rights["runAsNonRoot"] is True and (rights["runAsUser"], rights["runAsGroup"]) == (uid, uid)
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True and rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]} and "memory" in container["resources"]["limits"]
    for service in [*servers().values(), COMPOSE["services"]["migrate"]]:
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"] and "user" not in service
        assert service["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory", "pids"}


def test_the_one_folder_that_is_written_to_is_there() -> None:
    variables = image_variables()
    assert variables["HOME"] == "/tmp" and variables["THREADYARD_CACHE_DIR"].startswith("/tmp/")
    for role in ROLES:
        pod = pods()[role]
        (mount,) = pod["containers"][0]["volumeMounts"]
        assert mount["mountPath"] == "/tmp" and pod["volumes"][0]["name"] == mount["name"]
    assert all(it.startswith("/tmp:") for service in servers().values() for it in service["tmpfs"])


def test_ports_agree() -> None:
    instructions = dict(dockerfile("Dockerfile"))
    port = int(instructions["EXPOSE"])
    assert image_variables()["PORT"] == str(port) and "os.environ['PORT']" in instructions["HEALTHCHECK"]
    published = {name: service.get("ports", []) for name, service in servers().items()}
    assert all(it.endswith(f":{port}") for ports in published.values() for it in ports)
    assert published["worker"] == published["sender"] == []
    assert "THREADYARD_LISTEN:-127.0.0.1:" in published["server"][0], "there is no authentication"
    for role in ROLES:
        (container,) = pods()[role]["containers"]
        assert container["ports"] == [{"name": "http", "containerPort": port}]
    service = next(resources("Service"))["spec"]
    assert service["ports"] == [{"name": "http", "port": port, "targetPort": "http"}]
    assert service["selector"] == deployment("api")["spec"]["template"]["metadata"]["labels"]


def test_a_proxy_is_believed_where_it_belongs_and_nobody_else() -> None:
    (front,) = (it["subnet"] for it in COMPOSE["networks"]["front"]["ipam"]["config"])
    believed = {name: service["environment"].get("FORWARDED_ALLOW_IPS") for name, service in servers().items()}
    chosen = f"${{FORWARDED_ALLOW_IPS:-{front}}}"
    assert believed == {"server": chosen, "api": chosen, "worker": None, "sender": None}
    usual = re.fullmatch(r"\$\{THREADYARD_FRONT_NETWORK:-(.+)\}", front)
    assert usual and ipaddress.ip_network(usual[1]).is_private and ipaddress.ip_network(usual[1]).prefixlen >= 24
    # What runs the code of graphs, and is asked nothing, must not be taken for a proxy.
    networks = {name: set(service["networks"]) for name, service in COMPOSE["services"].items()}
    assert {name for name, within in networks.items() if "front" in within} == {"server", "api"}
    assert networks["worker"] == networks["sender"] == {"back", "egress"}
    assert networks["migrate"] == networks["postgres"] == networks["redis"] == {"back"}
    assert COMPOSE["networks"]["back"] == {"internal": True} and COMPOSE["networks"]["egress"] == {}
    # Clusters differ: who copies the manifests names the proxy.
    assert settings()["FORWARDED_ALLOW_IPS"] == "127.0.0.1"


def test_probes_ask_for_what_is_served(gallery: Any) -> None:
    wanted = {"startupProbe": "/ok?ready=1", "readinessProbe": "/ok?ready=1", "livenessProbe": "/ok"}
    for role in ROLES:
        (container,) = pods()[role]["containers"]
        probes = {name: container[name]["httpGet"] for name in wanted}
        assert probes == {name: {"path": path, "port": "http"} for name, path in wanted.items()}
    for path in {*wanted.values(), "/metrics"}:
        assert httpx.get(gallery.url + path).status_code == 200
    check = dict(dockerfile("Dockerfile"))["HEALTHCHECK"]
    _, program, *arguments = json.loads(check[check.index("[") :].replace('"python3"', f'"", "{sys.executable}"', 1))
    run(program, *arguments, env={**os.environ, "PORT": str(gallery.port)})


def test_metrics_that_are_named_are_there(gallery: Any) -> None:
    shown = httpx.get(f"{gallery.url}/metrics").text
    text = "".join(file.read_text() for file in [DEPLOY / "README.md", *MANIFESTS])
    named = set(re.findall(r"\bthreadyard_(?:run|webhook)\w+", text))
    assert named and all(f"\n{name}" in shown for name in named)
    assert 'threadyard_runs_in_queue{status="pending"}' in shown


def test_what_ends_servers_waits_for_their_runs() -> None:
    grace = int(settings()["BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS"])
    assert pods()["worker"]["terminationGracePeriodSeconds"] >= grace + STOPPING_S
    api = pods()["api"]
    _, pause = api["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert api["terminationGracePeriodSeconds"] >= int(pause) + STOPPING_S
    for service in servers().values():
        grace = int(service["environment"]["BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS"])
        assert int(service["stop_grace_period"].removesuffix("s")) >= grace + STOPPING_S
    assert dict(dockerfile("Dockerfile"))["STOPSIGNAL"] == "SIGTERM"


def test_an_update_does_not_need_more_connections_than_postgres_usually_has() -> None:
    most = {role: deployment(role)["spec"].get("replicas") for role in ROLES}
    most["api"] = next(resources("HorizontalPodAutoscaler"))["spec"]["maxReplicas"]
    surge = sum(deployment(role)["spec"]["strategy"]["rollingUpdate"]["maxSurge"] for role in ROLES)
    servers_at_once, each = sum(most.values()) + surge, int(settings()["LANGGRAPH_POSTGRES_POOL_MAX_SIZE"]) + 2
    assert servers_at_once * each <= 97, "three are kept for superusers"
    assert f"{servers_at_once} × {each} = {servers_at_once * each}" in (DEPLOY / "README.md").read_text()


def test_no_secret_is_in_a_file() -> None:
    example = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / ".env.example").read_text(), re.MULTILINE))
    assert not [name for name, value in example.items() if SECRET.search(name) and value]
    assert not [name for secret in resources("Secret") for name, value in secret["stringData"].items() if value]
    assert not [name for name in {**settings(), **image_variables()} if SECRET.search(name)]
    for service in COMPOSE["services"].values():
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name) and name != "REDIS_URI":
                assert re.search(r"\$\{\w+:\?", value), f"{name} must be asked for"
    for kept in ("deploy/.env", "deploy/graphs.env", "deploy/kubernetes/secret.yaml"):
        run("git", "-C", ROOT, "check-ignore", "--no-index", kept)


def test_the_build_reads_what_the_binary_is_made_of() -> None:
    taken = [it[1:] for it in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if it.startswith("!")]
    assert all((ROOT / it).exists() for it in taken)
    embedded = {
        os.path.relpath(crate / folder, ROOT)
        for crate in (ROOT / "crates").iterdir()
        for file in (crate / "src").rglob("*.rs")
        for folder in re.findall(r'#\[folder = "(.+)"\]', file.read_text())
    }
    assert len(embedded) >= 2 and all(any(it.startswith(folder) for it in taken) for folder in embedded)
    rust = re.search(r'rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text())
    assert rust and arguments_of("Dockerfile")["RUST_VERSION"].startswith(rust[1])


@pytest.fixture
def fake_uv(tmp_path: Path) -> Path:
    """Stands in for what would install packages, and writes down which."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "uv"
    asked = tmp_path / "asked"
    program.write_text(f'#!/bin/sh\nif [ "$1" = pip ]; then printf "%s\\n" "$@" > "{asked}"; exit 1; fi\n')
    program.chmod(0o755)
    return asked


def test_the_image_has_what_a_server_would_install(tmp_path: Path, fake_uv: Path) -> None:
    files = {"requirements.txt": "httpx\n", "part/pyproject.toml": "[project]\nname = 'part'\n", "plain/a.py": ""}
    config = {"dependencies": [".", "./part", "./plain", "langchain>=1"], "env": "variables/.env"}
    folder = write_project(tmp_path / "project", {"a": "./plain/a.py:graph"}, files, **config)
    path = DEPLOY / "install_project.py"
    spec = importlib.util.spec_from_file_location("install_project", path)
    assert spec and spec.loader
    spec.loader.exec_module(install := importlib.util.module_from_spec(spec))

    install.leave_out_variables(folder, config)
    wanted = install.requirements(folder, config)
    # Without the file, the server would not get as far as this.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    environment |= {"PATH": str(fake_uv.parent / "bin"), "THREADYARD_CACHE_DIR": str(tmp_path / "cache")}
    command = [BINARY, "serve", "--host", "127.0.0.1", "--port", "0", "--config", folder / "langgraph.json"]
    assert subprocess.run(command, env=environment, capture_output=True, timeout=120).returncode != 0
    asked = fake_uv.read_text().splitlines()
    there = [
        re.sub(r"(?<==)/.+", lambda it: os.path.realpath(it[0]), it) for it in asked[asked.index("langgraph>=1.0") :]
    ]
    assert wanted == there


def test_what_the_project_lacks_is_named(tmp_path: Path) -> None:
    folder = write_project(tmp_path, {"a": "./a.py:graph"}, {}, dependencies=["./gone"])
    command = [sys.executable, DEPLOY / "install_project.py", folder / "langgraph.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "`./gone`" in done.stderr
