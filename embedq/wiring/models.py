"""The model that the settings name, its chunk size and its preparation; the agreement with the database's active model."""

from __future__ import annotations

from dataclasses import replace
from shlex import quote

from ..decide.preparation import KNOWN, prefixes_of, same_prefixes, told, with_prefixes
from ..decide.prices import named_for, number_for
from ..engine.chunking import USUAL, ChunkSize
from ..errors import ConfigError
from ..model import Model, Preparation
from ..settings import Settings
from ..store import Store


def wanted_model(settings: Settings) -> Model:
    """The model that the settings name; name and dimensions default to the provider's."""
    from ..providers.registry import default_model, known_model

    name, dimensions = settings.model, settings.dimensions
    if name and (known := known_model(settings.provider, name)):
        name, dimensions = known[0], dimensions or known[1]
    if not name or not dimensions:
        usual_name, usual_dimensions = default_model(settings.provider)
        if name and name != usual_name and not dimensions and settings.provider != "hashing":
            raise ConfigError(
                f"EMBEDDING_MODEL={name} has no known dimensions", hint="set EMBEDDING_DIMENSIONS to the length of its vectors"
            )
        name, dimensions = name or usual_name, dimensions or usual_dimensions
    model = Model(settings.provider, name, dimensions, storage=settings.storage)
    return prepared_model(settings, model, settings.prefixes, headings=settings.chunk_headings)


def prepared_model(
    settings: Settings, model: Model, prefixes: str = "", size: ChunkSize | None = None, *, headings: bool = False
) -> Model:
    """The model with its preparation for registration: prefixes as given, else those known for the model."""
    known = known_preparation_of(model)
    given = prefixes_of(prefixes)
    chosen = size or chunk_size(settings, model)
    preparation = with_prefixes(known, given) if given is not None else known
    return replace(
        model,
        preparation=replace(preparation, chunk_tokens=chosen.tokens, chunk_overlap=chosen.overlap_tokens, headings=headings),
    )


def model_named(settings: Settings) -> bool:
    """Whether the settings name a model; if not, the database's active model is used."""
    return bool(settings.model or settings.dimensions or settings.provider != Settings().provider)


def trial_model(settings: Settings) -> Model:
    """The first model of a trial installation: the settings' model, else the `local` model where that extra is installed, else `hashing`."""
    if model_named(settings):
        return wanted_model(settings)
    from ..providers.local import installed

    return wanted_model(replace(settings, provider="local") if installed() else settings)


def agreed_model(settings: Settings, store: Store) -> Model:
    """The active model; refused when the settings name another one."""
    active = store.models.active()
    if active is None or model_named(settings):
        active = store.models.agree(wanted_model(settings))
    _refuse_another_preparation(settings, active)
    return active


def _refuse_another_preparation(settings: Settings, active: Model) -> None:
    """Refuse settings whose preparation differs from that of the active model. Settings that name another model are not compared."""
    if model_named(settings) and wanted_model(settings).asked_as != active.asked_as:
        return
    registered, said = active.preparation, prefixes_of(settings.prefixes)
    if settings.prefixes == KNOWN:
        said = known_preparation_of(active)
    if said is not None and not same_prefixes(registered, said):
        raise _another(active, "EMBEDDING_PREFIXES", f"--prefixes {quote(settings.prefixes)}")
    if settings.chunk_headings and not registered.headings:
        raise _another(active, "EMBEDDING_CHUNK_HEADINGS", "--headings")
    size = _size_said(settings, active)
    if registered.chunk_tokens is not None and size not in (
        None,
        ChunkSize(registered.chunk_tokens, registered.chunk_overlap or 0),
    ):
        assert size is not None
        raise _another(
            active,
            "EMBEDDING_CHUNK_TOKENS or EMBEDDING_CHUNK_OVERLAP",
            f"--chunk-tokens {size.tokens} --chunk-overlap {size.overlap_tokens}",
        )


def known_preparation_of(model: Model) -> Preparation:
    from ..providers.prefixes import known_preparation

    return known_preparation(model.provider, model.asked_as)


def _another(active: Model, setting: str, options: str) -> ConfigError:
    return ConfigError(
        f"{setting} differs from what {active} is registered with ({told(active.preparation) or 'no prefixes'})",
        hint=f"unset it: what a model is registered with is used by every process. For other inputs build another model beside it: `embedq model add"
        f" {active.provider} {active.asked_as} {active.dimensions} {options}`",
    )


def chunk_size(settings: Settings, model: Model) -> ChunkSize:
    """The model's registered chunk size; if it has none, that of the settings, else the default."""
    registered = model.preparation
    if registered.chunk_tokens is not None:
        return ChunkSize(registered.chunk_tokens, registered.chunk_overlap or 0)
    return _size_of(settings, model)


def _size_said(settings: Settings, model: Model) -> ChunkSize | None:
    """The chunk size that the settings give for this model; None when they give none."""
    usual = Settings()
    pairs = ((settings.chunk_tokens, usual.chunk_tokens), (settings.chunk_overlap, usual.chunk_overlap))
    said = any(raw != default and named_for(raw, model) is not None for raw, default in pairs)
    return _size_of(settings, model) if said else None


def _size_of(settings: Settings, model: Model) -> ChunkSize:
    tokens, overlap = (
        int(number_for(f"{usual},{raw}", model))
        for usual, raw in zip(USUAL, (settings.chunk_tokens, settings.chunk_overlap), strict=True)
    )
    return ChunkSize(tokens or USUAL.tokens, overlap)
