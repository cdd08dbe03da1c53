"""Writes the pages of docs/reference/ that the code already knows: `scripts/docs`. A test compares them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from embedq.cli import embedq
from embedq.decide.modes import rst_table, table
from embedq.http.app import make_app
from embedq.metrics import CATALOGUE
from embedq.settings import Settings, by_env

HERE = Path(__file__).parent / "reference"
RECORD = Path(__file__).parents[1] / "tests" / "bench" / "figures.json"
NOTE = ".. Made from the code by scripts/docs: change it there.\n\n"


def settings_page() -> str:
    lines = [NOTE, "Settings", "========", ""]
    lines += [
        "All settings come from the environment. They are checked together before anything starts; times are in the unit named.",
        "",
    ]
    defaults = Settings()
    for name, spec in by_env().items():
        value = getattr(defaults, spec.name)
        shown = "empty" if value == "" else str(value).lower() if isinstance(value, bool) else str(value)
        secret = " Never shown." if spec.metadata["secret"] else ""
        lines += [
            f"``{name}``",
            f"    {spec.metadata['about'][0].upper()}{spec.metadata['about'][1:]}. Default: {shown}.{secret}",
            "",
        ]
    return "\n".join(lines)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its full name."""
    yield from ((context.command_path, context.command) for context in _contexts())


def _contexts() -> Iterator[click.Context]:
    yield from _below(embedq.make_context("embedq", [], resilient_parsing=True, terminal_width=100))


def _below(context: click.Context) -> Iterator[click.Context]:
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        inner = click.Context(command, info_name=name, parent=context)
        if not isinstance(command, click.Group):
            yield inner
            continue
        if command.invoke_without_command:
            yield inner
        yield from _below(inner)


def commands_page() -> str:
    lines = [NOTE, "Commands", "========", ""]
    lines += [
        "Exit codes: 0 done, 1 failed, 2 misused, 3 checked and not well; where a command has others, its help says so.",
        "",
    ]
    lines += [
        "``--yes`` answers the question of a command that destroys; without a terminal and without it, such a command refuses.",
        "",
    ]
    for context in _contexts():
        path = context.command_path
        with context.scope():
            text = context.command.get_help(context)
        lines += [
            path,
            "-" * len(path),
            "",
            ".. code-block:: text",
            "",
            *(f"    {line}".rstrip() for line in text.splitlines()),
            "",
        ]
    return "\n".join(lines)


def modes_page() -> str:
    words = (
        "What a process does for each live mode (``embedding_worker_status``) and each pair of its own switches."
        " Decided by ``embedq/decide/modes.py``."
    )
    return f"{NOTE}Modes\n=====\n\n{words}\n\n{rst_table(table())}"


def metrics_page() -> str:
    lines = [NOTE, "Metrics", "=======", ""]
    lines += [
        "At ``/metrics`` of the service, and of workers and pollers on ``EMBEDDING_METRICS_PORT``. Prometheus' text format.",
        "",
    ]
    for name, spec in CATALOGUE.items():
        labels = f" Labels: {', '.join(f'``{label}``' for label in spec.labels)}." if spec.labels else ""
        lines += [f"``{name}`` ({spec.kind})", f"    {spec.about}{labels}", ""]
    return "\n".join(lines)


def http_page() -> str:
    app = make_app(Settings(database_url="postgresql://127.0.0.1:1/none", redis_url="redis://127.0.0.1:1/0"))
    document = app.openapi()
    lines = [NOTE, "HTTP", "====", ""]
    lines += [
        "OpenAPI with examples is at ``/docs`` and ``/openapi.json`` of the service. ``AUTH_TOKEN`` opens articles and search,",
        "",
    ]
    lines[-2] += " ``ADMIN_TOKEN`` opens ``/admin``, ``/metrics`` and the cockpit at ``/``."
    lines += ["A body is ``application/json``; a name that is not known is refused.", ""]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            said = " ".join((operation.get("description") or f"{operation['summary']}.").split())
            codes = ", ".join(sorted(operation["responses"]))
            lines += [f"``{method.upper()} {path}``", f"    {said} {_taken(document, operation)}Answers: {codes}.", ""]
    return "\n".join(lines)


def _taken(document: dict[str, Any], operation: dict[str, Any]) -> str:
    """What an operation takes besides its path: in the address, in headers, in the body."""
    parameters = [one for one in operation.get("parameters", []) if one["in"] != "path"]
    found = {
        where: [f"``{one['name']}``" + " (needed)" * one.get("required", False) for one in parameters if one["in"] == where]
        for where in ("query", "header")
    }
    schema = json.dumps(operation.get("requestBody", {}))
    named = re.search(r"#/components/schemas/(\w+)", schema)
    body = document["components"]["schemas"][named[1]] if named else {"properties": {}}
    found["body"] = [f"``{name}``" + " (needed)" * (name in body.get("required", ())) for name in body["properties"]]
    return "".join(f"{where.capitalize()}: {', '.join(names)}. " for where, names in found.items() if names)


def benchmarks_page() -> str:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    lines = [NOTE.replace("the code", "tests/bench/figures.json"), "Benchmarks", "==========", ""]
    lines += [
        "The record of ``scripts/bench``: what was measured last and kept (``--keep``), with the load of the machine just before. What is behind the",
        "figures, and what they mean: :doc:`../why/performance`.",
        "",
    ]
    for name, run in record.items():
        machine = run["machine"]
        title = f"{name}: {run['title']}"
        lines += [title, "-" * len(title), ""]
        lines += [
            f"{run['at'][:16].replace('T', ' ')} UTC, {machine['cores']} cores ({machine['cpu']}), PostgreSQL {machine['postgresql']},"
            f" Python {machine['python']}, load {machine['load_before']:.1f}.",
            "",
        ]
        lines += [".. list-table::", "   :header-rows: 1", "   :widths: 40 16 34 16 10", ""]
        lines += _row("", "figure", "against", "target", "")
        for figure in run["figures"]:
            ratio = f"{figure['ratio']:.3g} x {figure['against']}" if figure["ratio"] is not None else figure["against"]
            met = {True: "met", False: "**missed**", None: ""}[figure["met"]]
            lines += _row(
                figure["name"].replace("`", "``"), f"{figure['value']:,.4g} {figure['unit']}", ratio, figure["target"], met
            )
        lines.append("")
    return "\n".join(lines)


def _row(first: str, *others: str) -> list[str]:
    return [f"   * - {first}", *(f"     - {other}" for other in others)]


PAGES = {
    "settings.rst": settings_page,
    "commands.rst": commands_page,
    "modes.rst": modes_page,
    "metrics.rst": metrics_page,
    "http.rst": http_page,
    "benchmarks.rst": benchmarks_page,
}


def main() -> None:
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
        print(f"docs/reference/{name}", file=sys.stderr)


if __name__ == "__main__":
    main()
