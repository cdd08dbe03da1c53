"""Connections whose every statement waits for the scheduler's turn. The operation above them is the product's own, unchanged.

psycopg sends everything, a statement, a COPY, the BEGIN and COMMIT of a block, through `Connection.wait`: that is the gate.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from embedq.store.database import Database

from .gate import COMMIT, STATEMENT, TIMEOUT, VICTIM, Abandoned, Pending, Player, playing

ERRORS = {
    TIMEOUT: lambda: psycopg.errors.LockNotAvailable("canceling statement due to lock timeout"),
    STATEMENT: lambda: psycopg.errors.QueryCanceled("canceling statement due to statement timeout"),
    VICTIM: lambda: psycopg.errors.DeadlockDetected("deadlock detected"),
}
OF_TRANSACTION, OF_SESSION = "transaction", "session"
SERIALIZABLE = "serializable"
_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_COMMENT, _SETS = re.compile(r"--[^\n]*"), re.compile(r"timeout|isolation|set_config|\breset\b|\bdiscard\b")
_IDLE, _IN_TRANSACTION = TransactionStatus.IDLE, TransactionStatus.INTRANS


class GatedConnection(psycopg.Connection[Any]):
    """Made of a connection that the product opened itself, by changing its class."""

    bound_s, ends_by = 0.0, ""
    _bound_known = False
    _level: str | None = None
    _saw_snapshot = _changed = False
    _of_session: dict[bytes, str]
    pid: int

    def wait(self, gen: Any, *args: Any, **more: Any) -> Any:
        player = playing()
        if player is None:
            return super().wait(gen, *args, **more)
        player.connections[self.pid] = self
        name, known = _described(gen)
        if name == "_execute_gen" or name == "_start_copy_gen":
            return self._statement(player, gen, _text(known.get("query", known.get("statement"))))
        if name in ("_exit_gen", "_commit_gen"):
            commits = name == "_commit_gen" or known.get("exc_val") is None
            if commits and self.info.transaction_status == _IN_TRANSACTION:
                self._gate_of_commit(player, known["self"])
                return self._guarded(player, gen)
            player.rolled_back = True
            self._forget_transaction()
        return super().wait(gen, *args, **more)

    def _gate_of_commit(self, player: Player, ends: Any) -> None:
        """`ends`: the block or the connection that commits. Where it does not come to that, it is rolled back, and the session is free."""
        try:
            player.gate(Pending(COMMIT, self, watched=self._level == SERIALIZABLE))
        except Abandoned as abandoned:
            rollback = self._rollback_gen() if ends is self else ends._exit_gen(Abandoned, abandoned, None)
            super().wait(rollback)
            raise

    def _statement(self, player: Player, gen: Any, sql: str) -> Any:
        status = self.info.transaction_status
        first = status == _IDLE
        if quiet(sql) and not self._has_own_snapshot():
            try:
                return super().wait(gen)
            finally:
                self._listen(sql)
        frozen = not first and self._has_own_snapshot()
        snapshot = self._has_own_snapshot() and not self._saw_snapshot
        opaque = first and opaque_of(sql)
        player.gate(Pending(sql, self, snapshot, frozen, self._level == SERIALIZABLE, opaque))
        try:
            if opaque:
                return self._opaque(player, gen)
            if first and self.autocommit:
                return self._alone(player, gen)
            self._take_over_timers()
            return self._guarded(player, gen)
        finally:
            self._saw_snapshot = True
            self._listen(sql)

    def _alone(self, player: Player, gen: Any) -> Any:
        """A statement that commits by itself, as the two steps it is: others may come between its work and its commit."""
        super().wait(self._exec_command(b"BEGIN"))
        self._take_over_timers()
        try:
            result = self._guarded(player, gen)
            player.gate(Pending(COMMIT, self, watched=self._level == SERIALIZABLE))
            self._guarded(player, self._exec_command(b"COMMIT"))
        except BaseException:
            if self.info.transaction_status != _IDLE and not self.closed:
                super().wait(self._exec_command(b"ROLLBACK"))
                player.rolled_back = True
            raise
        return result

    def _opaque(self, player: Player, gen: Any) -> Any:
        """One step, though it commits in between. It is in no transaction of ours, so that its timer is the session's, and is put back."""
        bound = self._shown(b"lock_timeout").encode()
        self.bound_s, self.ends_by = _seconds(bound.decode()), TIMEOUT
        self.pgconn.exec_(b"SET lock_timeout = 0")
        try:
            return self._guarded(player, gen)
        finally:
            self.pgconn.exec_(b"SET lock_timeout = '" + bound + b"'")

    def _guarded(self, player: Player, gen: Any) -> Any:
        try:
            return super().wait(gen)
        except psycopg.errors.QueryCanceled as cancelled:
            if player.abandoned:
                raise Abandoned from None
            if player.verdict is None:
                raise
            verdict, player.verdict = player.verdict, None
            raise ERRORS[self.ends_by if verdict == TIMEOUT else verdict]() from cancelled
        finally:
            if self.info.transaction_status == _IDLE:
                self._forget_transaction()

    # What is known of the session ----------------------------------------------------------------------------------------------

    def _take_over_timers(self) -> None:
        """How long it would wait at most is known from now on, and its own timers no longer end it: the scheduler does.

        SHOW and SET take no snapshot, so that asking changes nothing.
        """
        if self._bound_known or self.info.transaction_status != _IN_TRANSACTION:
            return
        self.bound_s, self.ends_by, self._bound_known = 0.0, TIMEOUT, True
        for timer, ends_by in ((b"lock_timeout", TIMEOUT), (b"statement_timeout", STATEMENT)):
            seconds = _seconds(self._setting(timer))
            if seconds:
                self.pgconn.exec_(b"SET LOCAL " + timer + b" = 0")
            if seconds and (not self.bound_s or seconds < self.bound_s):
                self.bound_s, self.ends_by = seconds, ends_by

    def _has_own_snapshot(self) -> bool:
        """Whether its transaction keeps one snapshot from its first statement on."""
        if self._level is None:
            self._level, self._saw_snapshot = self._setting(b"transaction_isolation"), False
            if self.isolation_level is not None and self.info.transaction_status == _IN_TRANSACTION:
                self._level = self.isolation_level.name.replace("_", " ").lower()
        return self._level in ("repeatable read", SERIALIZABLE)

    def _setting(self, name: bytes) -> str:
        """As the session has it, asked once; as this transaction has it, where one of its statements has spoken of it."""
        if self._changed:
            return self._shown(name)
        if name not in self._of_session:
            self._of_session[name] = self._shown(name)
        return self._of_session[name]

    def _listen(self, sql: str) -> None:
        """What a statement may set is asked for again until its transaction ends; what it may set for longer, in the next one as well."""
        if not (reach := _sets(sql)):
            return
        in_transaction = self.info.transaction_status == _IN_TRANSACTION
        self._bound_known, self._level, self._changed = False, None, in_transaction
        if not in_transaction or reach == OF_SESSION:
            self._of_session.clear()

    def _forget_transaction(self) -> None:
        self._bound_known, self._level, self._changed = False, None, False

    def _shown(self, setting: bytes) -> str:
        if self.info.transaction_status not in (_IDLE, _IN_TRANSACTION):
            return ""
        answer = self.pgconn.exec_(b"SHOW " + setting)
        value = answer.get_value(0, 0)
        return value.decode() if value else ""


