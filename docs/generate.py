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
from embedq.decide.access import Scope
from embedq.decide.bodies import ARTICLE, DEPTH_MAX, KIB, MIB, OPERATORS, SEARCH, VALUES_MAX, VALUES_OF_ONE
from embedq.decide.drafts import MAX_METADATA_DEPTH
from embedq.decide.modes_table import rst_table, table
from embedq.errors import Unexpected
from embedq.http.app import make_app
from embedq.http.attempts import OF_ALL, OF_ONE
from embedq.http.bodies import HELD_MAX, SMALL
from embedq.http.connections import HEAD_MAX, HEAD_S, READ_S
from embedq.http.routes import FORM
from embedq.mcp.calls import TOOLS
from embedq.operations.crash import INTERRUPTED, NO_READER
from embedq.operations.metric_catalogue import CATALOGUE
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
        "Exit codes: 0 done, 1 failed, 2 misused, 3 checked and not well; where a command has others, its help says so. Besides:"
        f" {Unexpected.exit_code} something that nothing has foreseen, which was written to a file (:doc:`/howto/unexpected`);"
        f" {INTERRUPTED} ended by Ctrl-C;"
        f" {NO_READER} the reader of the output is gone (``embedq export | head``).",
        "",
        "With 1, 2 and 70 a message on standard error says what it was, and behind ``next:`` (or in the usage) what to do. An answer that cannot be written"
        " (a full disk, a closed standard output) is a failure (1), although the command was carried out: the message says so.",
        "",
        "Controls, bidi marks and invisible characters in what others have written are shown escaped (``\\x1b``, ``\\n``, ``\\u202e``; why: "
        "docs/why/visible.rst); ``--json`` has the exact text.",
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
        " Decided by ``embedq/decide/modes.py``.\n\n"
        "A worker with ``SEMANTIC_SEARCH_ENABLED=false`` keeps running, claims and dispatches nothing, takes no message and is not in the register\n"
        "of workers. While the row itself is gone, nothing is claimed or dispatched and writes make tasks; ``embedq start`` makes it anew."
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


OF_HTTP = f"""\
A body is ``application/json`` in UTF-8; a name that is not known is refused. ``18.0`` is an integer, ``true`` and ``"18"`` are none. Errors are
``application/problem+json``, with the ``field``, the reason and the next step.

The token is checked before a byte of the body is read. Bounds (the connection is closed where the rest of a body is not read):

- The head of a request: {HEAD_MAX // KIB} KiB, within {HEAD_S:g} s.
- A body (408): within {ARTICLE.within_s:g} s, a form within {FORM.within_s:g} s. An answer: 64 KiB of it are taken within {READ_S:g} s.
- A body (413): {ARTICLE.size // MIB} MiB for articles and batches, {SEARCH.size // MIB} MiB for a search, {OPERATORS.size // KIB} KiB for
  ``/admin``, {FORM.size // KIB} KiB for a form. Bodies above {SMALL // KIB} KiB, all together, {HELD_MAX // MIB} MiB (503).
- JSON (400): {DEPTH_MAX} levels, of which ``metadata`` may use {MAX_METADATA_DEPTH} (422); {VALUES_MAX:,} commas and opening brackets
  outside strings in articles and batches (more where ``ARTICLE_BATCH_MAX`` allows more than {VALUES_MAX // VALUES_OF_ONE:,} articles),
  {OPERATORS.values:,} elsewhere.
- Connections: see :doc:`../howto/deploy`.
- Signing in to the cockpit (429): {OF_ONE} wrong tokens a minute from an address (IPv6: a network of 64 bits), {OF_ALL} in all, in each process.

``OPTIONS`` is answered with 405 like every method that a path does not take; ``Allow`` names all that it takes. ``HEAD`` is ``GET`` without
the body. No path redirects to another host, and ``X-Forwarded-*`` and ``Forwarded`` are not believed.
"""


def http_page() -> str:
    app = make_app(Settings(database_url="postgresql://127.0.0.1:1/none", redis_url="redis://127.0.0.1:1/0"))
    document = app.openapi()
    lines = [NOTE, "HTTP", "====", ""]
    lines += [
        "OpenAPI with examples is at ``/docs`` and ``/openapi.json`` of the service. ``AUTH_TOKEN`` opens articles and search,",
        "",
    ]
    lines[-2] += (
        " ``ADMIN_TOKEN`` opens ``/admin``, ``/metrics`` and the cockpit at ``/`` with the console's pages (``docs/howto/console.rst``);"
        " named tokens by their scope: :doc:`tokens`."
    )
    lines += [*OF_HTTP.splitlines(), ""]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            said = " ".join((operation.get("description") or f"{operation['summary']}.").split())
            codes = ", ".join(sorted(operation["responses"]))
            scopes = [scope for one in operation.get("security", []) for names in one.values() for scope in names]
            needs = f"Scope: ``{scopes[0]}``. " if scopes else ""
            lines += [f"``{method.upper()} {path}``", f"    {said} {needs}{_taken(document, operation)}Answers: {codes}.", ""]
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


OF_MCP = """\
``embedq mcp`` serves one agent over standard input and output, ``/mcp`` of the service many over HTTP (streamable, stateless, POST alone). It
needs the extra ``embedq[mcp]``. How to begin: :doc:`../howto/agents`.

Which tools there are depends on the token (:doc:`tokens`): one that it may not use is not listed. On stdio the token is ``EMBEDQ_TOKEN``;
without one there are the tools of the scope ``write``, for all tenants. Every tool has schemas for what it takes and gives, and the hints
``readOnlyHint``, ``destructiveHint`` and ``idempotentHint``. What goes wrong is a tool's error (``isError``): a reason, and a line ``next:``
with the next step. A request can be cancelled; a write that had begun by then is done all the same.

Articles are resources too: ``article://TENANT/ARTICLE`` (id or slug, percent-encoded) and ``article://TENANT/ARTICLE/versions/NUMBER``;
``resources/list`` names those of the token's tenant.
"""


def mcp_page() -> str:
    lines = [NOTE, "MCP", "===", "", OF_MCP]
    for tool in TOOLS.values():
        scope = "admin, all tenants" if tool.need.scope is Scope.ADMIN else tool.need.scope
        hints = "reads" if tool.reads else "changes, may overwrite or delete" if tool.destroys else "changes"
        shapes = [
            (title, shape.model_fields) for title, shape in (("Takes", tool.takes), ("Gives", tool.gives)) if shape.model_fields
        ]
        told = [
            f"{title}: {', '.join(f'``{name}``' + ' (needed)' * one.is_required() * (title == 'Takes') for name, one in fields.items())}."
            for title, fields in shapes
        ]
        lines += [f"``{tool.name}`` (scope {scope}; {hints})", f"    {tool.about.replace('`', '``')} {' '.join(told)}", ""]
    return "\n".join(lines)


def benchmarks_page() -> str:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    lines = [NOTE.replace("the code", "tests/bench/figures.json"), "Benchmarks", "==========", ""]
    lines += [
        "The record of ``scripts/bench``: what was measured last and kept (``--keep``, which leaves out a benchmark that misses a target), with the",
        "load of the machine just before. What is behind the figures, and what they mean: :doc:`../why/performance`.",
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
    "mcp.rst": mcp_page,
    "benchmarks.rst": benchmarks_page,
}


def main() -> None:
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
        print(f"docs/reference/{name}", file=sys.stderr)


if __name__ == "__main__":
    main()
