"""Writers: threads that create, edit and delete articles through the client and by raw SQL, each with its own articles.

The book has what they know to be committed. A save that fails while PostgreSQL is up is remembered: saving never breaks.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from embedq import ArticleDraft, Client
from embedq.errors import EmbedqError
from embedq.model import Priority

if TYPE_CHECKING:
    from .world import World

TENANTS = ("ash", "birch", "cedar")
# What the stand-in refuses with 400, always; and what it answers with 500, always.
REFUSED, BROKEN = "unembeddable-by-content", "breaks-the-provider"
# The first one, under which no serialization failure may come, more often.
LEVELS = ("READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
_numbers = itertools.count(1)


class Text(NamedTuple):
    tenant: str
    title: str
    content: str

    @property
    def whole(self) -> str:
        """As it is embedded."""
        return f"{self.title}\n\n{self.content}".strip()

    @property
    def can_be_embedded(self) -> bool:
        return REFUSED not in self.content and BROKEN not in self.content


@dataclass(slots=True)
class Book:
    """What was committed: the newest text of every live article, and the ids of deleted ones."""

    live: dict[str, Text] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)
    broken_saves: list[str] = field(default_factory=list)
    # Texts that an article had before and has again: their vectors were replaced meanwhile, and may be bought once more for each time.
    returned: Counter[str] = field(default_factory=Counter)
    serialization_failures: int = 0
    excused: int = 0
    slowest_s: float = 0.0

    def note(self, changed: Mapping[str, Text | None]) -> None:
        for article_id, text in changed.items():
            if text is None:
                self.live.pop(article_id, None)
                self.deleted.add(article_id)
            else:
                self.live[article_id] = text


class Statements(NamedTuple):
    """How articles are written by SQL. `found`: those of these ids, as they are."""

    insert: str
    move: str
    update: str
    update_all: str
    delete: str
    found: str


class Writer(threading.Thread):
    """Writes until `stopping`. `ids` are its own articles, which nobody else touches."""

    by_sql = Statements(
        "INSERT INTO articles (id, tenant_id, title, content) VALUES (%(id)s, %(tenant)s, %(title)s, %(content)s)",
        "UPDATE articles SET tenant_id = %(tenant)s WHERE id = %(id)s",
        "UPDATE articles SET title = %(title)s, content = %(content)s WHERE id = %(id)s",
        "UPDATE articles SET title = u.title, content = u.content"
        " FROM unnest(%s::text[], %s::text[], %s::text[]) AS u (id, title, content) WHERE articles.id = u.id",
        "DELETE FROM articles WHERE id = %(id)s",
        "SELECT id, tenant_id, title, content FROM articles WHERE id = ANY (%s)",
    )

    def __init__(self, world: World, book: Book, seed: str) -> None:
        super().__init__(name=f"writer-{seed}", daemon=True)
        self.world, self.book, self.dice = world, book, Random(seed)
        self.ids: list[str] = []
        self.gone: list[str] = []
        self.former: dict[str, Text] = {}
        self.client = Client(world.settings)
        self.crash: BaseException | None = None

    def run(self) -> None:
        acts = [
            self.create,
            self.create,
            self.edit,
            self.edit,
            self.edit_back,
            self.move,
            self.delete,
            self.make_anew,
            self.bulk,
            self.bulk_edit,
            self.hold_open,
        ]
        try:
            while not self.world.stopping.is_set():
                self.dice.choice(acts)()
                time.sleep(self.dice.uniform(0.05, 0.35))
        except BaseException as crash:
            self.crash = crash
        finally:
            self.client.close()

    # What it does --------------------------------------------------------------------------------------------------------------

    def create(self) -> None:
        article_id, text, priority = self.new_id(), self.text(), self.priority()
        save = self.chosen(
            lambda: self.client.create(text.title, text.content, id=article_id, tenant_id=text.tenant, priority=priority),
            lambda: self.sql({article_id: text}, priority, self.by_sql.insert),
        )
        self.save("create", {article_id: text}, save)
        self.ids.append(article_id)

    def edit(self) -> None:
        if not self.ids:
            return
        article_id, priority = self.dice.choice(self.recent()), self.priority()
        if article_id not in self.book.live:
            return
        self.former[article_id] = self.book.live[article_id]
        text = self.text(self.book.live[article_id].tenant)
        save = self.chosen(
            lambda: self.client.edit(article_id, title=text.title, content=text.content, priority=priority),
            lambda: self.sql({article_id: text}, priority, self.by_sql.update),
        )
        self.save("edit", {article_id: text}, save)

    def edit_back(self) -> None:
        """To the text before the last one."""
        known = [key for key in self.recent() if key in self.former and key in self.book.live]
        if not known:
            return
        article_id = self.dice.choice(known)
        text = self.former[article_id]._replace(tenant=self.book.live[article_id].tenant)
        self.former[article_id] = self.book.live[article_id]
        self.book.returned[text.whole] += 1
        self.save("edit back", {article_id: text}, lambda: self.sql({article_id: text}, self.priority(), self.by_sql.update))

    def move(self) -> None:
        """To another tenant, its text as it is."""
        if not (live := [key for key in self.recent() if key in self.book.live]):
            return
        article_id = self.dice.choice(live)
        text = self.book.live[article_id]._replace(tenant=self.dice.choice(TENANTS))
        self.save("move", {article_id: text}, lambda: self.sql({article_id: text}, Priority.NORMAL, self.by_sql.move))

    def make_anew(self) -> None:
        """Delete it and insert another under its id, in one transaction."""
        if not (live := [key for key in self.recent() if key in self.book.live]):
            return
        article_id, text = self.dice.choice(live), self.text()
        self.former.pop(article_id, None)
        self.save(
            "make anew",
            {article_id: text},
            lambda: self.sql({article_id: text}, self.priority(), self.by_sql.delete, self.by_sql.insert),
        )

    def hold_open(self) -> None:
        """Edit some in one transaction, in any order, stay in it for a while, and sometimes take it back."""
        live = [key for key in self.recent() if key in self.book.live]
        chosen = self.dice.sample(live, min(len(live), self.dice.randint(1, 4)))
        undone, held_s = self.dice.random() < 0.2, self.dice.uniform(0.3, 5.0)
        texts = {key: self.text(self.book.live[key].tenant) for key in chosen}
        if texts:
            changed = {} if undone else texts
            self.save(
                "hold open",
                changed,
                lambda: self.sql(texts, self.priority(), self.by_sql.update, held_s=held_s, undone=undone),
                held_s=held_s,
            )

    def delete(self) -> None:
        if len(self.ids) < 5:
            return
        article_id = self.ids.pop(self.dice.randrange(len(self.ids)))
        if article_id in self.book.live:
            text = self.book.live[article_id]
            save = self.chosen(
                lambda: self.client.delete(article_id),
                lambda: self.sql({article_id: text}, Priority.NORMAL, self.by_sql.delete),
            )
            self.save("delete", {article_id: None}, save)
        if article_id not in self.book.live:
            self.gone.append(article_id)

    def bulk(self) -> None:
        texts = {self.new_id(): self.text() for _ in range(self.dice.randint(5, 20))}
        drafts = [ArticleDraft(text.title, text.content, key, tenant_id=text.tenant) for key, text in texts.items()]
        priority = self.priority()
        self.save("create", texts, lambda: self.client.put(drafts, priority=priority))
        self.ids += texts

    def bulk_edit(self) -> None:
        """Several articles in one statement, the way a migration of theirs would."""
        live = [key for key in self.recent() if key in self.book.live]
        chosen = self.dice.sample(live, min(len(live), self.dice.randint(2, 8)))
        texts = {key: self.text(self.book.live[key].tenant) for key in chosen}
        priority = self.priority()
        if texts:
            self.save("edit", texts, lambda: self.sql(texts, priority, self.by_sql.update, together=True))

    # How it does it ------------------------------------------------------------------------------------------------------------

    def save(self, what: str, changed: Mapping[str, Text | None], act: Callable[[], object], held_s: float = 0.0) -> None:
        began = time.monotonic()
        try:
            act()
        except (EmbedqError, psycopg.Error) as failed:
            self.failed(what, began, failed)
            changed = self.found(changed)
        else:
            self.book.slowest_s = max(self.book.slowest_s, time.monotonic() - began - held_s)
            self.book.done[what] += len(changed)
        self.book.note(changed)

    def failed(self, what: str, began: float, why: Exception) -> None:
        """Excused by PostgreSQL's absence, or by its having broken this very connection in the middle of the save."""
        if self.world.was_away(began, time.monotonic()):
            self.book.excused += 1
        else:
            told = f"{what} after {time.monotonic() - began:.2f} s: {type(why).__name__}: {why} ({why.__cause__!r})"
            self.book.broken_saves.append(told)

    def found(self, changed: Mapping[str, Text | None]) -> dict[str, Text | None]:
        """What became of a save that failed: it may have been committed before the answer was lost."""
        rows = None
        while rows is None:
            self.world.wait_for_postgres()
            with suppress(psycopg.OperationalError), self.world.connect() as connection:  # it may be killed again meanwhile
                rows = connection.execute(self.by_sql.found, [list(changed)]).fetchall()
        there = {key: Text(*rest) for key, *rest in rows}
        return {key: there.get(key) for key in changed}

    def sql(
        self,
        texts: Mapping[str, Text],
        priority: Priority,
        *statements: str,
        together: bool = False,
        held_s: float = 0.0,
        undone: bool = False,
    ) -> None:
        """In a transaction of some isolation level. Above read committed a serialization failure is to be expected, and is tried again."""
        level = self.dice.choice(LEVELS)
        while True:
            try:
                with self.world.connect() as connection, connection.transaction(force_rollback=undone):
                    connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
                    connection.execute("SELECT set_config('embedq.priority', %s, true)", [priority.value])
                    self._write(connection, texts, statements, together)
                    time.sleep(held_s)
                return
            except psycopg.errors.SerializationFailure:
                if level == LEVELS[0]:
                    raise
                self.book.serialization_failures += 1
                held_s = 0.0

    def _write(
        self, connection: psycopg.Connection[Any], texts: Mapping[str, Text], statements: Sequence[str], together: bool
    ) -> None:
        if together:
            connection.execute(
                self.by_sql.update_all, [list(texts), [t.title for t in texts.values()], [t.content for t in texts.values()]]
            )
            return
        for key, text in texts.items():
            for statement in statements:
                connection.execute(statement, {"id": key} | text._asdict())

    def chosen(self, one: Callable[[], object], other: Callable[[], object]) -> Callable[[], object]:
        return self.dice.choice([one, other])

    def recent(self) -> list[str]:
        """Mostly what is being embedded just now is what is edited."""
        return self.ids[-12:] if self.dice.random() < 0.6 else self.ids

    def new_id(self) -> str:
        """Sometimes that of a deleted article; else random, so that what is written together does not stand together."""
        if self.gone and self.dice.random() < 0.3:
            return self.gone.pop()
        return f"{self.dice.getrandbits(48):012x}"

    def priority(self) -> Priority:
        return self.dice.choice(list(Priority))

    def text(self, tenant: str | None = None) -> Text:
        """A text that there was never before."""
        number = next(_numbers)
        words = " ".join(self.dice.choices(("alder", "beech", "elm", "fir", "oak", "pine", "yew"), k=12))
        fate = self.dice.random()
        if fate < 0.01:
            words += f" {REFUSED}"
        elif fate < 0.015:
            words += f" {BROKEN}"
        elif fate < 0.04:
            words = " ".join(f"{words} {part}." for part in range(200))
        return Text(tenant or self.dice.choice(TENANTS), f"text {number}", f"{words} ({number})")


