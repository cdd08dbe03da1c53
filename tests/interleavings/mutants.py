"""Fixes taken out, one at a time: the explorer must find what each of them had put right.

A mutant is SQL that is run once in the explored database, or texts of the product's statements that are changed while it is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from embedq.model import Outcome
from embedq.store import bulk, copy, partitions, sessions, settling
from embedq.store.misfits import Misfits
from embedq.store.queries import QUERIES

from .world import World


@dataclass(frozen=True, slots=True)
class Mutant:
    """`cases`: schedules' cases (as `--replay` writes them, without the turns) in which it must be found. `says`: part of what is said.

    `queries`: by the statement's name, what its text becomes. `sql`: run in the database. `python`: changes code until it is undone.
    """

    takes_out: str
    cases: tuple[str, ...]
    says: str
    queries: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    sql: str = ""
    python: Callable[[], Callable[[], None]] | None = None


def without(*words: str) -> Callable[[str], str]:
    """The text without these pieces of it."""

    def change(text: str) -> str:
        for piece in words:
            text = text.replace(piece, "")
        return text

    return change


def function(name: str, *changes: tuple[str, str]) -> str:
    """SQL that makes a function of the schema anew, with pieces of its text exchanged."""
    text = f"pg_get_functiondef('{name}'::regproc)"
    for was, becomes in changes:
        text = f"replace({text}, $was${was}$was$, $becomes${becomes}$becomes$)"
    return f"DO $do$ BEGIN EXECUTE {text}; END $do$"


def patched(owner: Any, name: str, value: Any) -> Callable[[], None]:
    """Put another value in the place of one of the product's; returns what undoes it."""
    was = getattr(owner, name)
    setattr(owner, name, value)
    return lambda: setattr(owner, name, was)


_blocks = copy.blocks


def _blocks_of_the_claims_tenant(model_id: int, outcomes: Sequence[Outcome], tenants: Mapping[str, str]) -> Iterator[bytes]:
    return _blocks(model_id, outcomes, {outcome.task.article_id: outcome.task.tenant_id for outcome in outcomes})


