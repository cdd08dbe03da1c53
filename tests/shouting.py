"""A part of a Celery worker (`-I tests.shouting`) that says hostile words through every logger that a worker has, with a password in them."""

from __future__ import annotations

import logging
import sys
from typing import Any

from celery import signals

from embedq.addresses import Address
from tests.strangers import HOSTILE

PASSWORD = 'pa"QQ\\ZZ\nrd'
DONE = "everything was said"
LOGGERS = (
    "embedq.engine.engine.engine",
    "celery.worker.consumer",
    "celery.task",
    "celery.redirected",
    "multiprocessing",
    "another.library",
)


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def shout(**_: Any) -> None:
    Address(f"redis://:{PASSWORD}@h/0")
    for name in LOGGERS:
        try:
            raise ValueError(f"{PASSWORD}{HOSTILE}")
        except ValueError:
            logging.getLogger(name).exception("%s of %s", HOSTILE, PASSWORD, extra={"article": HOSTILE})
    print(HOSTILE)
    print(HOSTILE, file=sys.stderr)
    logging.getLogger("embedq").warning(DONE)
