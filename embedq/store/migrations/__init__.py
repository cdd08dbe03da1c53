"""Alembic's migrations. Their SQL is in files; none of them changes once it is released."""

from __future__ import annotations

from importlib.resources import files


def run(name: str) -> None:
    """psycopg itself runs the file: SQLAlchemy would take the % of plpgsql for parameters."""
    from alembic import context, op

    from ..stepwise import at_once, in_steps

    raw = op.get_bind().connection.driver_connection
    assert raw is not None
    text = files(__name__).joinpath("sql", name).read_text(encoding="utf-8")
    if context.config.attributes.get("at_once"):
        at_once(raw, name, text)
    else:
        in_steps(raw, name, text)
