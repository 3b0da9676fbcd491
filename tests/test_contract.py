"""
What http3 promised of its module and its client, and where we differ: as `docs/from-http3.md`
tells it. What other tests show already is not repeated here.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import re
import socket
import ssl
import threading
import typing

import pytest
import trustme

import http3_parallel as http3
from http3_parallel import auth, driver, exceptions
from http3_parallel.dispatch.pool import IDLE_SECONDS
from http3_parallel.dispatch.wsgi import WSGIDispatch
from scripted import PATIENCE, InstantDispatch
from servers import Peer, RawServer, Site, json_ok, response_bytes

URL = "http://example.com"
PAGE = pathlib.Path(__file__).parent.parent / "docs" / "from-http3.md"


def echo(peer: Peer) -> None:
    """Answers with what was asked, as JSON."""
    while (request := peer.read_request()) is not None:
        seen = {
            "method": request.method,
            "target": request.target,
            "body": request.body.decode("latin-1"),
            **request.headers,
        }
        with_body = request.method != "HEAD"
        peer.send(response_bytes(body=json.dumps(seen).encode(), with_body=with_body))


class Redirecting(http3.Dispatcher):
    """``/N`` leads to ``/N-1``, and ``/0`` is the end. Keeps the requests."""

    abortable = True

    def __init__(self) -> None:
        self.requests: list[http3.Request] = []

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        self.requests.append(request)
        left = int(request.url.path[1:])
        if not left:
            return http3.Response(200, request=request)
        return http3.Response(302, headers={"Location": f"/{left - 1}"}, request=request)


# The module.

#: All that http3 exported, but for its version.
EXPORTED = {
    *("get", "options", "head", "post", "put", "patch", "delete", "request"),
    *("Client", "AsyncClient", "Request", "Response", "AsyncRequest", "AsyncResponse"),
    *("URL", "Origin", "QueryParams", "Headers", "Cookies", "StatusCode", "codes"),
    *("TimeoutConfig", "PoolLimits", "SSLConfig", "USER_AGENT"),
    *("Dispatcher", "AsyncDispatcher", "ConnectionPool", "HTTPConnection"),
    *("AsyncioBackend", "ConcurrencyBackend", "BaseReader", "BaseWriter", "Protocol"),
    *("URLTypes", "QueryParamTypes", "HeaderTypes", "CookieTypes", "AuthTypes", "CertTypes"),
    *("VerifyTypes", "TimeoutTypes", "RequestData", "RequestFiles", "ResponseContent"),
    *("AsyncRequestData", "AsyncResponseContent"),
    *("ConnectTimeout", "CookieConflict", "DecodingError", "InvalidURL", "PoolTimeout"),
    *("ProtocolError", "ReadTimeout", "RedirectBodyUnavailable", "RedirectLoop"),
    *("ResponseClosed", "ResponseNotRead", "StreamConsumed", "Timeout", "TooManyRedirects"),
    "WriteTimeout",
}

#: Those of them that are not here: the documentation says what is instead.
LEFT_OUT = {
    *("ConnectionPool", "HTTPConnection", "AsyncioBackend"),
    *("ConcurrencyBackend", "BaseReader", "BaseWriter", "Protocol"),
}


def test_what_http3_exported_is_here_or_the_documentation_says_what_is_instead() -> None:
    assert EXPORTED - set(http3.__all__) == LEFT_OUT
    page = PAGE.read_text("utf-8")
    for name in LEFT_OUT | {"StreamException", "NotConnected", "ASGIDispatch"}:
        assert re.search(rf"`([a-z0-9.]+\.)?{name}`", page), name


def test_what_http3_had_in_its_modules_is_in_ours() -> None:
    for name in ("HttpError", "RedirectError", *(EXPORTED & set(exceptions.__all__))):
        assert getattr(exceptions, name) is getattr(http3, name)
    assert http3.HttpError is http3.HTTPStatusError
    assert http3.StreamError in http3.StreamConsumed.__bases__
    assert not hasattr(exceptions, "StreamException")
    assert not hasattr(exceptions, "NotConnected")
    assert auth.HTTPBasicAuth is http3.BasicAuth
    assert WSGIDispatch is http3.WSGIDispatch


#: What http3's documentation lists for every request.
OPTIONS: dict[str, typing.Any] = {
    "params": {"a": ["1", "2"]},
    "headers": {"X-Mine": "yes"},
    "cookies": {"c": "1"},
    "auth": ("user", "secret"),
    "stream": False,
    "allow_redirects": True,
    "cert": None,
    "verify": True,
    "timeout": PATIENCE,
}


def of_module(method: str, url: str, **options: typing.Any) -> http3.Response:
    return typing.cast(http3.Response, getattr(http3, method)(url, **options))


def of_client(method: str, url: str, **options: typing.Any) -> http3.Response:
    with http3.Client() as client:
        return typing.cast(http3.Response, getattr(client, method)(url, **options))


def of_block(method: str, url: str, **options: typing.Any) -> http3.Response:
    with http3.parallel() as parallel:
        handle: http3.PendingResponse = getattr(parallel, method)(url, **options)
        return handle.get_response(PATIENCE)


every_way = pytest.mark.parametrize("call", [of_module, of_client, of_block])
Call = typing.Callable[..., http3.Response]


@every_way
@pytest.mark.parametrize("method", ["get", "options", "head", "post", "put", "patch", "delete"])
def test_every_request_takes_what_http3_documents(call: Call, method: str) -> None:
    options: dict[str, typing.Any] = {**OPTIONS}
    if method in ("post", "put", "patch", "delete"):
        options["data"] = "body"
    with RawServer(echo) as server:
        call(method, server.url, **options)
        (seen,) = server.requests
    assert (seen.method, seen.target) == (method.upper(), "/?a=1&a=2")
    assert (seen.headers["x-mine"], seen.headers["cookie"]) == ("yes", "c=1")
    assert seen.headers["authorization"].startswith("Basic ")
    assert seen.body.decode() == options.get("data", "")


@every_way
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_methods_with_a_body_take_json_and_files(call: Call, method: str) -> None:
    with RawServer(echo) as server:
        assert call(method, server.url, json=[1]).json()["body"] == "[1]"
        seen = call(method, server.url, files={"f": ("n.txt", b"content")}).json()
    assert seen["content-type"].startswith("multipart/form-data; boundary=")
    assert 'filename="n.txt"' in seen["body"]


@every_way
def test_none_is_the_default_of_all_but_two(call: Call) -> None:
    names = ("params", "headers", "cookies", "auth", "cert", "verify", "timeout")
    with Site() as server:
        url = server.answer("/", "x")
        assert call("get", url, **dict.fromkeys(names)).text == "x"
        nothing = dict.fromkeys((*names, "data", "json", "files"))
        assert call("post", url, **nothing).text == "x"
        assert server.requests[1].body == b""


@pytest.mark.parametrize("name", ["get", "post", "delete"])
def test_all_but_the_url_is_given_by_name(name: str) -> None:
    with pytest.raises(TypeError, match="positional"):
        getattr(http3, name)(URL, {"a": "b"})
    with pytest.raises(TypeError, match="positional"):
        http3.request("GET", URL, {"a": "b"})  # type: ignore[call-arg,arg-type]  # that is the test


def test_only_the_method_called_head_does_not_follow_redirects() -> None:
    with http3.Client(dispatch=Redirecting(), base_url=URL) as client:
        assert client.head("/1").status_code == 302
        assert client.request("HEAD", "/1").status_code == 200
        assert client.options("/1").status_code == 200


# The client.


def test_a_client_has_the_attributes_of_http3s() -> None:
    credentials = ("user", "secret")
    with http3.Client(auth=credentials, max_redirects=3, cookies={"a": "1"}) as client:
        assert (client.auth, client.max_redirects, client.base_url) == (credentials, 3, None)
        client.cookies["b"] = "2"
        assert client.cookies == {"a": "1", "b": "2"}


@pytest.mark.parametrize("name", ["auth", "cookies", "headers", "params", "max_redirects"])
def test_what_a_client_was_given_is_not_replaced(name: str) -> None:
    with http3.Client() as client:
        with pytest.raises(AttributeError):
            setattr(client, name, getattr(client, name))


@pytest.mark.parametrize(
    "name",
    [
        *("dispatch", "concurrency_backend", "merge_cookies", "build_redirect_request"),
        *("redirect_method", "redirect_url", "redirect_headers", "redirect_content"),
        "send_handling_redirects",
    ],
)
def test_what_is_inside_a_client_is_not_public(name: str) -> None:
    with http3.Client() as client:
        assert not hasattr(client, name)


def test_a_clients_arguments_are_given_by_name() -> None:
    with pytest.raises(TypeError, match="positional"):
        http3.Client(("user", "secret"))  # type: ignore[call-arg]  # that is the test
    with pytest.raises(TypeError, match="backend"):
        http3.Client(backend=None)  # type: ignore[call-arg]  # that is the test


def test_it_works_within_a_running_event_loop() -> None:
    async def main() -> str:
        with http3.Client(dispatch=InstantDispatch()) as client:
            return client.get(URL + "/x").text

    assert asyncio.run(main()) == "/x"


def test_all_that_a_response_leads_to_is_synchronous() -> None:
    with http3.Client(dispatch=Redirecting(), base_url=URL) as client:
        response = client.get("/2")
    assert [type(each) for each in (response, *response.history)] == [http3.Response] * 3
    assert [type(each.request) for each in (response, *response.history)] == [http3.Request] * 3


def test_a_dispatcher_of_the_users_outlives_the_client() -> None:
    class Mine(InstantDispatch):
        closed = False

        def close(self) -> None:
            self.closed = True

    mine = Mine()
    with http3.Client(dispatch=mine) as client:
        client.get(URL)
    assert not mine.closed


@pytest.mark.parametrize("name", ["request", "__enter__", "__exit__"])
def test_a_dispatcher_is_used_by_a_client_only(name: str) -> None:
    assert not hasattr(http3.Dispatcher, name)


# Responses.


def test_the_reason_phrase_is_never_the_servers() -> None:
    def handle(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 404 As you like it\r\nContent-Length: 0\r\n\r\n")

    with RawServer(handle) as server:
        response = http3.get(server.url)
    assert (response.reason_phrase, response.protocol) == ("Not Found", "HTTP/1.1")


def test_the_body_of_a_redirect_that_was_followed_is_not_kept(server: Site) -> None:
    headers = {"Location": "/end"}
    server.answer("/end", "end")
    with http3.Client() as client:
        response = client.get(server.answer("/body", "x", status=302, headers=headers))
        empty = client.get(server.answer("/empty", "", status=302, headers=headers))
    assert response.history[0].is_closed
    with pytest.raises(http3.ResponseNotRead):
        _ = response.history[0].content
    assert empty.history[0].content == b""


# Redirects.


def test_a_redirect_costs_no_connection_unless_its_body_is_large(
    server: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_DISCARD_SECONDS", PATIENCE)  # whatever else the machine does
    headers = {"Location": "/end"}
    server.answer("/end", "end")
    small = server.answer("/small", b"x" * 60_000, status=302, headers=headers)
    large = server.answer("/large", b"x" * 3_000_000, status=302, headers=headers)
    with http3.Client() as client:
        assert client.get(small).text == "end"
        assert len(server.connections) == 1
        assert client.get(large).text == "end"
        assert len(server.connections) == 2


def test_next_needs_its_client_open_which_that_of_a_one_shot_call_is_not(server: Site) -> None:
    url = server.answer("/", status=302, headers={"Location": "/end"})
    response = http3.get(url, allow_redirects=False)
    with pytest.raises(http3.ClientClosed):
        response.next()
    with http3.parallel() as parallel:
        response = parallel.get(url, allow_redirects=False).get_response(PATIENCE)
        assert response.next().status_code == 404
    with pytest.raises(http3.ClientClosed):
        response.next()


def test_twenty_redirects_are_followed_by_default() -> None:
    with http3.Client(dispatch=Redirecting(), base_url=URL) as client:
        assert len(client.get("/20").history) == client.max_redirects == 20
        with pytest.raises(http3.TooManyRedirects):
            client.get("/21")


# Auth.


class Signs(auth.AuthBase):
    """As one wrote it for http3."""

    def __call__(self, request: http3.Request) -> http3.Request:
        request.headers["X-Signed"] = f"{request.method} {request.url.path}"
        return request


def test_a_scheme_as_http3_had_it_is_called_with_the_request() -> None:
    dispatch = Redirecting()
    request = http3.Request("GET", URL + "/1")
    with http3.Client(dispatch=dispatch, auth=Signs()) as client:
        client.send(request)
    assert [sent.headers["x-signed"] for sent in dispatch.requests] == ["GET /1", "GET /0"]
    assert "x-signed" not in request.headers


def test_a_scheme_as_http3_had_it_must_say_how() -> None:
    with http3.Client(dispatch=InstantDispatch(), auth=auth.AuthBase()) as client:
        with pytest.raises(NotImplementedError):
            client.get(URL)


def test_a_callable_sees_the_request_without_the_clients_cookies() -> None:
    seen: list[dict[str, str]] = []

    def sign(request: http3.Request) -> http3.Request:
        seen.append(dict(request.headers))
        return request

    dispatch = Redirecting()
    with http3.Client(dispatch=dispatch, cookies={"a": "1"}, auth=sign) as client:
        client.get(URL + "/0")
    assert "cookie" not in seen[0]
    assert dispatch.requests[0].headers.items()[-1] == ("cookie", "a=1")


def test_credentials_of_the_url_stay_in_the_responses_url() -> None:
    with http3.Client(dispatch=InstantDispatch()) as client:
        response = client.get("http://user:secret@example.com/x")
    assert response.url == "http://user:secret@example.com/x"
    assert response.request is not None
    assert response.request.headers["host"] == "example.com"


# Timeouts and connections.


def test_the_connect_timeout_counts_only_where_a_connection_is_opened(server: Site) -> None:
    url = server.answer("/", "x")
    with http3.Client() as client:
        with pytest.raises(http3.ConnectTimeout):
            client.get(url, timeout=(0, 5, 5))
        client.get(url)
        assert client.get(url, timeout=(0, 5, 5)).text == "x"


def test_the_read_timeout_begins_when_the_request_is_sent(server: Site) -> None:
    seconds = 1.0

    def pieces() -> typing.Iterator[bytes]:
        yield b"one"
        threading.Event().wait(1.2 * seconds)
        yield b"two"

    url = server.answer("/", "x")
    assert http3.post(url, data=pieces(), timeout=(None, seconds, None)).text == "x"
    assert server.requests[0].body == b"onetwo"


def test_as_many_idle_connections_are_kept_as_there_are_workers(server: Site) -> None:
    number = 12  # http3 kept 10
    with http3.parallel(max_workers=number) as parallel:
        for name in ("one", "two"):
            for _ in range(number):
                parallel.get(f"{server.url}/wait/{name}")
            assert server.wait_for_request(f"/wait/{name}", number)
            server.release(name)
            for _ in range(number):
                parallel.next_response(PATIENCE)
        assert len(server.connections) == number


@pytest.mark.parametrize(("max_workers", "hard_limit"), [(4, 100), (200, 200)])
def test_the_limits_of_a_client_that_was_given_none(max_workers: int, hard_limit: int) -> None:
    with http3.Client(max_workers=max_workers) as client:
        dispatcher: typing.Any = client._engine._dispatcher
        limits = dispatcher._limits
    assert limits == http3.PoolLimits(max_workers, hard_limit, 5.0)
    assert IDLE_SECONDS == 60


def test_the_clients_certificate_is_sent_also_where_the_servers_is_not_verified(
    ca: trustme.CA, server_certificate: trustme.LeafCert, tmp_path: pathlib.Path
) -> None:
    path = str(tmp_path / "client.pem")
    ca.issue_cert("me@example.com").private_key_and_cert_chain_pem.write_to_path(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    server_certificate.configure_cert(context)
    ca.configure_trust(context)
    with RawServer(json_ok, tls=context) as server:
        assert http3.get(server.url, verify=False, cert=path).json() == {"ok": True}


def test_http_2_is_not_offered(server_certificate: trustme.LeafCert, ca_path: str) -> None:
    chosen: list[str | None] = []

    def note(peer: Peer) -> None:
        chosen.append(typing.cast(ssl.SSLSocket, peer.socket).selected_alpn_protocol())
        json_ok(peer)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    server_certificate.configure_cert(context)
    verify: bool | str
    with RawServer(note, tls=context) as server:
        for verify in (ca_path, False):
            http3.get(server.url, verify=verify)
    assert chosen == ["http/1.1", "http/1.1"]


# Errors of other libraries.


def test_what_the_system_raises_is_the_cause_of_an_error_of_ours(
    refused_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(http3.ConnectError) as refused:
        http3.get(refused_url)
    assert isinstance(refused.value, ConnectionError)
    assert not isinstance(refused.value, ConnectionRefusedError)
    assert isinstance(refused.value.__cause__, ConnectionRefusedError)

    def look_up(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(http3.NameResolutionError) as unknown:
        http3.get("http://unknown.test/")
    assert isinstance(unknown.value.__cause__, socket.gaierror)


def test_a_body_that_ends_too_early_is_no_http_and_a_broken_connection() -> None:
    def handle(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    with RawServer(handle) as server, http3.Client() as client:
        with pytest.raises(http3.IncompleteRead) as caught:
            client.get(server.url)
    assert isinstance(caught.value, http3.ProtocolError)
    assert isinstance(caught.value, ConnectionError)


# The environment.


def test_a_netrc_file_is_not_read_unless_asked_for(
    server: Site, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "netrc"
    file.write_text("default login user password secret\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    http3.get(server.url)
    http3.get(server.url, auth=http3.NetRCAuth())
    assert ["authorization" in request.headers for request in server.requests] == [False, True]


def test_the_environment_says_whom_to_trust_unless_it_is_not_to_be_trusted(
    tls_server: Site, ca_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tls_server.answer("/", "x")
    monkeypatch.setenv("SSL_CERT_FILE", ca_path)
    with http3.Client() as client:
        assert client.get(url).text == "x"
    with http3.Client(trust_env=False) as client:
        with pytest.raises(http3.CertificateError):
            client.get(url)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_environment_names_the_proxy_unless_it_is_not_to_be_trusted(
    name: str, refused_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer(json_ok) as proxy:
        monkeypatch.setenv(name, proxy.url)
        assert http3.get(refused_url).json() == {"ok": True}
        assert proxy.requests[0].target == refused_url
        direct: list[dict[str, typing.Any]] = [{"trust_env": False}, {"proxies": {}}]
        for options in direct:
            with http3.Client(**options) as client:
                with pytest.raises(http3.ConnectError):
                    client.get(refused_url)


# Apps.


def test_an_app_has_no_network_whose_settings_could_matter() -> None:
    def app(environ: typing.Any, start_response: typing.Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x"]

    with http3.Client(app=app, verify="/nowhere", cert="/nowhere", timeout=0) as client:
        response = client.get("https://shop.test/")
    assert (response.text, response.protocol) == ("x", "HTTP/1.1")
