"""A kombu connection that prints its address without users and passwords, also where the address is a list of brokers.

Kombu masks the password of the first one only; Celery prints the address at its start and after every reconnection, and sends what
`info` returns as the answer of `celery inspect stats`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from celery.app.amqp import AMQP
from kombu.connection import Connection

from ..addresses import shown


class QuietConnection(Connection):
    def as_uri(self, include_password: bool = False, mask: str = "**", *options: Any) -> str:
        uri: str = super().as_uri(True, mask, *options)
        return uri if include_password else shown(uri)

    def info(self) -> dict[str, Any]:
        told: dict[str, Any] = super().info()  # type: ignore[no-untyped-call]
        return told | {"alternates": [shown(url) for url in told.get("alternates") or ()], "userid": None}

    def maybe_close_channel(self, channel: Any) -> None:
        """A channel whose connection is closed cannot return its messages; Redis still has them."""
        with suppress(AttributeError):
            super().maybe_close_channel(channel)  # type: ignore[no-untyped-call]


class Amqp(AMQP):  # type: ignore[misc]
    Connection = QuietConnection
