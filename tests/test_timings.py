"""Timings: what is marked, when, and of which exchange. Moments are compared, never measured."""

from __future__ import annotations

import copy
import pickle
import socket
import ssl
import threading
import time
import typing
from time import perf_counter

import pytest

import http3_parallel as http3
from http3_parallel.dispatch import Context, Dispatcher, NetworkDispatch, exchange, sockets
from http3_parallel.dispatch.http11 import ResponseReader
from http3_parallel.exceptions import ConnectError, HTTPError, IncompleteRead
from http3_parallel.models import Request, Response, Timings
from servers import PATIENCE, HangingResolver, Peer, RawServer, Site
from test_client import Call, every_way
from test_network import OK, Net, Running, WatchedAbort, net, scripted
from test_proxies import HTTPProxy, SOCKSProxy, through

__all__ = ["net"]  # a fixture

#: What making a connection takes.
CONNECTING = ("resolved", "connected", "tls")

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"


# The model.


def test_nothing_has_happened_at_first() -> None:
    moments = ["queued", "resolved", "connected", "tls", "sent", "first_byte", "done"]
    assert Timings().as_dict() == dict.fromkeys(moments)


def test_moments_count_from_the_call() -> None:
    before = perf_counter()
    timings = Timings(before)
    timings.mark("sent", before + 0.25)
    timings.mark("done")
    assert timings.sent == pytest.approx(0.25)
    assert timings.done is not None
    assert 0 <= timings.done <= perf_counter() - before


def test_by_default_the_call_is_now() -> None:
    before = perf_counter()
    timings = Timings()
    after = perf_counter()
    timings.mark("queued", after)
    assert timings.queued is not None
    assert 0 <= timings.queued <= after - before


def test_the_first_mark_of_a_moment_counts() -> None:
    timings = Timings(0.0)
    timings.mark("first_byte", 1.0)
    timings.mark("first_byte", 2.0)
    timings.mark("first_byte")
    assert timings.first_byte == 1.0


def test_there_are_no_other_moments() -> None:
    with pytest.raises(ValueError, match="'tsl' is none of queued, resolved, connected, tls"):
        Timings().mark(typing.cast(typing.Any, "tsl"))


@pytest.mark.parametrize("moment", Timings().as_dict())
def test_each_moment_is_an_attribute_that_only_marking_sets(moment: typing.Any) -> None:
    timings = Timings(0.0)
    assert getattr(timings, moment) is None
    timings.mark(moment, 1.5)
    assert getattr(timings, moment) == 1.5
    assert timings.as_dict() == {**Timings().as_dict(), moment: 1.5}
    with pytest.raises(AttributeError):
        setattr(timings, moment, 2.0)


def test_another_exchange_begins_with_what_came_before_all_of_them() -> None:
    first = Timings(10.0)
    for number, moment in enumerate(first.as_dict()):
        first.mark(typing.cast(typing.Any, moment), 11.0 + number)
    seen = first.as_dict()
    second = first._for_exchange()
    assert second.as_dict() == {**Timings().as_dict(), "queued": 1.0}
    second.mark("done", 30.0)
    assert second.done == 20.0
    assert first.as_dict() == seen
    first._restart()
    assert first.as_dict() == {**Timings().as_dict(), "queued": 1.0}


def test_equal_moments_make_equal_timings() -> None:
    one, other = Timings(1.0), Timings(2.0)
    assert one == other
    one.mark("done", 1.5)
    assert one != other
    other.mark("done", 2.5)
    assert one == other
    assert one != one.as_dict()


def pickled(protocol: int) -> typing.Callable[[Timings], Timings]:
    return lambda timings: pickle.loads(pickle.dumps(timings, protocol))


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, *map(pickled, range(pickle.HIGHEST_PROTOCOL + 1))],
)
def test_a_copy_has_the_moments_and_stays_as_it_is(
    duplicate: typing.Callable[[Timings], Timings],
) -> None:
    timings = Timings(1.1)
    assert duplicate(timings) == timings
    timings.mark("queued", 1.3)
    same = duplicate(timings)
    assert same == timings
    assert same is not timings
    with pytest.raises(ValueError, match="cannot be marked"):
        same.mark("done")
    timings.mark("done")
    assert same.done is None


def test_the_pickle_of_another_version_may_lack_a_moment() -> None:
    timings = Timings()
    timings.__setstate__({"done": 1.0})
    assert timings.as_dict() == {**Timings().as_dict(), "done": 1.0}


