"""`embedq model scores` and `embedq model compare`."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import click

from .. import wiring
from ..client.judged_search import Ranking, Run
from ..decide.ranking import overlap
from ..decide.scores import background
from ..errors import InputError
from ..model import Model, Role
from ..settings import Settings, from_env
from ..store import Store
from .fences import opened
from .voice import Answer, Table, command

SAMPLE = 20
JUDGED = click.option(
    "--file", type=click.Path(dir_okay=False, path_type=Path), help="Judged questions (`embedq quality add`)."
)


@command(name="scores")
@click.argument("key", required=False, metavar="[MODEL]")
@click.option("--samples", default=300, show_default=True, type=click.IntRange(20, 2000), help="Stored vectors to compare.")
def scores(key: str | None, samples: int) -> Answer:
    """What a model's scores mean: the scores of unrelated texts, and so which --min-score leaves them out.

    Example:  embedq model scores
    """
    with opened() as store:
        chosen = store.models.named(key) if key else store.models.active()
        if chosen is None:
            raise InputError("no model is active", hint="name one: `embedq model list`", field="model")
        found = background(store.search.sampled(chosen, samples))
    return Answer(
        {"model": str(chosen)} | found._asdict(),
        [
            f"{chosen}: of {found.pairs:,} pairs of texts taken at random half are below {found.median:.2f}, 95 % below {found.most_95:.2f},"
            f" 99 % below {found.most_99:.2f}",
            f"--min-score {found.most_99:.2f} leaves out texts that are no nearer than unrelated ones; a higher one also leaves out more related ones",
        ],
    )


@command(name="compare")
@click.argument("key", metavar="MODEL")
@click.argument("queries", nargs=-1)
@click.option("--with", "other", metavar="MODEL", help="Compare with this one; default: the active model.")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 100), help="Results of each query.")
@JUDGED
def compare(key: str, queries: tuple[str, ...], other: str | None, k: int, file: Path | None) -> Answer:
    """How much of the first K results two models share, query by query; without queries, for titles of 20 articles.

    With judged questions (`embedq quality add`): how well each answers them, and which are won and lost.

    Example:  embedq model compare 2 "compress a file" "parse arguments"
    Example:  embedq model compare 2 --file questions.jsonl
    """
    settings = from_env(os.environ)
    with closing(wiring.store(settings)) as store:
        one = store.models.named(key)
        two = store.models.named(other) if other else store.models.active()
        if two is None or two.id == one.id:
            raise InputError("there is nothing to compare it with", hint="name another model by --with")
        if file is not None:
            return judged(settings, store, [two, one], file)[1]
        asked = list(queries) or store.models.sample_titles(SAMPLE)
        ranked = [_ranked(settings, store, each, asked, k) for each in (one, two)]
    shares = [overlap(first, second, k) for first, second in zip(*ranked, strict=True)]
    mean = sum(shares) / len(shares) if shares else 1.0
    found = zip(asked, shares, *ranked, strict=True)
    by_query = [{"query": query, "overlap": share, str(one): first, str(two): second} for query, share, first, second in found]
    data = {"models": [str(one), str(two)], "k": k, "overlap": mean, "queries": by_query}
    said: list[str | Table] = [Table(("query", "shared"), [(q[:80], f"{s:.0%}") for q, s in zip(asked, shares, strict=True)])]
    return Answer(data, [*said, f"{one} and {two} share {mean:.0%} of the first {k} over {len(asked)} queries"])


def judged(settings: Settings, store: Store, models: list[Model], file: Path) -> tuple[list[Run], Answer]:
    from .quality import changes_tables, data_of, measured, questions, scores_table

    asked = questions(file)
    runs = measured(settings, store, models, asked, [Ranking.MEANING])
    return runs, Answer(data_of(runs, asked), [scores_table(runs), *changes_tables(runs, asked)])


def _ranked(settings: Settings, store: Store, chosen: Model, queries: list[str], k: int) -> list[list[str]]:
    """Article ids by query. Each model's vectors are compared with its own query vectors only."""
    with closing(wiring.provider_factory(settings, Role.QUERY)(chosen)) as provider:
        vectors = provider.embed(queries).vectors
    return [[row["article_id"] for row in store.search.nearest(chosen, vector, k)] for vector in vectors]
