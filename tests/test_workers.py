"""Threads: as many as needed and no more, and what happens when there are none."""

from __future__ import annotations

import _thread
import gc
import random
import threading
import time
import typing
import weakref

import pytest

import http3_parallel as http3
import http3_parallel.workers as workers_module
from http3_parallel import Signal
from http3_parallel.workers import Registry, Workers
from scripted import PATIENCE, InstantDispatch, ScriptedDispatch

URL = "http://example.com"


@pytest.fixture
def workers() -> typing.Iterator[Workers]:
    before = set(threading.enumerate())
    workers = Workers(4)
    yield workers
    workers.stop(PATIENCE)
    assert set(threading.enumerate()) <= before, "threads were left"


class Job:
    """Runs until it may end."""

    def __init__(self, *, held: bool = False) -> None:
        self.started, self.may_end, self.ended = Signal(), Signal(), threading.Event()
        self.error: BaseException | None = None
        self.thread: int | None = None
        self.runs = 0
        if not held:
            self.may_end.set()

    def __call__(self) -> None:
        self.runs += 1
        self.thread = threading.get_ident()
        self.started.set()
        self.may_end.wait(PATIENCE)
        self.ended.set()

    def refused(self, error: BaseException) -> None:
        assert self.error is None, "refused twice"
        self.error = error
        self.ended.set()


