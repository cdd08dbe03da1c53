"""One trace from a write to its vector, told to a receiver over OTLP/HTTP; and nothing at all when traces are off."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support import ROOT, env, start_celery, start_poller, until

TEXT, SECRET = "a text that no trace may show", "sk-that-no-trace-may-show"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
WRITE = f"""
from embedq import Client
with Client() as client:
    client.create({TEXT!r}, {TEXT!r}, id="a", slug="{TEXT.replace(" ", "-")}", metadata={{"note": {TEXT!r}}}, reason={TEXT!r})
"""
# As if the extra were not installed. What imports it all the same (redis-py asks, too) is told that it is not there.
WITHOUT_OPENTELEMETRY = """
import sys, traceback
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            asked_by.append(next(frame.filename for frame in reversed(traceback.extract_stack()[:-1]) if "importlib" not in frame.filename))
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
asked_by = []
sys.meta_path.insert(0, Refused())
"""
WORK = """
import os
from embedq import settings, wiring
from embedq.poller import Poller
chosen = settings.from_env(os.environ)
parts = wiring.worker_parts(chosen, "poller")
parts.start(chosen)
print("claimed", Poller(parts, chosen).once())
parts.close()
print("imported", sorted(name for name in sys.modules if name.partition(".")[0] == "opentelemetry"))
print("asked for by embedq", [file for file in asked_by if "/embedq/" in file])
"""


class Receiver:
    """What a collector does: takes OTLP over HTTP, keeps it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        kept = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                kept.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def spans(self, name: str) -> list:
        requests = [ExportTraceServiceRequest.FromString(body) for body in list(self.bodies)]
        scopes = [scope for request in requests for resource in request.resource_spans for scope in resource.scope_spans]
        return [span for scope in scopes for span in scope.spans if span.name == name]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def plain(environment, psql):
    """Nothing is traced; a poller does the work."""
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    return environment | {"OPENAI_API_KEY": SECRET, "AUTH_TOKEN": SECRET}


@pytest.fixture
def traced(plain, receiver):
    return plain | {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}


def run(program: str, environment) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], env=env(environment), cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def embedded(psql) -> bool:
    return not psql("SELECT FROM embedding_tasks WHERE status IN ('pending', 'processing')")


@pytest.mark.parametrize(
    ("mode", "start"), [pytest.param("database", start_poller, id="poller"), pytest.param("celery", start_celery, id="celery")]
)
def test_a_write_and_the_worker_that_embeds_it_share_a_trace(traced, receiver, psql, mode, start):
    psql("UPDATE embedding_worker_status SET mode = %s", mode)
    assert run(WRITE, traced).stderr == ""

    with start(traced) as worker:
        until(lambda: receiver.spans("embedq.task") and receiver.spans("embedq.batch"), why=worker.output)

    [write], [task], [batch] = (receiver.spans(f"embedq.{name}") for name in ("write", "task", "batch"))
    assert (task.trace_id, task.parent_span_id) == (write.trace_id, write.span_id)
    assert [link.span_id for link in batch.links] == [write.span_id]
    assert [link.span_id for link in task.links] == [batch.span_id]
    for name in ("claim", "embed", "settle", "provider"):
        [span] = receiver.spans(f"embedq.{name}")
        assert span.trace_id == batch.trace_id
        assert batch.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano <= batch.end_time_unix_nano
    status = {attribute.key: attribute.value.string_value for attribute in task.attributes}["embedq.status"]
    assert status == "completed"


WRITE_AT_ONCE = """
import asyncio
from embedq import AsyncClient
from embedq.telemetry.tracing import span

async def write(embedq, name):
    with span("request", article=name):
        await embedq.create("Tea", name, id=name)
        await embedq.search(name)

async def run():
    async with AsyncClient() as embedq:
        await asyncio.gather(*(write(embedq, f"a{number}") for number in range(5)))

asyncio.run(run())
"""


