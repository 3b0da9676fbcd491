"""Dispatchers without a network: a test decides when each request ends, and how."""

from __future__ import annotations

import threading
import typing

from http3_parallel import Context, Dispatcher, HTTPError, Request, Response, Signal

#: Longer than any wait here takes, unless something is broken.
PATIENCE = 20.0


class Exchange:
    """One request that has arrived and waits for the test to end it."""

    def __init__(self, request: Request, context: Context) -> None:
        self.request = request
        self.context = context
        #: The dispatcher is done with it: answered, failed or aborted.
        self.ended = threading.Event()
        self._signal = Signal()
        self._make: typing.Callable[[], Response] | None = None

    def respond(
        self, status_code: int = 200, content: typing.Any = b"", **kwargs: typing.Any
    ) -> None:
        self._make = lambda: Response(status_code, content=content, request=self.request, **kwargs)
        self._signal.set()

    def fail(self, error: BaseException) -> None:
        def make() -> Response:
            raise error

        self._make = make
        self._signal.set()

    def _outcome(self) -> Response:
        make, self._make = self._make, None
        assert make is not None
        return make()


class ScriptedDispatch(Dispatcher):
    """Holds each request until the test calls `respond` or `fail` on its `exchange`."""

    abortable = True

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._arrived: list[Exchange] = []
        self.in_flight = 0
        self.most_in_flight = 0

    def send(self, request: Request, context: Context) -> Response:
        exchange = Exchange(request, context)
        with self._condition:
            self.in_flight += 1
            self.most_in_flight = max(self.in_flight, self.most_in_flight)
            self._arrived.append(exchange)
            self._condition.notify_all()
        try:
            context.abort.phase = "waiting for the script"
            context.abort.wait(exchange._signal)
            return exchange._outcome()
        finally:
            with self._condition:
                self.in_flight -= 1
                self._condition.notify_all()
            exchange.ended.set()

    def exchange(self, path: str) -> Exchange:
        """The exchange of that path; waits until it has arrived. Each is returned once."""

        def find() -> Exchange | None:
            for exchange in self._arrived:
                if exchange.request.url.full_path == path:
                    return exchange
            return None

        with self._condition:
            assert self._condition.wait_for(find, PATIENCE), f"{path} did not arrive"
            found = find()
            assert found is not None
            self._arrived.remove(found)
            return found

    def wait_for_arrivals(self, count: int) -> list[Exchange]:
        """Waits until so many are here that `exchange` has not returned."""
        with self._condition:
            assert self._condition.wait_for(lambda: len(self._arrived) >= count, PATIENCE)
            return list(self._arrived)

    def wait_until_idle(self) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: self.in_flight == 0, PATIENCE)

    @property
    def arrived(self) -> list[str]:
        with self._condition:
            return [exchange.request.url.full_path for exchange in self._arrived]


class InstantDispatch(Dispatcher):
    """Answers at once: 200, with the path as the body; `error` makes what it raises instead."""

    abortable = True

    def __init__(self, error: typing.Callable[[Request], HTTPError] | None = None) -> None:
        self._error = error

    def send(self, request: Request, context: Context) -> Response:
        if self._error is not None:
            raise self._error(request)
        return Response(200, content=request.url.full_path.encode(), request=request)
