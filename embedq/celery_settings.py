"""The name under which a deployment's `celeryconfig.py` imports embedq's settings for Celery: `from embedq.celery_settings import *`."""

from .broker.celery_settings import *  # noqa: F403
