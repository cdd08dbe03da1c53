"""Tells the webhook of a procedure that it has begun, and how it ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...steward.webhook import told

if TYPE_CHECKING:
    from .procedure import Scene


@contextmanager
def announced(scene: Scene) -> Iterator[dict[str, Any]]:
    """The block is the procedure; it adds its results to the context value. The beginning is told beside it, so that it waits for no webhook."""
    results: dict[str, Any] = {}
    beginning = threading.Thread(target=_tell, args=(scene, "begun", {}), daemon=True)
    if scene.webhook:
        beginning.start()
    try:
        yield results
    except Exception as failed:
        _tell_after(beginning, scene, "failed", {"why": str(failed), "next": getattr(failed, "hint", "")})
        raise
    _tell_after(beginning, scene, "ended", results)


def _tell_after(beginning: threading.Thread, scene: Scene, event: str, results: Mapping[str, Any]) -> None:
    if scene.webhook:
        beginning.join()
        _tell(scene, event, results)


def _tell(scene: Scene, event: str, results: Mapping[str, Any]) -> None:
    assert scene.run is not None
    facts = {"run": scene.run.run, "kind": scene.run.kind, "by": scene.who, "reason": scene.reason}
    if failed := told(scene.webhook, {"event": f"procedure {event}", "procedure": facts | dict(results)}):
        scene.untold = failed
        scene.say(f"warning: {failed}")