def wait_until(condition: typing.Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


# Growing.


def test_a_thread_is_started_for_each_job_up_to_the_limit(workers):
    jobs = [Job(held=True) for _ in range(6)]
    for job in jobs:
        workers.submit(job)
    for job in jobs[:4]:
        assert job.started.wait(PATIENCE)
    assert workers.crowded
    assert [job.runs for job in jobs[4:]] == [0, 0]
    jobs[0].may_end.set()
    assert jobs[4].started.wait(PATIENCE)
    for job in jobs:
        job.may_end.set()
    assert all(job.ended.wait(PATIENCE) for job in jobs)
    assert len({job.thread for job in jobs}) == 4
    assert not workers.crowded


def test_an_idle_thread_is_used_again(workers):
    threads = set()
    for _ in range(50):
        job = Job()
        workers.submit(job)
        assert job.ended.wait(PATIENCE)
        wait_until(lambda: workers._idle == workers._threads)
        threads.add(job.thread)
    assert len(threads) == 1


def test_jobs_start_in_the_order_of_submission():
    workers, order = Workers(1), []

    class Note(Job):
        def __call__(self) -> None:
            order.append(self)
            super().__call__()

    jobs = [Note() for _ in range(100)]
    for job in jobs:
        workers.submit(job)
    assert jobs[-1].ended.wait(PATIENCE)
    assert order == jobs
    workers.stop(PATIENCE)


def test_a_worker_knows_its_pool(workers):
    pools = []

    class Look(Job):
        def __call__(self) -> None:
            pools.append(Workers.current())
            super().__call__()

    job = Look()
    workers.submit(job)
    assert job.ended.wait(PATIENCE)
    assert pools == [workers]
    assert Workers.current() is None


def test_every_job_runs_exactly_once_from_many_threads(switch_interval):
    before = set(threading.enumerate())
    for _ in range(10):
        workers = Workers(3)
        jobs = [[Job() for _ in range(40)] for _ in range(4)]

        def submit(mine: list[Job], workers: Workers = workers) -> None:
            for job in mine:
                workers.submit(job)

        submitting = [threading.Thread(target=submit, args=(mine,)) for mine in jobs]
        for thread in submitting:
            thread.start()
        for mine in jobs:
            assert all(job.ended.wait(PATIENCE) for job in mine)
        assert all(job.runs == 1 and job.error is None for mine in jobs for job in mine)
        for thread in submitting:
            thread.join(PATIENCE)
        workers.stop(PATIENCE)
    assert set(threading.enumerate()) <= before


# Stopping.


def test_stopping_leaves_no_thread():
    before = set(threading.enumerate())
    workers = Workers(8)
    jobs = [Job() for _ in range(20)]
    for job in jobs:
        workers.submit(job)
    workers.stop(PATIENCE)
    assert set(threading.enumerate()) <= before
    assert all(job.ended.is_set() for job in jobs), "neither run nor refused"
    workers.stop(PATIENCE)


def test_stopping_waits_no_longer_than_it_is_told(workers):
    job = Job(held=True)
    workers.submit(job)
    assert job.started.wait(PATIENCE)
    started = time.monotonic()
    workers.stop(0.05)
    assert time.monotonic() - started < 5
    job.may_end.set()


def test_stopping_on_a_worker_does_not_wait_for_itself(workers):
    class Stop(Job):
        def __call__(self) -> None:
            workers.stop(PATIENCE)
            super().__call__()

    job = Stop()
    workers.submit(job)
    assert job.ended.wait(PATIENCE / 2)


def test_a_job_for_stopped_workers_is_refused(workers):
    workers.stop(PATIENCE)
    job = Job()
    workers.submit(job)
    assert job.ended.wait(PATIENCE)
    assert job.runs == 0
    assert isinstance(job.error, RuntimeError)


def test_jobs_submitted_while_it_stops_are_run_or_refused(switch_interval):
    for _ in range(50):
        workers = Workers(2)
        jobs = [Job() for _ in range(20)]
        thread = threading.Thread(target=lambda w=workers: w.stop(PATIENCE))
        for number, job in enumerate(jobs):
            if number == 10:
                thread.start()
            workers.submit(job)
        thread.join(PATIENCE)
        workers.stop(PATIENCE)
        for job in jobs:
            assert job.ended.wait(PATIENCE)
            assert (job.runs == 1) != (job.error is not None)


# No more threads.


class NoThreads:
    """The system refuses threads, from the one of that number on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        self.refused = 0
        for module, name in (
            (_thread, "start_new_thread"),
            (threading, "_start_new_thread"),
            (threading, "_start_joinable_thread"),
        ):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, self._instead_of(getattr(module, name)))

    def _instead_of(self, start: typing.Callable[..., typing.Any]) -> typing.Any:
        def start_or_refuse(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:
            self.left -= 1
            if self.left < 0:
                self.refused += 1
                raise RuntimeError("can't start new thread")
            return start(*args, **kwargs)

        return start_or_refuse


#: Before the first worker: one that launches the foreman, and the foreman.
FIRST_WORKER = 2


@pytest.mark.parametrize("after", [0, 1, 2])
def test_without_any_thread_jobs_are_refused(after, monkeypatch, workers):
    no_threads = NoThreads(monkeypatch, after)
    jobs = [Job() for _ in range(5)]
    for job in jobs:
        workers.submit(job)
    for job in jobs:
        assert job.ended.wait(PATIENCE)
        assert job.runs == 0
        assert isinstance(job.error, RuntimeError)
    assert no_threads.refused


@pytest.mark.parametrize("threads", [1, 2])
def test_with_fewer_threads_than_wanted_jobs_run_on_those(threads, monkeypatch, workers):
    no_threads = NoThreads(monkeypatch, FIRST_WORKER + threads)
    jobs = [Job() for _ in range(20)]
    for job in jobs:
        workers.submit(job)
    assert all(job.ended.wait(PATIENCE) for job in jobs)
    assert all(job.runs == 1 and job.error is None for job in jobs)
    assert len({job.thread for job in jobs}) <= threads
    assert no_threads.refused or len({job.thread for job in jobs}) == 1


def test_when_there_are_threads_again_jobs_run(monkeypatch, workers):
    with monkeypatch.context() as patched:
        NoThreads(patched, 0)
        job = Job()
        workers.submit(job)
        assert job.ended.wait(PATIENCE)
        assert job.error is not None
    job = Job()
    workers.submit(job)
    assert job.ended.wait(PATIENCE)
    assert (job.runs, job.error) == (1, None)


@pytest.mark.parametrize("after", range(6))
@pytest.mark.parametrize("instant", [True, False])
def test_a_request_runs_on_the_threads_there_are_or_fails(after, instant, monkeypatch):
    before = threading.active_count()
    scripted = ScriptedDispatch()
    dispatch = InstantDispatch() if instant else scripted
    with http3.Client(dispatch=dispatch, max_workers=4) as client:
        NoThreads(monkeypatch, after)
        with client.parallel() as parallel:
            handles = [parallel.get(f"{URL}/{number}") for number in range(10)]
            if not instant and after > FIRST_WORKER:
                for number in range(10):
                    scripted.exchange(f"/{number}").respond(content=f"/{number}".encode())
            seen = []
            for handle in parallel.as_completed(PATIENCE):
                seen.append(handle)
                if after > FIRST_WORKER:
                    assert handle.get_response().text == handle.request.url.full_path
                else:
                    with pytest.raises(http3.WorkersUnavailable, match="thread") as caught:
                        handle.get_response()
                    assert caught.value.request is handle.request
                    assert isinstance(caught.value.__cause__, RuntimeError)
        assert sorted(map(id, seen)) == sorted(map(id, handles)), "each ends once"
        monkeypatch.undo()
        with client.parallel() as parallel:
            pending = parallel.get(f"{URL}/again")
            if not instant:
                scripted.exchange("/again").respond()
            assert pending.get_response(PATIENCE).status_code == 200
    wait_until(lambda: threading.active_count() <= before)


# Threads that are started and never run.


class Stillborn:
    """In the place of the system's call: threads that it starts do not run before `revive`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._start = _thread.start_new_thread
        self._waiting: list[tuple[typing.Any, ...]] = []
        monkeypatch.setattr(_thread, "start_new_thread", self._start_later)
        monkeypatch.setattr(workers_module, "_LOOKS", 3)

    def _start_later(self, *args: typing.Any) -> int:
        self._waiting.append(args)
        return 0

    def revive(self) -> None:
        for args in self._waiting:
            self._start(*args)


@pytest.mark.parametrize("wait", ["get_response", "next_response", "loop"])
def test_a_request_fails_if_no_thread_comes_to_life(wait, monkeypatch):
    with http3.Client(dispatch=InstantDispatch()) as client:
        stillborn = Stillborn(monkeypatch)
        with client.parallel() as parallel, client.parallel() as other:
            handles = [parallel.get(f"{URL}/{number}") for number in range(3)]
            another = other.get(f"{URL}/another")
            for handle in handles:
                with pytest.raises(http3.WorkersUnavailable, match="--enable-threads"):
                    if wait == "get_response":
                        handle.get_response(PATIENCE)
                    elif wait == "next_response":
                        parallel.next_response(PATIENCE)
                    else:
                        next(iter(parallel)).get_response()
            assert another.done()
        with client.parallel() as parallel:
            late = parallel.get(f"{URL}/late")
            assert late.done(), "it is known by now"
        assert client.get(f"{URL}/plain").text == "/plain"
        with pytest.raises(http3.WorkersUnavailable, match="deadline"):
            client.get(f"{URL}/plain", deadline=PATIENCE)
        stillborn.revive()
        with client.parallel() as parallel:
            # The first may still be refused: nobody knows yet that there are threads.
            wait_until(lambda: answers(parallel))


def answers(parallel: http3.Parallel) -> bool:
    try:
        return parallel.get(f"{URL}/alive").get_response(PATIENCE).text == "/alive"
    except http3.WorkersUnavailable:
        return False


def test_who_waits_for_less_is_told_so_and_may_wait_again(monkeypatch):
    with http3.Client(dispatch=InstantDispatch()) as client:
        Stillborn(monkeypatch)
        with client.parallel() as parallel:
            pending = parallel.get(f"{URL}/a")
            with pytest.raises(http3.WaitTimeout):
                pending.get_response(timeout=0.01)
            assert not pending.done()
            with pytest.raises(http3.WorkersUnavailable):
                pending.get_response()


# The clock.


class Alarm:
    def __init__(self, note: list[Alarm] | None = None) -> None:
        self.rung = threading.Event()
        self._note = note

    def _expire(self) -> None:
        if self._note is not None:
            self._note.append(self)
        self.rung.set()


def test_timers_fire_in_the_order_of_their_times(workers):
    fired: list[Alarm] = []
    now = time.monotonic()
    alarms = [Alarm(fired) for _ in range(20)]
    order = random.Random(1).sample(range(20), 20)
    for number in order:
        workers.schedule(now + 0.05 + number * 0.001, alarms[number])
    assert alarms[-1].rung.wait(PATIENCE)
    assert fired == alarms


def test_a_timer_never_fires_early(workers):
    alarm, when = Alarm(), time.monotonic() + 0.05
    workers.schedule(when, alarm)
    assert alarm.rung.wait(PATIENCE)
    assert time.monotonic() >= when


def test_a_timer_whose_time_has_passed_fires_at_once(workers):
    alarm = Alarm()
    workers.schedule(time.monotonic() - 100, alarm)
    assert alarm.rung.wait(PATIENCE)


def test_an_earlier_timer_is_not_held_up_by_a_later_one(workers):
    late, early = Alarm(), Alarm()
    workers.schedule(time.monotonic() + 1e9, late)
    workers.schedule(time.monotonic() + 0.01, early)
    assert early.rung.wait(PATIENCE)
    assert not late.rung.is_set()


def test_a_cancelled_timer_does_not_fire_and_lets_go_of_its_target(workers):
    cancelled, other = Alarm(), Alarm()
    timer = workers.schedule(time.monotonic() + 0.02, cancelled)
    timer.cancel()
    assert timer.cancelled
    references = gc.get_referrers(cancelled)
    assert timer not in references
    workers.schedule(time.monotonic() + 0.03, other)
    assert other.rung.wait(PATIENCE)
    assert not cancelled.rung.is_set()


def test_cancelled_timers_do_not_pile_up(workers):
    alarm = Alarm()
    seen = Signal()
    workers.schedule(time.monotonic() + 1e6, alarm)
    for _ in range(100):
        for _ in range(1000):
            workers.schedule(time.monotonic() + 1e5, alarm).cancel()
        workers.call_soon(seen.set)
        assert seen.wait(PATIENCE)
    # Only the foreman knows its timers: the objects say how many there are.
    timers = [o for o in gc.get_objects() if type(o).__name__ == "Timer"]
    assert len(timers) < 1000


def test_a_callback_is_called_soon_and_not_here(workers):
    threads, called = [], Signal()
    workers.call_soon(lambda: (threads.append(threading.get_ident()), called.set()))
    assert called.wait(PATIENCE)
    assert threads != [threading.get_ident()]


def test_a_dropped_client_leaves_no_threads():
    before = set(threading.enumerate())
    client = http3.Client(dispatch=InstantDispatch())
    with client.parallel() as parallel:
        assert parallel.get(f"{URL}/a").get_response(PATIENCE).text == "/a"
    del client, parallel
    gc.collect()
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_a_worker_holds_nothing_of_its_last_job(workers):
    job = Job()
    alive = weakref.ref(job)
    workers.submit(job)
    assert job.ended.wait(PATIENCE)
    del job
    wait_until(lambda: alive() is None)


def test_a_registry_is_copied_while_others_come_and_go(switch_interval):
    registry, stop = Registry(), threading.Event()

    class Item:
        pass

    def come_and_go():
        while not stop.is_set():
            registry.add(Item())

    kept = Item()
    registry.add(kept)
    threads = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2000):
            assert kept in registry.alive()
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert registry.alive() == [kept]
