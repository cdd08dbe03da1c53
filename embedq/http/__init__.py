"""The HTTP service: articles and search, the operator's paths, metrics, and the cockpit. `make_app(settings)` makes the application.

Imported by cli only.
"""

from __future__ import annotations

from .app import make_app

__all__ = ["make_app"]
