"""Access to the embedded PostgreSQL: passwords for all roles, and for the application a role that owns only its database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .passwords import Passwords, is_of, keep, kept, verifier, write_private

if TYPE_CHECKING:
    from pathlib import Path

    from .owner import Owner

ADMIN, APPLICATION, DATABASE = "postgres", "embedq", "embedq"
PRIVATE = 0o077
HBA = b"""# Written by embedq at every start.
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""


def passwords_of(home: Path) -> Passwords:
    """The passwords of this home. If they are new, the process that starts the server must set the superuser's; asks_for_passwords reports
    that, also after an interruption."""
    if kept(home) is None:
        (home / "postgres" / "pg_hba.conf").unlink(missing_ok=True)
    return keep(home)


def asks_for_passwords(folder: Path) -> bool:
    """Whether PostgreSQL is configured to require passwords."""
    try:
        return (folder / "pg_hba.conf").read_bytes() == HBA
    except FileNotFoundError:
        return False


def ask_for_passwords(folder: Path, owner: Owner) -> None:
    write_private(folder / "pg_hba.conf", HBA, owner)


def url(role: str, password: str, port: int, database: str) -> str:
    return f"postgresql://{role}:{password}@127.0.0.1:{port}/{database}"


def answers(its_url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(its_url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def set_up(port: int, passwords: Passwords) -> None:
    """Create the application's role and its database with pgvector. One query if all of it exists."""
    import psycopg

    with psycopg.connect(url(ADMIN, passwords.admin, port, "template1"), autocommit=True) as admin:
        stored, owner = _as_it_is(admin)
        if not is_of(stored, passwords.application):
            _set_password(admin, passwords.application, new=stored is None)
        if owner is None:
            # In template1, so that later databases have it too: only a superuser can install it.
            admin.execute("CREATE EXTENSION IF NOT EXISTS vector")
            admin.execute(f"CREATE DATABASE {DATABASE} OWNER {APPLICATION}")
    if owner not in (None, APPLICATION):
        _hand_over(url(ADMIN, passwords.admin, port, DATABASE))


def _as_it_is(admin: Any) -> tuple[str | None, str | None]:
    """The verifier of the application's role ("" without a password), and the owner of its database; None for either if missing."""
    row = admin.execute(
        "SELECT (SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = %s),"
        " (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s)",
        (APPLICATION, DATABASE),
    ).fetchone()
    return row[0], row[1]


def _set_password(admin: Any, password: str, *, new: bool) -> None:
    kind = "CREATE" if new else "ALTER"
    admin.execute(
        f"{kind} ROLE {APPLICATION} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '{verifier(password)}'"
    )


def _hand_over(admin_url: str) -> None:
    from importlib.resources import files

    import psycopg

    with psycopg.connect(admin_url) as admin:
        admin.execute("CREATE EXTENSION IF NOT EXISTS vector")
        admin.execute(files(__package__).joinpath("roles.sql").read_bytes())
