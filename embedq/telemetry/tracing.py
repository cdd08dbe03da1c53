"""OpenTelemetry traces from a write to its vector (the extra `otel`). Nothing is imported while traces are off, which is the default.

The trace context of the write is stored with the task (`metadata.traceparent`, W3C Trace Context). A worker's batch is a separate trace,
linked to each of its tasks; each sampled task also gets a span in its write's trace. Spans contain ids, counts and names; no texts,
messages, addresses or reasons, which may quote a text.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Link, Span, Tracer

    from ..model import Claimed, Outcome

log = logging.getLogger(__name__)

SWITCHES = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT")
P = TypeVar("P")


class Note(Protocol):
    """Collects attributes of a span."""

    def __call__(self, **attributes: object) -> None: ...


def wanted(env: Mapping[str, str]) -> list[str]:
    """Names of the exporters set in the environment; empty if traces are off. Source: OpenTelemetry, SDK environment variables."""
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or not any(env.get(name, "").strip() for name in SWITCHES):
        return []
    names = [name.strip() for name in (env.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp").split(",")]
    return [name for name in names if name and name != "none"]


def span(name: str, **attributes: object) -> AbstractContextManager[Note]:
    """A span around the block, child of the current one. The context value is a `Note` for attributes that are known later."""
    tracer = _tracer()
    return _SILENT if tracer is None else _span(tracer, name, None, attributes)


def traceparent() -> str | None:
    """The current span as a W3C traceparent, '' when there is none; None when traces are off."""
    if _tracer() is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


def batch(claimed: Sequence[Claimed], began_ns: int) -> AbstractContextManager[Batch]:
    """The span of a worker's run over these tasks; `began_ns` (Unix time): begin of the claim. No span for a run without tasks."""
    tracer = _tracer()
    return nullcontext(_UNTRACED) if tracer is None or not claimed else _batch(tracer, claimed, began_ns)


def traced(provider: P) -> P:
    """The provider with a span around each request; unchanged if traces are off."""
    return provider if _tracer() is None else cast(P, _TracedProvider(provider))


class Batch:
    """A batch being traced; this base class does nothing, for traces that are off."""

    def ended(self, outcomes: Sequence[Outcome], states: Mapping[int, str]) -> None:
        """End the batch: a span for each sampled task, from its claim until now. `states`: states after the settle; a missing task was
        settled too late."""


class _TracedBatch(Batch):
    def __init__(self, tracer: Tracer, span: Span, began_ns: int) -> None:
        self.tracer, self.span, self.began_ns = tracer, span, began_ns

    def ended(self, outcomes: Sequence[Outcome], states: Mapping[int, str]) -> None:
        from opentelemetry.trace import Link

        here = Link(self.span.get_span_context())
        for outcome in outcomes:
            parent = _sampled(outcome.task.traceparent)
            if parent is not None:
                self._ended(outcome, states.get(outcome.task.id, "late"), parent, here)

    def _ended(self, outcome: Outcome, state: str, parent: Context, batch: Link) -> None:
        from opentelemetry.trace import SpanKind

        task = outcome.task
        attributes = {"task": task.id, "article": task.article_id, "tenant": task.tenant_id, "version": task.version}
        named = _named(attributes | {"status": state})
        one = self.tracer.start_span(
            "embedq.task", parent, SpanKind.CONSUMER, attributes=named, links=[batch], start_time=self.began_ns
        )
        if outcome.error_class:
            _failed(one, outcome.error_class)
        one.end()


