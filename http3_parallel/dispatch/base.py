"""Where requests go: the border between the client and whatever answers."""

from __future__ import annotations

import typing

from ..aborting import Abort
from ..config import SSLConfig, TimeoutConfig
from ..models import Request, Response, Timings

__all__ = ["Context", "Dispatcher", "replacements"]


class Context:
    """
    What a dispatcher is told about one exchange, besides the request.

    * `timeout`: the `TimeoutConfig` in force, seconds of inactivity for each step.
    * `ssl`: the `SSLConfig` in force.
    * `stream`: whether the response will be delivered with its body unread.
    * `abort`: whether, and how, the exchange is ended from outside. A dispatcher that waits
      registers what it waits on with it; one that cannot should at least `check()` now and
      then. Its `deadline` says when it will be aborted anyway.
    * `timings`: the `Timings` of the exchange, which a dispatcher may `mark()`. What it leaves out
      stays None, but for two: the client marks `first_byte` when `send` returns, and `done` when
      the body has been read or given up. A body that marks by itself has to keep the `Timings`
      of its `send`: the context gets others for the next exchange.
    """

    __slots__ = ("abort", "ssl", "stream", "timeout", "timings")

    def __init__(
        self,
        *,
        timeout: TimeoutConfig,
        ssl: SSLConfig,
        abort: Abort,
        stream: bool = False,
        timings: Timings | None = None,
    ) -> None:
        self.timeout: TimeoutConfig = timeout
        self.ssl: SSLConfig = ssl
        self.abort: Abort = abort
        self.stream: bool = stream
        self.timings: Timings = Timings() if timings is None else timings


class Dispatcher:
    """
    Sends requests. The network is one; subclass it to answer from elsewhere.

    A client calls `send` from many threads at once.
    """

    #: Whether every wait of `send`, and of the bodies it returns, is registered with the
    #: context's `abort`, so that it ends in milliseconds when that is called. Leaving a block
    #: waits for a dispatcher that says so, and for no other.
    abortable = False

    #: A `Clock` that tells the time in place of the system: for tests.
    _clock: typing.Any = None

    def send(self, request: Request, context: Context) -> Response:
        """
        Make one exchange. Return a `Response` as soon as its head is there; its `content` may
        be an iterator over the body's bytes as they come (still under Content-Encoding), with
        an `on_close` that is called once, at the body's end or when it is given up.

        Raise an `HTTPError` when the exchange fails.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Let go of everything idle. Delivered streams stay readable."""


#: What clients that are given no dispatcher have in place of the network, the last one: for tests.
replacements: list[Dispatcher] = []
