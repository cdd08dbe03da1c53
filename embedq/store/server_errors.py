"""Translates psycopg's errors into ours, with the next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from .. import addresses
from ..decide import refusals
from ..decide.refusals import first_line
from ..errors import ConfigError, InputError, StoreMissing, StoreRefused, StoreUnavailable

# The SQLSTATE of errors raised by embedq's own functions; their HINT is the next step.
REFUSED = "EQ001"


def is_of_a_kept_plan(error: psycopg.Error) -> bool:
    """Source: PostgreSQL, plancache.c: "cached plan must not change result type", SQLSTATE 0A000, raised in this one routine."""
    return error.diag.source_function == "RevalidateCachedQuery"


@contextmanager
def told(url: str) -> Iterator[None]:
    """psycopg's errors about the server's absence or set-up, as ours with the next step."""
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName) as missing:
        raise StoreMissing(
            f"the database at {addresses.shown(url)} is not set up: {first_line(missing)}", hint="run `embedq db upgrade`"
        ) from missing
    except (
        psycopg.errors.InvalidPassword,
        psycopg.errors.InvalidAuthorizationSpecification,
        psycopg.errors.InvalidCatalogName,
    ) as refused:
        raise StoreUnavailable(
            f"PostgreSQL at {addresses.shown(url)} refused the connection: {first_line(refused)}",
            hint="check user, password and database in DATABASE_URL",
        ) from refused
    except (psycopg.errors.UntranslatableCharacter, psycopg.errors.CharacterNotInRepertoire) as text:
        raise InputError(
            f"the database at {addresses.shown(url)} cannot keep this text: {first_line(text)}",
            hint="a database with the encoding UTF8 keeps every text; move to one, or leave these characters out",
        ) from text
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
        raise  # the server answered; the caller decides whether to try again
    except psycopg.Error as error:
        if error.sqlstate == REFUSED:
            raise InputError(str(error.diag.message_primary), hint=str(error.diag.message_hint)) from error
        known = refusals.of_sqlstate(error.sqlstate)
        if known is not None and not is_of_a_kept_plan(error):
            raise StoreRefused(
                f"PostgreSQL at {addresses.shown(url)} {known.why}: {first_line(error)}", hint=known.hint
            ) from error
        _tell_of_absence(url, error)
        raise


# Refusals of a connection, for which libpq gives no SQLSTATE: parts of the server's message, and the SQLSTATE that each means.
# Source: PostgreSQL, postmaster.c, proc.c, postinit.c.
WORDS = {
    "too many clients": "53300",
    "too many connections": "53300",
    "remaining connection slots": "53300",
    "No space left on device": "53100",
    "could not write": "58030",
}


STARTING = ("starting up", "shutting down", "in recovery mode", "not yet accepting connections")


def _of_words(error: psycopg.Error) -> refusals.Refused | None:
    said = str(error)
    if any(words in said for words in STARTING):
        return refusals.Refused("is not ready", "wait until it has started or recovered; its own log says how far it is")
    return next((refusals.of_sqlstate(code) for words, code in WORDS.items() if words in said), None)


def _tell_of_absence(url: str, error: psycopg.Error) -> None:
    if isinstance(error, psycopg.OperationalError) and (refused := _of_words(error)) is not None:
        raise StoreRefused(
            f"PostgreSQL at {addresses.shown(url)} {refused.why}: {first_line(error)}", hint=refused.hint
        ) from error
    match error:
        case psycopg.ProgrammingError():
            if _is_of_the_address(error):
                raise ConfigError(
                    "DATABASE_URL cannot be understood", hint="it looks like postgresql://user:password@host:5432/database"
                ) from None
        case psycopg.OperationalError() | psycopg.InterfaceError():
            raise StoreUnavailable(
                f"PostgreSQL at {addresses.shown(url)} cannot be reached: {first_line(error)}",
                hint="is it running, and is DATABASE_URL right? `embedq db health` looks closer",
            ) from error


def _is_of_the_address(error: psycopg.Error) -> bool:
    return any(words in str(error) for words in ("invalid connection option", "invalid dsn", 'missing "="'))
