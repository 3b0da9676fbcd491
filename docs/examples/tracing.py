"""OpenTelemetry spans for the requests of a client, by its event hooks."""

from __future__ import annotations

from contextvars import ContextVar

from opentelemetry import propagate, trace

import http3_parallel as http3


def tracing_hooks(tracer: trace.Tracer) -> http3.EventHooks:
    """A span for each request on the wire, a child of the span that its caller was in."""
    current: ContextVar[trace.Span] = ContextVar("current")

    def begin(request: http3.Request) -> None:
        attributes: dict[str, str | int] = {
            "http.request.method": request.method,
            "url.full": request.url.redacted,
            "server.address": request.url.host,
            "server.port": request.url.port or 0,
        }
        span = tracer.start_span(request.method, kind=trace.SpanKind.CLIENT, attributes=attributes)
        current.set(span)
        propagate.inject(request.headers, context=trace.set_span_in_context(span))

    def succeed(response: http3.Response) -> None:
        span = current.get()
        span.set_attribute("http.response.status_code", response.status_code)
        if response.is_error:
            span.set_attribute("error.type", str(response.status_code))
            span.set_status(trace.StatusCode.ERROR)
        span.end()

    def fail(error: Exception) -> None:
        span = current.get()
        if span.is_recording():  # it ended with the head, if only the body broke
            span.record_exception(error)
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(trace.StatusCode.ERROR, str(error))
            span.end()

    return {"request": [begin], "response": [succeed], "error": [fail]}
