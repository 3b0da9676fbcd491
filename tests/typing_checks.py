# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""
Code as users write it, about which type checkers have nothing to say; and, in `mistakes`, some
that they find. Never run: mypy and pyright, both strict, read it in tox's environment `types`.
"""

from __future__ import annotations

import collections.abc
import contextlib
import datetime
import io
import pathlib
import typing
from concurrent.futures import Future

from typing_extensions import assert_type

import http3_parallel as http3
from http3_parallel import codes


def many(urls: list[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    with http3.parallel() as parallel:
        for url in urls:
            parallel.get(url, tag=url)
        while parallel.has_pending_responses:
            response = parallel.next_response()
            assert_type(response, http3.Response)
            print(response.status_code, response.url, response.elapsed)
            sizes[response.tag] = len(response.content)
    return sizes


def handles(client: http3.Client) -> list[http3.Response]:
    with client.parallel(max_workers=8, max_per_host=2, deadline=1.5) as parallel:
        assert_type(parallel, http3.Parallel)
        pending = parallel.post("/orders", json={"count": 1, "tags": ["a", None]}, timeout=5)
        assert_type(pending, http3.PendingResponse)
        assert_type(pending.get_response(timeout=1), http3.Response)
        assert_type(pending.request, http3.Request | None)
        assert_type(pending.future, Future[http3.Response])
        by_name = {name: parallel.get(name) for name in ("user", "basket")}
        pages = {
            name: one.get_response().raise_for_status().json() for name, one in by_name.items()
        }
        print(pages["user"]["name"], [one.done() for one in parallel])
        for one in parallel.as_completed(timeout=2):
            assert_type(one, http3.PendingResponse)
        urls = (f"https://example.com/{number}" for number in range(10))
        with contextlib.closing(parallel.map(urls, window=4)) as completed:
            responses = [one.get_response() for one in completed]
        for one in parallel.map([http3.Request("GET", "https://example.com/"), "/other"]):
            one.cancel()
    return responses


def failures(parallel: http3.Parallel) -> typing.Iterator[str]:
    for pending in parallel:
        try:
            pending.get_response().raise_for_status()
        except http3.HTTPStatusError as error:
            yield f"{error.response.status_code} {error.response.request.method}"
        except (http3.Timeout, http3.ConnectError) as error:
            if error.request is not None and error.tag < 3:
                parallel.send(error.request, tag=error.tag + 1, stream=True)
        except http3.HTTPError as error:
            yield f"{error.message} {error.method} {error.url}"


def answers(response: http3.Response) -> None:
    if response.status_code == codes.not_found or response.status_code == codes.NOT_FOUND:
        assert_type(codes.not_found, int)
        assert_type(codes.NOT_FOUND.phrase, str)
        assert_type(codes(404), http3.StatusCode)
    assert_type(response.headers["Content-Type"], str)
    assert_type(response.headers.get("X-Missing"), str | None)
    assert_type(response.headers.get("X-Missing", ""), str)
    assert_type(response.cookies.get("session"), str | None)
    assert_type(response.elapsed, datetime.timedelta)
    assert_type(response.timings, http3.Timings)
    assert_type(response.url.host, str)
    assert_type(response.url.join("/next"), http3.URL)
    assert_type(response.request.url, http3.URL)
    assert_type(response.text, str)
    assert_type(response.links["next"]["url"], str)
    assert_type(response.history, list[http3.Response])
    numbers: list[int] = response.json()
    for name, value in response.headers.items():
        print(f"{name}: {value}", numbers)
    if response.is_redirect:
        assert_type(response.next(), http3.Response)


def streams(client: http3.Client, path: pathlib.Path) -> None:
    with client.get("https://example.com/big", stream=True) as response, path.open("wb") as file:
        for piece in response.stream():
            assert_type(piece, bytes)
            file.write(piece)
    with http3.get("https://example.com/log", stream=True) as response:
        for line in response.iter_lines():
            assert_type(line, str)
    http3.get("https://example.com/big", stream=True).save(path)


def bodies(report: typing.BinaryIO, path: pathlib.Path) -> None:
    http3.post("https://example.com/", data=b"bytes")
    http3.post("https://example.com/", data="text")
    http3.post("https://example.com/", data={"a": "b", "count": 1, "many": ["c", "d"]})
    http3.post("https://example.com/", data=[("a", "b"), ("a", "c")])
    http3.post("https://example.com/", data=(b"piece" for _ in range(3)))
    http3.post("https://example.com/", data=report)
    http3.post("https://example.com/", data=path.open("rb"))
    http3.post("https://example.com/", files={"f": report})
    http3.post("https://example.com/", files={"f": path.open("rb"), "g": b"bytes", "h": "text"})
    http3.post(
        "https://example.com/",
        data={"title": "Figures"},
        files={
            "plain": io.BytesIO(b"1,2"),
            "named": ("a.csv", report),
            "typed": ("a.csv", b"1,2", "text/csv"),
            "full": ("a.csv", "1,2", "text/csv", {"X-A": "b"}),
        },
    )
    http3.post("https://example.com/", files=[("f", report), ("f", ("a.csv", b"1,2"))])
    http3.put("https://example.com/", json=None)
    http3.patch("https://example.com/", json=[1, "a"])
    http3.delete("https://example.com/", data=b"")


def variables() -> None:
    """Not literals: their types are inferred without a look at where they go."""
    headers = {"Accept": "text/html"}
    pairs = [("Accept", "text/html"), ("Accept", "text/plain")]
    params = {"page": 1, "q": "a"}
    fields = {"a": "b"}
    upload = {"f": ("a.csv", b"1,2", "text/csv")}
    cookies = {"theme": "dark"}
    credentials = ("user", "password")
    timeouts = (1, 2.5, None)
    proxies = {"http": "http://proxy.example.com:3128", "https": None}
    simple_proxies = {"all": "http://proxy.example.com:3128"}
    http3.get("https://example.com/", headers=headers, params=params, cookies=cookies)
    http3.get("https://example.com/", headers=pairs, auth=credentials, timeout=timeouts)
    http3.post("https://example.com/", data=fields, files=upload)
    http3.request("REPORT", http3.URL("https://example.com/"), data=fields, params=[("a", 1)])
    http3.options("https://example.com/", verify=False, cert=pathlib.Path("client.pem"))
    http3.head("https://example.com/", allow_redirects=True, cert=("client.pem", "key.pem"))
    http3.Client(proxies=proxies)
    http3.Client(proxies=simple_proxies)
    whatever: dict[str, typing.Any] = {"timeout": 5, "tag": "a"}
    http3.get("https://example.com/", **whatever)


def signed(request: http3.Request) -> http3.Request:
    request.headers["X-Key"] = "1f0c"
    return request


class Asks(http3.Auth):
    def steps(
        self, request: http3.Request
    ) -> collections.abc.Generator[http3.Request, http3.Response, None]:
        response = yield request
        if response.status_code == codes.unauthorized:
            yield http3.Request(request.method, request.url, headers=request.headers)


def auths(token: str) -> None:
    for auth in (
        http3.BasicAuth("user", "password"),
        http3.DigestAuth("user", "password"),
        http3.BearerAuth(token),
        http3.BearerAuth(refresh=lambda: http3.post("https://example.com/").json()["token"]),
        http3.NetRCAuth(),
        Asks(),
    ):
        http3.get("https://example.com/", auth=auth)
    http3.get("https://example.com/", auth=("user", b"password"))
    http3.get("https://example.com/", auth=signed)
    http3.get("https://example.com/", auth=lambda request: request)
    http3.Client(auth=None)
    given: http3.AuthTypes | None = None
    http3.parallel(auth=given)


def log(response: http3.Response) -> None:
    print(response.status_code, response.request.method, response.url.redacted)


def hooks(seen: list[str]) -> None:
    http3.Client(event_hooks={"response": [log]})
    http3.parallel(event_hooks={"request": [signed], "error": [print]})
    http3.Client(
        event_hooks={
            "request": [lambda request: seen.append(request.method)],
            "response": [lambda response: seen.append(response.url.host), log],
            "error": [lambda error: seen.append(str(error))],
        }
    )
    named: http3.EventHooks = {"response": (log,)}
    http3.Client(event_hooks=named)


class Canned(http3.Dispatcher):
    abortable = True

    def __init__(self, pages: dict[str, bytes]) -> None:
        self.pages = pages
        self.closed = False

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        context.abort.check()
        page = self.pages.get(request.url.path)
        if page is None:
            raise http3.ReadTimeout("the server sent nothing", request=request)
        return http3.Response(200, headers={"X-A": "b"}, content=page, request=request)

    def close(self) -> None:
        self.closed = True


def app(
    environ: dict[str, typing.Any], start_response: typing.Callable[..., object]
) -> list[bytes]:
    start_response("200 OK", [])
    return [environ["PATH_INFO"].encode()]


def clients() -> http3.Client:
    http3.Client(app=app, raise_app_exceptions=False)
    http3.Client(dispatch=http3.WSGIDispatch(app, script_name="/shop"))
    with http3.parallel(dispatch=Canned({"/": b"x"}), base_url="https://example.com") as parallel:
        parallel.get("/")
    return http3.Client(
        auth=("user", "password"),
        cookies={"a": "b"},
        verify="/etc/ssl/company-ca.pem",
        cert=("client.pem", "key.pem", "password"),
        timeout=http3.TimeoutConfig(connect_timeout=2, read_timeout=60),
        pool_limits=http3.PoolLimits(soft_limit=10, hard_limit=50, pool_timeout=5),
        retries=http3.Retry(total=4, statuses={429, 503}),
        headers=[("Accept", "text/html")],
        params={"key": "1f0c"},
        max_response_size=1_000_000,
    )


async def awaited(client: http3.AsyncClient, urls: collections.abc.AsyncIterable[str]) -> None:
    async def lines() -> collections.abc.AsyncIterator[str]:
        yield "line"

    assert_type(await client.get("/", params={"q": "1"}), http3.AsyncResponse)
    await client.post("/", data=lines(), deadline=3)
    assert_type(await client.build_request("POST", "/", data=lines()), http3.Request)
    async with client.parallel(max_per_host=2, window=10) as parallel:
        assert_type(parallel, http3.AsyncParallel)
        pending = parallel.get("/", tag=1)
        assert_type(pending, http3.AsyncPendingResponse)
        assert_type(await pending, http3.AsyncPendingResponse)
        assert_type(await pending.get_response(timeout=1), http3.AsyncResponse)
        await parallel.put("/", data=lines())
        while parallel.has_pending_responses:
            response = await parallel.next_response()
            print(response.json(), response.raise_for_status().text, response.history[0].url)
        async for one in parallel:
            assert_type(one, http3.AsyncPendingResponse)
        for source in (urls, ["/"]):
            async for one in parallel.map(source, stream=True):
                async with await one.get_response() as streamed:
                    async for chunk in streamed.stream():
                        assert_type(chunk, bytes)
                    async for line in streamed.iter_lines():
                        assert_type(line, str)
        await parallel.send(http3.AsyncRequest("POST", "https://example.com/", data=lines()))
    await client.close()


class Answering(http3.AsyncDispatcher):
    async def send(
        self, request: http3.AsyncRequest, context: http3.Context
    ) -> http3.AsyncResponse:
        body = await request.read()
        return http3.AsyncResponse(200, content=body, request=request)


async def asgi_app(
    scope: collections.abc.MutableMapping[str, typing.Any],
    receive: collections.abc.Callable[
        [], collections.abc.Awaitable[collections.abc.MutableMapping[str, typing.Any]]
    ],
    send: collections.abc.Callable[
        [collections.abc.MutableMapping[str, typing.Any]], collections.abc.Awaitable[None]
    ],
) -> None:
    """As frameworks have it."""


def async_clients() -> list[http3.AsyncClient]:
    return [
        http3.AsyncClient(app=asgi_app, base_url="https://example.com", max_workers=8),
        http3.AsyncClient(dispatch=Answering(), retries=2),
        http3.AsyncClient(dispatch=http3.ASGIDispatch(asgi_app, root_path="/shop")),
    ]


async def async_mistakes(client: http3.AsyncClient, parallel: http3.AsyncParallel) -> None:
    await client.get("/", tiemout=5)  # type: ignore[call-arg]
    await client.get("/", data=b"a GET has no body")  # type: ignore[call-arg]
    print(client.get("/").text)  # type: ignore[attr-defined]
    print(parallel.get("/").text)  # type: ignore[attr-defined]
    parallel.get("/", headers=["Accept"])  # type: ignore[list-item]
    client.parallel(windwo=1)  # type: ignore[call-arg]
    with parallel:  # type: ignore[attr-defined]
        pass
    print([*parallel])  # type: ignore[misc]
    http3.AsyncClient(timeuot=3)  # type: ignore[call-arg]
    http3.AsyncClient(dispatch="network")  # type: ignore[arg-type]


def mistakes(client: http3.Client, parallel: http3.Parallel) -> None:
    """Each is found by both, or its ignore would be reported as one for nothing."""
    url = "https://example.com/"
    http3.get(url, tiemout=5)  # type: ignore[call-arg]
    http3.get(url, timeout="5")  # type: ignore[arg-type]
    http3.get(url, data=b"a GET has no body")  # type: ignore[call-arg]
    http3.get(url, max_redirects=1)  # type: ignore[call-arg]
    http3.post(url, files={"f": 1})  # type: ignore[dict-item]
    client.get(url, auth="token")  # type: ignore[arg-type]
    client.request(url)  # type: ignore[call-arg]
    parallel.get(url, headers=["Accept"])  # type: ignore[list-item]
    parallel.get(url).get_response("5")  # type: ignore[arg-type]
    parallel.map(url, windwo=1)  # type: ignore[call-arg]
    print(parallel.next_response().status)  # type: ignore[attr-defined]
    print(codes.no_such_code)  # type: ignore[attr-defined]
    http3.Client(event_hooks={"respnose": []})  # type: ignore[arg-type]
    http3.Client(event_hooks={"response": [signed]})  # type: ignore[arg-type]
    http3.parallel(max_workers="8")  # type: ignore[arg-type]
