"""
Responses that are nearly valid, as many as a run of the tests has time for: what must hold of them
is told in `messages`. ``fuzz/wire.py`` looks at the same for longer, and so does, with as many
examples as one likes, other ones each time::

    WIRE_EXAMPLES=1000000 pytest -o faulthandler_timeout=0 tests/test_http11_fuzz.py
"""

from __future__ import annotations

import collections
import os
import random
import sys
import tracemalloc
import typing
from collections.abc import Callable

import h11
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import messages
from http3_parallel.dispatch.http11 import (
    BadMessage,
    FieldLines,
    ResponseReader,
    TruncatedMessage,
    request_line,
)
from http3_parallel.models import Request
from messages import METHODS, Cut, Verdict, check, mutated, nearly_valid, random_cut

EXAMPLES = os.environ.get("WIRE_EXAMPLES")

#: The same examples each time, so that a run never fails for what another one did not see.
BOUNDED = settings(
    derandomize=EXAMPLES is None,
    max_examples=int(EXAMPLES or 1_500),
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

RANDOMS = st.randoms(use_true_random=False)


def checked(rng: random.Random, data: bytes, method: str) -> Verdict:
    return check(data, method, [random_cut(rng, len(data)) for _ in range(3)])


def test_valid_responses_are_read_as_others_read_them() -> None:
    seen: collections.Counter[Verdict] = collections.Counter()

    @BOUNDED
    @given(rng=RANDOMS, method=st.sampled_from(METHODS))
    def all_agree(rng: random.Random, method: str) -> None:
        verdict = checked(rng, nearly_valid(rng, method), method)
        event(repr(verdict))
        seen[verdict] += 1

    all_agree()
    # Without this they might agree on refusing everything.
    assert seen[Verdict(True, True, True)] > 0.3 * seen.total(), seen
    # And what only one side takes must be there, or nothing was near the border.
    assert seen[Verdict(False, False, False)] > 0.05 * seen.total(), seen


@BOUNDED
@given(rng=RANDOMS, method=st.sampled_from(METHODS), damages=st.integers(1, 2))
def test_damaged_responses_are_read_the_same_however_they_were_cut(
    rng: random.Random, method: str, damages: int
) -> None:
    data = nearly_valid(rng, method)
    for _ in range(damages):
        data = mutated(rng, data)
    event(repr(checked(rng, data, method)))


@settings(BOUNDED, max_examples=500)
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.sampled_from([b"HTTP/1.1", b" 200", b"\r\n", b"\n", b" ", b"A:", b"0", b"5;", b"x"]),
            max_size=40,
        ).map(b"".join),
    ),
    method=st.sampled_from(METHODS),
    rng=RANDOMS,
)
def test_whatever_comes_only_documented_errors_come_out(
    data: bytes, method: str, rng: random.Random
) -> None:
    checked(rng, data, method)


# What is sent.


PARTS = st.text(
    st.sampled_from("/ab?=&#%@:;,+\\\"' \t\r\n\0\x01\x7f\x85\xa0\xe9\u2028\u212a\U0001f600")
    | st.characters(),
    max_size=8,
)


def mostly(usual: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.integers(0, 9).flatmap(lambda number: usual if number else PARTS)


@BOUNDED
@given(
    method=mostly(st.sampled_from(["GET", "POST", "propfind"])),
    path=PARTS,
    params=st.dictionaries(PARTS, PARTS, max_size=2),
    headers=st.lists(
        st.tuples(
            mostly(st.sampled_from(["x-a", "Cookie", "X-A"])),
            mostly(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=8)),
        ),
        max_size=3,
    ),
    data=st.none() | st.binary(max_size=20),
)
def test_whatever_is_asked_for_one_request_is_sent_or_none(
    method: str,
    path: str,
    params: dict[str, str],
    headers: list[tuple[str, str]],
    data: bytes | None,
) -> None:
    """And a server reads of it what was meant, with nothing in front or after."""
    try:
        request = Request(
            method, f"http://example.com/{path}", params=params, headers=headers, data=data
        )
    except ValueError:  # InvalidURL is one
        event("refused")
        return
    event("sent")
    target = request.url.full_path
    server = h11.Connection(h11.SERVER)
    head = request_line(request.method, target) + FieldLines.of(request.headers.raw).data
    server.receive_data(head)
    server.receive_data(request.content or b"")
    received = server.next_event()
    assert isinstance(received, h11.Request)
    assert (received.method, received.target) == (request.method.encode(), target.encode())
    sent = [(name, value.strip(b" \t")) for name, value in request.headers.raw]
    assert list(received.headers) == sent
    body = b""
    while isinstance(piece := server.next_event(), h11.Data):
        body += piece.data
    assert isinstance(piece, h11.EndOfMessage)
    assert body == (data or b"")
    assert server.next_event() is h11.NEED_DATA or server.trailing_data[0] == b""


