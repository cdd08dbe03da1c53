"""The supervisor: real processes that die, refuse to end, chatter, and lose their supervisor."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from embedq.local.process import Child, Part, how_it_ended
from embedq.local.servers import Servers
from embedq.local.supervisor import Lines, Supervisor, restart_wait_s

ROOT = Path(__file__).resolve().parents[2]
# Says which signal it got, and ends.
POLITE = """
    import os, signal, sys, time
    def end(number, _):
        print("got", signal.Signals(number).name)
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    print("pid", os.getpid())
    time.sleep(600)
"""
DEAF = """
    import os, signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("pid", os.getpid())
    time.sleep(600)
"""
CRASHING = "print('working'); raise SystemExit(3)"
SUPERVISED = """
    import sys
    from embedq.local.process import Part
    from embedq.local.supervisor import Supervisor
    parts = {parts!r}
    Supervisor([Part(name, [sys.executable, "-u", "-c", program], **more) for name, program, more in parts], sys.stdout).run()
    print("returned")
"""


def python(program: str) -> list[str]:
    return [sys.executable, "-u", "-c", textwrap.dedent(program)]


def wait_until(fact: Callable[[], object], *, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline, f"not seen within {within_s:g} s"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Running:
    """A supervisor at work in a thread, and what it has printed."""

    def __init__(self, parts: Sequence[Part | Child], lines: Lines, out: io.StringIO, **waits: float) -> None:
        self.supervisor = Supervisor(parts, lines, **waits)
        self._out = out
        self._thread = threading.Thread(target=self.supervisor.run)
        self._thread.start()

    @property
    def printed(self) -> str:
        return self._out.getvalue()

    def stop(self) -> None:
        self.supervisor.stop()
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()


@contextmanager
def supervised(
    *parts: Part | Child, lines: Lines | None = None, out: io.StringIO | None = None, **waits: float
) -> Iterator[Running]:
    out = out or io.StringIO()
    running = Running(parts, lines or Lines(out), out, **waits)
    try:
        yield running
    finally:
        running.stop()


class SupervisorProcess:
    """A supervisor that is a process of its own, as `embedq up` is. `parts`: name, program, further fields of Part."""

    def __init__(self, *parts: tuple[str, str, dict[str, object]]) -> None:
        program = SUPERVISED.format(parts=[(name, textwrap.dedent(source), more) for name, source, more in parts])
        argv = python(program)
        self.process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.printed: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.printed.extend(line.rstrip("\n") for line in self.process.stdout)

    def says(self, text: str) -> bool:
        return any(text in line for line in self.printed)

    def pid_of(self, name: str) -> int:
        """The pid that the part has printed."""
        pattern = re.compile(rf"{name} +\| pid (\d+)")
        wait_until(lambda: any(pattern.match(line) for line in self.printed))
        return next(int(found[1]) for line in self.printed if (found := pattern.match(line)))

    def wait(self) -> None:
        self.process.wait(timeout=30)
        self._reader.join(timeout=10)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def supervisor_process(*parts: tuple[str, str, dict[str, object]]) -> Iterator[SupervisorProcess]:
    process = SupervisorProcess(*parts)
    try:
        yield process
    finally:
        process.close()


@pytest.mark.parametrize(
    ("quick_ends", "wait_s"),
    [
        pytest.param(0, 1, id="the first wait"),
        pytest.param(1, 2, id="doubles"),
        pytest.param(2, 4, id="and doubles"),
        pytest.param(5, 30, id="up to the longest"),
        pytest.param(10_000, 30, id="and stays there"),
    ],
)
def test_the_wait_before_a_restart_grows(quick_ends: int, wait_s: float) -> None:
    assert restart_wait_s(quick_ends, first_s=1.0, longest_s=30.0) == wait_s


@pytest.mark.parametrize(
    ("exit_code", "said"),
    [
        (0, "ended with exit code 0"),
        (1, "ended with exit code 1"),
        (-9, "was ended by SIGKILL"),
        (-63, "was ended by signal 63"),
    ],
)
def test_an_end_is_told_in_words(exit_code: int, said: str) -> None:
    assert how_it_ended(exit_code) == said


def test_a_part_that_dies_is_started_again_after_a_growing_wait() -> None:
    with supervised(Part("poller", python(CRASHING)), first_wait_s=0.05) as running:
        wait_until(lambda: "in 0.4 s" in running.printed)

    waits = re.findall(r"embedq \| poller ended with exit code 3; starting it again in ([\d.]+) s", running.printed)
    assert waits[:4] == ["0.05", "0.1", "0.2", "0.4"]
    assert running.printed.count("poller | working") >= 4


def test_the_first_wait_is_a_second_unless_told_otherwise() -> None:
    with supervised(Part("poller", python(CRASHING))) as running:
        wait_until(lambda: "poller ended with exit code 3; starting it again in 2 s" in running.printed)

    assert "embedq | poller ended with exit code 3; starting it again in 1 s" in running.printed


def test_a_part_that_was_well_for_long_enough_begins_anew_with_the_first_wait() -> None:
    with supervised(Part("poller", python(CRASHING)), first_wait_s=0.05, healthy_after_s=0.0) as running:
        wait_until(lambda: running.printed.count("starting it again") >= 3)

    assert set(re.findall(r"again in ([\d.]+) s", running.printed)) == {"0.05"}


def test_a_program_that_is_not_there_is_told_and_tried_again() -> None:
    with supervised(Part("poller", ["/nonexistent/poller"]), first_wait_s=0.05) as running:
        wait_until(lambda: "in 0.1 s" in running.printed)

    assert (
        "embedq | poller could not be started ([Errno 2] No such file or directory: '/nonexistent/poller')" in running.printed
    )


def test_lines_stand_behind_aligned_names_and_the_last_needs_no_newline() -> None:
    parts = Part("a", python("print('one')\nprint('two', end='')\n" + textwrap.dedent(POLITE))), Part("poller", python(POLITE))

    with supervised(*parts) as running:
        wait_until(lambda: "a      | two" in running.printed and "poller | pid" in running.printed)

    assert "a      | one\n" in running.printed
    assert running.printed.endswith("embedq | stopped\n")


class SlowPaper(io.StringIO):
    """Takes its time for a line, so that a part has ended long before its lines are printed."""

    def write(self, text: str) -> int:
        time.sleep(0.002)
        return super().write(text)


def test_no_line_is_lost_however_fast_a_part_talks_and_ends() -> None:
    chatter = "import sys\nfor n in range(400): print('line', n)\nsys.stdout.write('the last')"

    with supervised(Part("chatter", [sys.executable, "-c", chatter]), out=SlowPaper(), first_wait_s=600) as running:
        wait_until(lambda: "chatter ended" in running.printed)

    lines = [line.split("| ")[1] for line in running.printed.splitlines()]
    assert lines[:401] == [*(f"line {n}" for n in range(400)), "the last"]
    assert lines[401] == "chatter ended with exit code 0; starting it again in 30 s"


def test_names_are_coloured_on_a_terminal_alone() -> None:
    master, slave = os.openpty()
    with open(slave, "w") as terminal:
        Lines(terminal).say("poller", "ready")
    on_terminal = os.read(master, 1000).decode()
    os.close(master)

    assert on_terminal == "\x1b[36mpoller |\x1b[0m ready\r\n"


def test_what_a_crashed_part_leaves_behind_is_ended_before_it_starts_again() -> None:
    forking = "import os, time\npid = os.fork()\nif not pid: time.sleep(600)\nprint('left', pid)\nraise SystemExit(1)"

    with supervised(Part("celery", python(forking)), first_wait_s=600) as running:
        wait_until(lambda: "celery ended" in running.printed)

        left = re.search(r"left (\d+)", running.printed)
        assert left is not None
        wait_until(lambda: is_gone(int(left[1])))


def test_the_last_started_is_stopped_first_each_after_the_one_before_has_ended() -> None:
    slow = POLITE.replace('print("got"', 'time.sleep(0.3)\n        print("got"')
    with supervisor_process(("first", POLITE, {}), ("second", POLITE, {}), ("third", slow, {})) as up:
        pids = [up.pid_of(name) for name in ("first", "second", "third")]

        up.process.send_signal(signal.SIGTERM)
        up.wait()

    assert [line for line in up.printed if "got" in line] == [
        "third  | got SIGTERM",
        "second | got SIGTERM",
        "first  | got SIGTERM",
    ]
    assert up.printed[-2:] == ["embedq | stopped", "returned"]
    assert up.process.returncode == 0
    assert all(is_gone(pid) for pid in pids)


def test_a_terminals_ctrl_c_reaches_the_supervisor_alone() -> None:
    with supervisor_process(("poller", POLITE, {})) as up:
        up.pid_of("poller")

        os.killpg(up.process.pid, signal.SIGINT)
        up.wait()

    assert up.says("got SIGTERM")
    assert not up.says("got SIGINT")
    assert up.printed[-1] == "returned"


def test_a_part_that_does_not_end_in_time_is_killed_and_that_is_said() -> None:
    with supervisor_process(("poller", POLITE, {}), ("celery", DEAF, {"stop_timeout_s": 0.3})) as up:
        deaf = up.pid_of("celery")
        up.pid_of("poller")

        up.process.send_signal(signal.SIGTERM)
        up.wait()

    assert up.says("embedq | celery did not end within 0.3 s of SIGTERM; killing it")
    assert up.says("poller | got SIGTERM")
    assert is_gone(deaf)


def test_a_second_ctrl_c_hastens() -> None:
    with supervisor_process(("celery", DEAF, {"stop_timeout_s": 600.0})) as up:
        up.pid_of("celery")
        up.process.send_signal(signal.SIGINT)
        wait_until(lambda: up.says("Ctrl-C again to hasten"))

        up.process.send_signal(signal.SIGINT)
        up.wait()

    assert up.says("celery did not end within 2 s of SIGTERM; killing it")


def test_parts_end_when_their_supervisor_is_killed() -> None:
    with supervisor_process(
        ("poller", POLITE, {}), ("celery", "import os, time\nprint('pid', os.getpid())\ntime.sleep(600)", {})
    ) as up:
        pids = [up.pid_of("poller"), up.pid_of("celery")]

        up.process.send_signal(signal.SIGKILL)

        wait_until(lambda: all(is_gone(pid) for pid in pids))


def test_the_parts_go_on_when_nobody_reads_the_output_any_more() -> None:
    talking = "import os, time\nprint('pid', os.getpid())\nwhile True: print('x' * 1000); time.sleep(0.001)"
    program = SUPERVISED.format(parts=[("talker", talking, {})]).replace('print("returned")', "sys.stdout = None; sys.exit(7)")
    reading, writing = os.pipe()
    up = subprocess.Popen(python(program), cwd=ROOT, stdout=writing, stderr=subprocess.DEVNULL)
    os.close(writing)
    with open(reading) as out:
        talker = next(int(line.split()[-1]) for line in out if "| pid" in line)
    cpu_before = psutil.Process(talker).cpu_times().user + psutil.Process(talker).cpu_times().system

    # It works on only while its pipe is read.
    wait_until(lambda: sum(psutil.Process(talker).cpu_times()[:2]) > cpu_before + 0.05)

    up.terminate()
    assert up.wait(timeout=30) == 7
    assert is_gone(talker)


def test_embedded_servers_are_started_again_where_they_were(tmp_path: Path) -> None:
    out = io.StringIO()
    lines = Lines(out)
    with Servers(tmp_path, on_line=lines.say, overrides={"fsync": "off"}) as servers:
        before = servers.postgres.pid, servers.redis.pid
        assert None not in before
        with supervised(servers.postgres, servers.redis, lines=lines, out=out, first_wait_s=0.1) as running:
            for pid in before:
                os.kill(pid or 0, signal.SIGKILL)

            wait_until(
                lambda: "postgres was ended by SIGKILL" in running.printed and "redis was ended by SIGKILL" in running.printed
            )
            wait_until(lambda: running.printed.count("ready to accept connections") == 2)
            wait_until(lambda: running.printed.count("Ready to accept connections") == 2)
            with psycopg.connect(servers.database_url) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
            assert servers.postgres.pid not in before

        assert servers.postgres.pid is None
        assert "postgres | " in running.printed
        assert running.printed.index("bye bye") < running.printed.index("database system is shut down")
