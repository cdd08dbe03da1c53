"""`embedq quality …`: judged questions in a file, and how well search answers them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import click

from .. import wiring
from ..client.client import Client
from ..client.judged_search import Ranking, Run, run
from ..decide.quality import Judged, judged, read, won_and_lost
from ..decide.refusals import of_file
from ..errors import InputError, NotFound
from ..local.files import open_regular
from ..model import Model
from ..settings import Settings, from_env
from ..store import Store
from .voice import Answer, Table, command, tell

FILE = "questions.jsonl"
SHOWN = 10
QUESTIONS = click.option(
    "--file",
    "file",
    default=FILE,
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The judged questions.",
)


@click.group()
def quality() -> None:
    """Keep questions with their right answers, and measure how well search finds them."""


def register(made: click.Command) -> click.Command:
    quality.add_command(made)
    return made


@register
@command(name="add")
@click.argument("question")
@click.argument("articles", nargs=-1, required=True)
@click.option("--tenant", help="The tenant of the articles.")
@QUESTIONS
def add(question: str, articles: tuple[str, ...], tenant: str | None, file: Path) -> Answer:
    """Write a question with the articles that answer it (ids or slugs; any of them is right) to the end of a file.

    Example:  embedq quality add "how do I shrink a file" gzip.compress zlib.compress
    """
    try:
        added = judged(question, articles, tenant)
    except ValueError as wrong:
        raise InputError(str(wrong), hint="write the question as a user would ask it", field="question") from None
    with Client() as client:
        for key in articles:
            client.get(key, tenant_id=tenant)
    try:
        _append(file, added.line())
    except OSError as failed:
        raise of_file(failed, file, "written") from failed
    total = len(questions(file))
    return Answer(
        {"file": str(file), "questions": total}, [f"{file} has {total:,} judged questions", "next: embedq quality run"]
    )


def _append(file: Path, line: str) -> None:
    """Raises OSError, also if it is not a regular file."""
    if file.exists():
        open_regular(file).close()
    with file.open("a", encoding="utf-8") as sink:
        sink.write(line + "\n")


def questions(file: Path) -> list[Judged]:
    """Raises NotFound where there is no such file, InputError for an invalid line."""
    try:
        with TextIOWrapper(open_regular(file), encoding="utf-8") as lines:
            found = read(lines)
    except FileNotFoundError:
        raise NotFound(
            f"there is no file {file}", hint='`embedq quality add "question" ARTICLE…` begins one, or name one by --file'
        ) from None
    except UnicodeDecodeError:
        raise InputError(
            f"{file} is not a file of judged questions", hint="JSON lines in UTF-8, as `embedq quality add` writes them"
        ) from None
    except OSError as failed:
        raise of_file(failed, file, "read") from failed
    if not found:
        raise NotFound(f"{file} has no questions", hint='`embedq quality add "question" ARTICLE…`')
    return found


@register
@command(name="run")
@click.option(
    "--model", "models", multiple=True, metavar="MODEL", help="May be repeated, to compare; default: the active model."
)
@click.option("--hybrid", is_flag=True, help="Also rank by words alone, and by meaning and words together.")
@QUESTIONS
def run_(models: tuple[str, ...], hybrid: bool, file: Path) -> Answer:
    """hit@k, MRR and nDCG of each ranking, side by side, and the questions that were won and lost against the first.

    Example:  embedq quality run --hybrid
    Example:  embedq quality run --model 1 --model 2
    """
    asked, settings = questions(file), from_env(os.environ)
    with closing(wiring.store(settings)) as store:
        chosen = [store.models.named(key) for key in models] or [_active(store)]
        runs = measured(settings, store, chosen, asked, list(Ranking) if hybrid else [Ranking.MEANING])
    return Answer(data_of(runs, asked), [scores_table(runs), *changes_tables(runs, asked)])


def _active(store: Store) -> Model:
    active = store.models.active()
    if active is None:
        raise NotFound("no model is active", hint="`embedq db upgrade` registers the one that the settings name")
    return active


def measured(
    settings: Settings, store: Store, models: Sequence[Model], asked: Sequence[Judged], rankings: Sequence[Ranking]
) -> list[Run]:
    """Models in order, each with its rankings. The ranking by words does not depend on a model, so it is done once."""
    runs: list[Run] = []
    for model in models:
        wanted = [each for each in rankings if each is not Ranking.WORDS or not runs]
        tell(f"{len(asked):,} questions to {model} …")
        runs += run(settings, store, model, asked, wanted)
    return runs


def name_of(one: Run) -> str:
    return "words" if one.ranking is Ranking.WORDS else f"{one.model} by {one.ranking}"


def scores_table(runs: Sequence[Run]) -> Table:
    cells = [
        (
            name_of(one),
            f"{one.score.hit_1:.0%}",
            f"{one.score.hit_5:.0%}",
            f"{one.score.hit_10:.0%}",
            f"{one.score.mrr:.3f}",
            f"{one.score.ndcg_10:.3f}",
        )
        for one in runs
    ]
    return Table(("ranking", "hit@1", "hit@5", "hit@10", "MRR", "nDCG@10"), cells, f"{runs[0].score.questions:,} questions")


def changes_tables(runs: Sequence[Run], asked: Sequence[Judged]) -> list[str | Table]:
    """For every ranking after the first: which questions it answers better and worse than that, the first few of each."""
    said: list[str | Table] = []
    for other in runs[1:]:
        won, lost = won_and_lost(runs[0].places, other.places)
        rows = [
            (change, asked[number].question[:80], _at(runs[0], number), _at(other, number))
            for change, numbers in (("won", won), ("lost", lost))
            for number in numbers[:SHOWN]
        ]
        said.append(f"{name_of(other)}, against the first: {len(won)} won, {len(lost)} lost")
        if rows:
            said.append(Table(("", "question", "first", "here"), rows))
    return said


def _at(one: Run, number: int) -> str:
    return str(min(one.places[number], default="-"))


def data_of(runs: Sequence[Run], asked: Sequence[Judged]) -> dict[str, Any]:
    found = []
    for one in runs:
        won, lost = won_and_lost(runs[0].places, one.places)
        texts = {"won": [asked[number].question for number in won], "lost": [asked[number].question for number in lost]}
        ranks = [min(each, default=None) for each in one.places]
        found.append({"ranking": name_of(one), "model": str(one.model)} | one.score._asdict() | texts | {"places": ranks})
    return {"questions": [each.question for each in asked], "runs": found}
