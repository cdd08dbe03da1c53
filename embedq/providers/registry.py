"""Providers by name: the built-in ones, and those that other packages register.

A package adds a provider by an entry point of the group `embedq.providers`: its name is the provider's, its value a
callable `(model, settings) -> Provider`. A built-in name cannot be taken over. If the callable has an attribute
`default_model = (name, dimensions)`, EMBEDDING_MODEL may be left out. Providers are imported in `make`, not before.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Final, cast

from ..errors import ConfigError
from ..model import Model
from . import Provider, ProviderSettings
from .secrets import mask

ENTRY_POINT_GROUP: Final = "embedq.providers"


Factory = Callable[[Model, ProviderSettings], Provider]


def _openai(model: Model, settings: ProviderSettings) -> Provider:
    from .openai import OpenAIProvider

    return OpenAIProvider(model, settings)


def _ollama(model: Model, settings: ProviderSettings) -> Provider:
    from .ollama import OllamaProvider

    return OllamaProvider(model, settings)


def _hashing(model: Model, settings: ProviderSettings) -> Provider:
    from .hashing import HashingProvider

    return HashingProvider(model)


def _local(model: Model, settings: ProviderSettings) -> Provider:
    from .local import LocalProvider

    return LocalProvider(model)


def _sentence_transformers(model: Model, settings: ProviderSettings) -> Provider:
    from .sentence_transformers import SentenceTransformersProvider

    return SentenceTransformersProvider(model)


BUILT_IN: Final[dict[str, tuple[Factory, tuple[str, int]]]] = {
    "openai": (_openai, ("text-embedding-3-small", 1536)),
    "ollama": (_ollama, ("nomic-embed-text", 768)),
    "local": (_local, ("all-minilm-l6-v2@8199be6f699a", 384)),
    "hashing": (_hashing, ("hashing-v1", 384)),
    "sentence-transformers": (_sentence_transformers, ("all-MiniLM-L6-v2", 384)),
}


def make(model: Model, settings: ProviderSettings) -> Provider:
    """The provider of a model. Raises ConfigError if it is unknown, misconfigured or cannot be loaded. Opens no connection."""
    if model.provider in BUILT_IN:
        factory, _ = BUILT_IN[model.provider]
        return factory(model, settings)
    factory = _third_party(model.provider)
    return factory(model, settings)


def default_model(provider: str) -> tuple[str, int]:
    """The model's name and dimensions when the settings name none. Raises ConfigError when there is no default."""
    if provider in BUILT_IN:
        return BUILT_IN[provider][1]
    default = getattr(_third_party(provider), "default_model", None)
    if default is None:
        raise ConfigError(
            f"the provider {provider!r} has no default model", hint="set EMBEDDING_MODEL and EMBEDDING_DIMENSIONS"
        )
    name, dimensions = default
    return str(name), int(dimensions)


def known_model(provider: str, name: str) -> tuple[str, int] | None:
    """Full name and dimensions of a model of a built-in provider with a fixed list of models; None for providers that accept any name."""
    if provider == "local":
        from . import local

        return local.known_model(name)
    return None


def known_providers() -> tuple[str, ...]:
    """Every name `make` accepts, the built-in ones first."""
    others = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)} - BUILT_IN.keys()
    return (*BUILT_IN, *sorted(others))


def _third_party(name: str) -> Factory:
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            return _load(point)
    known = known_providers()
    nearest = get_close_matches(name.lower(), known, n=1)
    meant = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise ConfigError(f"EMBEDDING_PROVIDER={name!r} is unknown", hint=f"{meant}set it to one of: {', '.join(known)}")


def _load(point: EntryPoint) -> Factory:
    try:
        return cast(Factory, point.load())
    except Exception as error:
        raise ConfigError(
            f"the provider {point.name!r} ({point.value}) cannot be loaded: {mask(f'{type(error).__name__}: {error}')}",
            hint="repair or remove the package which registers it",
        ) from error
