"""Quality of search: questions in a person's words with their right answers, by meaning, by words and by both."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from embedq import wiring
from embedq.client.judged_search import Ranking, Run
from embedq.client.judged_search import run as run_questions
from embedq.client.sync import embed_now
from embedq.decide.quality import Judged, read
from embedq.local.sample_corpus import standard_library
from embedq.model import ArticleDraft, Model, Priority
from embedq.providers.registry import default_model
from embedq.settings import Settings, from_env
from embedq.store import Store
from embedq.store.index import build_words

from .figures import Figure
from .world import World

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
SETS = {"python": ("python", "identifiers"), "handbook": ("handbook",)}
MODELS = ("hashing", "local")
# So much less than in the record is not a drop: one question of seventy.
TOLERANCE = 0.015
HEADING = re.compile(r"^(.+)\n(?:=|-|~|\^){3,}$", re.MULTILINE)


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """Each corpus with each model; MRR, and beside it how often the first and one of the first five was right."""
    record = _record()
    for provider in MODELS[:1] if quick else MODELS:
        for corpus in SETS:
            for name, runs in _corpus(world, provider, corpus):
                yield from (_figure(record, f"{name}, {provider}", one, runs) for one in runs)


def _corpus(world: World, provider: str, corpus: str) -> Iterator[tuple[str, list[Run]]]:
    model = Model(provider, *default_model(provider))
    with world.yard(
        EMBEDDING_PROVIDER=provider, EMBEDDING_MODEL=model.name, EMBEDDING_DIMENSIONS=str(model.dimensions)
    ) as yard:
        settings = from_env(yard.environment)
        with yard.store() as store:
            chosen = store.models.add(model)
            store.models.activate(chosen, who="benchmark", force=True)
            _fill(settings, store, chosen, python() if corpus == "python" else handbook())
            build_words(store.database)
            yard.sql("ANALYZE article_texts")
            for name in SETS[corpus]:
                yield name, run_questions(settings, store, chosen, _judged(name, store), list(Ranking))


def _fill(settings: Settings, store: Store, model: Model, drafts: list[ArticleDraft]) -> None:
    store.database.execute("UPDATE embedding_worker_status SET mode = 'off'")
    provider = wiring.provider_factory(settings)(model)
    for start in range(0, len(drafts), 200):
        with store.articles.writing(priority=Priority.NORMAL, reason="benchmark", mode=None) as connection:
            written = store.articles.put(connection, drafts[start : start + 200], replace=True)
        embed_now(store, provider, written.ids)


def python() -> list[ArticleDraft]:
    """The articles of `embedq quickstart`."""
    return list(standard_library())


def handbook() -> list[ArticleDraft]:
    """embedq's own documentation: an article for each section, whose slug begins with its page's name."""
    return [draft for page in sorted(DOCS.rglob("*.rst")) for draft in _sections(page)]


def _sections(page: Path) -> Iterator[ArticleDraft]:
    name = page.relative_to(DOCS).with_suffix("").as_posix()
    _, *parts = HEADING.split(page.read_text(encoding="utf-8"))
    title = parts[0] if parts else name
    for number, (heading, text) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        if text.strip():
            yield ArticleDraft(title if heading == title else f"{title}: {heading}", text.strip(), slug=f"{name}#{number}")


def _judged(name: str, store: Store) -> list[Judged]:
    """The questions of a set. Of the handbook every section of a page is right where the page is named."""
    asked = read((HERE / "judged" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
    slugs = {row["slug"] for row in store.database.fetch("SELECT slug FROM article_texts")}
    found = [each._replace(articles=tuple(s for s in sorted(slugs) if s.partition("#")[0] in each.articles)) for each in asked]
    missing = [each.question for each in found if not each.articles]
    assert not missing, f"the answers of these questions are gone: {missing}"
    return found


def _figure(record: dict[str, float], name: str, one: Run, runs: list[Run]) -> Figure:
    """Hybrid has to be as good as the better of the others, in its first places too; each as good as in the record."""
    score = one.score
    full = f"{name} by {one.ranking}: MRR over {score.questions} questions"
    least = record.get(full, TOLERANCE) - TOLERANCE
    first = 0.0
    if one.ranking is Ranking.HYBRID:
        others = [other.score for other in runs if other is not one]
        least, first = max(least, *(other.mrr for other in others)), max(other.hit_1 for other in others)
    said = f"(hit@1 {score.hit_1:.0%}, hit@5 {score.hit_5:.0%}, nDCG@10 {score.ndcg_10:.3f})"
    return Figure(full, score.mrr, said, target=_target(least, first), met=score.mrr >= least and score.hit_1 >= first)


def _target(least: float, first: float) -> str:
    return " and ".join([f">= {least:.3f}"] * (least > 0) + [f"hit@1 >= {first:.0%}"] * (first > 0))


def _record() -> dict[str, float]:
    """Of the same texts only: another Python documents itself in other words, and the handbook changes with embedq."""
    path = HERE / "figures.json"
    kept = (json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}).get("B14")
    if not kept or kept["machine"]["python"].split(".")[:2] != platform.python_version().split(".")[:2]:
        return {}
    return {figure["name"]: figure["value"] for figure in kept["figures"] if not figure["name"].startswith("handbook")}
