"""The module as its users see it: the one-shot functions, `parallel()`, and the names."""

from __future__ import annotations

import inspect
import json
import pickle
import pkgutil
import threading
import types
import typing

import pytest

import http3_parallel as http3
from servers import PATIENCE, Peer, RawServer, Site, hang_before_response, response_bytes


def echo(peer: Peer) -> None:
    while (request := peer.read_request()) is not None:
        seen = {"method": request.method, "body": request.body.decode(), **request.headers}
        body = json.dumps(seen).encode()
        peer.send(response_bytes(body=body, with_body=request.method != "HEAD"))


@pytest.fixture
def echo_server() -> typing.Iterator[RawServer]:
    with RawServer(echo) as server:
        yield server


class Counting(http3.Dispatcher):
    """Counts what runs at the same time, at most."""

    def __init__(self, together: int) -> None:
        self._barrier = threading.Barrier(together)

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        self._barrier.wait(PATIENCE)
        return http3.Response(200, request=request)


def our_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "http3_parallel" in thread.name}


# One-shot functions.


@pytest.mark.parametrize("name", ["get", "options", "post", "put", "patch", "delete"])
def test_each_function_makes_one_request(echo_server: RawServer, name: str) -> None:
    response = getattr(http3, name)(echo_server.url, headers={"X-A": "b"}, auth=("u", "p"))
    seen = response.json()
    assert (seen["method"], seen["x-a"]) == (name.upper(), "b")
    assert seen["authorization"] == "Basic dTpw"
    assert echo_server.wait_all_closed()


def test_head_and_request(echo_server: RawServer) -> None:
    assert http3.head(echo_server.url).status_code == 200
    response = http3.request("purge", echo_server.url, data=b"x")
    assert response.json()["method"] == "PURGE"
    assert response.json()["body"] == "x"
    assert echo_server.wait_all_closed()


@pytest.mark.parametrize("name", ["post", "put", "patch", "delete"])
def test_functions_with_a_body(echo_server: RawServer, name: str) -> None:
    assert getattr(http3, name)(echo_server.url, json={"a": 1}).json()["body"] == '{"a": 1}'


@pytest.mark.parametrize("name", ["get", "head", "options"])
def test_functions_without_a_body(name: str) -> None:
    with pytest.raises(TypeError, match="takes no body"):
        getattr(http3, name)("http://x/", data=b"x")


def test_redirects_are_followed_but_for_head(server: Site) -> None:
    url = server.answer("/", status=302, headers={"Location": server.answer("/end", "end")})
    assert http3.get(url).text == "end"
    assert http3.head(url).status_code == 302


def test_a_stream_outlives_the_call(server: Site) -> None:
    url = server.answer("/", b"x" * 3_000_000)
    with http3.get(url, stream=True) as response:
        assert not response.is_closed
        assert len(response.read()) == 3_000_000
    assert server.wait_all_closed()


def test_each_call_has_a_connection_of_its_own(server: Site) -> None:
    url = server.answer("/", "x")
    for _ in range(3):
        http3.get(url)
    assert len(server.connections) == 3
    assert server.wait_all_closed()


def test_a_failed_call_leaves_nothing_behind() -> None:
    with RawServer(hang_before_response) as server:
        with pytest.raises(http3.ReadTimeout) as caught:
            http3.get(server.url, timeout=0.05, tag="t")
        assert caught.value.tag == "t"
        assert server.wait_all_closed()
    assert our_threads() == set()


def test_a_deadline_starts_no_thread_that_stays() -> None:
    with RawServer(hang_before_response) as server, pytest.raises(http3.DeadlineExceeded):
        http3.get(server.url, deadline=0.05)
    assert our_threads() == set()


