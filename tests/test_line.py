"""The line of a block, against a model of it."""

from __future__ import annotations

import collections

import hypothesis
from hypothesis import strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from http3_parallel.line import Line


def make_line(
    max_per_host: int | None, given_up: set[int] | frozenset[int] = frozenset()
) -> Line[int]:
    """Of numbers, whose host is their last digit."""
    return Line(max_per_host, host_of=lambda n: n % 10, waits=lambda n: n not in given_up)


def take_all(line: Line[int]) -> list[int]:
    taken = []
    while (item := line.take()) is not None:
        taken.append(item)
    return taken


def test_without_a_limit_it_is_a_queue():
    line = make_line(None)
    for number in range(30):
        line.add(number)
    assert take_all(line) == list(range(30))
    assert not line


def test_one_over_its_hosts_limit_waits_beside_the_line():
    line = make_line(2)
    for number in (10, 20, 30, 40, 11):
        line.add(number)
    assert take_all(line) == [10, 20, 11]
    assert not line
    line.done(20)
    assert line
    assert take_all(line) == [30]


def test_what_was_cancelled_in_line_gives_its_place_to_the_next():
    given_up = {10, 20}
    line = make_line(1, given_up)
    for number in (10, 20, 30, 40):
        line.add(number)
    assert take_all(line) == [30]
    line.done(30)
    assert take_all(line) == [40]


def test_done_for_what_holds_no_place_changes_nothing():
    line = make_line(1)
    line.add(10)
    line.add(20)
    line.done(20)
    line.done(77)
    assert take_all(line) == [10]
    line.done(10)
    line.done(10)
    assert take_all(line) == [20]


def test_cleared_it_lets_go_of_all_but_what_was_taken():
    line = make_line(1)
    for number in (10, 11, 20, 21):
        line.add(number)
    assert line.take() == 10
    line.clear()
    assert not line
    line.add(30)
    assert not line, "10 still holds its place"
    line.add(31)
    assert take_all(line) == [31]
    line.done(10)
    assert take_all(line) == [30]


class LineModel(RuleBasedStateMachine):
    """Whatever is done to it: the order within a host, the limit, and nothing lost."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = 2
        self.given_up: set[int] = set()
        self.line = make_line(self.limit, self.given_up)
        self.next_number = 0
        self.waiting: dict[int, collections.deque[int]] = collections.defaultdict(collections.deque)
        self.taken: set[int] = set()

    def active(self, host: int) -> int:
        return sum(number % 10 == host for number in self.taken)

    @rule(host=strategies.integers(0, 2))
    def add(self, host: int) -> None:
        self.next_number += 1
        number = self.next_number * 10 + host
        self.line.add(number)
        self.waiting[host].append(number)

    @rule()
    def take(self) -> None:
        number = self.line.take()
        if number is None:
            for host, waiting in self.waiting.items():
                assert not waiting or self.active(host) >= self.limit, "one was forgotten"
            return
        assert number not in self.given_up
        assert number == self.waiting[number % 10].popleft(), "out of its host's order"
        self.taken.add(number)

    @precondition(lambda self: self.taken)
    @rule(data=strategies.data())
    def end(self, data: strategies.DataObject) -> None:
        number = data.draw(strategies.sampled_from(sorted(self.taken)))
        self.taken.discard(number)
        self.line.done(number)

    @precondition(lambda self: any(self.waiting.values()))
    @rule(data=strategies.data())
    def give_up(self, data: strategies.DataObject) -> None:
        numbers = sorted(number for waiting in self.waiting.values() for number in waiting)
        number = data.draw(strategies.sampled_from(numbers))
        self.waiting[number % 10].remove(number)
        self.given_up.add(number)

    @invariant()
    def no_host_has_more_than_its_places(self) -> None:
        assert all(self.active(host) <= self.limit for host in range(3))

    def teardown(self) -> None:
        while self.taken or any(self.waiting.values()):
            self.take()
            for number in self.taken:
                self.line.done(number)
            self.taken.clear()
        assert take_all(self.line) == []
        assert not self.line._hosts, "hosts without requests are kept"


TestLineModel = LineModel.TestCase
TestLineModel.settings = hypothesis.settings(
    max_examples=100, stateful_step_count=40, deadline=None
)
