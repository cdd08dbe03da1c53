"""How every process of embedq ends on an error: expected errors are printed with the next step, unexpected ones are written to a file.

    run(act, tell)

Exit codes: those of `act` and of the errors it raises; 70 for an unexpected error, 130 after Ctrl-C, 141 when the reader of the output is
gone. Every failure of `act` is reported by `tell`, in one message without a traceback.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import NoReturn

import click

from .. import visible
from ..addresses import hide
from ..decide import refusals
from ..errors import EmbedqError, InputError, SystemRefused, Unexpected

INTERRUPTED, NO_READER = 130, 141
STDIN, STDOUT, STDERR = 0, 1, 2
Tell = Callable[[EmbedqError], None]


def run(act: Callable[[], object], tell: Tell) -> NoReturn:
    """Run `act` and exit. `act` returns its exit code, or None for 0, or raises."""
    open_streams()
    guard_threads(tell)
    code = ended(act, tell)
    _let_go()
    sys.exit(code)


def ended(act: Callable[[], object], tell: Tell) -> int:
    """Run `act`; returns the exit code and never raises."""
    try:
        code = _done(act)
        _flush()
        return code
    except BaseException as failed:
        try:
            return code_of(failed, tell)
        except BrokenPipeError:
            return NO_READER
        except (OSError, ValueError):  # stderr is full or closed: only the exit code can report the failure
            return 1


def _done(act: Callable[[], object]) -> int:
    try:
        code = act()
    except SystemExit as left:
        # Rich calls sys.exit when the reader of the output is gone.
        if isinstance(left.__context__, BrokenPipeError):
            return NO_READER
        code = left.code
    except click.exceptions.Exit as left:
        code = left.exit_code
    return code if isinstance(code, int) else 0 if code is None else 1


def _flush() -> None:
    if sys.stdout is not None:
        with answering():
            sys.stdout.flush()


def complaint(error: EmbedqError) -> list[str]:
    """The lines that report an error on a terminal. Secrets are masked before escaping, which would change them."""
    told = (f"embedq: {error.message}", *(f"  {line}" for line in error.lines), f"  next: {error.hint}")
    return [visible.line(hide(line)) for line in told]


@contextmanager
def answering() -> Iterator[None]:
    """For a command that has done its work and writes its output: raises SystemRefused if standard output cannot be written.
    BrokenPipeError (no reader) passes through."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as failed:
        raise SystemRefused(
            f"the command was carried out, but its answer cannot be written to standard output: {failed.strerror or failed}",
            hint=f"{refusals.of_errno(failed.errno).hint}; for what the state is now: `embedq status`",
        ) from failed


def code_of(failed: BaseException, tell: Tell) -> int:
    """Report the exception that ended a process or a thread; returns the exit code."""
    match failed:
        case KeyboardInterrupt():
            return INTERRUPTED
        case click.Abort() if not isinstance(failed.__context__, EOFError):
            return INTERRUPTED  # click raises this for Ctrl-C at a prompt
        case click.Abort() | EOFError():
            failed = InputError("nothing was done: the question was not answered", hint="answer y, or add --yes, to go on")
        case click.ClickException():
            failed.show()
            return failed.exit_code
        case BrokenPipeError() if _has_no_reader(STDOUT) or _has_no_reader(STDERR):
            return NO_READER
    known = refusals.of_error(failed) or unexpected(failed)
    tell(known)
    return known.exit_code


def unexpected(failed: BaseException) -> Unexpected:
    """A bug, as an error that names the file with its traceback."""
    from . import crash_file  # imported here because it takes a tenth of a command's start

    said, file = crash_file.in_one_line(failed), None
    with suppress(Exception):  # a failure to write the file must not hide the original error
        file = crash_file.keep(failed)
    if file is not None:
        return Unexpected(
            f"unexpected: {said}; it is written to {file}; report it",
            hint=f"look into {file}, then report it with that file (docs/howto/unexpected.rst says what it holds, and how)",
        )
    return Unexpected(
        f"unexpected: {said}; it could not be written to a file; report it",
        hint="set TMPDIR to a folder that can be written, run the same again, and report it with the file that is named then",
        lines=[crash_file.last_line(failed)],
    )


def guard_threads(tell: Tell) -> None:
    """Report errors that end threads in the same way as those of the process."""

    def told(thrown: threading.ExceptHookArgs) -> None:
        if thrown.exc_value is not None and not isinstance(thrown.exc_value, SystemExit):
            with suppress(OSError, ValueError):
                code_of(thrown.exc_value, tell)

    threading.excepthook = told


def guard_process(tell: Tell) -> None:
    """For a process whose main loop is another program's (Celery's worker): report instead of a traceback."""
    guard_threads(tell)

    def told(_: object, failed: BaseException, __: object) -> None:
        with suppress(OSError, ValueError):
            code_of(failed, tell)

    sys.excepthook = told


def _has_no_reader(number: int) -> bool:
    look = select.poll()
    look.register(number, 0)
    return any(seen & select.POLLERR for _, seen in look.poll(0))


# Standard streams -------------------------------------------------------------------------------------------------------------------


def open_streams() -> None:
    """Make sure that file descriptors 0 to 2 are open, so that no file or connection gets these numbers, and that characters which the
    locale lacks are escaped. Writing to a standard output that was closed is an error, as a full disk is; messages to a closed standard
    error are lost."""
    if _opened(STDIN, os.O_RDONLY):
        sys.stdin = open(STDIN, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    if _opened(STDOUT, os.O_RDONLY):
        sys.stdout = open(STDOUT, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if _opened(STDERR, os.O_WRONLY):
        sys.stderr = open(STDERR, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _opened(number: int, flags: int) -> bool:
    """Open the descriptor if it was closed; returns whether it was. (A new file gets the lowest free number.)"""
    try:
        os.fstat(number)
        return False
    except OSError:
        os.set_inheritable(os.open(os.devnull, flags), True)
        return True


def _let_go() -> None:
    """Discard a buffer that cannot be written; Python would report it at exit."""
    for number, stream in ((STDOUT, sys.stdout), (STDERR, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
