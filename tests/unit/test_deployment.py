"""What docker/ holds is checked as far as it can be without a container engine: names, commands, settings, order.

Where compose, promtool or systemd are installed, they are asked too; docs/howto/deploy.rst says what was run for real.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from embedq.cli import embedq
from embedq.settings import by_env

DOCKER = Path(__file__).parents[2] / "docker"
# Of PostgreSQL's image, of Redis' and Flower, and of compose itself.
OTHERS = {
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_ADMIN_PASSWORD",
    "POSTGRES_INITDB_ARGS",
    "EMBEDQ_PASSWORD",
    "REDIS_PASSWORD",
    "FLOWER_BASIC_AUTH",
    "GRAFANA_PASSWORD",
}
COMPOSE_KEYS = {
    "image",
    "build",
    "restart",
    "environment",
    "depends_on",
    "stop_grace_period",
    "volumes",
    "healthcheck",
    "command",
    "entrypoint",
    "ports",
    "profiles",
    "configs",
    "secrets",
    "user",
    "read_only",
    "extends",
    "expose",
    "cap_drop",
    "security_opt",
    "pids_limit",
    "mem_limit",
    "shm_size",
    "tmpfs",
    "env_file",
}
# Each with a value that says where it is.
SECRETS = {
    name: f"<{name}>"
    for name in (
        "POSTGRES_PASSWORD",
        "POSTGRES_ADMIN_PASSWORD",
        "REDIS_PASSWORD",
        "AUTH_TOKEN",
        "ADMIN_TOKEN",
        "FLOWER_BASIC_AUTH",
        "GRAFANA_PASSWORD",
    )
}
# Which secrets a part gets; the OPENAI_API_KEY may be empty, the others may not.
USES = {
    "postgres": {"POSTGRES_ADMIN_PASSWORD", "POSTGRES_PASSWORD"},
    "redis": {"REDIS_PASSWORD"},
    "migrate": {"POSTGRES_PASSWORD", "REDIS_PASSWORD"},
    "api": {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "OPENAI_API_KEY", "AUTH_TOKEN", "ADMIN_TOKEN"},
    **{part: {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "OPENAI_API_KEY"} for part in ("worker-urgent", "worker", "poller")},
    "flower": {"REDIS_PASSWORD", "FLOWER_BASIC_AUTH"},
    "prometheus": {"ADMIN_TOKEN"},
    "grafana": {"GRAFANA_PASSWORD"},
}


def has(*argv: str) -> bool:
    return shutil.which(argv[0]) is not None and subprocess.run(argv, capture_output=True, timeout=60).returncode == 0


needs_compose = pytest.mark.skipif(not has("docker", "compose", "version"), reason="docker compose is not installed")
needs_promtool = pytest.mark.skipif(not has("promtool", "--version"), reason="promtool is not installed")
needs_systemd = pytest.mark.skipif(not has("systemd-analyze", "--version"), reason="systemd-analyze is not installed")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    return found


def test_compose_has_every_part_and_only_keys_that_compose_knows(compose):
    assert set(compose["services"]) >= {"postgres", "redis", "migrate", "api", "worker-urgent", "worker", "poller", "flower"}
    assert {key for service in compose["services"].values() for key in service} - COMPOSE_KEYS == set()


def test_every_service_that_another_waits_for_exists_and_can_tell_that_it_is_ready(compose):
    for name, service in compose["services"].items():
        for other, wish in service.get("depends_on", {}).items():
            assert other in compose["services"], name
            if wish["condition"] == "service_healthy":
                assert "test" in compose["services"][other]["healthcheck"], (name, other)


@needs_compose
@pytest.mark.parametrize("missing", [None, *SECRETS])
def test_compose_takes_the_file_and_asks_for_every_secret(missing: str | None, tmp_path: Path):
    others = {name: value for name, value in os.environ.items() if name not in SECRETS}
    given = {name: value for name, value in SECRETS.items() if name != missing}
    # A project folder without an .env: what is not given has to be missing.
    argv = ["docker", "compose", "--project-directory", tmp_path, "--file", DOCKER / "compose.yaml", "config", "--quiet"]

    done = subprocess.run(argv, env={**others, **given}, capture_output=True, text=True, timeout=60)

    assert (done.returncode == 0) is (missing is None), done.stderr
    assert missing is None or f"set {missing}" in done.stderr


def test_postgres_is_ready_only_when_it_answers_over_tcp(compose):
    """The image's first start runs a temporary server on the socket; a migration that takes it for the real one is refused."""
    assert "--host 127.0.0.1" in " ".join(compose["services"]["postgres"]["healthcheck"]["test"])


def test_backups_outlive_the_container(compose):
    (home,) = re.findall(r"EMBEDQ_HOME=(\S+)", (DOCKER / "Dockerfile").read_text(encoding="utf-8"))

    for name, service in compose["services"].items():
        if service["image"].startswith("embedq") and name != "flower":
            assert [volume for volume in service["volumes"] if volume == f"backups:{home}"], name