@pytest.mark.parametrize(
    "options", [{"tiemout": 1}, {"max_redirects": 1}, {"base_url": "http://x/"}, {"trust_env": 0}]
)
def test_what_only_a_client_takes_is_a_type_error(options: dict[str, typing.Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        http3.get("http://x/", **options)


def test_the_functions_travel_between_processes() -> None:
    for name in ("get", "post", "request"):
        function = getattr(http3, name)
        again = pickle.loads(pickle.dumps(function))
        assert (again.__name__, again.__qualname__) == (function.__name__, function.__qualname__)


# parallel().


def test_parallel_is_a_block_with_a_client_of_its_own(server: Site) -> None:
    urls = [server.answer(f"/{number}", str(number)) for number in range(10)]
    with http3.parallel() as parallel:
        assert isinstance(parallel, http3.Parallel)
        for url in urls:
            parallel.get(url)
        texts = set()
        while parallel.has_pending_responses:
            texts.add(parallel.next_response(PATIENCE).text)
    assert texts == {str(number) for number in range(10)}
    assert our_threads() == set()
    assert server.wait_all_closed()


def test_parallel_takes_the_options_of_a_client(echo_server: RawServer) -> None:
    with http3.parallel(
        base_url=echo_server.url, headers={"X-A": "b"}, auth=("u", "p"), retries=1
    ) as parallel:
        seen = parallel.get("/x").get_response(PATIENCE).json()
    assert (seen["x-a"], seen["authorization"]) == ("b", "Basic dTpw")


def test_max_workers_sets_the_clients_and_the_blocks() -> None:
    # More than a block has by default, and than a client has.
    with http3.parallel(max_workers=150, dispatch=Counting(150)) as parallel:
        for _ in range(150):
            parallel.get("http://example.com/")
        for pending in parallel.as_completed(PATIENCE):
            assert pending.get_response().status_code == 200


def test_one_worker_makes_one_request_at_a_time() -> None:
    with http3.parallel(max_workers=1, dispatch=Counting(1)) as parallel:
        for _ in range(3):
            parallel.get("http://example.com/")
        assert [p.get_response().status_code for p in parallel.as_completed(PATIENCE)] == [200] * 3


def test_parallel_takes_the_options_of_a_block() -> None:
    with RawServer(hang_before_response) as server:
        with http3.parallel(timeout=60, max_per_host=1, deadline=0.2) as parallel:
            first, second = parallel.get(server.url), parallel.get(server.url)
            for pending in (first, second):
                with pytest.raises(http3.DeadlineExceeded, match=r"0\.2 s"):
                    pending.get_response(PATIENCE)
        assert len(server.requests) == 1
        assert server.wait_all_closed()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tiemout": 5}, TypeError),
        ({"max_workers": 0}, ValueError),
        ({"max_workers": "4"}, TypeError),
        ({"max_per_host": 0}, ValueError),
        ({"deadline": -1}, ValueError),
        ({"retries": -1}, ValueError),
        ({"timeout": "5"}, TypeError),
    ],
)
def test_wrong_options_are_refused_at_once(
    options: dict[str, typing.Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        http3.parallel(**options)
    assert our_threads() == set()


def test_parallel_without_with_is_closed_by_hand(server: Site) -> None:
    parallel = http3.parallel()
    assert parallel.get(server.answer("/", "x")).get_response(PATIENCE).text == "x"
    parallel.close()
    parallel.close()
    with pytest.raises(http3.ParallelClosed):
        parallel.get(server.url)
    assert our_threads() == set()
    assert server.wait_all_closed()


def test_the_exception_of_the_block_comes_out() -> None:
    with RawServer(hang_before_response) as server:
        with pytest.raises(ZeroDivisionError), http3.parallel(timeout=60) as parallel:
            parallel.get(server.url)
            assert server.wait_for_requests(1)
            _ = 1 // 0
        assert server.wait_all_closed()


# Names.

#: design.md, section 2, as far as it is built, and what one needs to write one's own of these.
NAMES = {
    "parallel",
    "Client",
    "Parallel",
    "PendingResponse",
    *("get", "options", "head", "post", "put", "patch", "delete", "request"),
    *("Request", "Response", "Headers", "URL", "Origin", "QueryParams", "Cookies"),
    *("StatusCode", "codes", "Timings"),
    *("HostStats", "InFlight", "Stats", "Timeline"),
    *("Auth", "BasicAuth", "BearerAuth", "DigestAuth", "NetRCAuth", "Share"),
    *("TimeoutConfig", "PoolLimits", "Retry", "SSLConfig", "EventHooks"),
    *("Dispatcher", "NetworkDispatch", "WSGIDispatch", "Context", "Abort", "Signal"),
    *("AsyncClient", "AsyncParallel", "AsyncPendingResponse", "AsyncRequest", "AsyncResponse"),
    *("AsyncDispatcher", "ASGIDispatch"),
}

#: What annotations of a user's own code may say.
ALIASES = {
    *("AuthTypes", "CertTypes", "CookieTypes", "HeaderTypes", "QueryParamTypes", "RequestData"),
    *("RequestFiles", "ResponseContent", "TimeoutTypes", "URLTypes", "VerifyTypes"),
    *("AsyncRequestData", "AsyncResponseContent"),
}

STRINGS = {"USER_AGENT", "__description__", "__title__", "__version__"}

EXCEPTIONS = {
    # http3's own names.
    *("Timeout", "ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout"),
    *("ProtocolError", "DecodingError", "InvalidURL", "CookieConflict"),
    *("RedirectError", "RedirectLoop", "TooManyRedirects", "RedirectBodyUnavailable"),
    *("StreamError", "StreamConsumed", "ResponseNotRead", "ResponseClosed"),
    *("HTTPStatusError", "HttpError"),
    # New ones.
    *("HTTPError", "NetworkError", "ConnectError", "NameResolutionError", "TLSError"),
    *("CertificateError", "ProxyError", "ReadError", "WriteError", "IncompleteRead"),
    *("ResponseTooLarge", "DeadlineExceeded", "UnsupportedScheme", "RequestCancelled"),
    *("WorkersUnavailable", "NoPendingResponses", "WaitTimeout"),
    *("ParallelClosed", "ClientClosed"),
}


def test_the_public_names_are_these() -> None:
    assert len(http3.__all__) == len(set(http3.__all__))
    assert set(http3.__all__) == NAMES | ALIASES | STRINGS | EXCEPTIONS


def test_all_names_are_there_and_no_other_looks_public() -> None:
    for name in http3.__all__:
        assert hasattr(http3, name)
    others = {
        name
        for name, value in vars(http3).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert others == {name for name in http3.__all__ if not name.startswith("_")}


def test_every_failure_of_a_request_stands_under_one_root() -> None:
    outside = {"NoPendingResponses", "WaitTimeout", "ParallelClosed", "ClientClosed"}
    for name in EXCEPTIONS:
        assert issubclass(getattr(http3, name), http3.HTTPError) == (name not in outside)


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ConnectTimeout", TimeoutError),
        ("DeadlineExceeded", TimeoutError),
        ("ConnectError", ConnectionError),
        ("ReadError", ConnectionError),
        ("InvalidURL", ValueError),
        ("DecodingError", ValueError),
        ("NoPendingResponses", LookupError),
        ("WaitTimeout", TimeoutError),
        ("ParallelClosed", RuntimeError),
        ("ClientClosed", RuntimeError),
    ],
)
def test_an_exception_is_also_the_builtin_one_would_catch(
    name: str, builtin: type[Exception]
) -> None:
    assert issubclass(getattr(http3, name), builtin)


def test_every_public_name_tells_what_it_is() -> None:
    for name in NAMES:
        assert inspect.getdoc(getattr(http3, name)), name


METHODS = ("get", "options", "head", "post", "put", "patch", "delete", "request", "send")


@pytest.mark.parametrize("name", METHODS)
def test_the_methods_of_a_client_and_a_block_take_the_same_and_tell_what(name: str) -> None:
    of_client, of_block = getattr(http3.Client, name), getattr(http3.Parallel, name)
    assert inspect.signature(of_client).parameters == inspect.signature(of_block).parameters
    assert inspect.getdoc(of_client)
    assert inspect.getdoc(of_block)


def test_no_module_hides_behind_a_public_name() -> None:
    # Type checkers take the module, whatever __init__ imports; and so does an import of it.
    modules = {module.name for module in pkgutil.iter_modules(http3.__path__)}
    assert not (modules - {"__version__"}) & set(http3.__all__)


@pytest.mark.parametrize("name", [*METHODS, "parallel"])
def test_annotations_can_be_evaluated(name: str) -> None:
    for owner in (http3, http3.Client, http3.Parallel):
        if hasattr(owner, name):
            assert "return" in typing.get_type_hints(getattr(owner, name))


@pytest.mark.parametrize("option", ["timeout", "headers", "deadline", "verify"])
def test_help_names_the_options(option: str) -> None:
    for function in (http3.get, http3.parallel, http3.request, http3.Client.request):
        assert option in (inspect.getdoc(function) or "")
    for owner in (http3.Client, http3.Parallel):
        assert f"* `{option}`" in (inspect.getdoc(owner) or "") or option == "verify"
