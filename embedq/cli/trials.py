"""`embedq test processing|api|load`: test an installed system with articles of a temporary tenant."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ..client.client import Client
from .voice import NOT_WELL, Answer, Table, command, lasting

if TYPE_CHECKING:
    from ..client.trials import Trial

TIMEOUT = click.option(
    "--timeout", default=60.0, show_default=True, type=click.FloatRange(0.1), help="Seconds that workers get."
)


@click.group()
def test() -> None:
    """Test the installed system with articles of a temporary tenant, which are removed afterwards. They are embedded, and paid for, like others."""


@command(name="processing")
@click.option("--articles", default=3, show_default=True, type=click.IntRange(1, 1000))
@TIMEOUT
def processing(articles: int, timeout: float) -> Answer:
    """Check that articles become searchable: saves some, waits for the workers, searches. Exit code 3 when they do not.

    Example:  embedq test processing --timeout 30
    """
    from ..client import trials

    with Client() as client:
        return _told(trials.processing(client, articles, timeout))


@command(name="load")
@click.option("--articles", default=500, show_default=True, type=click.IntRange(1, 100_000))
@TIMEOUT
def load(articles: int, timeout: float) -> Answer:
    """Measure how many articles per second are embedded beside the present load. Exit code 3 when not all are in time.

    Example:  embedq test load --articles 1000 --timeout 300
    """
    from ..client import trials

    with Client() as client:
        return _told(trials.processing(client, articles, timeout))


@command(name="api")
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="The HTTP service.")
def api(url: str) -> Answer:
    """Check that the HTTP service saves, reads, edits, searches and deletes an article, with AUTH_TOKEN. Exit code 3 when it does not.

    Example:  embedq test api --url http://127.0.0.1:8000
    """
    from ..client import trials

    with Client() as client:
        return _told(trials.api(client, url, client.settings.auth_token))


def _told(made: Trial) -> Answer:
    rows = [(step.what, lasting(step.seconds), step.found or "well") for step in made.steps]
    data = {"well": made.well, "tenant": made.tenant, "per_s": made.per_s, "steps": [asdict(step) for step in made.steps]}
    said: list[str | Table] = [Table(("step", "took", "result"), rows)]
    if made.per_s is not None:
        said.append(f"{made.per_s:,.1f} articles a second")
    said += [f"next: {step.next}" for step in made.steps if step.next]
    return Answer(data, [*said, "what it made is removed"], 0 if made.well else NOT_WELL)


for each in (processing, api, load):
    test.add_command(each)