NOTES = """
CREATE TABLE notes (part text, number int, tenant text, title text, content text, PRIMARY KEY (part, number));
CREATE FUNCTION note_title(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$
"""
# The key of the row that an article's id names.
KEY = "substr(%(id)s, 7)::jsonb->>0, (substr(%(id)s, 7)::jsonb->>1)::int"
ID = "'notes:' || jsonb_build_array(part, number::text)::text"


class RowWriter(Writer):
    """The same on an attached table with a composite key, by SQL alone, as an application does that knows nothing of embedq."""

    by_sql = Statements(
        f"INSERT INTO notes VALUES ({KEY}, %(tenant)s, %(title)s, %(content)s)",
        f"UPDATE notes SET tenant = %(tenant)s WHERE (part, number) = ({KEY})",
        f"UPDATE notes SET title = %(title)s, content = %(content)s WHERE (part, number) = ({KEY})",
        "UPDATE notes SET title = u.title, content = u.content"
        f" FROM unnest(%s::text[], %s::text[], %s::text[]) AS u (id, title, content) WHERE {ID} = u.id",
        f"DELETE FROM notes WHERE (part, number) = ({KEY})",
        f"SELECT {ID}, tenant, title, content FROM notes WHERE {ID} = ANY (%s)",
    )

    def chosen(self, one: Callable[[], object], other: Callable[[], object]) -> Callable[[], object]:
        return other

    def bulk(self) -> None:
        texts = {self.new_id(): self.text() for _ in range(self.dice.randint(5, 20))}
        self.save("create", texts, lambda: self.sql(texts, self.priority(), self.by_sql.insert))
        self.ids += texts

    def new_id(self) -> str:
        key = super().new_id()
        return key if key.startswith("notes:") else f'notes:["{key[:4]}", "{int(key[4:], 16) % 1_000_000}"]'