def test_every_variable_is_a_setting(compose):
    named = {variable for service in compose["services"].values() for variable in (service.get("environment") or {})}

    assert {name for name in named if not name.startswith("GF_")} - set(by_env()) - OTHERS == set()


def test_no_secret_has_a_default_value(compose):
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")

    weak = re.findall(r"\$\{(\w*(?:PASSWORD|TOKEN|BASIC_AUTH))\b(?!:\?)", text)

    assert weak == []


def environment_of(service: dict[str, Any], given: dict[str, str]) -> dict[str, str]:
    """What a container's environment holds: env_file, then `environment`, which wins; interpolated as compose does it."""

    def value(found: re.Match[str]) -> str:
        return given.get(found[1]) or (found[3] if found[2] == "-" else f"<missing {found[1]}>")

    own = {name: re.sub(r"\$\{(\w+):([-?])([^}]*)\}", value, raw) for name, raw in service.get("environment", {}).items()}
    return (given if service.get("env_file") else {}) | own


def test_each_part_gets_the_secrets_that_it_uses_and_no_other(compose):
    given = SECRETS | {"OPENAI_API_KEY": "<OPENAI_API_KEY>"}
    assert set(USES) == set(compose["services"])

    for name, service in compose["services"].items():
        text = " ".join(environment_of(service, given).values()) + "".join(
            f"<{secret.upper()}>" for secret in service.get("secrets", [])
        )
        assert {secret for secret in given if f"<{secret}>" in text} == USES[name], name


def test_no_two_parts_are_entered_with_the_same_password(compose):
    assert len({"FLOWER_BASIC_AUTH", "GRAFANA_PASSWORD", "ADMIN_TOKEN"} & set(SECRETS)) == 3
    grafana, flower = (environment_of(compose["services"][name], SECRETS) for name in ("grafana", "flower"))
    assert grafana["GF_SECURITY_ADMIN_PASSWORD"] == SECRETS["GRAFANA_PASSWORD"]
    assert flower["FLOWER_BASIC_AUTH"] == SECRETS["FLOWER_BASIC_AUTH"]


@pytest.mark.parametrize(
    "name", sorted(name for name, uses in USES.items() if "POSTGRES_PASSWORD" in uses and name != "postgres")
)
def test_every_setting_in_the_env_file_reaches_each_part_of_ours(compose, name: str):
    """What a runbook says to append to .env has effect; what compose decides itself is said here."""
    decided = {"DATABASE_URL", "REDIS_URL"} | (
        {"EMBEDDING_METRICS_PORT", "EMBEDDING_METRICS_HOST"} if "worker" in name or name == "poller" else set()
    )
    given = {setting: f"<{setting}>" for setting in by_env()} | SECRETS
    service = compose["services"][name]
    unused = {"OPENAI_API_KEY", "AUTH_TOKEN", "ADMIN_TOKEN"} - USES[name]

    found = environment_of(service, given)

    assert {setting for setting in by_env() if found.get(setting) != given[setting]} == decided | unused
    assert service["env_file"] == [{"path": ".env", "required": False}]


def test_what_is_exported_in_the_shell_reaches_the_parts_too(compose):
    """Without an .env: only what `environment` names is passed on."""
    passed_on = " ".join(map(str, compose["services"]["api"]["environment"].values()))

    not_named = {setting for setting in by_env() if f"${{{setting}:" not in passed_on}
    # EMBEDQ_TOKEN is for `embedq mcp`, which an agent's program starts and no container runs.
    of_no_container = {"EMBEDQ_HOME", "EMBEDQ_TOKEN"}
    assert not_named == of_no_container | {"DATABASE_URL", "REDIS_URL", "EMBEDDING_METRICS_PORT", "EMBEDDING_METRICS_HOST"}


def test_no_part_has_a_right_that_it_does_not_need(compose):
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is (name != "prometheus"), name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert "privileged" not in service, name
    assert (compose["services"]["postgres"]["user"], compose["services"]["redis"]["user"]) == ("postgres", "redis")
    assert compose["services"]["postgres"]["shm_size"] == "1g"


def test_the_image_of_every_part_can_be_pinned_by_its_digest(compose):
    images = {name: service["image"] for name, service in compose["services"].items()}
    args = {arg for service in compose["services"].values() for arg in service.get("build", {}).get("args", {}).values()}

    for image in {*images.values(), *args} - {"embedq:local"}:
        assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[\w./-]+:[\w.-]+\}", image), image
    assert args == {"${PYTHON_IMAGE:-python:3.12-slim-bookworm}"}


def test_only_loopback_is_published(compose):
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]

    assert [port for port in ports if not str(port).startswith("127.0.0.1:")] == []


def test_every_command_of_the_image_exists(compose):
    for name, service in compose["services"].items():
        if not str(service.get("image", "")).startswith("embedq"):
            continue
        argv = [*service.get("entrypoint", ["embedq"]), *service.get("command", [])]
        assert argv[0] in ("embedq", "celery"), name
        if argv[0] == "embedq":
            assert resolves(argv[1:]), (name, argv)


