"""Everything embedq raises on purpose. Each error carries the operator's next step.

EmbedqError
├── ConfigError          the settings are wrong: nothing was started                      exit 2
├── InputError           what was handed in is wrong: nothing was written                 exit 2
├── NotFound             there is no such article, task, model or procedure               exit 1
├── NotWell              it was checked, and it is not well                               exit 3
├── StoreUnavailable     PostgreSQL cannot be reached or is not set up; try again later   exit 1
├── BrokerUnavailable    the broker cannot be reached; work goes on from the table        exit 1
└── Fault                a provider call did not give vectors
    ├── ProviderBusy     the same call may succeed later: nobody is charged (SPEC G6)
    └── InputRefused     this input will never be embedded: its task alone is charged
"""

from __future__ import annotations


class EmbedqError(Exception):
    """`hint` says what to do next; nobody can raise without one."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Celery's prefork pool sends errors between processes: the keyword arguments travel as state."""
        return _again, (type(self), str(self)), self.__dict__


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


class StoreUnavailable(EmbedqError):
    pass


class BrokerUnavailable(EmbedqError):
    pass


class Fault(EmbedqError):
    pass


class ProviderBusy(Fault):
    """The provider did not answer as it should; the same call may succeed later.

    `retry_after_s` is the provider's own wish (Retry-After), or None when it named none. `suspect_input` is true when
    the inputs may be to blame (a 500, a time-out, a malformed answer): the engine then asks with a canary text before
    it decides who pays.
    """

    def __init__(self, message: str, *, hint: str, retry_after_s: float | None = None, suspect_input: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s
        self.suspect_input = suspect_input


class InputRefused(Fault):
    """The provider will not embed one of these inputs, however often it is asked."""