# What is claimed, and what has no end.


OK = b"HTTP/1.1 200 OK\r\n"
HUGE = 10**15

#: What a peer claims without sending it.
CLAIMS: dict[str, bytes] = {
    "a length": OK + b"Content-Length: %d\r\n\r\nx" % HUGE,
    "a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\nx" % HUGE,
    "a chunk after another": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n%x\r\nx" % HUGE,
}


@pytest.mark.parametrize("size", [1, 65536, HUGE])
@pytest.mark.parametrize("name", CLAIMS)
def test_nothing_is_allocated_for_what_is_only_claimed(name: str, size: int) -> None:
    tracemalloc.start()
    try:
        reading = messages.read(CLAIMS[name], "GET", Cut(sizes=(size,)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reading.refusal is TruncatedMessage
    assert peak < 100_000


class Endless:
    """A socket that gives the same again and again, and counts."""

    def __init__(self, *begun: bytes, piece: bytes) -> None:
        self._begun = list(begun)
        self._piece = piece
        self.given = 0

    def recv(self, size: int) -> bytes:
        data = self._begun.pop(0) if self._begun else self._piece
        self.given += len(data)
        return data


ENDLESS: dict[str, Endless] = {
    "a status line": Endless(piece=b"HTTP/1.1 200 "),
    "a reason": Endless(OK[:-2], piece=b"x"),
    "a field": Endless(OK, b"X: ", piece=b"y" * 100),
    "a name": Endless(OK, piece=b"y"),
    "fields": Endless(OK, piece=b"X: y\r\n"),
    "long fields": Endless(OK, piece=b"X: " + b"y" * 40_000 + b"\r\n"),
    "a folded field": Endless(OK, b"X: y", piece=b"\r\n y"),
    "interim responses": Endless(piece=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "interim responses and fields": Endless(piece=b"HTTP/1.1 103 \r\nX: y\r\n" * 3 + b"\r\n"),
    "a chunk's size": Endless(OK, b"Transfer-Encoding: chunked\r\n\r\n", piece=b"0"),
    "an extension": Endless(OK, b"Transfer-Encoding: chunked\r\n\r\n5;", piece=b"x=y;"),
    "trailers": Endless(OK, b"Transfer-Encoding: chunked\r\n\r\n0\r\n", piece=b"X: y\r\n"),
    "a trailer": Endless(OK, b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", piece=b"y"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_given_up_before_it_is_large(name: str) -> None:
    sock = ENDLESS[name]
    reader = ResponseReader(sock, "GET")
    with pytest.raises(BadMessage):
        reader.begin()
        reader.read_piece(65536)
    assert sock.given < 512 * 1024


class Calls:
    """How many functions are called in a block."""

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> Calls:
        self._before = sys.getprofile()
        sys.setprofile(self._count)
        return self

    def _count(self, frame: object, what: str, argument: object) -> None:
        self.number += 1

    def __exit__(self, *exc_info: object) -> None:
        sys.setprofile(typing.cast(typing.Any, self._before))


#: How a stream of `count` pieces of a body looks, each a byte.
DRIBBLES: dict[str, Callable[[int], bytes]] = {
    "chunks": lambda count: (
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * count + b"0\r\n\r\n"
    ),
    "a length": lambda count: OK + b"Content-Length: %d\r\n\r\n" % count + b"x" * count,
    "to the end": lambda count: OK + b"\r\n" + b"x" * count,
}


@pytest.mark.parametrize("in_one_piece", [True, False])
@pytest.mark.parametrize("name", DRIBBLES)
def test_work_grows_with_the_bytes_and_no_faster(name: str, in_one_piece: bool) -> None:
    """By the calls of Python's functions, which unlike time are the same on any machine."""

    def calls(count: int) -> int:
        data = DRIBBLES[name](count)
        cut = Cut(() if in_one_piece else None, sizes=(1,), in_one_step=False)
        with Calls() as counted:
            reading = messages.read(data, "GET", cut)
        assert reading.message is not None
        assert reading.message.body == b"x" * count
        return counted.number

    assert calls(2_000) < 2.2 * calls(1_000)
