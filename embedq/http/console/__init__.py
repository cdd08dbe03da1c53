"""The console: pages of tasks, articles, errors, workers, queues, models, procedures and the audit log, beside the cockpit at `/`.

One module for each page. Pages are rendered on the server and need no JavaScript to be read.
"""

from __future__ import annotations

from . import actions, article, audit, errors, models, procedures, queues, sources, task, tasks, workers

ROUTERS = (
    actions.router,
    actions.forms,
    tasks.router,
    tasks.forms,
    task.router,
    article.router,
    errors.router,
    workers.router,
    queues.router,
    models.router,
    sources.router,
    procedures.router,
    audit.router,
)