def test_a_worker_gets_more_time_to_stop_than_it_needs(compose):
    assert compose["services"]["worker"]["stop_grace_period"] == "75s"


def test_the_dockerfile_runs_as_an_ordinary_user_from_pinned_images():
    lines = (DOCKER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM")]

    assert set(bases) == {"${PYTHON_IMAGE}"}, (
        "the environment is copied from one stage to the other with the paths of its Python"
    )
    (default,) = [line for line in lines if line.startswith("ARG")]
    assert re.fullmatch(r"ARG PYTHON_IMAGE=python:3\.\d+-slim-bookworm", default)
    assert [line for line in lines if line.startswith("USER")] == ["USER embedq"]
    assert any(line.startswith("HEALTHCHECK") for line in lines)


def test_the_image_takes_only_packages_whose_hash_is_known():
    """All of them from the locks; the package itself is built from the sources that were copied, with no index at all."""
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    calls = re.findall(r"pip (?:install|wheel|download)\b.*?(?=&&|\n)", text)

    assert len(calls) == 4
    assert [
        call for call in calls if "--require-hashes" not in call and not ("--no-index" in call and "--no-deps" in call)
    ] == []


def test_what_the_dockerfile_copies_is_there():
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DOCKER / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)

    missing = [name for names in copied for name in names.split() if not (DOCKER.parent / name).exists()]

    assert missing == []


@pytest.mark.parametrize(
    ("unit", "secrets"),
    [
        ("api", {"OPENAI_API_KEY", "AUTH_TOKEN", "ADMIN_TOKEN"}),
        ("celery", {"OPENAI_API_KEY"}),
        ("poller", {"OPENAI_API_KEY"}),
        ("flower", {"FLOWER_BASIC_AUTH"}),
    ],
)
def test_a_unit_of_systemd_passes_on_the_secrets_that_it_uses(unit: str, secrets: set[str]):
    text = (DOCKER / "systemd" / f"embedq-{unit}.service").read_text(encoding="utf-8")

    (unset,) = re.findall(r"^UnsetEnvironment=(.+)$", text, re.MULTILINE)
    assert {"OPENAI_API_KEY", "AUTH_TOKEN", "ADMIN_TOKEN", "FLOWER_BASIC_AUTH"} - set(unset.split()) == secrets


@pytest.mark.parametrize("unit", sorted((DOCKER / "systemd").glob("*.service")), ids=lambda unit: unit.stem)
def test_a_unit_of_systemd_starts_a_command_that_exists_and_stops_it_gently(unit: Path):
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)

    argv = shlex.split(parser["Service"]["ExecStart"])
    assert Path(argv[0]).name in ("embedq", "celery")
    assert Path(argv[0]).name == "celery" or resolves(argv[1:])
    assert int(parser["Service"]["TimeoutStopSec"]) > 60
    assert parser["Service"]["Restart"] == "always"


@needs_systemd
def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path):
    units = [tmp_path / unit.name for unit in sorted((DOCKER / "systemd").iterdir())]
    for unit in units:
        text = (DOCKER / "systemd" / unit.name).read_text(encoding="utf-8")
        unit.write_text(re.sub(r"/opt/embedq/bin/\w+", shutil.which("true") or "", text), encoding="utf-8")

    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_http_service_of_systemd_may_write_where_its_backups_go():
    unit = (DOCKER / "systemd" / "embedq-api.service").read_text(encoding="utf-8")

    assert "ProtectSystem=strict" in unit
    assert re.findall(r"^EMBEDQ_HOME=(.+)", unit.replace("Environment=", ""), re.MULTILINE) == ["/var/lib/embedq"]
    assert "StateDirectory=embedq" in unit


@needs_promtool
def test_promtool_has_nothing_to_say_about_the_configuration(tmp_path: Path):
    text = (DOCKER / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    here = text.replace("/etc/prometheus", str(DOCKER / "prometheus")).replace("/run/secrets", str(tmp_path))
    (tmp_path / "prometheus.yml").write_text(here, encoding="utf-8")
    (tmp_path / "admin_token").write_text("b", encoding="utf-8")

    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_looks_at_parts_that_exist_and_show_metrics(compose):
    service, workers = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    (by_name,) = workers["dns_sd_configs"]

    assert service["static_configs"] == [{"targets": ["api:8000"]}]
    for name in by_name["names"]:
        assert compose["services"][name]["environment"]["EMBEDDING_METRICS_PORT"] == str(by_name["port"]), name
    # Without it, two parts that exchange addresses at a restart look like one whose counters jumped.
    assert {"source_labels": ["__meta_dns_name"], "target_label": "part"} in workers["relabel_configs"]


def resolves(argv: list[str]) -> bool:
    command: click.Command | None = embedq
    for word in argv:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), word)
    options = {name for parameter in (command.params if command else []) for name in parameter.opts}
    return command is not None and all(word.split("=")[0] in options for word in argv if word.startswith("--"))
