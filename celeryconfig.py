"""Celery's settings for this deployment: embedq's own, each explained in embedq/broker/celery_settings.py. Override below.

Celery loads this file only when told to (CELERY_CONFIG_MODULE=celeryconfig); without it the same settings come from the package.
"""

from embedq.celery_settings import *  # noqa: F403
