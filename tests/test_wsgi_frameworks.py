"""Flask and Django in this process, called as their users call them."""

from __future__ import annotations

import io
import threading
import types
import typing

import flask
import pytest
from django import conf, http, urls  # type: ignore[import-untyped]  # it has no types
from django.core import signals, wsgi  # type: ignore[import-untyped]  # it has no types

import http3_parallel as http3
from http3_parallel.dispatch import WSGIDispatch
from servers import PATIENCE

NUMBER = 50


class Mine(Exception):
    """Of a view."""


def multipart(name: str, content: bytes) -> dict[str, typing.Any]:
    """The options of a request that uploads a file and sends a field with it."""
    boundary = "a-boundary-that-is-not-in-there"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="title"\r\n\r\nof {name}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    return {
        "data": body + content + f"\r\n--{boundary}--\r\n".encode(),
        "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    }


def collect(parallel: http3.Parallel) -> dict[typing.Any, http3.Response]:
    """All responses by their tags, as they complete."""
    responses = {}
    while parallel.has_pending_responses:
        response = parallel.next_response(PATIENCE)
        assert response.tag not in responses
        responses[response.tag] = response
    return responses


# Flask.


def make_flask_app() -> flask.Flask:
    app = flask.Flask(__name__)
    app.secret_key = "for the tests"
    #: The paths of streams whose responses were closed.
    closed: list[str] = app.extensions.setdefault("closed", [])

    @app.post("/json")
    def json() -> typing.Any:
        return {"got": flask.request.get_json(), "query": flask.request.args["q"]}

    @app.post("/form")
    def form() -> typing.Any:
        return flask.jsonify(flask.request.form.to_dict(flat=False))

    @app.post("/upload")
    def upload() -> typing.Any:
        file = flask.request.files["file"]
        content = file.read()
        return {
            "title": flask.request.form["title"],
            "name": file.filename,
            "size": len(content),
            "sum": sum(content),
        }

    @app.post("/raw")
    def raw() -> bytes:
        return flask.request.get_data()

    @app.get("/count/<int:number>")
    def count(number: int) -> flask.Response:
        def lines() -> typing.Iterator[str]:
            for line in range(number):
                yield f"{flask.request.path} {line}\n"

        response = flask.Response(flask.stream_with_context(lines()), mimetype="text/plain")
        path = flask.request.path
        response.call_on_close(lambda: closed.append(path))
        return response

    @app.get("/visit")
    def visit() -> str:
        flask.session["visits"] = flask.session.get("visits", 0) + 1
        return str(flask.session["visits"])

    @app.get("/cookies")
    def cookies() -> flask.Response:
        response = flask.make_response("two")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    @app.get("/old")
    def old() -> typing.Any:
        return flask.redirect(flask.url_for("new", word="ü b"))

    @app.get("/new/<word>")
    def new(word: str) -> str:
        return f"{word} at {flask.request.url}"

    @app.get("/fails")
    def fails() -> str:
        raise Mine("in the view")

    return app


@pytest.fixture
def flask_app() -> flask.Flask:
    return make_flask_app()


@pytest.fixture
def flask_client(flask_app: flask.Flask) -> typing.Iterator[http3.Client]:
    with http3.Client(dispatch=WSGIDispatch(flask_app), base_url="http://app.test") as client:
        yield client


def test_flask_answers_fifty_requests_at_once(flask_client: http3.Client) -> None:
    with flask_client.parallel() as parallel:
        for number in range(NUMBER):
            parallel.post(f"/json?q={number}", json={"number": number}, tag=number)
        responses = collect(parallel)
    assert len(responses) == NUMBER
    for number, response in responses.items():
        assert response.json() == {"got": {"number": number}, "query": str(number)}


def test_flask_takes_fifty_uploads_at_once(flask_client: http3.Client) -> None:
    with flask_client.parallel() as parallel:
        for number in range(NUMBER):
            content = bytes([number]) * (number * 1000)
            parallel.post("/upload", **multipart(f"{number}.bin", content), tag=number)
        responses = collect(parallel)
    for number, response in responses.items():
        assert response.json() == {
            "title": f"of {number}.bin",
            "name": f"{number}.bin",
            "size": number * 1000,
            "sum": number * number * 1000,
        }


def test_flask_streams_fifty_responses_at_once(
    flask_app: flask.Flask, flask_client: http3.Client
) -> None:
    with flask_client.parallel() as parallel:
        for number in range(NUMBER):
            parallel.get(f"/count/{number}", tag=number)
        responses = collect(parallel)
    for number, response in responses.items():
        assert response.text.splitlines() == [f"/count/{number} {line}" for line in range(number)]
    assert sorted(flask_app.extensions["closed"]) == sorted(
        f"/count/{number}" for number in range(NUMBER)
    )


def test_a_stream_of_flask_can_be_read_by_another_thread(
    flask_app: flask.Flask, flask_client: http3.Client
) -> None:
    read: list[str] = []
    with flask_client.parallel() as parallel:
        pending = parallel.get("/count/100", stream=True)
        response = pending.get_response(PATIENCE)
        thread = threading.Thread(target=lambda: read.append(response.read().decode()))
        thread.start()
        thread.join(PATIENCE)
    assert read[0].count("\n") == 100
    assert flask_app.extensions["closed"] == ["/count/100"]


def test_a_stream_of_flask_given_up_is_closed(
    flask_app: flask.Flask, flask_client: http3.Client
) -> None:
    with flask_client.get("/count/100", stream=True) as response:
        assert next(response.stream()) == b"/count/100 0\n"
    assert flask_app.extensions["closed"] == ["/count/100"]


def test_flask_reads_forms(flask_client: http3.Client) -> None:
    response = flask_client.post("/form", data={"a": ["1", "2"], "ü": "&="})
    assert response.json() == {"a": ["1", "2"], "ü": ["&="]}


@pytest.mark.parametrize(
    "data", [b"all at once", iter([b"all ", b"at", b" once"]), io.BytesIO(b"all at once")]
)
def test_flask_reads_bodies_with_and_without_a_length(
    flask_client: http3.Client, data: typing.Any
) -> None:
    assert flask_client.post("/raw", data=data).content == b"all at once"


def test_flask_keeps_a_session(flask_client: http3.Client) -> None:
    response = flask_client.get("/visit")
    assert response.text == "1"
    cookie = response.headers["set-cookie"].partition(";")[0]
    assert flask_client.get("/visit", headers={"Cookie": cookie}).text == "2"


def test_flask_sets_two_cookies(flask_client: http3.Client) -> None:
    cookies = flask_client.get("/cookies").headers.getlist("set-cookie")
    assert [cookie.partition(";")[0] for cookie in cookies] == ["a=1", "b=2"]


def test_flask_redirects_to_itself(flask_client: http3.Client) -> None:
    response = flask_client.get("/old")
    assert response.text == "ü b at http://app.test/new/ü%20b"
    assert [before.status_code for before in response.history] == [302]


def test_flask_below_a_script_name_redirects_to_itself(flask_app: flask.Flask) -> None:
    dispatch = WSGIDispatch(flask_app, script_name="/below")
    with http3.Client(dispatch=dispatch, base_url="https://app.test:8443/below/") as client:
        response = client.get("old")
    assert response.url == "https://app.test:8443/below/new/%C3%BC%20b"
    assert response.text == "ü b at https://app.test:8443/below/new/ü%20b"


def test_flask_answers_head_without_a_body(flask_client: http3.Client) -> None:
    response = flask_client.head("/new/x")
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) > 0