def test_the_repr_reads_in_milliseconds() -> None:
    timings = Timings(0.0)
    assert repr(timings) == "<Timings in ms: none>"
    timings.mark("done", 1.5)
    timings.mark("queued", 0.000_042)
    timings.mark("first_byte", 0.1234)
    assert repr(timings) == "<Timings in ms: queued 0.04, first_byte 123.40, done 1500.00>"


# The network. These count from the clock's own origin: their moments are its values.


def watched(net: Net, **kwargs: typing.Any) -> Context:
    context = net.context(**kwargs)
    context.timings = Timings(0.0)
    return context


def start(net: Net, url: str, context: Context, **kwargs: typing.Any) -> Running:
    """One exchange in a thread, its body included."""
    return Running(net.dispatch, Request("GET", url), context, **kwargs)


def marked(timings: Timings) -> list[str]:
    """What has happened, after seeing that it did in this order."""
    moments = {name: at for name, at in timings.as_dict().items() if at is not None}
    assert list(moments.values()) == sorted(moments.values())
    return list(moments)


def in_order(*moments: float | None) -> bool:
    return list(moments) == sorted(at for at in moments if at is not None)


def test_a_new_connection_is_resolved_and_connected_and_the_next_use_is_not(
    net: Net, server: Site
) -> None:
    url = server.answer("/", b"hello")
    before = perf_counter()
    new, reused = watched(net), watched(net)
    assert net.get(url, context=new) == b"hello"
    between = perf_counter()
    assert net.get(url, context=reused) == b"hello"
    assert marked(new.timings) == ["resolved", "connected", "sent", "first_byte", "done"]
    assert in_order(before, new.timings.resolved, new.timings.done, between)
    assert marked(reused.timings) == ["sent", "first_byte", "done"]
    assert in_order(between, reused.timings.sent, reused.timings.done, perf_counter())


def test_tls_comes_after_the_connection_and_not_with_its_next_use(
    net: Net, tls_server: Site
) -> None:
    url = tls_server.answer("/", b"hello")
    new, reused = watched(net), watched(net)
    assert net.get(url, context=new) == net.get(url, context=reused) == b"hello"
    assert marked(new.timings) == ["resolved", "connected", "tls", "sent", "first_byte", "done"]
    assert marked(reused.timings) == ["sent", "first_byte", "done"]


def test_the_look_up_is_the_time_before_resolved(
    net: Net, hanging_resolver: HangingResolver, server: Site
) -> None:
    context = watched(net)
    running = start(net, f"http://hangs.test:{server.port}/", context)
    assert hanging_resolver.wait_for_callers(1)
    assert marked(context.timings) == []
    released = perf_counter()
    hanging_resolver.release()
    running.join()
    assert in_order(released, context.timings.resolved, context.timings.connected)


def test_the_handshake_is_the_time_between_connected_and_tls(
    net: Net, server_tls: ssl.SSLContext
) -> None:
    released = threading.Event()

    def hesitate(peer: Peer) -> None:
        assert released.wait(PATIENCE)
        assert peer.shake_hands(server_tls)
        scripted(OK)(peer)

    with RawServer(hesitate, scheme="https") as server:
        context = watched(net)
        running = start(net, server.url, context)
        assert typing.cast(WatchedAbort, context.abort).wait_for_phase("in the TLS handshake")
        assert marked(context.timings) == ["resolved", "connected"]
        at = perf_counter()
        released.set()
        running.join()
        assert running.content == b"ok"
        assert in_order(context.timings.connected, at, context.timings.tls)


def test_the_first_byte_is_that_of_the_answer(net: Net, server: Site) -> None:
    context = watched(net)
    running = start(net, f"{server.url}/wait/one", context)
    abort = typing.cast(WatchedAbort, context.abort)
    assert server.wait_for_request("/wait/one")
    assert abort.wait_for_phase("waiting for the response")
    assert context.timings.first_byte is None
    at = perf_counter()
    server.release("one")
    running.join()
    assert running.content == b"one"
    assert in_order(context.timings.connected, at, context.timings.first_byte)


