"""Tasks are born in the writer's transaction, whoever writes."""

from __future__ import annotations


def test_an_insert_by_raw_sql_makes_one_pending_task(psql):
    psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")

    assert psql("SELECT article_id, status, priority, metadata->>'reason' FROM embedding_tasks") == [("a", "pending", "normal", "create")]


def test_an_edit_updates_the_waiting_task_instead_of_making_another(psql):
    psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")

    psql("UPDATE articles SET content = 'Steep it' WHERE id = 'a'")

    assert psql("SELECT article_id, version FROM embedding_tasks") == [("a", 2)]


def test_an_update_that_leaves_the_text_as_it_was_makes_no_task(psql):
    psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")
    psql("DELETE FROM embedding_tasks")

    psql("UPDATE articles SET metadata = '{\"colour\": \"green\"}' WHERE id = 'a'")

    assert psql("SELECT count(*) FROM embedding_tasks") == [(0,)]