class _TracedProvider:
    """Delegates to a provider; spans record the size of requests, not their texts."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.model = inner, inner.model

    @property
    def limits(self) -> Any:
        """The current limits; a provider lowers them when its server refuses a size."""
        return self.inner.limits

    def embed(self, texts: Sequence[str]) -> Any:
        with self._span(len(texts)) as note:
            return self._noted(self.inner.embed(texts), note)

    async def aembed(self, texts: Sequence[str]) -> Any:
        with self._span(len(texts)) as note:
            return self._noted(await self.inner.aembed(texts), note)

    def _span(self, inputs: int) -> AbstractContextManager[Note]:
        asked = {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": self.model.provider,
            "gen_ai.request.model": self.model.name,
        }
        return span("embedq.provider", **asked, inputs=inputs)

    def _noted(self, embedded: Any, note: Note) -> Any:
        note(**{"gen_ai.usage.input_tokens": embedded.tokens})
        return embedded

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()


@contextmanager
def _span(
    tracer: Tracer, name: str, context: Context | None, attributes: Mapping[str, object], **options: Any
) -> Iterator[Note]:
    # The exception is not recorded in the span, because its message may quote a text.
    options |= {"record_exception": False, "set_status_on_exception": False}
    with tracer.start_as_current_span(name, context, attributes=_named(attributes), **options) as current:
        try:
            yield lambda **more: current.set_attributes(_named(more))
        except Exception as wrong:
            _failed(current, type(wrong).__name__)
            raise


@contextmanager
def _batch(tracer: Tracer, claimed: Sequence[Claimed], began_ns: int) -> Iterator[Batch]:
    from opentelemetry.trace import Link, get_current_span

    claimed_ns = time.time_ns()
    contexts = [context for task in claimed if (context := _context(task.traceparent)) is not None]
    links = [Link(get_current_span(context).get_span_context()) for context in contexts]
    with _span(tracer, "embedq.batch", None, {"tasks": len(claimed)}, links=links, start_time=began_ns):
        tracer.start_span("embedq.claim", start_time=began_ns).end(claimed_ns)
        yield _TracedBatch(tracer, get_current_span(), began_ns)


def _context(traceparent: str | None) -> Context | None:
    """The context of a traceparent; None if it is invalid, because applications can write a task's metadata."""
    from opentelemetry.context import Context
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent or ""}, Context())
    return context if get_current_span(context).get_span_context().is_valid else None


def _sampled(traceparent: str | None) -> Context | None:
    from opentelemetry.trace import get_current_span

    context = _context(traceparent)
    return context if context is not None and get_current_span(context).get_span_context().trace_flags.sampled else None


def _named(attributes: Mapping[str, object]) -> dict[str, Any]:
    return {name if "." in name else f"embedq.{name}": value for name, value in attributes.items()}


def _failed(span: Span, kind: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, kind))


def _tracer() -> Tracer | None:
    """The tracer, made at the first span (after a fork, in the child). None if traces are off or cannot be set up; then embedq works
    without traces."""
    if not _made_already:
        with _lock:
            if not _made_already:
                _made_already.append(_first())
    return _made_already[0]


def _first() -> Tracer | None:
    names = wanted(os.environ)
    if not names:
        return None
    try:
        return _made(names)
    except Exception as lacking:
        # The variables may be set for all programs of a machine, so a failure to set up traces is not an error.
        log.warning("no traces: %s; next: pip install 'embedq[otel]', or OTEL_TRACES_EXPORTER=none", lacking)
        return None


def _made(names: Sequence[str]) -> Tracer:
    """The application's global tracer provider if it has set one, else a private one that is not registered globally."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    theirs = trace.get_tracer_provider()
    if not isinstance(theirs, trace.ProxyTracerProvider):
        return theirs.get_tracer("embedq")
    ours = TracerProvider(resource=_resource())
    for name in names:
        ours.add_span_processor(BatchSpanProcessor(_exporter(name)))
    return ours.get_tracer("embedq")


def _resource() -> Resource:
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    return Resource.create({"service.name": "embedq"} | dict(OTELResourceDetector().detect().attributes))


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    if name != "otlp":
        raise ValueError(f"OTEL_TRACES_EXPORTER={name} is neither otlp nor console")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _say_nothing(**_: object) -> None:
    pass


_SILENT: AbstractContextManager[Note] = nullcontext(_say_nothing)
_UNTRACED = Batch()
_lock = threading.Lock()
# One tracer per process; the lock covers threads that need it first.
_made_already: list[Tracer | None] = []
