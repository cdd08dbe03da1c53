"""Settings that our statements need in a PostgreSQL session, set by one statement when it begins, overriding defaults of role and database.

The schema is found once and pinned by name: the first of the caller's search path, where `"$user"` counts only if embedq is installed in it.
Where embedq is not there, its own schema `embedq` counts. pgvector's schema follows, and `pg_temp` stands last, so that no temporary table and
no table of the role's own takes the place of ours.
"""

from __future__ import annotations

from collections.abc import Mapping

# Read committed: fence, claims and settles need each statement to see what was committed before it.
SETTINGS: Mapping[str, str] = {
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "extra_float_digits": "1",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    # PostgreSQL 17 and later; the others do not have it.
    "transaction_timeout": "0",
    # A process that is frozen in the middle of a transaction holds a writer's rows no longer than this (G7).
    "idle_in_transaction_session_timeout": "5s",
}
# A prepared statement keeps a plan made while the table was empty, a sequential scan: a worker started before the first bulk load
# would scan the table for every claim until the next ANALYZE. All its statements find their rows by an index, so sequential scans are off.
# A generic plan is forced: with millions of waiting tasks PostgreSQL would otherwise plan each claim again.
BY_INDEX: Mapping[str, str] = {"enable_seqscan": "off", "jit": "off", "plan_cache_mode": "force_generic_plan"}

# How long our statements wait for a lock while they hold others: less than deadlock_timeout (1 s), so that it is never an application's writer
# whose transaction ends when it and embedq wait for each other. The statement `patience` and migration 0005 say the same.
GIVES_WAY = "200ms"

# embedq's schema in a database whose first schema has other tables (store/home.py makes it there).
OWN = "embedq"

# Behind a pooler the server's process is not the one that the client was told of: there the settings hold for this transaction only, so
# that none of them reaches another client of the same session.
_BEGIN = """
SELECT set_config('statement_timeout', '0', {local}), pg_backend_pid() AS pid;
SELECT set_config(s.name, s.value, {local}) FROM (VALUES {settings}) AS s (name, value) WHERE current_setting(s.name, true) IS NOT NULL
UNION ALL
"""
_PIN = """
SELECT set_config('search_path', concat_ws(', ', home.name, vector.name, 'pg_temp'), {local})
FROM (
    -- A search path that the address names is obeyed; otherwise embedq's own schema counts wherever it is not on the path.
    SELECT CASE WHEN first.embedq OR own.name IS NULL OR (SELECT source = 'client' FROM pg_settings WHERE name = 'search_path')
                THEN first.name ELSE own.name END AS name
    FROM (VALUES (1)) always
    LEFT JOIN (
        SELECT quote_ident(n.nspname) AS name, has.embedq
        FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (name, place)
        JOIN pg_namespace n ON n.nspname = path.name
        CROSS JOIN LATERAL (
            SELECT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'embedq_schema_version') AS embedq,
                   n.nspname = current_user AND strpos(current_setting('search_path'), '"$user"') > 0 AS own
        ) has
        ORDER BY CASE WHEN has.embedq THEN 0 WHEN has.own THEN 1 WHEN has_schema_privilege(n.oid, 'CREATE') THEN 0 ELSE 2 END, path.place
        LIMIT 1
    ) first ON true
    LEFT JOIN (
        SELECT n.nspname AS name FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid
        WHERE n.nspname = {own} AND c.relname = 'embedq_schema_version' AND has_schema_privilege(n.oid, 'USAGE')
    ) own ON true
) home
LEFT JOIN (
    SELECT quote_ident(x.nspname) AS name FROM pg_extension e JOIN pg_namespace x ON x.oid = e.extnamespace WHERE e.extname = 'vector'
) vector ON vector.name <> home.name
WHERE home.name IS NOT NULL
"""


def beginning(settings: Mapping[str, str], pid: int) -> str:
    """What a session sends first, in one message: our settings, with these over them. The time-out goes first: the rest may take longer.

    `pid`: the server's process as the client knows it. The first result has `pid`, the one that answers; when they differ, a pooler is in
    between, and this is to be sent at the begin of each transaction.
    """
    wanted = {**SETTINGS, **settings}
    pairs = ", ".join(f"({_literal(name)}, {_literal(value)})" for name, value in wanted.items())
    return _BEGIN.format(settings=pairs, local=_is_another(pid)) + pin(pid)


def pin(pid: int) -> str:
    """The statement that finds embedq's schema and pins it."""
    return _PIN.format(local=_is_another(pid), own=_literal(OWN))


def _is_another(pid: int) -> str:
    return f"pg_backend_pid() <> {pid}"


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