UNLOCKED = "a lock of an open transaction"
MUTANTS: dict[str, Mutant] = {
    # Fence, claims, settles and deletions.
    "fence": Mutant(
        "a change of the live row waits for the claims under way",
        ("pending/claim+hand_sets_mode",),
        "G5:",
        sql=function("embedq_fence", ("PERFORM pg_advisory_xact_lock(embedq_fence_key());", "")),
    ),
    "newer_text": Mutant(
        "a vector is not stored over one of newer text",
        ("both_held/settle_embedded+settle_second",),
        "G4:",
        queries={"put_embeddings": without("WHERE e.version <= excluded.version OR %(anyway)s")},
    ),
    "settle_patience": Mutant(
        "a settle gives way to a writer",
        ("held/edit+settle_waits",),
        UNLOCKED,
        queries={"settle": without("FOR SHARE SKIP LOCKED"), "patience": lambda text: text.replace("200ms", "0")},
    ),
    "tasks_before_vectors": Mutant(
        "a deletion takes the tasks away before it removes vectors",
        ("held/delete+settle_embedded",),
        "orphan",
        sql=function("embedq_articles_deleted", ("AND status IN ('pending', 'processing')", "AND status = 'pending'")),
    ),
    "one_claim": Mutant(
        "a claim passes over what another has locked",
        ("pending/work+work",),
        "was bought 2 times",
        queries={"lock_free": without("FOR UPDATE SKIP LOCKED")},
    ),
    # Facts at the settle, open transactions, changes by hand, isolation.
    "tenant_of_the_article": Mutant(
        "vectors are stored for the tenant that the article has when it is settled",
        ("held/move+settle_embedded",),
        "is zeta's and its vector",
        python=lambda: patched(copy, "blocks", _blocks_of_the_claims_tenant),
    ),
    "confirmed": Mutant(
        "a completion without a store needs the stored text to be still there",
        ("returned_held/settle_embedded+settle_second",),
        "the stored vector is of another text",
        python=lambda: patched(settling, "confirm", lambda connection, outcomes: None),
    ),
    "misfits": Mutant(
        "reconcile removes orphans and moves vectors to their article's tenant",
        ("building_one/delete+model_made/repeatable_read",),
        "orphan",
        python=lambda: patched(Misfits, "mend", lambda *_, **__: 0),
    ),
    "attached": Mutant(
        "a model's table is made beside the others and attached",
        ("embedded_one/delete+model_add",),
        UNLOCKED,
        sql=function(
            "embedq_add_model",
            (
                "EXECUTE format('CREATE TABLE %I (LIKE embedding_vectors INCLUDING DEFAULTS INCLUDING INDEXES INCLUDING STORAGE)', the_table);",
                "EXECUTE format('CREATE TABLE %I PARTITION OF embedding_vectors FOR VALUES IN (%s)', the_table, the_id);",
            ),
            ("EXECUTE format('ALTER TABLE embedding_vectors ATTACH PARTITION %I FOR VALUES IN (%s)', the_table, the_id);", ""),
        ),
    ),
    "unlocked_articles": Mutant(
        "reconcile passes over an article that is being written",
        ("three_stale/edit+reconcile",),
        UNLOCKED,
        queries={
            "unlocked_articles": without("FOR NO KEY UPDATE SKIP LOCKED"),
            "patience": lambda text: text.replace("200ms", "0"),
        },
        sql=function("embedq_want_of", ("FOR NO KEY UPDATE OF a SKIP LOCKED", "")),
    ),
    "rescue_passes_over": Mutant(
        "rescue passes over a task whose article is being written",
        ("three_lost/edit+rescue",),
        "rescue",
        queries={"rescue": without(" FOR SHARE OF a SKIP LOCKED")},
    ),
    "free_passes_over": Mutant(
        "giving back what a message named passes over what is locked",
        ("celery/edit+free",),
        UNLOCKED,
        queries={"free_named": without("FOR UPDATE SKIP LOCKED")},
    ),
    "one_waits": Mutant(
        "of an article's tasks that one statement sets to pending by hand, the newest stays",
        ("both_held/hand_pending",),
        "UniqueViolation",
        sql=function(
            "embedq_task_changed_by_hand",
            ("IF waiting < NEW.id THEN", "IF false THEN"),
            ("ELSIF waiting > NEW.id THEN", "ELSIF false THEN"),
        ),
    ),
    "one_hand_at_a_time": Mutant(
        "two tasks of one article, set to pending by hand by two sessions, wait for each other",
        ("both_held/hand_pending_newer+hand_pending_older",),
        "UniqueViolation",
        sql=function(
            "embedq_task_changed_by_hand", ("PERFORM FROM article_texts WHERE id = NEW.article_id FOR NO KEY UPDATE;", "")
        ),
    ),
    "highest_number": Mutant(
        "clean-up keeps the highest number of an article that was deleted",
        ("old/clean_up+insert_gone",),
        "means two texts",
        queries={
            "cleanup_versions": lambda text: text.replace("AND v.version_number = old.last", "AND false").replace(
                "< old.last", "<= old.last"
            )
        },
    ),
    "detach_gives_way": Mutant(
        "what detaches a model's table waits for a transaction a moment at a time",
        ("building_one/delete+model_drop",),
        UNLOCKED,
        python=lambda: patched(partitions, "GIVES_WAY", "0"),
    ),
    "hand_over_passes_over": Mutant(
        "handing over passes over a task whose article is being written",
        ("held/edit+hand_over",),
        UNLOCKED,
        queries={"hand_back": without("FOR SHARE SKIP LOCKED")},
        python=lambda: patched(bulk, "GIVES_WAY", "0"),
    ),
    "free_dispatched_passes_over": Mutant(
        "freeing what the broker does not deliver passes over what is locked",
        ("celery/edit+free_dispatched",),
        UNLOCKED,
        queries={"free_dispatched": without("FOR UPDATE SKIP LOCKED")},
    ),
    "free_lost_passes_over": Mutant(
        "freeing what the broker has lost passes over what is locked",
        ("celery/edit+free_lost",),
        UNLOCKED,
        queries={"free_lost": without("FOR UPDATE OF t SKIP LOCKED")},
    ),
    "claim_passes_over": Mutant(
        "a claim passes over a task that a writer has locked",
        ("pending/edit+claim", "celery/edit+claim_named"),
        UNLOCKED,
        queries={"lock_free": without("FOR UPDATE SKIP LOCKED"), "lock_named": without("FOR UPDATE OF t SKIP LOCKED")},
    ),
    "sweep_passes_over": Mutant(
        "an operator's sweep passes over a task that a writer has locked",
        ("pending/edit+cancel",),
        UNLOCKED,
        queries={"pick_tasks": without("FOR UPDATE OF t SKIP LOCKED")},
        python=lambda: patched(bulk, "GIVES_WAY", "0"),
    ),
    "gives_way": Mutant(
        "who is no application's writer waits less than a deadlock takes to be found",
        ("three/edit_three+reindex",),
        "ended with DeadlockDetected",
        # Nothing of embedq's waits while it holds what a writer may want, so one such wait is made as well. With 200 ms it does no harm.
        queries={"patience": lambda text: text.replace("200ms", "5s"), "unlocked_articles": without("SKIP LOCKED")},
    ),
    "isolation": Mutant(
        "the isolation level of a session is embedq's, not the database's",
        ("pending_isolated/claim+hand_sets_mode",),
        "G5:",
        python=lambda: patched(
            sessions,
            "SETTINGS",
            {name: value for name, value in sessions.SETTINGS.items() if name != "default_transaction_isolation"},
        ),
    ),
}


@contextmanager
def mutated(name: str, world: World) -> Iterator[None]:
    """Without the fix of this name, or as it is for an empty name."""
    if not name:
        yield
        return
    mutant = MUTANTS[name]
    texts, undo = dict(QUERIES._texts), mutant.python() if mutant.python else lambda: None
    for statement, change in mutant.queries.items():
        changed = change(texts[statement])
        assert changed != texts[statement], f"the mutant {name} does not change {statement} any more"
        QUERIES._texts[statement] = changed
    if mutant.sql:
        world.sql(mutant.sql)
    try:
        yield
    finally:
        QUERIES._texts.update(texts)
        undo()
