"""`Client.search(load=Model)`: the user's own SQLAlchemy objects of the rows that were found, in ranked order, by one query."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import orm

from ..errors import InputError, NotFound

T = TypeVar("T")


def table_of(model: type[Any]) -> tuple[str | None, str]:
    """Schema (None: the search path's) and name of a mapped class's table. Raises InputError for what is not mapped."""
    mapper = sa.inspect(model, raiseerr=False)
    if not isinstance(mapper, orm.Mapper) or not isinstance(mapper.local_table, sa.Table):
        raise InputError(
            f"{model!r} is no mapped class", hint="load takes a class that SQLAlchemy maps to the source's table", field="load"
        )
    return mapper.local_table.schema, mapper.local_table.name


def source_of_model(model: type[Any], sources: Sequence[Mapping[str, Any]]) -> str:
    """The name of the one source that is the table of this class. Raises NotFound, or InputError where there are several."""
    schema, name = table_of(model)
    found = [s["name"] for s in sources if s["table_name"] == name and schema in (None, s["schema_name"])]
    if not found:
        raise NotFound(f"the table {name} of {model.__name__} is no source", hint=f"`embedq attach {name} …`")
    if len(found) > 1:
        raise InputError(
            f"several sources are the table {name}: {', '.join(found)}", hint="name one of them: source=…", field="source"
        )
    return str(found[0])


def loaded(model: type[T], keys: Sequence[Mapping[str, Any]], session: orm.Session) -> list[T]:
    """The objects of these keys, in their order; rows that are gone meanwhile are left out."""
    if not keys:
        return []
    columns = [sa.inspect(model).local_table.c[name] for name in keys[0]]
    wanted = [tuple(key.values()) for key in keys]
    where = sa.tuple_(*columns).in_(wanted) if len(columns) > 1 else columns[0].in_([values[0] for values in wanted])
    attributes = [sa.inspect(model).get_property_by_column(column).key for column in columns]
    objects = {tuple(getattr(one, name) for name in attributes): one for one in session.scalars(sa.select(model).where(where))}
    return [objects[values] for values in wanted if values in objects]


@contextmanager
def own_session(connect: Callable[[], Any]) -> Iterator[orm.Session]:
    """A session of embedq's own for one load; its objects can be used after it, detached."""
    engine = sa.create_engine("postgresql+psycopg://", creator=connect, poolclass=sa.NullPool)
    with orm.Session(engine, expire_on_commit=False) as session:
        yield session
        session.expunge_all()
