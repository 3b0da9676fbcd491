"""Looking names up: bounded, joined, abortable, and harmless when it hangs."""

from __future__ import annotations

import _thread
import os
import socket
import subprocess
import sys
import threading
import time
import typing

import pytest

from holding import held_by_another_thread
from http3_parallel.aborting import Abort
from http3_parallel.dispatch import resolver
from http3_parallel.dispatch.resolver import resolve
from http3_parallel.dispatch.sockets import Budget
from http3_parallel.exceptions import (
    ConnectTimeout,
    HTTPError,
    NameResolutionError,
    RequestCancelled,
)
from servers import PATIENCE, HangingResolver

Answer = list[tuple[typing.Any, ...]]


@pytest.fixture(autouse=True)
def fresh_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "_state", resolver._State())


class FakeResolver:
    """Answers at once, unless told to wait, and counts."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.answer: typing.Callable[[str], Answer] = self.found
        self.changed = threading.Condition()

    def found(self, host: str) -> Answer:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

    def __call__(self, host: str, *args: object) -> Answer:
        with self.changed:
            self.calls.append(host)
            self.threads.add(threading.get_ident())
            self.changed.notify_all()
        self.gate.wait(PATIENCE)
        return self.answer(host)

    def wait_for_calls(self, number: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: len(self.calls) >= number, PATIENCE)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> typing.Iterator[FakeResolver]:
    fake = FakeResolver()
    monkeypatch.setattr(socket, "getaddrinfo", fake)
    yield fake
    fake.gate.set()


def look_up(host: str, seconds: float | None = PATIENCE, abort: Abort | None = None) -> Answer:
    return typing.cast(Answer, resolve(host, 80, budget=Budget(seconds), abort=abort or Abort()))


class Asking:
    """A look-up in a thread."""

    def __init__(self, host: str, seconds: float | None = PATIENCE) -> None:
        self.abort = Abort()
        self.result: Answer | HTTPError | None = None
        self._thread = threading.Thread(target=self._run, args=(host, seconds))
        self._thread.start()

    def _run(self, host: str, seconds: float | None) -> None:
        try:
            self.result = look_up(host, seconds, self.abort)
        except HTTPError as exc:
            self.result = exc

    def join(self) -> Answer | HTTPError | None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.result


def test_a_name_is_resolved_by_the_system() -> None:
    addresses = look_up("localhost")
    assert {address[4][0] for address in addresses} <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("host", "family", "sockaddr"),
    [
        ("192.0.2.1", socket.AF_INET, ("192.0.2.1", 80)),
        ("2001:db8::1", socket.AF_INET6, ("2001:db8::1", 80, 0, 0)),
    ],
)
def test_a_literal_address_needs_no_look_up(
    fake: FakeResolver, host: str, family: int, sockaddr: tuple[typing.Any, ...]
) -> None:
    (address,) = look_up(host)
    assert address[:2] == (family, socket.SOCK_STREAM)
    assert address[4] == sockaddr
    assert fake.calls == []


def test_a_scoped_address_names_its_interface() -> None:
    name = socket.if_nameindex()[0][1]
    (address,) = look_up(f"fe80::1%{name}")
    assert address[4][3] == socket.if_nametoindex(name)


def test_results_are_kept_for_a_while(fake: FakeResolver, monkeypatch: pytest.MonkeyPatch) -> None:
    first = look_up("a.test")
    assert look_up("a.test") == first
    assert fake.calls == ["a.test"]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + resolver.KEEP_SECONDS + 1)
    assert look_up("a.test", None) == first
    assert fake.calls == ["a.test", "a.test"]


def test_the_number_of_kept_results_is_bounded(
    fake: FakeResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "MAX_KEPT", 3)
    for host in ("a.test", "b.test", "c.test", "d.test", "b.test"):
        look_up(host)
    assert fake.calls == ["a.test", "b.test", "c.test", "d.test"]
    look_up("a.test")
    assert fake.calls[-1] == "a.test"


def test_who_replaces_the_function_is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up("localhost")
    fake = FakeResolver()
    monkeypatch.setattr(socket, "getaddrinfo", fake)
    look_up("localhost")
    assert fake.calls == ["localhost"]


@pytest.mark.parametrize(
    "failure",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        UnicodeError("label too long"),
        OSError(5, "I/O error"),
    ],
)
def test_a_failure_names_the_host_and_is_not_kept(fake: FakeResolver, failure: Exception) -> None:
    def fail(host: str) -> Answer:
        raise failure

    fake.answer = fail
    for _ in range(2):
        with pytest.raises(NameResolutionError, match=r"'a\.test' cannot be resolved") as caught:
            look_up("a.test")
        assert caught.value.__cause__ is failure
    assert len(fake.calls) == 2
    fake.answer = fake.found
    assert look_up("a.test")


def test_no_address_at_all_is_an_error(fake: FakeResolver) -> None:
    fake.answer = lambda host: []
    with pytest.raises(NameResolutionError, match="no address"):
        look_up("a.test")


def test_concurrent_look_ups_of_one_name_are_one(fake: FakeResolver) -> None:
    fake.gate.clear()
    asking = [Asking("a.test") for _ in range(20)]
    lookup = wait_for_waiting("a.test", 20)
    fake.gate.set()
    results = [each.join() for each in asking]
    assert results == [lookup.addresses] * 20
    assert fake.calls == ["a.test"]


def wait_for_waiting(host: str, number: int) -> resolver._Lookup:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for lookup in list(resolver._state.pending.values()):
            if lookup.key[0] == host and len(lookup.waiting) == number:
                return lookup
        time.sleep(0.001)
    raise AssertionError(f"{number} do not wait for {host}")


def test_a_look_up_that_hangs_ends_with_the_connect_timeout(fake: FakeResolver) -> None:
    fake.gate.clear()
    started = time.monotonic()
    with pytest.raises(ConnectTimeout, match=r"resolving a\.test: not done within 0\.1 s"):
        look_up("a.test", 0.1)
    assert time.monotonic() - started < 1.0


def test_a_look_up_that_hangs_can_be_aborted(fake: FakeResolver) -> None:
    fake.gate.clear()
    asking = Asking("a.test", None)
    assert fake.wait_for_calls(1)
    asking.abort.abort(lambda: RequestCancelled("cancelled"))
    assert isinstance(asking.join(), RequestCancelled)
    (lookup,) = resolver._state.pending.values()
    assert lookup.waiting == []


def test_at_most_16_threads_and_who_waits_for_one_has_its_own_timeout(
    fake: FakeResolver,
) -> None:
    fake.gate.clear()
    hanging = [Asking(f"{number}.test") for number in range(16)]
    assert fake.wait_for_calls(16)
    with pytest.raises(ConnectTimeout):
        look_up("late.test", 0.1)
    assert "late.test" not in fake.calls
    # Nobody waits for that name any more, so it is not looked up in vain later.
    assert len(resolver._state.line) == 0
    patient = Asking("patient.test")
    wait_for_waiting("patient.test", 1)
    fake.gate.set()
    for each in [*hanging, patient]:
        assert isinstance(each.join(), list)
    assert fake.calls.count("patient.test") == 1
    assert len(fake.threads) <= resolver.MAX_THREADS


def test_threads_are_reused_and_end_when_idle(
    fake: FakeResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "IDLE_SECONDS", 0.2)
    state = resolver._state
    for number in range(20):
        look_up(f"{number}.test")
    assert len(fake.threads) <= 2  # the second, if one was not back in line yet
    end = time.monotonic() + PATIENCE
    while state.workers and time.monotonic() < end:
        time.sleep(0.01)
    assert len(state.workers) == 0
    assert state.idle == []
    assert look_up("another.test")


def test_a_thread_takes_from_the_line_and_ends_when_there_is_nothing(
    fake: FakeResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In this thread, so that its steps are seen one by one.
    monkeypatch.setattr(resolver, "IDLE_SECONDS", 0.0)
    state, worker = resolver._State(), resolver._Worker()
    state.workers.add(worker)
    lookups = [resolver._Lookup((host, 80, 0, fake)) for host in ("a.test", "b.test")]
    worker.lookup = lookups[1]
    state.line.append(lookups[0])
    resolver._work(state, worker)
    assert fake.calls == ["b.test", "a.test"]
    assert [lookup.addresses for lookup in lookups] == [fake.found("")] * 2
    assert len(state.workers) == len(state.idle) == len(state.line) == 0


def test_without_threads_the_caller_looks_up_itself(
    fake: FakeResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    assert look_up("a.test") == fake.found("a.test")
    assert fake.threads == {threading.get_ident()}
    assert len(resolver._state.line) == len(resolver._state.pending) == 0


def test_a_hung_look_up_keeps_nothing_of_the_request(fake: FakeResolver) -> None:
    import weakref

    fake.gate.clear()
    abort = Abort()
    reference = weakref.ref(abort)
    with pytest.raises(ConnectTimeout):
        look_up("a.test", 0.05, abort)
    del abort
    assert reference() is None


def test_many_threads_and_names_at_once(fake: FakeResolver, switch_interval: None) -> None:
    results: list[Answer] = []

    def work(seed: int) -> None:
        results.extend(look_up(f"{(seed + number) % 60}.test") for number in range(100))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [fake.found("")] * 800


def test_a_process_with_a_hung_look_up_exits_at_once() -> None:
    code = """
import socket, threading
from http3_parallel.aborting import Abort
from http3_parallel.dispatch.resolver import resolve
from http3_parallel.dispatch.sockets import Budget
from http3_parallel.exceptions import ConnectTimeout
socket.getaddrinfo = lambda *args: threading.Event().wait()
try:
    resolve("a.test", 80, budget=Budget(0.05), abort=Abort())
except ConnectTimeout:
    print("timed out")
"""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("timed out\n", "", 0)
    assert time.monotonic() - started < 10.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_resolves_although_the_parents_threads_are_gone(
    hanging_resolver: HangingResolver,
) -> None:
    asking = [Asking("hangs.test") for _ in range(2)]
    assert hanging_resolver.wait_for_callers(1)
    look_up("localhost")
    with held_by_another_thread(resolver._state.lock):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if look_up("localhost") else 2
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    hanging_resolver.release()
    for each in asking:
        assert isinstance(each.join(), list)
