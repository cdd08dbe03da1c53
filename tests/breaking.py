"""Celery's settings (CELERY_CONFIG_MODULE) for a worker that meets an error nobody expected, as soon as a file is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import signals

from embedq.broker.celery_settings import *  # noqa: F403


@signals.worker_ready.connect(weak=False)
def _break_when_told(sender: Any, **_: Any) -> None:
    def look() -> None:
        # Celery's loop lets this error of a timer pass, and the worker ends over it.
        assert not Path(os.environ["BREAKS_AT"]).exists(), "made to fail"

    sender.timer.call_repeatedly(0.1, look)
