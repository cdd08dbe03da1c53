"""Uninstall, and the alert rules: on a real PostgreSQL and Redis."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis

from embedq import wiring
from embedq.broker import broker_at
from embedq.model import Priority
from tests.support import until

from .operating import answered, embed_due, invoked
from .service import serving

OURS = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'p', 'S')"
    " UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'embedq%'"
    " UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
)


@pytest.fixture
def lived_in(psql, settings, redis_url: str) -> None:
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    psql("INSERT INTO articles (id, title, content) SELECT 'a' || n, 'T', 'text ' || n FROM generate_series(1, 20) n")
    embed_due(settings, batches=1, batch_size=12)
    broker = broker_at(redis_url)
    broker.publish([(Priority.LOW, [1, 2]), (Priority.URGENT, [3])])
    broker.was_wiped()
    broker.close()


def test_nothing_of_ours_remains_and_the_backup_brings_it_back(lived_in, environment, psql, redis_url: str, tmp_path: Path):
    file = tmp_path / "last.backup"
    client = redis.Redis.from_url(redis_url)
    client.set("somebody-elses", "1")
    vectors = psql("SELECT count(*) FROM embedding_vectors")

    answer = answered(environment, "uninstall", "--backup", str(file), "--yes", "--reason", "no more")
    left_in_database, left_in_redis = psql(OURS), client.keys()
    answered(environment, "db", "upgrade")
    answered(environment, "restore", str(file), "--yes")

    assert (answer["remains"], answer["cancelled"], answer["messages"]) == ([], 8, 2)
    assert left_in_database == []
    assert left_in_redis == [b"somebody-elses"]
    assert psql("SELECT count(*) FROM articles") == [(20,)]
    assert psql("SELECT count(*) FROM embedding_vectors") == vectors
    assert answered(environment, "verify")["problems"] == []


def test_articles_may_stay_as_a_plain_table(lived_in, environment, psql, tmp_path: Path):
    answer = answered(environment, "uninstall", "--keep-articles", "--backup", str(tmp_path / "b"), "--yes")

    assert answer["remains"] == []
    assert psql(OURS) == [("articles",)]
    assert psql("SELECT count(*) FROM articles WHERE content LIKE 'text%'") == [(20,)]
    psql("UPDATE articles SET content = 'still writable'")


def test_it_is_refused_while_workers_live_and_without_yes(lived_in, environment, settings, psql, tmp_path: Path):
    planned = answered(environment, "uninstall", "--dry-run")
    unasked = invoked(environment, "uninstall", "--backup", str(tmp_path / "b"), code=2)
    parts = wiring.worker_parts(settings, "poller")
    parts.worker.start()

    refused = invoked(environment, "uninstall", "--yes", "--backup", str(tmp_path / "b"), code=3)
    parts.close()

    assert planned["installed"] is True
    assert "--yes" in unasked.stderr
    assert "alive" in refused.stderr
    assert list(tmp_path.iterdir()) == []
    assert psql("SELECT is_running FROM embedding_worker_status") == [(True,)]


def test_what_was_left_behind_is_found_by_looking(lived_in, environment, psql):
    psql("CREATE FUNCTION embedq_forgotten() RETURNS integer LANGUAGE sql RETURN 1")

    answer = answered(environment, "uninstall", "--no-backup", "--yes", code=1)
    psql("DROP FUNCTION embedq_forgotten()")
    again = answered(environment, "uninstall", "--no-backup", "--yes")

    assert answer["remains"] == ["function embedq_forgotten"]
    assert again["remains"] == []


def test_a_broker_that_does_not_answer_is_told_and_the_rest_goes_on(lived_in, environment, psql):
    answer = answered(environment | {"REDIS_URL": "redis://127.0.0.1:1/0"}, "uninstall", "--no-backup", "--yes")

    assert answer["messages"] is None
    assert any("broker" in what for what in answer["left"])
    assert psql(OURS) == []


# Alerts and metrics ------------------------------------------------------------------------------------------------------------------------


def test_alerts_fire_by_name_and_are_silent_when_all_is_well(environment, psql):
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    psql("INSERT INTO articles (id, title, content) VALUES ('a', 'T', 'text')")
    psql("UPDATE embedding_tasks SET scheduled_at = now() - interval '1 hour'")
    psql("INSERT INTO embedding_rejected_messages (queue, reason, raw) VALUES ('low', 'not JSON', 'x')")
    psql(
        "UPDATE embedding_providers SET faults = 3, faulty_since = now(), paused_until = now() + interval '1 hour', pause_reason = 'HTTP 500'"
    )

    firing = {alert["name"] for alert in answered(environment, "alerts", "check", code=3)["alerts"] if alert["firing"]}
    psql("DELETE FROM embedding_rejected_messages")
    only = answered(environment, "alerts", "check", "--only", "rejected-messages")

    assert firing == {"queue-not-consumed", "oldest-too-old", "rejected-messages", "provider-paused"}
    assert only["firing"] == 0


def test_a_database_that_is_away_is_an_alert_too(environment):
    answer = answered(environment | {"DATABASE_URL": "postgresql://127.0.0.1:1/nothing"}, "alerts", "check", code=3)

    assert [alert["name"] for alert in answer["alerts"]] == ["database-away"]


def test_metrics_show_what_was_sampled(environment, psql, store):
    psql("INSERT INTO articles (id, title, content) SELECT 'a' || n, 'T', 'text ' || n FROM generate_series(1, 4) n")
    store.care.sample()
    psql("UPDATE performance_metrics SET timestamp = now() - interval '30 minutes'")
    psql("UPDATE embedding_tasks SET status = 'failed'")
    store.care.sample()

    answer = answered(environment, "metrics", "--hours", "1", "--points", "10")
    table = invoked(environment, "metrics").stdout

    assert [value for value in answer["depth"]["pending"] if value is not None] == [4.0]
    assert max(answer["per_s"]["failed"]) == pytest.approx(4 / 360)
    assert "█" in table


# What rests on our tables ---------------------------------------------------------------------------------------------------------------

HOLD = {
    "view": "CREATE VIEW report AS SELECT id, title FROM articles",
    "materialized view": "CREATE MATERIALIZED VIEW report AS SELECT count(*) FROM embedding_tasks",
    "foreign key": "CREATE TABLE comments (article text REFERENCES article_texts (id))",
    "function": "CREATE FUNCTION titles() RETURNS SETOF text LANGUAGE sql BEGIN ATOMIC SELECT title FROM articles; END",
}
GO = {
    "trigger": "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
    " CREATE TRIGGER our_note AFTER INSERT ON article_texts FOR EACH ROW EXECUTE FUNCTION noted()",
    "grant": "GRANT SELECT ON articles TO PUBLIC",
    "policy": "CREATE POLICY own_rows ON article_texts USING (true)",
}
NAMES = {
    "trigger": "trigger our_note on article_texts",
    "grant": "GRANT SELECT ON articles TO PUBLIC",
    "policy": "policy own_rows",
}


@pytest.mark.parametrize("kind", HOLD)
def test_what_needs_our_tables_is_named_before_anything_is_done(
    kind, lived_in, environment, psql, redis_url: str, tmp_path: Path
):
    psql(HOLD[kind])

    planned = answered(environment, "uninstall", "--dry-run")
    refused = invoked(environment, "uninstall", "--yes", "--backup", str(tmp_path / "b"), code=3)

    (named,) = planned["held_by"]
    assert named.startswith(kind)
    assert named in refused.stderr
    assert psql("SELECT is_running FROM embedding_worker_status") == [(True,)]
    assert psql("SELECT count(*) FROM embedding_tasks WHERE status = 'cancelled'") == [(0,)]
    assert list(tmp_path.iterdir()) == []
    assert redis.Redis.from_url(redis_url).llen("low") == 1


@pytest.mark.parametrize("kind", GO)
def test_what_goes_with_our_tables_is_named(kind, lived_in, environment, psql, tmp_path: Path):
    psql(GO[kind])

    planned = answered(environment, "uninstall", "--dry-run")
    done = invoked(environment, "uninstall", "--yes", "--backup", str(tmp_path / "b"))

    assert planned["held_by"] == []
    assert [what for what in planned["goes_too"] if what.startswith(NAMES[kind])]
    assert f"goes with the tables: {NAMES[kind]}" in done.stderr


def test_leftovers_are_named_with_the_way_on(lived_in, environment, psql, tmp_path: Path):
    psql("CREATE FUNCTION embedq_forgotten() RETURNS integer LANGUAGE sql RETURN 1")
    first = answered(environment, "uninstall", "--yes", "--backup", str(tmp_path / "b"), code=1)

    for statement in first["drops"]:
        psql(statement)
    again = answered(environment, "uninstall", "--yes", "--no-backup")

    assert first["remains"] == ["function embedq_forgotten"]
    assert again["remains"] == []


def test_an_upgrade_beside_leftovers_goes_to_a_schema_of_its_own(lived_in, environment, psql, tmp_path: Path):
    invoked(environment, "uninstall", "--yes", "--backup", str(tmp_path / "b"))
    psql("CREATE TABLE embedding_tasks (id bigint)")

    said = invoked(environment, "db", "upgrade").stdout

    assert "the tables are in the schema embedq" in said
    assert psql("SELECT count(*) FROM public.embedding_tasks") == [(0,)]
    answered(environment, "db", "health")


def test_after_it_the_service_says_that_the_schema_is_gone(lived_in, environment, tmp_path: Path):
    with serving(environment) as served:
        invoked(environment, "uninstall", "--yes", "--backup", str(tmp_path / "b"))

        answer = served.articles.get("/api/articles/a1")
        health = until(lambda: (seen := served.stranger.get("/health").json())["problems"] == ["database-not-set-up"] and seen)

    assert (answer.status_code, answer.json()["type"]) == (503, "urn:embedq:database-not-set-up")
    assert "embedq db upgrade" in answer.json()["next_step"]
    assert "schema is not there" in health["checks"]["database"]["detail"]


# Half of it is gone --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "seen_by"),
    [
        ("embedding_tasks", "status"),
        ("embedding_worker_status", "status"),
        ("embedding_workers", "status"),
        ("article_texts", "articles list"),
    ],
)
def test_from_a_schema_that_is_half_gone_what_is_printed_leads_to_one_that_is_whole(
    lost: str, seen_by: str, lived_in, environment, psql
):
    psql(f"DROP TABLE {lost} CASCADE")

    status = invoked(environment, *seen_by.split(), code=1)
    upgrade = invoked(environment, *printed(status.stderr), code=3)
    refused = invoked(environment, "uninstall", "--yes", code=3)
    planned = answered(environment, "uninstall", "--dry-run")
    removed = answered(environment, *printed(upgrade.stderr))
    answered(environment, "db", "upgrade")

    assert lost in upgrade.stderr
    assert "no backup can be written" in refused.stderr
    assert lost in planned["missing"]
    assert removed["remains"] == []
    assert answered(environment, "db", "verify")["well"]
    assert answered(environment, "status")["open"] == 0


def test_the_articles_of_a_schema_that_is_half_gone_may_stay(lived_in, environment, psql):
    before = psql("SELECT id, title FROM articles ORDER BY id")
    psql("DROP TABLE embedding_tasks CASCADE")

    removed = answered(environment, "uninstall", "--yes", "--no-backup", "--keep-articles")
    answered(environment, "db", "upgrade")

    assert removed["remains"] == []
    assert psql("SELECT id, title FROM articles ORDER BY id") == before


def printed(told: str) -> list[str]:
    """The first command that is printed between backticks."""
    found = re.search(r"`embedq ([^`]*)`", told)
    assert found is not None, told
    return found[1].split()
