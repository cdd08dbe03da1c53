"""Everything embedq raises on purpose. Each error carries the operator's next step.

EmbedqError
├── ConfigError          the settings are wrong: nothing was started                      exit 2
├── InputError           the given input is wrong: nothing was written                    exit 2
├── NotFound             there is no such article, task, model or procedure               exit 1
├── NotWell              a check found a problem, or the state does not allow it          exit 3
│   ├── TakenOver        this procedure was taken over by another, and stops
│   └── RerankerFailed   the reranker that was asked for failed; the search without it may succeed
├── StoreUnavailable     PostgreSQL cannot be reached or is not set up; try again later   exit 1
│   ├── StoreMissing     PostgreSQL answers, and embedq's schema is not in the database
│   └── StoreRefused     PostgreSQL answers and refuses: a missing right, a full disk, another program's table
├── BrokerUnavailable    the broker cannot be reached; tasks stay in the table            exit 1
├── SystemRefused        the operating system refuses: a file, disk space, memory, a package   exit 1
├── Unexpected           a bug of embedq; its details were written to a file              exit 70
└── Fault                a provider call did not give vectors
    ├── ProviderBusy     the same call may succeed later: no attempt is charged (G6)
    └── InputRefused     the provider will never embed this input: only its task is charged
"""

from __future__ import annotations

from collections.abc import Sequence


class EmbedqError(Exception):
    """`hint` says what to do next, and is required. `lines`: details to print below the message, one line each."""

    exit_code = 1
    lines: Sequence[str] = ()

    def __init__(self, message: str, *, hint: str, lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.hint = hint
        if lines:
            self.lines = lines

    @property
    def message(self) -> str:
        return super().__str__()

    def __str__(self) -> str:
        return "\n  ".join((self.message, *self.lines))

    def __reduce__(self) -> tuple[object, ...]:
        """Celery's prefork pool sends errors between processes: the keyword arguments travel as state."""
        return _again, (type(self), self.message), self.__dict__


def _again(kind: type[EmbedqError], message: str) -> EmbedqError:
    error = kind.__new__(kind, message)
    error.args = (message,)
    return error


class ConfigError(EmbedqError):
    exit_code = 2


class InputError(EmbedqError):
    """`field` names the part of the input that is wrong."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str, field: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class NotFound(EmbedqError):
    pass


class NotWell(EmbedqError):
    exit_code = 3


class TakenOver(NotWell):
    pass


class RerankerFailed(NotWell):
    pass


class StoreUnavailable(EmbedqError):
    pass


class StoreMissing(StoreUnavailable):
    pass


class StoreRefused(StoreUnavailable):
    pass


class BrokerUnavailable(EmbedqError):
    pass


class SystemRefused(EmbedqError):
    pass


class Unexpected(EmbedqError):
    exit_code = 70  # EX_SOFTWARE of sysexits.h


class Fault(EmbedqError):
    """`cause`: a value of `providers.faults.Cause`; empty for a fault raised by a plug-in's provider."""

    cause: str = ""


class ProviderBusy(Fault):
    """The provider did not answer as it should; the same call may succeed later.

    `retry_after_s`: the wait that the provider asked for (Retry-After), or None. `suspect_input`: the inputs may be the cause (a 500, a
    time-out, a malformed answer); the engine then sends a canary text to decide whether tasks are charged.
    """

    def __init__(self, message: str, *, hint: str, retry_after_s: float | None = None, suspect_input: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s
        self.suspect_input = suspect_input


class InputRefused(Fault):
    """The provider will not embed one of these inputs, however often it is asked."""
