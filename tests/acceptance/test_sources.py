"""Sources by the commands and over HTTP: what an operator sees, and how `status`, `health` and `alerts` tell of one that is behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from embedq.model import Model
from embedq.providers.hashing import HashingProvider
from tests.acceptance.service import hashing_at, problem, serving

from .operating import answered, embed_due, invoked

WORDS = ("--title", "title", "--content", "body")


@pytest.fixture
def run(environment: dict[str, str]) -> Callable[..., Any]:
    return lambda *words, code=0: invoked(environment, *words, code=code)


@pytest.fixture
def told(environment: dict[str, str]) -> Callable[..., Any]:
    return lambda *words, code=0: answered(environment, *words, code=code)


@pytest.fixture
def posts(psql) -> None:
    psql("CREATE TABLE posts (id int PRIMARY KEY, title text, body text)")
    psql("INSERT INTO posts SELECT n, 'Post ' || n, repeat('text ', 40) FROM generate_series(1, 1200) n")


def test_a_dry_run_says_what_it_would_take_and_does_nothing(told, posts, psql, environment):
    environment["EMBEDDING_PRICES"] = "hashing=1000000"

    found = told("attach", "posts", *WORDS, "--dry-run")

    assert (found["name"], found["table"], found["key"], found["rows"]) == ("posts", "public.posts", ["id"], 1200)
    assert found["tokens"] == pytest.approx(1200 * 210 / 4, rel=0.05)
    assert found["cost"] == pytest.approx(found["tokens"])
    assert "SHARE ROW EXCLUSIVE" in found["locks"]
    assert found["disk_bytes"] > 1200 * 200
    assert told("source", "list") == []
    assert psql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'embedq_posts%'") == [(0,)]


def test_attached_followed_and_detached(run, told, posts, psql):
    attached = told("attach", "posts", *WORDS, "--yes", "--reason", "a test")
    assert (attached["source"], attached["rows"]["written"], attached["articles"]) == ("posts", 1200, {"queued": 1200})

    psql("DELETE FROM posts WHERE id > 10")
    assert told("source", "status", "posts")[0]["articles"] == {"queued": 10}
    assert [row["id"] for row in told("articles", "list", "--source", "posts", "--limit", "2")] == ["posts:1", "posts:10"]
    assert told("articles", "list") == []
    assert told("explain", "posts", "7")["article"]["id"] == "posts:7"
    assert told("detach", "posts", "--dry-run") == {"would_detach": "posts", "articles": 10, "open_tasks": 10}
    assert told("detach", "posts", "--yes")["removed"] == 10
    assert "no source" in run("detach", "posts", "--yes", code=1).stderr
    assert psql("SELECT count(*) FROM embedding_audit_logs WHERE category = 'source' AND metadata->>'reason' = 'a test'") == [
        (1,)
    ]


def test_a_source_that_is_behind_is_told_everywhere_with_what_mends_it(told, posts, psql):
    told("attach", "posts", *WORDS, "--yes")
    psql("ALTER TABLE posts RENAME COLUMN body TO content")
    psql("INSERT INTO posts VALUES (9999, 'New', 'x')")

    findings = [finding for finding in told("status")["findings"] if "source posts" in finding["what"]]
    assert len(findings) == 1
    assert 'column "body" does not exist' in findings[0]["what"]
    assert "INSERT on public.posts" in findings[0]["what"]
    assert findings[0]["next"].startswith("embedq attach public.posts --name posts")
    assert [f["next"] for f in told("health", code=1)["findings"] if "source posts" in f["what"]] == [findings[0]["next"]]
    assert told("alerts", "check", "--only", "source-behind", code=3)["firing"] == 1
    assert told("source", "status", "posts", code=3)[0]["state"] == "behind"
    assert "posts" in str(told("verify", code=3)["problems"])
    assert "problem" in told("reconcile", "--yes", code=3)["sources"]["posts"]

    told("attach", "public.posts", "--name", "posts", "--title", "title", "--content", "content", "--yes")

    assert [finding for finding in told("status")["findings"] if "source" in finding["what"]] == []
    assert told("alerts", "check", "--only", "source-behind")["firing"] == 0
    assert told("verify")["sources"] == {"posts": {"missing": 0, "changed": 0, "extra": 0}}


def test_status_metrics_export_and_the_console_show_sources(run, told, posts, psql, database_url, redis_url):
    told("attach", "posts", *WORDS, "--yes")
    psql("CREATE TABLE notes (id int PRIMARY KEY, text text)")
    psql("SELECT embedq_attach('notes', title => 'text')")

    assert told("status")["sources"] == {"notes": "filling", "posts": "following"}
    assert "sources: notes filling, posts following" in run("status").output
    exported = [json.loads(line)["article_id"] for line in run("export").stdout.splitlines()]
    assert sum(article.startswith("posts:") for article in exported) == 1200
    with serving(hashing_at(database_url, redis_url)) as served:
        told_by_metrics = served.admin.get("/metrics").text
        assert 'embedq_source{source="posts",state="following"} 1.0' in told_by_metrics
        assert 'embedq_source{source="posts",state="behind"} 0.0' in told_by_metrics
        assert served.admin.get("/admin/embedding/status").json()["sources"] == {"notes": "filling", "posts": "following"}
        page = served.admin.get("/sources?count=posts").text
        assert [word in page for word in ("<td>posts</td>", "following", "filling", "<dt>queued</dt><dd>1,200</dd>")] == [
            True
        ] * 4
        psql("ALTER TABLE posts RENAME COLUMN body TO content; INSERT INTO posts VALUES (9999, 'New', 'x')")
        page = served.admin.get("/sources").text
        assert ">behind<" in page
        assert "embedq attach public.posts --name posts" in page


def test_reconcile_finds_what_no_trigger_saw(told, posts, psql):
    told("attach", "posts", *WORDS, "--yes")
    psql("ALTER TABLE posts DISABLE TRIGGER USER")
    psql("UPDATE posts SET title = 'Changed' WHERE id <= 3")
    psql("DELETE FROM posts WHERE id > 1195")
    psql("ALTER TABLE posts ENABLE TRIGGER USER")

    assert told("reconcile", "--dry-run")["sources"] == {"posts": {"missing": 0, "changed": 3, "extra": 5}}
    done = told("reconcile", "--source", "posts", "--yes")

    assert {name: done["sources"]["posts"][name] for name in ("seen", "written", "removed")} == {
        "seen": 1195,
        "written": 3,
        "removed": 5,
    }
    assert "no source" in told_error(told, "reconcile", "--source", "nope", "--yes")


def told_error(told: Callable[..., Any], *words: str) -> str:
    try:
        told(*words)
    except AssertionError as failed:
        return str(failed)
    raise AssertionError(f"{words} did not fail")


def test_uninstall_detaches_every_source(run, told, posts, psql):
    told("attach", "posts", *WORDS, "--yes")

    run("uninstall", "--no-backup", "--yes")

    assert psql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'embedq%'") == [(0,)]
    assert psql("SELECT count(*) FROM posts") == [(1200,)]


def test_over_http(database_url, redis_url, posts, psql, client):
    with serving(hashing_at(database_url, redis_url)) as served:
        made = served.admin.post("/admin/sources", json={"table": "posts", "title": "title", "content": "body"})
        assert (made.status_code, made.json()["name"], made.json()["state"]) == (201, "posts", "filling")
        again = served.admin.get("/admin/sources/posts").json()
        assert (again["table"], again["key"]) == ("posts", ["id"])
        assert [one["name"] for one in served.admin.get("/admin/sources").json()["sources"]] == ["posts"]

        refused = served.admin.post("/admin/sources", json={"table": "posts", "title": "(SELECT 1)"})
        assert (refused.status_code, "subquery" in str(problem(refused)["detail"])) == (422, True)
        assert served.articles.get("/admin/sources").status_code == 401
        assert served.admin.delete("/admin/sources/nope").status_code == 404

        psql("INSERT INTO posts VALUES (5000, 'Green tea', 'steep it')")
        from embedq.client.sync import embed_now

        embed_now(client.store, client.provider, ["posts:5000"])
        hits = served.articles.post("/api/search", json={"query": "green tea", "source": "posts"}).json()["results"]
        assert [(hit["source"], hit["key"]) for hit in hits] == [("posts", {"id": 5000})]
        assert served.articles.post("/api/search", json={"query": "green tea"}).json()["results"] == []
        assert served.articles.post("/api/search", json={"query": "green tea", "source": ["nope"]}).status_code == 404

        assert served.admin.delete("/admin/sources/posts").json() == {"detached": "posts", "removed": 1}


COLUMNS = ["vector(64)", "vector", "halfvec(64)", "real[]", "double precision[]"]


@pytest.mark.parametrize("kind", COLUMNS)
def test_vectors_that_the_table_has_are_taken_over_and_not_bought_again(told, psql, settings, kind):
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    psql(f"CREATE TABLE posts (a int, b text, title text, embedding {kind}, PRIMARY KEY (a, b))")
    titles = [f"Post {number}" for number in range(1, 701)]
    made = HashingProvider(Model("hashing", "hashing-v1", 64)).embed(titles).vectors
    for number, (title, vector) in enumerate(zip(titles, made, strict=True), 1):
        psql(f"INSERT INTO posts VALUES ({number}, 'x', '{title}', ARRAY{[*map(float, vector)]}::real[]::{kind})")
    bad = {"zero": "array_fill(0::real, ARRAY[64])", "none": "NULL"}
    bad |= {} if "(64)" in kind else {"dimensions": "array_fill(1::real, ARRAY[3])"}
    bad |= {"unusable": "array_fill('NaN'::real, ARRAY[64])"} if kind.endswith("[]") else {}
    for number, value in enumerate(bad.values()):
        psql(f"INSERT INTO posts VALUES (0, 'bad {number}', 'Bad {number}', {value}::{kind})")
    told("attach", "posts", "--title", "title", "--yes")

    done = told("source", "import-vectors", "posts", "--from-column", "embedding", "--model", "hashing/hashing-v1", "--yes")

    assert done["became"] == {"taken": 700} | dict.fromkeys(bad, 1)
    assert psql("SELECT status, count(*) FROM embedq_posts GROUP BY 1 ORDER BY 1") == [("queued", len(bad)), ("ready", 700)]
    assert embed_due(settings) == 700 + len(bad)
    assert psql("SELECT sum(inputs) FROM embedding_usage") == [(len(bad),)]
    assert told("verify")["problems"] == []
    assert told("source", "import-vectors", "posts", "--from-column", "embedding", "--model", "hashing/hashing-v1", "--yes")[
        "became"
    ] == {"had": 700 + len(bad)}
