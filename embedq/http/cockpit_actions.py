"""The actions of the cockpit's forms, and what the page says afterwards."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import InputError
from ..model import Mode, Priority
from . import actions
from .service import Service
from .snapshot import span


def perform(service: Service, act: str, reason: str, peer: str, given: dict[str, str]) -> str:
    if not reason:
        raise InputError("an act needs its reason", hint="say why; the audit log keeps it", field="reason")
    return LEVERS[act](service, actions.Operator(peer, reason), given)


def _mode(service: Service, by: actions.Operator, given: dict[str, str]) -> str:
    if given["mode"] not in tuple(Mode):
        raise InputError("that is no mode", hint="choose one of the list", field="mode")
    done = actions.change_mode(service, Mode(given["mode"]), by)
    return f"Mode {done['before']} → {done['after']}; the fence held after {span(done['fenced_s'])}. " + " ".join(
        done["warnings"]
    )


def _pause(paused: bool) -> Callable[[Service, actions.Operator, dict[str, str]], str]:
    def change(service: Service, by: actions.Operator, given: dict[str, str]) -> str:
        chosen = [Priority(given["priority"])] if given["priority"] in tuple(Priority) else []
        now = actions.set_paused(service, chosen, paused, by)["paused_priorities"]
        return f"Paused now: {', '.join(now) or 'nothing'}."

    return change


def _run(running: bool) -> Callable[[Service, actions.Operator, dict[str, str]], str]:
    def change(service: Service, by: actions.Operator, _: dict[str, str]) -> str:
        actions.set_running(service, running, by)
        return "Workers may claim again." if running else "No worker can claim; what is in flight settles."

    return change


def _emergency(service: Service, by: actions.Operator, given: dict[str, str]) -> str:
    if not given["sure"]:
        raise InputError("the emergency procedure was not confirmed", hint="tick the box beside the button", field="sure")
    done = actions.emergency(service, by)
    told = "; ".join(f"{step['step']} {span(step['seconds'])}" for step in done["steps"])
    verdict = "Nothing is missing." if done["verified"] else "Verify is NOT content: embedq verify."
    return f"Emergency: {done['before']} → {done['after']} in {span(done['seconds'])}. {verdict} {told}."


def _end_emergency(service: Service, by: actions.Operator, _: dict[str, str]) -> str:
    done = actions.end_emergency(service, by)
    return f"Back to mode {done['after']}; maintenance is over."


def _retry(service: Service, by: actions.Operator, given: dict[str, str]) -> str:
    return f"{actions.retry(service, given['error_class'] or None, by)['retried']} failed tasks are tried again."


LEVERS: dict[str, Callable[[Service, actions.Operator, dict[str, str]], str]] = {
    "mode": _mode,
    "pause": _pause(True),
    "resume": _pause(False),
    "stop": _run(False),
    "start": _run(True),
    "emergency": _emergency,
    "end-emergency": _end_emergency,
    "retry": _retry,
}