def test_tasks_of_an_event_loop_that_write_at_once_have_a_trace_each(traced, receiver, psql):
    assert run(WRITE_AT_ONCE, traced).stderr == ""

    requests = {span.trace_id: span.span_id for span in receiver.spans("request")}
    writes, queries = receiver.spans("embedq.write"), receiver.spans("embedq.provider")
    assert len(requests) == 5
    assert {span.trace_id: span.parent_span_id for span in writes} == requests
    assert {span.trace_id: span.parent_span_id for span in queries} == requests
    told = {traceparent.split("-")[1] for (traceparent,) in psql("SELECT metadata->>'traceparent' FROM embedding_tasks")}
    assert told == {trace.hex() for trace in requests}


def test_no_text_and_no_secret_leaves_with_a_trace(traced, receiver, psql):
    run(WRITE, traced)
    failed = run(WRITE.replace('id="a", ', ""), traced)  # the error quotes the slug

    with start_poller(traced) as poller:
        until(lambda: receiver.spans("embedq.task"), why=poller.output)

    assert TEXT.encode() not in b"".join(receiver.bodies)
    assert TEXT.replace(" ", "-").encode() not in b"".join(receiver.bodies)
    assert SECRET.encode() not in b"".join(receiver.bodies)
    assert TEXT.replace(" ", "-") in failed.stderr
    assert sorted(span.status.message for span in receiver.spans("embedq.write")) == ["", "InputError"]


def test_sql_may_say_which_trace_it_belongs_to_and_what_is_not_sampled_or_no_trace_is_embedded_all_the_same(
    traced, receiver, psql
):
    for article, traceparent in (
        ("sampled", f"00-{TRACE}-{SPAN}-01"),
        ("unsampled", f"00-{TRACE}-{SPAN}-00"),
        ("odd", "'no trace"),
    ):
        psql(
            "WITH told AS MATERIALIZED (SELECT set_config('embedq.traceparent', %s, true))"
            " INSERT INTO articles (id, content) SELECT %s, 'text' FROM told",
            traceparent,
            article,
        )

    with start_poller(traced) as poller:
        until(lambda: embedded(psql) and receiver.spans("embedq.batch") and receiver.spans("embedq.task"), why=poller.output)
        assert poller.terminate() == 0

    assert psql("SELECT count(*) FROM embedding_tasks WHERE status = 'completed'") == [(3,)]
    [task] = receiver.spans("embedq.task")
    assert (task.trace_id.hex(), task.parent_span_id.hex()) == (TRACE, SPAN)
    assert sum(len(batch.links) for batch in receiver.spans("embedq.batch")) == 2


def test_an_edit_that_is_not_traced_ends_the_waiting_tasks_part_in_the_former_trace(traced, psql):
    run(WRITE, traced)
    before = psql("SELECT metadata ? 'traceparent' FROM embedding_tasks")

    psql("UPDATE articles SET content = 'anew'")

    assert (before, psql("SELECT metadata ? 'traceparent' FROM embedding_tasks")) == ([(True,)], [(False,)])


@pytest.mark.parametrize(
    "off", [{}, {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}], ids=["unset", "none"]
)
def test_when_traces_are_off_nothing_of_opentelemetry_is_imported(plain, psql, off):
    ran = run(WITHOUT_OPENTELEMETRY + WRITE + WORK, plain | off)

    assert ran.stdout.splitlines() == ["claimed 1", "imported []", "asked for by embedq []"], ran.stderr
    assert psql("SELECT status, metadata ? 'traceparent' FROM embedding_tasks") == [("completed", False)]


def test_a_write_goes_on_without_traces_where_the_extra_is_not_installed(traced, receiver, psql):
    ran = run(WITHOUT_OPENTELEMETRY + WRITE, traced)

    assert (ran.returncode, receiver.bodies) == (0, [])
    assert "pip install 'embedq[otel]'" in ran.stderr
    assert psql("SELECT count(*) FROM articles") == [(1,)]
