"""Mode `sync`: what a client embeds itself, after the write is committed. The articles are saved whatever happens here."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import wiring
from ..errors import EmbedqError
from .bulkhead import Seats

if TYPE_CHECKING:
    from ..engine.sameness import Sameness
    from .parts import Parts

log = logging.getLogger(__name__)


class EmbeddingOnWrite:
    """Of one process: how many writes wait for the provider, and whether its server still makes the same vectors."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._seats = Seats()
        self._sameness: Sameness | None = None

    def embed(self, article_ids: Sequence[str]) -> None:
        """A failure is logged, not raised."""
        try:
            self._embed(article_ids)
        except EmbedqError as failed:
            log.warning(
                "saved, but not embedded (it is stale, and found by `embedq reconcile` once the mode makes tasks): %s", failed
            )

    def _embed(self, article_ids: Sequence[str]) -> None:
        from .sync import embed_now

        store, settings, provider = self.parts.store, self.parts.settings, self.parts.provider_for_texts
        budget = wiring.budget(settings, store, provider.model)
        with self._seats.taken():
            size = wiring.chunk_size(settings, provider.model)
            sameness = self._of_this_process()
            embed_now(store, provider, article_ids, budget=budget, prices=settings.prices, size=size, sameness=sameness)

    def _of_this_process(self) -> Sameness:
        from ..engine.sameness import Sameness

        if self._sameness is None:
            store, settings = self.parts.store, self.parts.settings
            name = f"{store.database.name}@{socket.gethostname()}:{os.getpid()}"
            self._sameness = Sameness(store, name, lambda model: wiring.server_of(settings, model))
        return self._sameness

    def forget_server(self) -> None:
        """Check the server's vectors anew, by a new connection."""
        self._sameness = None
