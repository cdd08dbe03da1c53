"""The command line. One module per group of commands, imported when one of them is called: `embedq --help` starts at once.

Imported by `__main__` only; uses everything below."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from .._version import __version__
from .asked import nearest, usage_errors

# name: (module, attribute, one line of help).
COMMANDS: dict[str, tuple[str, str, str]] = {
    "quickstart": ("running", "quickstart", "Try embedq: import Python's own documentation, embed it, search it."),
    "up": ("running", "up", "Run everything on this machine: servers, Celery worker, poller, steward, HTTP, Flower."),
    "poller": ("running", "poller", "Run the database worker."),
    "serve": ("serve", "serve", "Run the HTTP service: articles, search, operator paths, metrics, cockpit."),
    "mcp": ("mcp", "mcp", "Serve agents by the Model Context Protocol, over standard input and output."),
    "articles": ("articles", "articles", "Add, import, list, show, edit, delete, restore, review and reindex articles."),
    "attach": ("sources", "attach", "Keep the rows of one of your tables embedded."),
    "detach": ("sources", "detach", "Stop embedding a table's rows; the table itself does not change."),
    "source": ("sources", "source", "List the attached tables, and show their progress."),
    "search": ("searching", "search", "Find the articles nearest in meaning."),
    "status": ("overview", "status", "What runs, what waits, and what is wrong."),
    "health": ("overview", "health", "Report problems. Exit code 0 without a problem, 1 with one; for monitors."),
    "stats": ("overview", "stats", "Sizes, throughput and failures."),
    "recent": ("overview", "recent", "The tasks that changed last."),
    "explain": ("explaining", "explain", "Why an article is not searchable yet, in one screen."),
    "audit": ("explaining", "audit", "Who did what, when and why."),
    "wait": ("overview", "wait", "Wait until nothing is left to embed."),
    "stop": ("fences", "stop", "Stop every worker's claims."),
    "start": ("fences", "start", "Let workers claim again."),
    "pause": ("fences", "pause", "Pause priorities or tenants."),
    "resume": ("fences", "resume", "End pauses."),
    "emergency-stop": ("fences", "emergency_stop", "Stop, and hand back every task in flight."),
    "cancel": ("tasks", "cancel", "Cancel open tasks."),
    "clear": ("tasks", "clear", "Empty the queue, or part of it."),
    "retry": ("tasks", "retry", "Try failed tasks again."),
    "requeue": ("tasks", "requeue", "Queue finished tasks again."),
    "stuck": ("stuck", "stuck", "List tasks held by dead or hanging workers."),
    "reset-stuck": ("stuck", "reset_stuck", "Hand stuck tasks back to the queue."),
    "failed": ("deadletter", "failed", "List failed tasks, or group them by error."),
    "dead-letter": ("deadletter", "dead_letter", "List, show, retry and discard failed tasks."),
    "export": ("transfer", "export", "Write tasks as lines of JSON."),
    "import": ("transfer", "import_", "Create the open tasks of an export."),
    "mode": ("modes", "mode", "Show the live mode, or switch it."),
    "rollback": ("rollback", "rollback", "Go back: assess, plan, rehearse; emergency, planned, partial; undo and report."),
    "broker": ("broker", "broker", "Inspect the broker, drain it into the table, refill it, back it up."),
    "maintenance": (
        "maintenance",
        "maintenance",
        "Announce maintenance, begin it, end it; submissions can be paused meanwhile.",
    ),
    "reconcile": ("care", "reconcile", "Give every stale article without a task one."),
    "verify": ("care", "verify", "Prove that nothing is missing."),
    "cleanup": ("care", "cleanup", "Delete what is finished and old."),
    "db": ("database", "db", "Set up, upgrade, downgrade and check the schema."),
    "config": ("config", "config", "Show, check, save, compare and restore the settings."),
    "provider": ("providers", "provider", "Check whether the provider answers, with what vectors, and how fast."),
    "model": ("models", "model", "Build another model beside the active one, switch, switch back."),
    "index": ("index", "index", "Build, check and drop the index of the vectors."),
    "quality": ("quality", "quality", "Keep judged questions, and measure how well search answers them."),
    "usage": ("usage", "usage", "Tokens, requests, reused vectors and cost, by day, tenant and model."),
    "token": ("token", "token", "Create, list, revoke and rotate named tokens with a scope."),
    "throttle": ("throttle", "throttle", "Limit rate, batch size and concurrency while everything runs."),
    "backfill": ("backfill", "backfill", "Queue existing articles that have no vector, or undo that."),
    "backup": ("backup", "backup", "Write queue, settings, audit (and articles, vectors) to one checked file."),
    "restore": ("backup", "restore", "Restore a backup, also over a newer state."),
    "test": ("trials", "test", "Test the installed system with articles of a temporary tenant."),
    "alerts": ("alerts", "alerts", "Evaluate the alert rules."),
    "metrics": ("metrics", "metrics", "Depth, throughput and failures over time, as sparklines."),
    "uninstall": ("uninstall", "uninstall_", "Remove everything of embedq's, after a backup, and verify that nothing remains."),
}


# As `embedq --help` shows them.
GROUPS: dict[str, tuple[str, ...]] = {
    "Begin": ("quickstart", "up", "poller", "serve"),
    "Articles": ("articles", "search", "quality"),
    "Your tables": ("attach", "detach", "source"),
    "Agents and applications": ("mcp", "token"),
    "Inspect": ("status", "health", "stats", "recent", "explain", "wait", "metrics", "alerts", "audit", "usage", "test"),
    "Stop and start": ("stop", "start", "pause", "resume", "throttle", "emergency-stop", "mode", "maintenance"),
    "Tasks": (
        "failed",
        "retry",
        "requeue",
        "cancel",
        "clear",
        "stuck",
        "reset-stuck",
        "dead-letter",
        "backfill",
        "export",
        "import",
    ),
    "Roll back and restore": ("rollback", "backup", "restore", "uninstall"),
    "Maintain": ("verify", "reconcile", "cleanup", "index", "model", "provider", "broker", "db", "config"),
}
AS_JSON = "embedq.as_json"


class Lazy(click.Group):
    """A group that knows its commands' names and help, and imports one when it is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        found: click.Command = getattr(import_module(f".{module}", __name__), attribute)
        return found

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, COMMANDS[name][2]) for name in names])

    def make_context(self, info_name: str | None, args: list[str], *given: Any, **more: Any) -> click.Context:
        as_json = "--json" in args
        with usage_errors(as_json):
            made = super().make_context(info_name, args, *given, **more)
        made.meta[AS_JSON] = as_json
        return made

    def invoke(self, context: click.Context) -> Any:
        with usage_errors(context.meta.get(AS_JSON, False)):
            return super().invoke(context)

    def resolve_command(self, context: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(context, args)
        except click.UsageError as unknown:
            near = nearest(args[0], COMMANDS)
            raise click.UsageError(
                f"No such command {args[0]!r}. Did you mean {near!r}?" if near else unknown.message, context
            ) from None


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="embedq")
def embedq() -> None:
    """Keep the vector embeddings of articles in PostgreSQL up to date, and go back from anything that goes wrong.

    \b
    First time here:   embedq quickstart
    In an incident:    embedq status
    """
    from ..telemetry import logs

    logs.set_up_for_commands()
