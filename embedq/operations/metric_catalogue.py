"""Every exposed metric, with its kind, its text and its labels. Tests check that the dashboard and the alert rules use no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    pass


SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


class Spec(NamedTuple):
    """One metric: its kind, help text, labels and, for histograms, buckets."""

    kind: str
    about: str
    labels: tuple[str, ...] = ()


WORKER = ("delivery", "worker")


CATALOGUE: dict[str, Spec] = {
    "embedq_build": Spec("gauge", "1; the version is a label.", ("version",)),
    # Measured by a worker process; the HTTP service repeats them from the last heartbeat.
    "embedq_claimed": Spec("counter", "Tasks claimed.", WORKER),
    "embedq_settled": Spec("counter", "Tasks settled, by how; `pending` is a wait or a handing back.", (*WORKER, "outcome")),
    "embedq_late_results": Spec("counter", "Results that came after the task had been taken away; discarded.", WORKER),
    "embedq_dispatched": Spec("counter", "Tasks published to the broker by this process as the steward.", WORKER),
    "embedq_rescued": Spec("counter", "Tasks taken back from dead or hanging workers by this process as the steward.", WORKER),
    "embedq_provider_pauses": Spec("counter", "How often this process paused a provider after a fault.", WORKER),
    # Measured by one process and exposed on its port; by the HTTP service for its own searches and writes.
    "embedq_waiting_seconds": Spec("histogram", "From a task's birth to its claim.", ("priority",)),
    "embedq_provider_seconds": Spec("histogram", "One request to a provider.", ("provider", "model")),
    "embedq_store_seconds": Spec("histogram", "One claim or settle in PostgreSQL.", ("statement",)),
    "embedq_provider_requests": Spec("counter", "Requests to a provider.", ("provider", "model")),
    "embedq_provider_inputs": Spec("counter", "Texts embedded.", ("provider", "model")),
    "embedq_provider_tokens": Spec("counter", "Tokens that the provider charged.", ("provider", "model")),
    "embedq_provider_faults": Spec(
        "counter", "Requests to a provider that ended without vectors, by kind.", ("provider", "model", "kind")
    ),
    "embedq_http_requests": Spec("counter", "Requests answered by the service.", ("method", "route", "status")),
    "embedq_http_seconds": Spec("histogram", "From a request's arrival to its answer.", ("method", "route")),
    # Of the database and the broker, exposed by the HTTP service.
    "embedq_database_up": Spec("gauge", "1 when PostgreSQL answered this scrape."),
    "embedq_broker_up": Spec("gauge", "1 when the broker answered this scrape."),
    "embedq_mode": Spec("gauge", "1 for the live mode, 0 for the others; 0 for all while the live row is gone.", ("mode",)),
    "embedq_running": Spec("gauge", "0 while everything is stopped (is_running = false, or the live row is gone)."),
    "embedq_submissions_accepted": Spec("gauge", "0 while submissions are paused."),
    "embedq_dispatch_held": Spec("gauge", "1 while nothing new goes to the broker."),
    "embedq_maintenance": Spec("gauge", "1 while a maintenance window runs."),
    "embedq_open_tasks": Spec("gauge", "Open tasks by priority and place: table, broker, worker.", ("priority", "place")),
    "embedq_delayed_tasks": Spec("gauge", "Of those in the table, the ones that wait for their time.", ("priority",)),
    "embedq_oldest_task_seconds": Spec("gauge", "Age of the oldest open task.", ("priority", "place")),
    "embedq_failed_tasks": Spec("gauge", "Tasks that failed and need a review.", ("error_class",)),
    "embedq_rejected_messages": Spec("gauge", "Broker messages that could not be understood and were not reviewed."),
    "embedq_broker_messages": Spec("gauge", "Messages in the broker.", ("queue", "state")),
    "embedq_queue_consumers": Spec("gauge", "Live workers that serve a queue; pollers serve all.", ("queue", "delivery")),
    "embedq_workers": Spec("gauge", "Live processes that embed.", ("delivery",)),
    "embedq_steward": Spec("gauge", "1 for the process that leads the housekeeping.", ("worker",)),
    "embedq_provider_up": Spec("gauge", "0 while faults are held against a provider.", ("provider",)),
    "embedq_provider_paused_seconds": Spec("gauge", "Seconds until the provider may be asked again.", ("provider",)),
    "embedq_tokens_today": Spec("gauge", "Tokens bought since midnight UTC, all processes together."),
    "embedq_cost_today": Spec("gauge", "What they cost, by EMBEDDING_PRICES."),
    "embedq_reused_today": Spec("gauge", "Vectors reused instead of bought, since midnight UTC."),
    "embedq_finding": Spec("gauge", "1 for each rule of `embedq health` that found something.", ("rule", "level")),
    "embedq_articles": Spec("gauge", "About how many articles there are, with rows of sources (the planner's estimate)."),
    "embedq_index_recall": Spec(
        "gauge",
        "Share of the exact ten nearest that the index finds, sampled in the last day; absent without an index.",
        ("model", "kind"),
    ),
    "embedq_source": Spec(
        "gauge", "1 for the state that a source is in: filling, following, behind or orphaned.", ("source", "state")
    ),
    "embedq_scrape_seconds": Spec("gauge", "How long collecting this page took."),
}


def exposed_names() -> set[str]:
    """The names of all samples that may appear on a metrics page."""
    return {name + suffix for name, spec in CATALOGUE.items() for suffix in SUFFIXES[spec.kind]}
