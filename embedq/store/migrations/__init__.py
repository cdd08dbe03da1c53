"""Alembic's migrations. Their SQL is in files; none of them changes once it is released."""

from __future__ import annotations

from importlib.resources import files


def run(name: str) -> None:
    """psycopg itself runs the file: SQLAlchemy would take the % of plpgsql for parameters."""
    from alembic import op

    raw = op.get_bind().connection.driver_connection
    assert raw is not None
    raw.execute(files(__name__).joinpath("sql", name).read_text(encoding="utf-8"))
