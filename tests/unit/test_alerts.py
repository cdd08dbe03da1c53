"""What Prometheus would say in a situation: all alerts that fire, and no other. Needs promtool, which comes with Prometheus."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

PROMTOOL = shutil.which("promtool")
STEPS = 480  # of a quarter of a minute: two hours
MODES = ("celery", "database", "hybrid", "sync", "off")
LATE, LATER = "30m", "100m"

pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")


def steady(value: int) -> str:
    return f"{value}x{STEPS}"


def growing(per_step: int) -> str:
    return f"0+{per_step}x{STEPS}"


def in_mode(live: str) -> dict[str, str]:
    return {f'embedq_mode{{mode="{mode}"}}': steady(int(mode == live)) for mode in MODES}


def serving(celery: int, pollers: int, queue: str = "normal") -> dict[str, str]:
    return {
        f'embedq_queue_consumers{{queue="{queue}", delivery="celery"}}': steady(celery),
        f'embedq_queue_consumers{{queue="{queue}", delivery="poller"}}': steady(pollers),
        'embedq_workers{delivery="celery"}': steady(celery),
        'embedq_workers{delivery="poller"}': steady(pollers),
        'embedq_steward{worker="first"}': steady(int(celery + pollers > 0)),
    }


def waiting(tasks: int, place: str = "broker") -> dict[str, str]:
    return {f'embedq_open_tasks{{priority="normal", place="{place}"}}': steady(tasks)}


def settled(outcome: str, per_step: int) -> dict[str, str]:
    """As both the service and the worker itself show it: to be counted once."""
    name = f'embedq_settled_total{{worker="first", delivery="celery", outcome="{outcome}", instance='
    return {f'{name}"api"}}': growing(per_step), f'{name}"worker"}}': growing(per_step)}


def urgent_waits(seconds: int) -> dict[str, str]:
    return {
        f'embedq_waiting_seconds_bucket{{priority="urgent", le="{bound}"}}': growing(
            15 if bound == "+Inf" or int(bound) >= seconds else 0
        )
        for bound in ("1", "10", "30", "60", "+Inf")
    }


def answered(status: int, per_step: int) -> dict[str, str]:
    return {f'embedq_http_requests_total{{method="GET", route="/health", status="{status}"}}': growing(per_step)}


ALL_IS_WELL: Mapping[str, str] = {
    'up{job="embedq", instance="api"}': steady(1),
    "embedq_database_up": steady(1),
    "embedq_broker_up": steady(1),
    "embedq_running": steady(1),
    "embedq_submissions_accepted": steady(1),
    "embedq_rejected_messages": steady(3),
    'embedq_provider_up{provider="openai"}': steady(1),
    'embedq_oldest_task_seconds{priority="normal", place="table"}': steady(5),
    'embedq_late_results_total{worker="first", delivery="celery"}': steady(0),
    **in_mode("celery"),
    **serving(celery=2, pollers=1),
    **waiting(0),
    **settled("completed", 100),
    **urgent_waits(seconds=1),
    **answered(200, 100),
}


@pytest.mark.parametrize(
    ("changed", "at", "firing"),
    [
        pytest.param({}, LATER, set(), id="all is well"),
        pytest.param({'up{job="embedq", instance="api"}': steady(0)}, LATE, {"EmbedqServiceDown"}, id="the service is away"),
        pytest.param({"embedq_database_up": steady(0)}, LATE, {"EmbedqDatabaseDown"}, id="PostgreSQL is away"),
        pytest.param({"embedq_broker_up": steady(0)}, LATE, {"EmbedqBrokerDown"}, id="the broker is away and needed"),
        pytest.param(
            {"embedq_broker_up": steady(0), **in_mode("database")}, LATE, set(), id="the broker is away and not needed"
        ),
        pytest.param(
            {'embedq_finding{rule="no-progress", level="problem"}': steady(1)}, LATE, {"EmbedqNoProgress"}, id="nothing moves"
        ),
        pytest.param({**waiting(7), **serving(0, 0)}, LATE, {"EmbedqNobodyConsumes"}, id="tasks wait and no worker is alive"),
        pytest.param({**waiting(0), **serving(0, 0)}, LATE, set(), id="no worker is alive and nothing waits"),
        pytest.param({**waiting(7), **serving(0, 1)}, LATE, {"EmbedqNobodyConsumes"}, id="mode celery: a poller does not help"),
        pytest.param({**waiting(7), **serving(0, 1), **in_mode("hybrid")}, LATE, set(), id="mode hybrid: a poller helps"),
        pytest.param(
            {**waiting(7), **serving(0, 1), **in_mode("database")}, LATE, set(), id="mode database: a poller is enough"
        ),
        pytest.param(
            {**waiting(7), **serving(2, 0), **in_mode("database")},
            LATE,
            {"EmbedqNobodyConsumes"},
            id="mode database: Celery does not help",
        ),
        pytest.param({**waiting(7, "worker"), **serving(0, 0)}, LATE, set(), id="what a worker holds does not wait"),
        pytest.param({'embedq_steward{worker="first"}': steady(0)}, LATE, {"EmbedqNoSteward"}, id="nobody keeps house"),
        pytest.param(
            {'embedq_oldest_task_seconds{priority="normal", place="table"}': steady(1000)},
            LATE,
            {"EmbedqOldTasks"},
            id="a task is old",
        ),
        pytest.param(
            {'embedq_oldest_task_seconds{priority="normal", place="table"}': steady(1000), "embedq_running": steady(0)},
            LATE,
            set(),
            id="tasks grow old because somebody stopped everything",
        ),
        pytest.param(urgent_waits(seconds=50), LATE, {"EmbedqUrgentWaits"}, id="urgent tasks wait for long"),
        pytest.param(
            {'embedq_provider_up{provider="openai"}': steady(0)}, LATE, {"EmbedqProviderDown"}, id="the provider is away"
        ),
        pytest.param(settled("failed", 20), LATE, {"EmbedqTasksFail"}, id="one task in six fails"),
        pytest.param(settled("failed", 8), LATE, set(), id="one task in thirteen fails"),
        pytest.param(
            {'embedq_late_results_total{worker="first", delivery="celery"}': growing(3)},
            LATE,
            {"EmbedqLateResults"},
            id="results come late",
        ),
        pytest.param(
            {'embedq_source{source="posts", state="behind"}': steady(1)}, LATE, {"EmbedqSourceBehind"}, id="a source is behind"
        ),
        pytest.param(
            {'embedq_source{source="posts", state="following"}': steady(1)}, LATE, set(), id="a source follows its table"
        ),
        pytest.param(
            {"embedq_rejected_messages": "3x60 4x420"}, LATE, {"EmbedqRejectedMessages"}, id="one more message is rejected"
        ),
        pytest.param(
            {"embedq_rejected_messages": "3x60 2x420"}, LATE, set(), id="one rejected message was reviewed and removed"
        ),
        pytest.param(
            {"embedq_rejected_messages": "3x60 4x420"}, LATER, set(), id="a message was rejected more than an hour ago"
        ),
        pytest.param({"embedq_running": steady(0)}, LATE, set(), id="everything is stopped for half an hour"),
        pytest.param({"embedq_running": steady(0)}, LATER, {"EmbedqStopped"}, id="everything is stopped for long"),
        pytest.param(
            {"embedq_submissions_accepted": steady(0)}, LATER, {"EmbedqStopped"}, id="submissions are paused for long"
        ),
        pytest.param(answered(500, 10), LATE, {"EmbedqServiceErrors"}, id="one request in eleven ends in a 500"),
        pytest.param(answered(404, 10), LATE, set(), id="one request in eleven finds nothing"),
    ],
)
def test_the_alerts_that_fire_are(
    changed: Mapping[str, str], at: str, firing: set[str], repository: Path, tmp_path: Path
) -> None:
    series = [{"series": name, "values": values} for name, values in {**ALL_IS_WELL, **changed}.items()]
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(firing)]
    asked = {"expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": at, "exp_samples": expected}
    situation = {
        "rule_files": [str(repository / "docker/prometheus/alerts.yml")],
        "evaluation_interval": "15s",
        "tests": [{"interval": "15s", "input_series": series, "promql_expr_test": [asked]}],
    }
    (tmp_path / "situation.yml").write_text(yaml.safe_dump(situation))

    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, "test", "rules", tmp_path / "situation.yml"], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_in_some_situation(repository: Path) -> None:
    rules = yaml.safe_load((repository / "docker/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    (table,) = (mark for mark in test_the_alerts_that_fire_are.pytestmark if mark.name == "parametrize")

    assert set().union(*(row.values[2] for row in table.args[1])) == {rule["alert"] for rule in rules}
