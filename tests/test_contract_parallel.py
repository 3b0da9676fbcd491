"""
What http3 promised of its `parallel` blocks, and what it left open: as `docs/from-http3.md` tells
it. What other tests show already is not repeated here.
"""

from __future__ import annotations

import concurrent.futures
import typing

import pytest

import http3_parallel as http3
from scripted import PATIENCE, InstantDispatch, ScriptedDispatch

URL = "http://example.com"


@pytest.fixture
def dispatch() -> ScriptedDispatch:
    return ScriptedDispatch()


@pytest.fixture
def client(dispatch: ScriptedDispatch) -> typing.Iterator[http3.Client]:
    with http3.Client(dispatch=dispatch) as client:
        yield client


def finish(dispatch: ScriptedDispatch, handles: typing.Iterable[http3.PendingResponse]) -> None:
    """One after the other."""
    for handle in handles:
        assert handle.request is not None
        path = handle.request.url.path
        dispatch.exchange(path).respond(content=path.encode())
        concurrent.futures.wait([handle.future], PATIENCE)


# The documented loop.


def test_a_block_is_drained_as_http3_documents_it() -> None:
    with http3.Client(dispatch=InstantDispatch()) as client:
        with client.parallel() as parallel:
            for counter in range(1, 10):
                parallel.get(f"{URL}/{counter}")
            texts = set()
            while parallel.has_pending_responses:
                texts.add(parallel.next_response().text)
    assert texts == {f"/{counter}" for counter in range(1, 10)}


def test_a_blocks_requests_have_the_clients_settings_and_take_params_and_files() -> None:
    client = http3.Client(
        dispatch=InstantDispatch(), auth=("user", "secret"), cookies={"a": "1"}, headers={"X": "y"}
    )
    with client, client.parallel() as parallel:
        response = parallel.post(URL, params={"q": "1"}, files={"f": b"content"}).get_response()
    assert response.request is not None
    assert response.request.url.query == "q=1"
    assert b"content" in response.request.content
    headers = response.request.headers
    assert (headers["cookie"], headers["x"]) == ("a=1", "y")
    assert headers["authorization"].startswith("Basic ")


# What http3 left open.


def test_of_several_that_are_there_the_first_to_complete_comes_first(
    client: http3.Client, dispatch: ScriptedDispatch
) -> None:
    with client.parallel() as parallel:
        one, two, three = (parallel.get(f"{URL}/{name}") for name in ("one", "two", "three"))
        finish(dispatch, [three, one, two])
        assert [parallel.next_response().text for _ in range(3)] == ["/three", "/one", "/two"]


def test_what_next_response_has_returned_its_handle_returns_too(
    client: http3.Client, dispatch: ScriptedDispatch
) -> None:
    with client.parallel() as parallel:
        pending = parallel.get(f"{URL}/a")
        finish(dispatch, [pending])
        response = parallel.next_response()
        assert not parallel.has_pending_responses
        assert pending.get_response() is pending.get_response() is response
    assert pending.get_response() is response


def test_blocks_of_one_client_may_be_within_each_other(
    client: http3.Client, dispatch: ScriptedDispatch
) -> None:
    with client.parallel() as outer:
        first = outer.get(f"{URL}/outer")
        with client.parallel() as inner:
            second, left = inner.get(f"{URL}/inner"), inner.get(f"{URL}/left")
            finish(dispatch, [second])
            assert inner.next_response().text == "/inner"
        assert left.cancelled()
        assert not first.done()
        finish(dispatch, [first])
        assert outer.next_response().text == "/outer"


def test_of_a_clients_128_workers_a_block_has_32(dispatch: ScriptedDispatch) -> None:
    with http3.Client(dispatch=dispatch) as client, client.parallel() as parallel:
        assert client.max_workers == 128
        for number in range(40):
            parallel.get(f"{URL}/{number}")
        for together in (32, 8):
            for exchange in dispatch.wait_for_arrivals(together):
                dispatch.exchange(exchange.request.url.path).respond()
        dispatch.wait_until_idle()
    assert dispatch.most_in_flight == 32


# What is made otherwise.


def test_a_block_is_made_by_the_functions_that_open_one(client: http3.Client) -> None:
    for given in (client, None):
        with pytest.raises(TypeError, match=r"Client\.parallel\(\)"):
            http3.Parallel(given)  # type: ignore[arg-type]  # that is the test


def test_a_request_is_made_by_its_method_and_takes_verify_and_cert(client: http3.Client) -> None:
    with client.parallel() as parallel:
        assert not hasattr(parallel, "request_soon")
        with pytest.raises(TypeError, match="takes a Request"):
            parallel.send(URL)  # type: ignore[arg-type]  # that is the test
        with pytest.raises(TypeError, match="'ssl'"):
            parallel.get(URL, ssl=http3.SSLConfig())  # type: ignore[call-arg]  # that is the test