def test_flask_knows_what_it_does_not_have(flask_client: http3.Client) -> None:
    assert flask_client.get("/nowhere").status_code == 404
    assert flask_client.get("/json").status_code == 405


def test_an_error_in_a_view_of_flask_is_its_500(
    flask_client: http3.Client, caplog: pytest.LogCaptureFixture
) -> None:
    response = flask_client.get("/fails")
    assert response.status_code == 500
    assert "Mine: in the view" in caplog.text


def test_an_error_in_a_view_under_test_comes_out(flask_app: flask.Flask) -> None:
    flask_app.testing = True
    with http3.Client(dispatch=WSGIDispatch(flask_app)) as client, client.parallel() as parallel:
        pending = [parallel.get("http://app.test/fails") for _ in range(5)]
        for each in pending:
            with pytest.raises(Mine, match="in the view"):
                each.get_response(PATIENCE)


# Django.


def view_json(request: typing.Any) -> typing.Any:
    return http.JsonResponse(
        {"method": request.method, "query": request.GET["q"], "body": request.body.decode()}
    )


def view_stream(request: typing.Any, number: int) -> typing.Any:
    lines = (f"{request.path} {line}\n" for line in range(number))
    return http.StreamingHttpResponse(lines, content_type="text/plain")


def view_upload(request: typing.Any) -> typing.Any:
    file = request.FILES["file"]
    sizes = [len(chunk) for chunk in file.chunks()]
    return http.JsonResponse(
        {"title": request.POST["title"], "name": file.name, "size": sum(sizes)}
    )


def view_file(request: typing.Any) -> typing.Any:
    return http.FileResponse(io.BytesIO(b"0123456789" * 10_000), filename="digits.txt")


def view_redirect(request: typing.Any) -> typing.Any:
    return http.HttpResponseRedirect(urls.reverse("json") + "?q=redirected")


def view_error(request: typing.Any) -> typing.Any:
    raise Mine("in the view")