class GatedDatabase(Database):
    """The product's own, whose connections are gated."""

    def _open(self, name: str, settings: Mapping[str, str]) -> Any:
        player, thread = playing(), threading.current_thread()
        thread.player = None  # type: ignore[attr-defined]  # what a session is set up with is no step
        try:
            # It may stand still for as long as a schedule takes.
            return gated(super()._open(name, {**settings, "idle_in_transaction_session_timeout": "0"}))
        finally:
            thread.player = player  # type: ignore[attr-defined]


def gated(connection: Any) -> GatedConnection:
    connection.__class__, connection._of_session, connection.pid = GatedConnection, {}, connection.info.backend_pid
    return connection  # type: ignore[no-any-return]


@cache
def quiet(sql: str) -> bool:
    """It sets something of its own session and reads no table."""
    start = _COMMENT.sub("", sql).lstrip().lower()
    return start.startswith(("select set_config(", "set ", "show "))


@cache
def _sets(sql: str) -> str:
    """How long what it may set lasts; an empty text where it sets nothing."""
    text = sql.lower()
    if not _SETS.search(text):
        return ""
    local = "set local" in text or 0 < text.count("set_config") <= text.count(", true)")
    return OF_TRANSACTION if local else OF_SESSION


def opaque_of(sql: str) -> bool:
    return "CONCURRENTLY" in sql or "FINALIZE" in sql


def _described(gen: Any) -> tuple[str, dict[str, Any]]:
    code, frame = getattr(gen, "gi_code", None), getattr(gen, "gi_frame", None)
    return (code.co_name if code else "", frame.f_locals if frame else {})


def _text(query: Any) -> str:
    return query.decode() if isinstance(query, bytes) else str(query)


def _seconds(setting: str) -> float:
    number = setting.rstrip("abcdefghijklmnopqrstuvwxyz")
    return float(number or 0) * _UNITS.get(setting[len(number) :], 1e-3)
