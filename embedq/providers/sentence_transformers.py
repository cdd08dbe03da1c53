"""The `sentence-transformers` provider: a model in this process. Needs the optional extra.

The library and the model are loaded at the first call, once per process. A model given as a path needs no network; one
given by name must be in the library's cache already, because nothing is downloaded at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from threading import Lock
from typing import Any, Final

import numpy as np

from ..errors import ConfigError
from ..model import Model
from . import Embedded, Limits
from .answers import checked
from .faults import Cause, fault
from .inputs import refuse_unembeddable
from .limits import estimate_tokens, limits_for

NAME: Final = "sentence-transformers"
_loading = Lock()


class SentenceTransformersProvider:
    """Embeds in this process. Calls from several threads are serialised, because the model keeps state while it encodes."""

    def __init__(self, model: Model) -> None:
        """Raises ConfigError when the extra is not installed. Loads nothing yet."""
        if find_spec("sentence_transformers") is None:
            raise ConfigError(
                "EMBEDDING_PROVIDER=sentence-transformers needs a package that is not installed",
                hint="pip install 'embedq[sentence-transformers]'",
            )
        self.model = model
        self.limits: Limits = limits_for(model)
        self._turn = Lock()

    def embed(self, texts: Sequence[str]) -> Embedded:
        """One vector per text, in order, shape (len(texts), dimensions), float32. `tokens` is an estimate.

        Raises ProviderBusy when the model cannot be loaded or runs out of memory, InputRefused for a blank text.
        """
        refuse_unembeddable(texts)
        if not texts:
            return Embedded(np.empty((0, self.model.dimensions), dtype=np.float32), 0)
        vectors = checked(np.asarray(self._encode(texts)), len(texts), self.model)
        return Embedded(vectors, sum(map(estimate_tokens, texts)))

    def close(self) -> None:
        """No effect: the model stays loaded, because other providers of the process share it."""

    def _encode(self, texts: Sequence[str]) -> Any:
        with self._turn:
            try:
                return _loaded(self.model.name).encode(list(texts), convert_to_numpy=True, show_progress_bar=False)
            except OSError as error:
                trouble = fault(NAME, Cause.NOT_FOUND, str(error))
            except (RuntimeError, ValueError, MemoryError) as error:
                trouble = fault(NAME, Cause.MODEL_FAILED, f"{type(error).__name__}: {error}")
        raise trouble


def _loaded(name: str) -> Any:
    with _loading:
        return _load(name)


@lru_cache(maxsize=4)
def _load(name: str) -> Any:
    import sentence_transformers

    return sentence_transformers.SentenceTransformer(name, local_files_only=True)
