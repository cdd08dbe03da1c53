"""Outcomes of tasks that are not embedded: skipped, failed, waiting, handed back."""

from __future__ import annotations

from datetime import UTC, datetime

from ..decide.retry import GiveUp, RetryAt, RetryPolicy, after_failure
from ..errors import Fault, InputRefused
from ..model import Claimed, Outcome, TaskStatus
from .answers import Answers


def without_asking(task: Claimed) -> Outcome | None:
    """The outcome of a task that needs no provider, or None."""
    if task.text is None:
        return Outcome(task, TaskStatus.CANCELLED, message="the article is gone")
    if not task.text:
        return Outcome(task, TaskStatus.SKIPPED, error_class="EmptyText", message="the article has no text")
    if task.stored_hash == task.text_hash and not task.forced:
        return Outcome(task, TaskStatus.COMPLETED)
    return None


def left_over(task: Claimed, answers: Answers, wait_s: float) -> Outcome:
    """The outcome of a task without an answer: the provider is at fault, its rate limit is used up, or this worker stops."""
    if answers.busy is not None:
        return waiting(task, wait_s, str(answers.busy))
    if answers.later is not None:
        return waiting(
            task, answers.later.wait_s, "waits for the provider's budget (EMBEDDING_REQUESTS_PER_MINUTE, _TOKENS_PER_MINUTE)"
        )
    return waiting(task, wait_s, "handed back by a worker that stopped")


def waiting(task: Claimed, wait_s: float, why: str) -> Outcome:
    """Back to the table; no attempt is charged."""
    return Outcome(task, TaskStatus.PENDING, wait_s=wait_s, message=why)


def charged(task: Claimed, fault: Fault, policy: RetryPolicy, dice: float) -> Outcome:
    """A fault of the text: one attempt is charged; PENDING with a wait, or FAILED."""
    kind, message = type(fault).__name__, str(fault)
    if isinstance(fault, InputRefused):
        return Outcome(task, TaskStatus.FAILED, charged=True, error_class=kind, message=message)
    now = datetime.now(UTC)
    match after_failure(task.attempts + 1, message, policy, now, dice):
        case GiveUp(reason):
            return Outcome(task, TaskStatus.FAILED, charged=True, error_class=kind, message=reason)
        case RetryAt(at, reason):
            return Outcome(
                task, TaskStatus.PENDING, charged=True, wait_s=(at - now).total_seconds(), error_class=kind, message=reason
            )
