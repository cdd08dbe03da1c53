"""The command line. One module per group of commands, imported when one of them is called: `embedq --help` starts at once."""

from __future__ import annotations

from importlib import import_module

import click

from .._version import __version__

# name: (module, attribute, one line of help).
COMMANDS: dict[str, tuple[str, str, str]] = {
    "quickstart": ("running", "quickstart", "Try embedq: import Python's own documentation, embed it, search it."),
    "up": ("running", "up", "Run everything on this machine: servers, Celery worker, poller, steward, HTTP, Flower."),
    "poller": ("running", "poller", "Run the database worker."),
    "serve": ("serve", "serve", "Run the HTTP service: articles, search, operator paths, metrics, cockpit."),
    "articles": ("articles", "articles", "Add, import, list, show, edit, delete, restore, review and reindex articles."),
    "search": ("articles", "search", "Find the articles nearest in meaning."),
    "status": ("overview", "status", "What runs, what waits, and what is wrong."),
    "health": ("overview", "health", "Is it well? Exit code 0 or 1, for monitors."),
    "stats": ("overview", "stats", "Sizes, throughput and failures."),
    "recent": ("overview", "recent", "The tasks that something happened to last."),
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
    "stuck": ("tasks", "stuck", "List tasks held by dead or hanging workers."),
    "reset-stuck": ("tasks", "reset_stuck", "Hand stuck tasks back to the queue."),
    "failed": ("deadletter", "failed", "List failed tasks, or group them by error."),
    "dead-letter": ("deadletter", "dead_letter", "List, show, retry and discard failed tasks."),
    "export": ("transfer", "export", "Write tasks as lines of JSON."),
    "import": ("transfer", "import_", "Make the open tasks of an export anew."),
    "mode": ("modes", "mode", "Show the live mode, or switch it."),
    "rollback": ("rollback", "rollback", "Go back: assess, plan, rehearse; emergency, planned, partial; undo and report."),
    "broker": ("broker", "broker", "Look into the broker, drain it into the table, refill it, back it up."),
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
    "provider": ("providers", "provider", "Does the provider answer, with what, how fast?"),
    "model": ("models", "model", "Build another model beside the active one, switch, switch back."),
    "index": ("index", "index", "Build, check and drop the index of the vectors."),
    "usage": ("usage", "usage", "What was bought: tokens, requests, reused, cost, by day, tenant and model."),
    "throttle": ("throttle", "throttle", "Hold the work back, live: rate, batch, concurrency."),
    "backfill": ("backfill", "backfill", "Queue existing articles that have no vector; take it back again."),
    "backup": ("backup", "backup", "Write queue, settings, audit (and articles, vectors) to one checked file."),
    "restore": ("backup", "restore", "Bring a backup back, also over a newer state."),
    "alerts": ("alerts", "alerts", "Evaluate the alert rules here."),
    "metrics": ("metrics", "metrics", "How depth, throughput and failures went, as sparklines."),
    "uninstall": ("uninstall", "uninstall_", "Remove all that is embedq's, after a backup, and look that nothing remains."),
}


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
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])

    def resolve_command(self, context: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(context, args)
        except click.UsageError as unknown:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            raise click.UsageError(
                f"{unknown.message} Did you mean {near[0]!r}?" if near else unknown.message, context
            ) from None


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="embedq")
def embedq() -> None:
    """Keep the vector embeddings of articles in PostgreSQL up to date, and go back from anything that goes wrong.

    \b
    First time here:   embedq quickstart
    At three o'clock:  embedq status
    """
