"""The example of docs/tracing.md, with OpenTelemetry's own SDK."""

from __future__ import annotations

import importlib.util
import pathlib
import threading
import typing

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import http3_parallel as http3
from scripted import PATIENCE, ScriptedDispatch
from servers import Site

EXAMPLE = pathlib.Path(__file__).parent.parent / "docs" / "examples" / "tracing.py"


class Exporter(InMemorySpanExporter):
    def __init__(self) -> None:
        super().__init__()
        self._exported = threading.Condition()

    def export(self, spans: typing.Sequence[ReadableSpan]) -> SpanExportResult:
        with self._exported:
            result = super().export(spans)
            self._exported.notify_all()
            return result

    def wait_for(self, count: int) -> None:
        with self._exported:
            assert self._exported.wait_for(
                lambda: len(self.get_finished_spans()) >= count, PATIENCE
            )


class Traces:
    def __init__(self) -> None:
        self._exporter = Exporter()
        self._provider = TracerProvider()
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self._provider.get_tracer("test")

    def ended(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def wait_for(self, count: int) -> None:
        self._exporter.wait_for(count)

    def requests(self) -> list[ReadableSpan]:
        return [span for span in self.ended() if span.kind is trace.SpanKind.CLIENT]


@pytest.fixture
def traces() -> Traces:
    return Traces()


@pytest.fixture
def hooks(traces: Traces) -> http3.EventHooks:
    spec = importlib.util.spec_from_file_location("tracing_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return typing.cast(http3.EventHooks, module.tracing_hooks(traces.tracer))


def test_each_request_of_a_block_is_a_child_of_the_span_it_was_submitted_in(
    traces: Traces, hooks: http3.EventHooks, server: Site
) -> None:
    for page in ("one", "two"):
        for number in range(3):
            server.answer(f"/{page}/{number}")
    with http3.Client(event_hooks=hooks) as client, client.parallel() as parallel:
        for page in ("one", "two"):
            with traces.tracer.start_as_current_span(page):
                for number in range(3):
                    parallel.get(f"{server.url}/{page}/{number}?key=secret")
        while parallel.has_pending_responses:
            parallel.next_response(PATIENCE)

    parents = {span.context.span_id: span.name for span in traces.ended() if span.context}
    spans = traces.requests()
    assert len(spans) == 6
    for span in spans:
        assert span.attributes is not None
        assert span.parent is not None
        url = str(span.attributes["url.full"])
        assert url.startswith(f"{server.url}/{parents[span.parent.span_id]}/")
        assert "secret" not in url
        assert span.attributes["http.response.status_code"] == 200
        assert span.attributes["server.port"] == http3.URL(server.url).port


def test_the_trace_goes_to_the_server(
    traces: Traces, hooks: http3.EventHooks, server: Site
) -> None:
    with http3.Client(event_hooks=hooks) as client:
        client.get(server.answer("/1"))

    (span,) = traces.requests()
    assert span.context is not None
    (request,) = server.requests
    assert dict(request.headers)["traceparent"].startswith(
        f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-"
    )


def test_redirects_and_retries_are_spans_beside_each_other(
    traces: Traces, hooks: http3.EventHooks
) -> None:
    answers = [
        http3.Response(503),
        http3.Response(302, headers={"location": "/2"}),
        http3.Response(200),
    ]

    class Answering(http3.Dispatcher):
        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            return answers.pop(0)

    retries = http3.Retry(1, backoff=0)
    with http3.Client(dispatch=Answering(), event_hooks=hooks, retries=retries) as client:
        with traces.tracer.start_as_current_span("page") as page:
            client.get("http://x.test/")

    spans = traces.requests()
    assert [span.attributes and span.attributes["http.response.status_code"] for span in spans] == [
        503,
        302,
        200,
    ]
    assert {span.parent and span.parent.span_id for span in spans} == {
        page.get_span_context().span_id
    }
    assert [span.status.status_code for span in spans] == [
        trace.StatusCode.ERROR,
        trace.StatusCode.UNSET,
        trace.StatusCode.UNSET,
    ]


def test_an_error_ends_its_span(traces: Traces, hooks: http3.EventHooks, refused_url: str) -> None:
    with http3.Client(event_hooks=hooks) as client:
        with pytest.raises(http3.ConnectError):
            client.get(refused_url)

    (span,) = traces.requests()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "ConnectError"
    assert span.status.status_code is trace.StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]


def test_an_exception_of_an_application_ends_its_span(
    traces: Traces, hooks: http3.EventHooks
) -> None:
    def app(environ: typing.Any, start_response: typing.Any) -> typing.Any:
        raise LookupError("of the application")

    with http3.Client(app=app, event_hooks=hooks) as client:
        with pytest.raises(LookupError):
            client.get("http://x.test/")

    (span,) = traces.requests()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "LookupError"


def test_leaving_a_block_ends_the_spans_of_what_was_in_flight(
    traces: Traces, hooks: http3.EventHooks
) -> None:
    dispatch = ScriptedDispatch()
    with http3.Client(dispatch=dispatch, event_hooks=hooks) as client:
        with client.parallel() as parallel:
            parallel.get("http://x.test/")
            dispatch.exchange("/")
    traces.wait_for(1)  # nobody who leaves waits for code of the user's
    (span,) = traces.requests()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "RequestCancelled"