@pytest.mark.parametrize(
    "pieces",
    [(HEAD[:1], HEAD[1:] + b"body"), (b"HTTP/1.1 103 Early Hints\r\n\r\n", HEAD + b"body")],
    ids=["a byte", "an interim response"],
)
def test_the_answer_begins_with_its_first_byte_not_with_the_end_of_its_head(
    net: Net, monkeypatch: pytest.MonkeyPatch, pieces: tuple[bytes, bytes]
) -> None:
    begun, released = threading.Event(), threading.Event()

    class Watched(ResponseReader):
        def _read_status(self, buffer: bytes, place: int) -> None:
            begun.set()
            super()._read_status(buffer, place)

    def hesitate(peer: Peer) -> None:
        peer.read_request()
        peer.send(pieces[0])
        assert released.wait(PATIENCE)
        peer.send(pieces[1])
        peer.wait_closed()

    monkeypatch.setattr(exchange, "ResponseReader", Watched)
    with RawServer(hesitate) as server:
        context = watched(net)
        running = start(net, server.url, context)
        assert begun.wait(PATIENCE)
        at = perf_counter()
        released.set()
        running.join()
        assert running.content == b"body"
        assert in_order(context.timings.first_byte, at, context.timings.done)


def test_it_is_done_when_the_last_byte_of_the_body_is_read(net: Net) -> None:
    released = threading.Event()

    def hesitate(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + b"bo")
        assert released.wait(PATIENCE)
        peer.send(b"dy")
        peer.wait_closed()

    with RawServer(hesitate) as server:
        context = watched(net, stream=True)
        response = net.send(server.url, context=context)
        pieces = response.raw()
        assert next(pieces) == b"bo"
        assert context.timings.done is None
        at = perf_counter()
        released.set()
        assert next(pieces) == b"dy"
        # Known by the Content-Length, before anyone asks for more.
        done = context.timings.done
        assert in_order(context.timings.first_byte, at, done)
        assert list(pieces) == []
        response.close()
        assert context.timings.done == done


@pytest.mark.parametrize(
    ("head", "end"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n", b"0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbo", b""),
    ],
    ids=["chunked", "by the connection's end"],
)
def test_a_body_whose_length_is_not_known_is_done_at_its_end(
    net: Net, head: bytes, end: bytes
) -> None:
    released = threading.Event()

    def hesitate(peer: Peer) -> None:
        peer.read_request()
        peer.send(head)
        assert released.wait(PATIENCE)
        peer.send(end)

    with RawServer(hesitate) as server:
        context = watched(net, stream=True)
        pieces = net.send(server.url, context=context).raw()
        assert next(pieces) == b"bo"
        assert context.timings.done is None
        at = perf_counter()
        released.set()
        assert list(pieces) == []
        assert in_order(at, context.timings.done)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    ],
)
def test_a_response_without_a_body_is_done_with_its_head(
    net: Net, method: str, answer: bytes
) -> None:
    with RawServer(scripted(answer)) as server:
        context = watched(net, stream=True)
        net.send(server.url, method, context=context)
        assert marked(context.timings)[-2:] == ["first_byte", "done"]


def test_a_body_that_is_given_up_is_done_then(net: Net, server: Site) -> None:
    context = watched(net, stream=True)
    response = net.send(server.answer("/", b"x" * 1_000_000), context=context)
    assert context.timings.done is None
    at = perf_counter()
    response.close()
    done = context.timings.done
    assert in_order(at, done)
    response.close()
    assert context.timings.done == done


def test_a_body_that_another_thread_gives_up_is_done_then(net: Net) -> None:
    def hang_in_the_body(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + b"bo")
        peer.wait_closed()

    with RawServer(hang_in_the_body) as server:
        context = watched(net)
        running = start(net, server.url, context)
        assert typing.cast(WatchedAbort, context.abort).wait_for_phase("reading the body")
        at = perf_counter()
        running.cancel_and_check()
        assert in_order(at, context.timings.done)


def test_a_body_that_breaks_is_done_then(net: Net) -> None:
    with RawServer(scripted(HEAD + b"bo", close=True)) as server:
        context = watched(net, stream=True)
        response = net.send(server.url, context=context)
        with pytest.raises(IncompleteRead):
            response.read()
        assert marked(context.timings)[-2:] == ["first_byte", "done"]


def test_what_failed_has_the_moments_until_then(net: Net) -> None:
    with socket.socket() as unbound:
        unbound.bind(("127.0.0.1", 0))
        context = watched(net)
        with pytest.raises(ConnectError):
            net.get(f"http://127.0.0.1:{unbound.getsockname()[1]}", context=context)
    assert marked(context.timings) == ["resolved"]


