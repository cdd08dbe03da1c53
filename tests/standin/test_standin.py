"""The stand-in itself: what other tests rely on it for."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, IncompleteRead

import pytest

from tests.standin import ROOT, running


@pytest.fixture(scope="module")
def process():
    yield from running(dimensions=8)


@pytest.fixture
def standin(process):
    process.reset()
    return process


def ask(standin, *texts):
    """The status of one request by OpenAI's format."""
    connection = HTTPConnection("127.0.0.1", standin.port, timeout=20)
    try:
        connection.request("POST", "/v1/embeddings", json.dumps({"model": "m", "input": texts}))
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_requests_wait_until_they_are_released(standin):
    with ThreadPoolExecutor(3) as threads:
        with standin.held():
            asked = [threads.submit(ask, standin, "tea") for _ in range(3)]
            stats = standin.wait_until_held(3)
            assert not any(each.done() for each in asked)

        assert [each.result() for each in asked] == [200, 200, 200]
    assert stats["held"] == stats["concurrent"] == 3
    assert standin.stats()["max_concurrent"] == 3


def test_waiting_for_held_requests_has_a_bound(standin):
    with standin.held(), pytest.raises(TimeoutError, match="0 of 1 requests are held"):
        standin.wait_until_held(1, timeout_s=0.1)


def test_a_held_request_is_dropped_when_its_client_hangs_up(standin):
    body = json.dumps({"model": "m", "input": ["tea"]}).encode()
    with standin.held():
        with socket.create_connection(("127.0.0.1", standin.port)) as client:
            client.sendall(b"POST /v1/embeddings HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            standin.wait_until_held(1)
        client.close()

        until(lambda: standin.stats()["abandoned"] == 1)

    assert standin.stats()["held"] == 0
    assert standin.stats()["paid_inputs"] == 0


def until(fact, tries=2_000):
    """Asks until the fact is there; every ask is a request to the stand-in, so nothing spins."""
    for _ in range(tries):
        if fact():
            return
    raise AssertionError("it never came to that")


def test_what_is_paid_twice_is_counted(standin):
    ask(standin, "tea", "coffee")
    ask(standin, "tea", "milk")
    standin.control(fail_next=1)
    ask(standin, "milk")

    assert standin.texts() == {"tea": 2, "coffee": 1, "milk": 2}
    assert standin.paid() == {"tea": 2, "coffee": 1, "milk": 1}
    assert (standin.stats()["inputs"], standin.stats()["paid_inputs"], standin.stats()["paid_twice"]) == (5, 4, 1)


def test_an_answer_cut_off_is_not_paid(standin):
    standin.control(twist="cut_off")

    with pytest.raises(IncompleteRead):
        ask(standin, "tea")

    assert standin.stats()["paid_inputs"] == 0


def test_the_next_few_fail_and_then_no_more(standin):
    standin.control(fail_next=2, fail_status=429)

    assert [ask(standin, "tea") for _ in range(4)] == [429, 429, 200, 200]
    assert standin.stats()["statuses"] == {"429": 2, "200": 2}


def test_the_next_few_answers_are_spoilt_and_then_no_more(standin):
    standin.control(twist="error_in_200", twist_next=1)

    ask(standin, "tea")
    ask(standin, "tea")

    assert standin.paid() == {"tea": 1}


def test_the_dice_fall_the_same_way_for_the_same_seed(standin):
    rounds = []
    for _ in range(2):
        standin.control(fail_probability=0.5, seed=7)
        rounds.append([ask(standin, "tea") for _ in range(20)])

    assert rounds[0] == rounds[1]
    assert set(rounds[0]) == {200, 503}


def test_a_rate_frees_places_as_time_passes(standin):
    standin.control(requests_per_minute=2, rate_window_s=0.2)

    assert [ask(standin, "tea") for _ in range(3)] == [200, 200, 429]
    until(lambda: ask(standin, "tea") == 200)


def test_a_marked_text_meets_what_its_marker_says(standin):
    standin.control(markers={"poison": "refuse", "bomb": "break"})

    assert [ask(standin, text) for text in ("tea", "a poison", "a bomb")] == [200, 400, 500]


@pytest.mark.parametrize("wish", [{"latancy_ms": 5}, {"twist": "nam"}, {"markers": {"x": "explode"}}])
def test_a_misspelt_wish_is_refused(standin, wish):
    with pytest.raises(ValueError):
        standin.control(**wish)


def test_it_comes_back_on_the_same_port_after_it_was_killed():
    for standin in running():
        port = standin.port
        standin.kill()
        with pytest.raises(ConnectionRefusedError):
            standin.stats()

        standin.start()

        assert standin.port == port
        assert ask(standin, "tea") == 200


def test_it_dies_with_the_process_that_started_it():
    code = "from tests.standin import StandIn; import time; print(StandIn().start().pid, flush=True); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    watch = os.pidfd_open(child)

    parent.send_signal(signal.SIGKILL)
    parent.communicate(timeout=10)

    assert select.select([watch], [], [], 10)[0], "the stand-in outlived its parent"
    os.close(watch)
