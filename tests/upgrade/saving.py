"""A writer as a process of its own: `python saving.py NAME` writes articles by the Client of the embedq on its path and by plain SQL, until TERM.

After each save it prints one line of JSON: what was written (`text` null: deleted), how long it took, or how it failed.
"""

import json
import os
import random
import signal
import sys
import time

import psycopg

import embedq
from embedq import ArticleDraft, Client

WORDS = ("alder", "beech", "elm", "fir", "oak", "pine", "yew")
PRIORITIES = ("urgent", "high", "normal", "low")


class Writing:
    def __init__(self, name):
        self.name, self.dice, self.number = name, random.Random(name), 0
        self.live = []
        self.ending = False
        self.client = Client()
        self.sql = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
        signal.signal(signal.SIGTERM, self.end)

    def end(self, *_):
        self.ending = True

    def text(self):
        self.number += 1
        words = " ".join(self.dice.choices(WORDS, k=12))
        if self.dice.random() < 0.05:  # several chunks
            words = " ".join(f"{words} {part}." for part in range(200))
        return f"text {self.number} of {self.name}", f"{words} ({self.name} {self.number})"

    def new(self):
        key = f"{self.name}-{self.number}"
        self.live.append(key)
        return key

    def run(self):
        acts = [self.create, self.create, self.edit, self.insert, self.insert, self.update, self.put, self.delete]
        while not self.ending:
            self.dice.choice(acts)()
            time.sleep(self.dice.uniform(0.0, 0.08))
        self.client.close()
        self.sql.close()

    def create(self):
        text, key = self.text(), self.new()
        self.save({key: text}, lambda: self.client.create(*text, id=key, priority=self.dice.choice(PRIORITIES)))

    def put(self):
        drafts = {}
        for _ in range(5):
            text = self.text()
            drafts[self.new()] = text
        self.save(drafts, lambda: self.client.put([ArticleDraft(*text, key) for key, text in drafts.items()]))

    def edit(self):
        if self.live:
            key, text = self.dice.choice(self.live), self.text()
            self.save({key: text}, lambda: self.client.edit(key, title=text[0], content=text[1]))

    def insert(self):
        text, key = self.text(), self.new()
        statement = "INSERT INTO articles (id, title, content) VALUES (%s, %s, %s)"
        self.save({key: text}, lambda: self.sql.execute(statement, [key, *text]))

    def update(self):
        if self.live:
            key, text = self.dice.choice(self.live), self.text()
            statement = "UPDATE articles SET title = %s, content = %s WHERE id = %s"
            self.save({key: text}, lambda: self.sql.execute(statement, [*text, key]))

    def delete(self):
        if len(self.live) > 20:
            key = self.live.pop(self.dice.randrange(len(self.live)))
            self.save({key: None}, lambda: self.sql.execute("DELETE FROM articles WHERE id = %s", [key]))

    def save(self, texts, act):
        began = time.monotonic()
        try:
            act()
        except Exception as error:
            tell(failed=f"{type(error).__name__}: {error} ({error.__cause__!r})", wrote=list(texts))
        else:
            tell(saved=texts, took_s=round(time.monotonic() - began, 4))


def tell(**what):
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    tell(version=embedq.__version__, file=embedq.__file__)
    Writing(sys.argv[1]).run()
    tell(ended=True)
