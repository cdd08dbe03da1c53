"""What Prometheus is shown, and that nobody watches for what is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from embedq.decide.modes import LiveState
from embedq.model import Mode
from embedq.operations import metrics
from embedq.operations.metric_catalogue import CATALOGUE, SUFFIXES, exposed_names
from embedq.operations.metrics import families, of_counters, of_depth, of_live, of_workers
from embedq.telemetry.meter import Meter

NAME = re.compile(r"\bembedq_[a-z_]+")


def expressions(repository: Path) -> Iterator[tuple[str, str]]:
    board = json.loads((repository / "docker/grafana/dashboards/embedq.json").read_text())
    for panel in board["panels"]:
        yield from ((f"panel {panel['title']}", target["expr"]) for target in panel["targets"])
    rules = (repository / "docker/prometheus/alerts.yml").read_text()
    for alert in re.split(r"\n\s*- alert: ", rules)[1:]:
        found = re.search(r"expr:(.*?)\n\s+(?:for|labels):", alert, re.DOTALL)
        assert found is not None, alert
        yield f"alert {alert.splitlines()[0]}", found[1]


def test_dashboard_and_alerts_name_only_metrics_that_exist(repository: Path) -> None:
    named = {(where, name) for where, expression in expressions(repository) for name in NAME.findall(expression)}

    assert {(where, name) for where, name in named if name not in exposed_names()} == set()
    assert len({where for where, _ in named}) > 25


def test_dashboard_and_alerts_use_only_labels_that_their_metrics_have(repository: Path) -> None:
    labels = {name + suffix: {*spec.labels, "le", "job"} for name, spec in CATALOGUE.items() for suffix in SUFFIXES[spec.kind]}
    wrong = [
        (where, name, label)
        for where, expression in expressions(repository)
        for name, inside in re.findall(r"(embedq_[a-z_]+)\{([^}]*)\}", expression)
        for label in re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", inside)
        if label not in labels[name]
    ]

    assert wrong == []


def test_a_panel_of_single_values_shows_this_moment(repository: Path) -> None:
    """Over a range of time Grafana shows the last value of every series in it: an hour later still, the mode that was left."""
    board = json.loads((repository / "docker/grafana/dashboards/embedq.json").read_text())
    single = [target for panel in board["panels"] if panel["type"] != "timeseries" for target in panel["targets"]]

    assert len(single) > 5
    assert {(target.get("instant"), target.get("range")) for target in single} == {(True, False)}


def test_every_metric_but_the_plain_ones_is_on_the_dashboard_or_in_an_alert(repository: Path) -> None:
    named = {name for _, expression in expressions(repository) for name in NAME.findall(expression)}
    watched = {name for name, spec in CATALOGUE.items() if named & {name + suffix for suffix in SUFFIXES[spec.kind]}}

    assert set(CATALOGUE) - watched == {
        "embedq_articles",
        "embedq_index_recall",
        "embedq_build",
        "embedq_claimed",
        "embedq_delayed_tasks",
        "embedq_dispatch_held",
        "embedq_maintenance",
        "embedq_provider_inputs",
        "embedq_scrape_seconds",
    }


def test_no_label_can_hold_a_text_a_tenant_or_an_article() -> None:
    assert {label for spec in CATALOGUE.values() for label in spec.labels} == {
        "version",
        "delivery",
        "worker",
        "outcome",
        "priority",
        "provider",
        "model",
        "statement",
        "kind",
        "method",
        "route",
        "status",
        "mode",
        "place",
        "error_class",
        "queue",
        "state",
        "rule",
        "level",
        "source",
    }


def test_a_page_is_what_prometheus_reads() -> None:
    old = {"priority": "low", "place": "table", "tasks": 7, "delayed": 2, "oldest": datetime.now(UTC) - timedelta(hours=1)}

    class Few:
        def collect(self) -> Any:
            yield from families([*of_live(LiveState(Mode.HYBRID, is_running=False)), *of_depth([old])])

    read = {
        (s.name, frozenset(s.labels.values())): s.value
        for family in text_string_to_metric_families(metrics.page(Few()).decode())
        for s in family.samples
    }

    def value(name: str, *labels: str) -> float:
        return float(read[name, frozenset(labels)])

    assert value("embedq_mode", "hybrid") == 1
    assert value("embedq_mode", "celery") == 0
    assert value("embedq_running") == 0
    assert value("embedq_open_tasks", "low", "table") == 7
    assert value("embedq_open_tasks", "urgent", "broker") == 0
    assert value("embedq_delayed_tasks", "low") == 2
    assert value("embedq_oldest_task_seconds", "low", "table") == pytest.approx(3600, abs=5)


def test_a_dead_worker_serves_no_queue_and_a_poller_serves_all() -> None:
    shared: dict[str, Any] = {"steward_since": None, "counters": {}, "name": "w"}
    rows = [
        shared | {"delivery": "celery", "alive": True, "queues": ["urgent"]},
        shared | {"delivery": "celery", "alive": False, "queues": ["low"]},
        shared | {"delivery": "poller", "alive": True, "queues": []},
    ]

    found = {(name, *labels): value for name, labels, value in of_workers(rows)}

    assert found["embedq_queue_consumers", "urgent", "celery"] == 1
    assert found["embedq_queue_consumers", "low", "celery"] == 0
    assert [found["embedq_queue_consumers", queue, "poller"] for queue in ("urgent", "low")] == [1, 1]


def test_a_workers_counters_become_outcomes_and_metrics_of_their_own() -> None:
    found = {
        (name, *labels): value for name, labels, value in of_counters("poller", "p1", {"claimed": 9, "completed": 7, "late": 2})
    }

    assert found["embedq_claimed", "poller", "p1"] == 9
    assert found["embedq_late_results", "poller", "p1"] == 2
    assert found["embedq_settled", "poller", "p1", "completed"] == 7
    assert found["embedq_settled", "poller", "p1", "failed"] == 0


def test_a_histogram_counts_each_observation_in_every_bucket_that_holds_it() -> None:
    meter = Meter()

    for seconds in (0.001, 0.002, 0.3, 1000):
        meter.observe("store", seconds, "claim")

    ((labels, buckets, total_s),) = meter.measured("store")
    reached = dict(buckets)
    assert labels == ("claim",)
    assert total_s == pytest.approx(1000.303)
    assert (reached["0.001"], reached["0.0025"], reached["0.25"], reached["0.5"], reached["60"], reached["+Inf"]) == (
        1,
        2,
        2,
        3,
        3,
        4,
    )


def test_what_a_call_took_is_measured_also_when_it_fails() -> None:
    meter = Meter()

    with pytest.raises(ValueError), meter.timed("provider", "openai", "m"):
        raise ValueError

    assert meter.measured("provider")[0][1][-1] == ("+Inf", 1.0)