@pytest.fixture(scope="module")
def django_app() -> typing.Any:
    routes = types.ModuleType("routes")
    vars(routes)["urlpatterns"] = [
        urls.path("json", view_json, name="json"),
        urls.path("stream/<int:number>", view_stream),
        urls.path("upload", view_upload),
        urls.path("file", view_file),
        urls.path("redirect", view_redirect),
        urls.path("error", view_error),
    ]
    # Neither a database nor middleware, and so no CSRF check.
    conf.settings.configure(
        ALLOWED_HOSTS=["app.test"],
        DEBUG=False,
        DEBUG_PROPAGATE_EXCEPTIONS=True,
        LOGGING_CONFIG=None,
        ROOT_URLCONF=routes,
        SECRET_KEY="for the tests",
    )
    return wsgi.get_wsgi_application()


@pytest.fixture
def finished(django_app: typing.Any) -> typing.Iterator[list[object]]:
    """Grows with each request that is finished for Django, which is when it is closed."""
    seen: list[object] = []

    def receive(sender: object, **rest: object) -> None:
        seen.append(sender)

    signals.request_finished.connect(receive)
    yield seen
    signals.request_finished.disconnect(receive)


@pytest.fixture
def django_client(django_app: typing.Any) -> typing.Iterator[http3.Client]:
    with http3.Client(dispatch=WSGIDispatch(django_app), base_url="http://app.test") as client:
        yield client


def test_django_answers_fifty_requests_at_once(
    django_client: http3.Client, finished: list[object]
) -> None:
    with django_client.parallel() as parallel:
        for number in range(NUMBER):
            parallel.post(f"/json?q={number}", data=f"body {number}", tag=number)
        responses = collect(parallel)
    assert len(responses) == len(finished) == NUMBER
    for number, response in responses.items():
        assert response.json() == {
            "method": "POST",
            "query": str(number),
            "body": f"body {number}",
        }


def test_django_takes_fifty_uploads_at_once(django_client: http3.Client) -> None:
    with django_client.parallel() as parallel:
        for number in range(NUMBER):
            upload = multipart(f"{number}.bin", bytes(number * 1000))
            parallel.post("/upload", **upload, tag=number)
        responses = collect(parallel)
    for number, response in responses.items():
        assert response.json() == {
            "title": f"of {number}.bin",
            "name": f"{number}.bin",
            "size": number * 1000,
        }


def test_django_takes_an_upload_that_goes_to_disk(django_client: http3.Client) -> None:
    response = django_client.post("/upload", **multipart("large.bin", bytes(3_000_000)))
    assert response.json()["size"] == 3_000_000


def test_django_streams_fifty_responses_at_once(
    django_client: http3.Client, finished: list[object]
) -> None:
    with django_client.parallel() as parallel:
        for number in range(NUMBER):
            parallel.get(f"/stream/{number}", tag=number)
        responses = collect(parallel)
    for number, response in responses.items():
        assert response.text.splitlines() == [f"/stream/{number} {line}" for line in range(number)]
    assert len(finished) == NUMBER


def test_a_stream_of_django_given_up_is_finished(
    django_client: http3.Client, finished: list[object]
) -> None:
    with django_client.get("/stream/100", stream=True) as response:
        assert next(response.stream()) == b"/stream/100 0\n"
        assert not finished
    assert len(finished) == 1


def test_django_sends_a_file(django_client: http3.Client) -> None:
    response = django_client.get("/file")
    assert response.content == b"0123456789" * 10_000
    assert response.headers["content-length"] == "100000"


def test_django_reads_a_file_of_known_size_and_nothing_of_an_unknown_one(
    django_client: http3.Client,
) -> None:
    with_length = django_client.post("/json?q=", data=io.BytesIO(b"of a file"))
    assert with_length.json()["body"] == "of a file"
    # So it is behind every server: Django goes by the Content-Length.
    without = django_client.post("/json?q=", data=iter([b"of an iterator"]))
    assert without.json()["body"] == ""


def test_django_redirects_to_itself(django_client: http3.Client) -> None:
    response = django_client.get("/redirect")
    assert response.json() == {"method": "GET", "query": "redirected", "body": ""}
    assert response.url == "http://app.test/json?q=redirected"


def test_django_knows_the_host(django_client: http3.Client) -> None:
    assert django_client.get("http://app.test/stream/1").status_code == 200
    assert django_client.get("http://app.test/nowhere").status_code == 404


def test_an_error_in_a_view_of_django_comes_out(
    django_client: http3.Client, finished: list[object]
) -> None:
    with pytest.raises(Mine, match="in the view"):
        django_client.get("/error")


def test_an_error_in_a_view_of_django_is_a_500_behind_a_server(django_app: typing.Any) -> None:
    dispatch = WSGIDispatch(django_app, raise_app_exceptions=False)
    with http3.Client(dispatch=dispatch) as client:
        assert client.get("http://app.test/error").status_code == 500
