"""Translates errors of PostgreSQL, brokers and the operating system into embedq's errors, with the next step.

Used by the command line, the HTTP service and the workers. An error that is not listed here is treated as a bug of embedq. Driver classes
are matched by name, so that a command that needs no driver imports none.
"""

from __future__ import annotations

import errno
import os
from typing import Final, NamedTuple

from ..addresses import hide
from ..errors import BrokerUnavailable, EmbedqError, InputError, StoreRefused, StoreUnavailable, SystemRefused

LONGEST: Final = 500


class Refused(NamedTuple):
    """`why` completes a sentence that begins with the name of the system; `hint` is the next step."""

    why: str
    hint: str


_OTHERS_TABLES: Final = Refused(
    "has tables or functions that are not as embedq's of this version",
    "run `embedq db upgrade`; where they are another application's, give embedq a database of its own, or a schema: "
    "DATABASE_URL with ?options=-csearch_path%3DNAME",
)
_TAKEN: Final = Refused(
    "has something of that name already, which is not embedq's",
    "give embedq a database of its own, or a schema: DATABASE_URL with ?options=-csearch_path%3DNAME; or rename what is there",
)
_NO_ROOM: Final = Refused("has no room left", "free disk space on the database server, then run the same again")
_READ_ONLY: Final = Refused(
    "takes no writes", "name the primary in DATABASE_URL, not a standby; or set default_transaction_read_only to off"
)
_NO_EXTENSION: Final = Refused(
    "lacks an extension that embedq needs", "install pgvector on the server, and as a superuser: CREATE EXTENSION vector"
)
# Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes".
SQLSTATES: Final = {
    "42501": Refused(
        "does not give this role a right that embedq needs",
        "run it as the owner of embedq's tables, or let the owner or a superuser GRANT the right; `embedq db upgrade` also needs CREATE on"
        " the schema, and pgvector to be there already or a role that may create it",
    ),
    "42P07": _TAKEN,
    "42710": _TAKEN,
    "42723": _TAKEN,
    "42P06": _TAKEN,
    "42703": _OTHERS_TABLES,
    "42704": _OTHERS_TABLES,
    "42804": _OTHERS_TABLES,
    "42809": _OTHERS_TABLES,
    "42846": _OTHERS_TABLES,
    "42P10": _OTHERS_TABLES,
    "42725": _OTHERS_TABLES,
    "42P16": _OTHERS_TABLES,
    "53000": _NO_ROOM,
    "53100": _NO_ROOM,
    "53400": _NO_ROOM,
    "53200": Refused("has no memory left", "give the database server more memory, or lower its work_mem and max_connections"),
    "53300": Refused(
        "has no connection left", "raise max_connections on the server, or run fewer workers (EMBEDDING_CONCURRENT_WORKERS)"
    ),
    "25006": _READ_ONLY,
    "58030": Refused("cannot read or write its files", "look into the log of the database server, and at its disk"),
    "58P01": _NO_EXTENSION,
    "0A000": Refused(
        "cannot do what embedq needs", "use PostgreSQL 14 or later with pgvector; `embedq db health` says what is there"
    ),
    "XX001": Refused("has damaged data", "look into the log of the database server; `embedq restore` brings a backup back"),
    "XX002": Refused("has a damaged index", "REINDEX what it names, as its owner; then run the same again"),
}

_ROOM: Final = Refused("there is no room", "free some space, or name another place")
_MAY_NOT: Final = Refused("this user may not", "give this user the right, or name another place")
_NO_FILE: Final = Refused("it cannot be used like that", "name a regular file")
_FILES: Final = Refused("too many files are open", "raise the limit (ulimit -n), or end what holds many files open")
_NETWORK: Final = Refused("the network refuses", "check address, port and firewall, then run the same again")
ERRNOS: Final = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: Refused("the file would be too large", "raise the limit (ulimit -f), or name another place"),
    errno.EROFS: Refused("it can only be read", "name a place that can be written"),
    errno.EACCES: _MAY_NOT,
    errno.EPERM: _MAY_NOT,
    errno.EISDIR: Refused("it is a folder", "name a file"),
    errno.ENOTDIR: Refused("a part of the path is no folder", "name a path whose parents are folders"),
    errno.ENOENT: Refused("it is not there", "check the path; the folder must be there"),
    errno.EEXIST: Refused("it is there already", "name another place, or move it away"),
    errno.ENOTEMPTY: Refused("it is not empty", "name another place, or move it away"),
    errno.ELOOP: Refused("its links lead to themselves", "name a path without such links"),
    errno.ENAMETOOLONG: Refused("the name is too long", "name a shorter path"),
    errno.EINVAL: _NO_FILE,
    errno.ENXIO: _NO_FILE,
    errno.ENODEV: _NO_FILE,
    errno.ESPIPE: _NO_FILE,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOMEM: Refused("there is no memory left", "end other programs, or give this one more memory"),
    errno.EAGAIN: Refused("there are too many processes or threads", "raise the limit (ulimit -u), or end other programs"),
    errno.EBADF: Refused("standard output is closed", "open it; to throw the output away, send it to /dev/null"),
    errno.EIO: Refused("the device fails", "check the disk; look into the system's log"),
    errno.EADDRINUSE: Refused("another program has that port", "name another port"),
    errno.EADDRNOTAVAIL: Refused("this machine has no such address", "name an address of this machine"),
    errno.ECONNREFUSED: _NETWORK,
    errno.ECONNRESET: _NETWORK,
    errno.EHOSTUNREACH: _NETWORK,
    errno.ENETUNREACH: _NETWORK,
    errno.ETIMEDOUT: _NETWORK,
}
_OTHERWISE: Final = Refused("the operating system refuses", "put right what it names, then run the same again")
_BROKERS: Final = ("redis.RedisError", "kombu.KombuError", "kombu.OperationalError", "amqp.AMQPError")