def test_a_request_that_the_server_did_not_take_whole_was_not_sent(net: Net) -> None:
    def refuse(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        peer.read(200_000)
        peer.close()

    with RawServer(refuse) as server:
        context = watched(net)
        response = net.send(server.url, "POST", data=b"x" * 50_000_000, context=context)
        assert response.read() == b"big"
        assert marked(context.timings) == ["resolved", "connected", "first_byte", "done"]


def test_the_whole_request_is_sent_before_the_answer_is_waited_for(net: Net, server: Site) -> None:
    url = server.answer("/", b"ok")
    given: list[float] = []

    def body() -> typing.Iterator[bytes]:
        yield b"one"
        given.append(perf_counter())
        yield b"two"

    context = watched(net)
    assert net.get(url, "POST", data=body(), context=context) == b"ok"
    assert in_order(context.timings.connected, *given, context.timings.sent)


def test_of_several_addresses_it_is_the_one_that_answered(
    net: Net, server: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[float] = []
    url = server.answer("/", b"ok").replace("127.0.0.1", "many.test")
    connect = sockets._connect

    def watched_connect(*args: typing.Any) -> None:
        try:
            connect(*args)
        except ConnectionRefusedError:
            refused.append(perf_counter())
            raise

    with socket.socket() as unbound:
        unbound.bind(("127.0.0.1", 0))
        addresses = [unbound.getsockname(), (server.host, server.port)]
        answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args: answer)
        monkeypatch.setattr(sockets, "_connect", watched_connect)
        context = watched(net)
        assert net.get(url, context=context) == b"ok"
    assert len(refused) == 1
    assert in_order(context.timings.resolved, *refused, context.timings.connected)


def test_a_request_that_was_sent_again_has_the_moments_of_the_second_time(net: Net) -> None:
    closed_at: list[float] = []

    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(OK)
        if len(peer.server.connections) == 1 and peer.read_request() is not None:
            closed_at.append(perf_counter())
            peer.close()
        else:
            peer.wait_closed()

    with RawServer(serve) as server:
        assert net.get(server.url) == b"ok"
        context = watched(net)
        assert net.get(server.url, context=context) == b"ok"
        assert len(server.connections) == 2
        # The first attempt, on the old connection, had sent it before.
        assert in_order(*closed_at, context.timings.resolved)
        assert marked(context.timings) == ["resolved", "connected", "sent", "first_byte", "done"]


class Failover(Dispatcher):
    """Asks one place, and where that fails another, within one `send`."""

    def __init__(self, network: NetworkDispatch, urls: typing.Sequence[str]) -> None:
        self._network = network
        self._urls = urls

    def send(self, request: Request, context: Context) -> Response:
        failure: HTTPError | None = None
        for url in self._urls:
            try:
                return self._network.send(Request(request.method, url), context)
            except HTTPError as error:
                failure = error
        assert failure is not None
        raise failure


def test_a_dispatcher_that_asks_another_has_the_moments_of_the_one_that_answered(
    net: Net, server: Site
) -> None:
    url = server.answer("/", b"ok")
    assert net.get(url) == b"ok"
    with RawServer(Peer.close) as broken:
        dispatch = Failover(net.dispatch, [broken.url, url])
        context = watched(net)
        assert dispatch.send(Request("GET", url), context).read() == b"ok"
        assert len(broken.connections) == 1
    assert marked(context.timings) == ["sent", "first_byte", "done"]


# Proxies.


@pytest.mark.parametrize("secure_proxy", [False, True])
def test_with_a_proxy_that_forwards_there_is_no_tls_with_the_server(
    server: Site, server_tls: ssl.SSLContext, ca_path: str, secure_proxy: bool
) -> None:
    with (
        HTTPProxy(server, tls=server_tls if secure_proxy else None) as proxy,
        through(proxy.url, ca_path) as net,
    ):
        new, reused = watched(net), watched(net)
        assert net.get("http://one.test/", context=new) == b"forwarded"
        assert net.get("http://two.test/", context=reused) == b"forwarded"
    assert marked(new.timings) == ["resolved", "connected", "sent", "first_byte", "done"]
    assert marked(reused.timings) == ["sent", "first_byte", "done"]


@pytest.mark.parametrize("kind", ["tunnel", "tls within tls", "socks4a", "socks5", "socks5h"])
def test_through_a_proxy_it_is_the_connection_to_the_proxy_and_tls_with_the_server(
    tls_server: Site, server_tls: ssl.SSLContext, ca_path: str, kind: str
) -> None:
    tls_server.answer("/", b"ok")
    host = "127.0.0.1" if kind == "socks5" else "example.com"
    connected, released = threading.Event(), threading.Event()

    def hesitate(peer: Peer) -> None:
        connected.set()
        assert released.wait(PATIENCE)
        proxy._handle(peer)

    proxy: HTTPProxy | SOCKSProxy
    if kind.startswith("socks"):
        pytest.importorskip("socks")
        proxy = SOCKSProxy(tls_server)
        url = proxy.url.replace("http", kind)
    else:
        proxy = HTTPProxy(tls_server, tls=server_tls if kind == "tls within tls" else None)
        url = proxy.url
    proxy.handler = hesitate
    with proxy, through(url, ca_path) as net:
        new, reused = watched(net), watched(net)
        running = start(net, f"https://{host}/", new)
        assert connected.wait(PATIENCE)
        assert typing.cast(WatchedAbort, new.abort).wait_for_phase("asking the proxy")
        assert marked(new.timings) == ["resolved", "connected"]
        at = perf_counter()
        released.set()
        running.join()
        assert running.content == b"ok"
        assert in_order(new.timings.connected, at, new.timings.tls)
        assert marked(new.timings) == [*CONNECTING, "sent", "first_byte", "done"]
        assert net.get(f"https://{host}/", context=reused) == b"ok"
        assert marked(reused.timings) == ["sent", "first_byte", "done"]


# The client.


def timings_of(response: http3.Response) -> Timings:
    assert response.timings is not None
    return response.timings


@every_way
def test_a_response_tells_what_happened_when(server: Site, call: Call) -> None:
    url = server.answer("/", b"hello")
    with http3.Client() as client:
        before = perf_counter()
        new, reused = timings_of(call(client, url)), timings_of(call(client, url))
        took = perf_counter() - before
    assert marked(new) == ["queued", "resolved", "connected", "sent", "first_byte", "done"]
    assert marked(reused) == ["queued", "sent", "first_byte", "done"]
    assert in_order(0, new.queued, new.done, took)
    assert in_order(0, reused.queued, reused.done, took)


def test_what_waits_in_line_is_queued_until_a_worker_takes_it_up(server: Site) -> None:
    url = server.answer("/", b"ok")
    with http3.parallel(max_workers=1) as parallel:
        first = parallel.get(f"{server.url}/wait/one")
        assert server.wait_for_request("/wait/one")
        second = parallel.get(url)
        submitted = perf_counter()
        time.sleep(0.05)  # long enough to be seen
        waited = perf_counter() - submitted
        server.release("one")
        first.get_response(PATIENCE)
        timings = timings_of(second.get_response(PATIENCE))
    assert in_order(waited, timings.queued, timings.first_byte)


@pytest.mark.parametrize("end", [http3.Response.read, http3.Response.close])
@pytest.mark.parametrize("in_a_block", [False, True])
def test_a_stream_is_done_when_it_has_been_read_or_given_up(
    server: Site, in_a_block: bool, end: typing.Callable[[http3.Response], object]
) -> None:
    url = server.answer("/", b"x" * 1_000_000)
    with http3.Client() as client, client.parallel() as parallel:
        if in_a_block:
            response = parallel.get(url, stream=True).get_response(PATIENCE)
        else:
            response = client.get(url, stream=True)
        here = perf_counter()
        timings = timings_of(response)
        assert timings.first_byte is not None
        assert timings.done is None
        time.sleep(0.05)  # long enough to be seen
        passed = perf_counter() - here
        end(response)
        assert timings.done is not None
        assert timings.done - timings.first_byte >= passed


def test_with_redirects_each_response_has_its_own_exchange(server: Site) -> None:
    server.answer("/old", b"moved", status=302, headers={"Location": "/new"})
    server.answer("/new", b"here")
    with http3.Client() as client:
        response = client.get(f"{server.url}/old")
    (redirect,) = response.history
    old, new = timings_of(redirect), timings_of(response)
    assert marked(old) == ["queued", "resolved", "connected", "sent", "first_byte", "done"]
    assert marked(new) == ["queued", "sent", "first_byte", "done"]
    # Both from the call, which was queued once.
    assert old.queued == new.queued
    assert in_order(old.done, new.sent)


def test_a_redirect_followed_by_hand_is_a_call_of_its_own(server: Site) -> None:
    server.answer("/old", status=302, headers={"Location": "/new"})
    server.answer("/new", b"here")
    with http3.Client() as client:
        redirect = client.get(f"{server.url}/old", allow_redirects=False)
        time.sleep(0.05)  # long enough to be seen, if it counted
        before = perf_counter()
        timings = timings_of(redirect.next())
        took = perf_counter() - before
    assert in_order(0, timings.queued, timings.done, took)


class Answering(http3.Dispatcher):
    """Answers with what `answer` returns."""

    def __init__(
        self, answer: typing.Callable[[http3.Request, http3.Context], http3.Response]
    ) -> None:
        self._answer = answer

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        return self._answer(request, context)


def in_two_pieces(request: http3.Request, context: http3.Context) -> http3.Response:
    return http3.Response(200, content=iter([b"o", b"k"]))


@every_way
def test_for_a_dispatcher_that_marks_nothing_there_are_first_byte_and_done(call: Call) -> None:
    with http3.Client(dispatch=Answering(in_two_pieces)) as client:
        response = call(client, "http://example.com/")
    assert response.content == b"ok"
    assert marked(timings_of(response)) == ["queued", "first_byte", "done"]


def test_a_stream_that_marks_nothing_is_done_at_its_end() -> None:
    with http3.Client(dispatch=Answering(in_two_pieces)) as client:
        response = client.get("http://example.com/", stream=True)
        timings = timings_of(response)
        pieces = response.stream()
        assert next(pieces) == b"o"
        assert timings.done is None
        assert list(pieces) == [b"k"]
        assert marked(timings) == ["queued", "first_byte", "done"]


@every_way
def test_what_a_dispatcher_marks_stands(call: Call) -> None:
    at: dict[str, float] = {}

    def answer(request: http3.Request, context: http3.Context) -> http3.Response:
        for moment in ("resolved", "connected", "first_byte", "done"):
            at[moment] = perf_counter()
            context.timings.mark(moment)
        return http3.Response(200, content=b"ok")

    before = perf_counter()
    with http3.Client(dispatch=Answering(answer)) as client:
        timings = timings_of(call(client, "http://example.com/"))
    assert marked(timings) == ["queued", "resolved", "connected", "first_byte", "done"]
    assert timings.done is not None
    returned = perf_counter() - before
    assert in_order(timings.queued, timings.resolved, timings.done, returned)


@every_way
def test_a_retry_has_nothing_of_what_failed_before(call: Call) -> None:
    attempts: list[Timings] = []

    def answer(request: http3.Request, context: http3.Context) -> http3.Response:
        attempts.append(context.timings)
        if len(attempts) == 1:
            context.timings.mark("resolved")
            raise http3.ConnectError("refused by the test")
        return http3.Response(200, content=b"ok")

    retry = http3.Retry(1, backoff=0)
    with http3.Client(dispatch=Answering(answer), retries=retry) as client:
        timings = timings_of(call(client, "http://example.com/"))
    assert marked(timings) == ["queued", "first_byte", "done"]
    failed, _ = attempts
    assert marked(failed) == ["queued", "resolved"]
    assert failed.queued == timings.queued
    assert in_order(failed.resolved, timings.first_byte)


def test_a_response_that_is_closed_late_marks_nothing_of_the_next_exchange() -> None:
    redirects: list[Timings] = []

    def answer(request: http3.Request, context: http3.Context) -> http3.Response:
        if request.url.path == "/old":
            redirects.append(context.timings)
            return http3.Response(302, headers={"Location": "/new"})
        redirects[0].mark("tls")
        return http3.Response(200, content=b"here")

    with http3.Client(dispatch=Answering(answer)) as client:
        response = client.get("http://example.com/old")
    assert timings_of(response).tls is None
    assert timings_of(response.history[0]) is redirects[0]


def test_a_pickled_response_has_its_timings(server: Site) -> None:
    with http3.Client() as client:
        response = client.get(server.answer("/", b"ok"))
    assert timings_of(pickle.loads(pickle.dumps(response))) == timings_of(response)