def of_sqlstate(sqlstate: str | None) -> Refused | None:
    """The refusal for an SQLSTATE; None if the code does not describe a state of the server."""
    return SQLSTATES.get(sqlstate or "")


def means_another_server(sqlstate: str | None) -> bool:
    """Whether the server is no longer the primary, or is shutting down: its connections must not be reused, even if they still work."""
    return sqlstate is not None and (sqlstate in ("25006", "57P01", "57P02", "57P03", "57P04") or sqlstate.startswith("08"))


def of_errno(number: int | None) -> Refused:
    return ERRNOS.get(number or 0, _OTHERWISE)


def of_error(error: BaseException) -> EmbedqError | None:
    """The embedq error to raise or report instead of this one; None if it is a bug of embedq."""
    match error:
        case EmbedqError():
            return error
        case OSError():
            return of_system(error)
        case ImportError():
            return _of_import(error)
        case MemoryError():
            return SystemRefused("there is no memory left", hint=ERRNOS[errno.ENOMEM].hint)
        case RuntimeError() if "can't start new thread" in str(error):
            return SystemRefused("no further thread can be started", hint=ERRNOS[errno.EAGAIN].hint)
    return _of_driver(error)


def of_system(error: OSError) -> SystemRefused:
    """The error for an OSError, as `what it was about: why (the system's message)`."""
    refused, said = of_errno(error.errno), error.strerror or str(error) or type(error).__name__
    about = f"{_name(error.filename)}: " if error.filename is not None else ""
    return SystemRefused(_shortened(f"{about}{refused.why} ({said})"), hint=refused.hint)


def of_file(error: OSError, path: object, what: str, hint: str = "") -> InputError:
    """The error for a named path: `PATH cannot be written: …`. `hint`: used if the system's error gives none."""
    refused = of_errno(error.errno)
    said = error.strerror or str(error)
    return InputError(_shortened(f"{path} cannot be {what}: {said}"), hint=f"{refused.hint}; {hint}" if hint else refused.hint)


def _of_import(error: ImportError) -> SystemRefused | None:
    package = (error.name or "").partition(".")[0]
    if not package or package == "embedq":
        return None
    return SystemRefused(
        _shortened(f"the package {package} cannot be imported: {error}"),
        hint=f"install it into this environment, or embedq anew: pip install --force-reinstall embedq; {package} may belong to an extra of it",
    )


def _of_driver(error: BaseException) -> EmbedqError | None:
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    if "psycopg.Error" in kinds:
        return _of_postgres(error, kinds)
    if kinds.intersection(_BROKERS):
        return BrokerUnavailable(
            f"the broker does not answer as it should: {first_line(error)}",
            hint="is it running, and is its address right? tasks wait in the table; `embedq mode database` works without a broker",
        )
    return None


def _of_postgres(error: BaseException, kinds: set[str]) -> EmbedqError | None:
    refused = of_sqlstate(getattr(error, "sqlstate", None))
    if refused is not None:
        return StoreRefused(f"PostgreSQL {refused.why}: {first_line(error)}", hint=refused.hint)
    if kinds & {"psycopg.OperationalError", "psycopg.InterfaceError"}:
        return StoreUnavailable(
            f"PostgreSQL did not do it: {first_line(error)}", hint="run the same again; `embedq db health` looks closer"
        )
    return None


def first_line(error: BaseException) -> str:
    """The first line of the message, with parts of addresses masked, which drivers may quote."""
    return hide((str(error).strip().splitlines() or [type(error).__name__])[0], names=True)


def _name(filename: object) -> str:
    return os.fsdecode(filename) if isinstance(filename, str | bytes) else str(filename)


def _shortened(words: str) -> str:
    return words if len(words) <= LONGEST else words[:LONGEST] + "…"
