"""What a block looks like from outside."""

from __future__ import annotations

import operator
import typing

from .block import Block
from .completions import Completions
from .config import check_count, check_seconds
from .exceptions import NoPendingResponses
from .methods import BodyOptions, RequestMethods, Self, SendOptions, Unpack
from .models import URL, Request, Response, URLTypes
from .pending import PendingResponse
from .stats import Stats
from .timeline import Timeline

__all__ = ["AsCompleted", "Map", "Parallel", "timeline_of"]


def timeline_of(block: Block) -> Timeline:
    if block.timeline is None:
        raise RuntimeError("nothing was noted: open the block with parallel(timeline=True)")
    return block.timeline


class Parallel(RequestMethods[PendingResponse]):
    """
    A block in which requests run at the same time. Made by `parallel()` and `Client.parallel()`.

    Each method that makes a request returns a `PendingResponse` at once. Leaving the ``with``
    block ends what is still pending, also in flight, and closes the streams that are still
    open. It may be used from any number of threads, and without ``with``: then `close()` it.
    """

    __doc__ = f"{__doc__}\n{RequestMethods.__doc__}"

    def __init__(self, block: Block, on_close: typing.Callable[[bool], None] | None = None) -> None:
        if not isinstance(block, Block):
            raise TypeError("a block is opened by http3.parallel() or Client.parallel()")
        self._block = block
        self._on_close = on_close
        self._completions = Completions(block)

    def request(
        self, method: str, url: URLTypes, **options: Unpack[BodyOptions]
    ) -> PendingResponse:
        """
        Submit a request; returns its handle at once. An invalid URL is an error of the request,
        raised by `get_response()` or `next_response()`; a wrong argument is a `TypeError` or
        `ValueError` here. Raises `ParallelClosed` after the block was left.

        Options, by keyword: `params`, `headers`, `cookies`, `data`, `files`, `json`, `auth`,
        `timeout`, `deadline`, `stream`, `allow_redirects`, `verify`, `cert`, `tag`; the class
        tells what each is.
        """
        if not options:
            return self._block.request(self._completions, method, url, options)
        tag = options.pop("tag", None)
        deadline = check_seconds("deadline", options.pop("deadline", None))
        return self._block.request(
            self._completions, method, url, options, tag=tag, deadline=deadline
        )

    def send(self, request: Request, **options: Unpack[SendOptions]) -> PendingResponse:
        """
        Submit a `Request` as it is: that of a failure, to try it again, say. Nothing of the
        client's headers, parameters, cookies or base URL is merged into it.
        """
        if not isinstance(request, Request):
            raise TypeError(f"send() takes a Request, not {type(request).__name__}")
        tag = options.pop("tag", None)
        deadline = check_seconds("deadline", options.pop("deadline", None))
        return self._block.send(self._completions, request, options, tag=tag, deadline=deadline)

    @property
    def stats(self) -> Stats:
        """
        How far the block is, at this moment: a `Stats`. Cheap enough to be asked for many times a
        second, from any thread; after the block was left, what it came to.
        """
        return self._block.exact_stats()

    @property
    def timeline(self) -> Timeline:
        """
        What each request did, and when: a `Timeline`, which grows while the block runs and stays
        after it. RuntimeError unless the block was opened with ``timeline=``.
        """
        return timeline_of(self._block)

    @property
    def has_pending_responses(self) -> bool:
        """
        Whether `next_response()` has something to return or to wait for: a request that was
        submitted, and neither handed out nor claimed by a `get_response()`.
        """
        return bool(self._completions.open) and self._block.usable

    def next_response(self, timeout: float | None = None) -> Response:
        """
        The next response to complete. Waits for it at most `timeout` seconds (None: until it
        is there, which the requests' own timeouts and deadlines bound).

        Raises the error of the request that is next, if it failed: an `HTTPError` that knows
        its request; `NoPendingResponses` if nothing is left, instead of waiting for ever;
        `WaitTimeout` if the wait ran out: the requests go on; `ParallelClosed` after the block
        was left.
        """
        handle = self._completions.take(timeout)
        try:
            return handle._result()
        finally:
            del handle  # see PendingResponse.get_response

    def as_completed(self, timeout: float | None = None) -> AsCompleted:
        """
        The handles as they complete, those submitted meanwhile included, until none is left.
        Iterating raises no request's error: `get_response()` of the handle does.

        Raises `WaitTimeout` if they are not through `timeout` seconds after the first step.
        """
        return AsCompleted(self._block, self._completions, timeout)

    def __iter__(self) -> typing.Iterator[PendingResponse]:
        return self.as_completed()

    def map(
        self,
        requests: typing.Iterable[URLTypes | Request],
        *,
        window: int | None = None,
        **options: Unpack[SendOptions],
    ) -> Map:
        """
        GET each URL, or send each `Request`, and iterate over the handles as they complete.
        Options, for all of them: `auth`, `timeout`, `deadline` (of each, from when it is read),
        `stream`, `allow_redirects`, `verify`, `cert`, `tag`.

        The input is read lazily: at most `window` requests (by default twice the block's
        `max_workers`) are not handed out yet, so ten million stream through in flat memory.
        They are its own: `next_response()` never sees them. Closing the iterator, or dropping
        it, ends those it started.
        """
        if isinstance(requests, (str, URL, Request)):
            raise TypeError("map() takes an iterable of URLs and Requests; for one there is get()")
        size = check_count("window", window, 1)
        self._block.check_usable()
        window = 2 * self._block.max_workers if size is None else size
        self._block.check_options(options)
        return Map(self._block, requests, window, options)

    def cancel(self) -> None:
        """End all pending requests now, also in flight. The block can be used further."""
        self._block.cancel()

    def close(self) -> None:
        """
        Leave the block: end what is pending, close the streams that are open, and wait until
        no worker is busy for it. Code of the user's that runs in a worker is not waited for.
        May be called again, and from any thread; whoever waits on the block is woken.
        """
        clean = False
        try:
            clean = self._block.close()
        finally:
            if self._on_close is not None:
                self._on_close(clean)

    def __repr__(self) -> str:
        state = f"{len(self._completions.open)} pending" if self._block.usable else "closed"
        return f"<Parallel: {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.close()
        except BaseException:
            # Interrupted, perhaps before it did anything. No more waiting, but the end.
            self._block.end_now()
            if self._on_close is not None:
                self._on_close(False)
            raise

    if not typing.TYPE_CHECKING:

        async def __aenter__(self) -> typing.NoReturn:
            self.close()
            raise TypeError("for `async with` there is AsyncClient().parallel()")

        async def __aexit__(self, *exc_info: object) -> None: ...


class AsCompleted(typing.Iterator[PendingResponse]):
    """The handles of `Parallel.as_completed`."""

    def __init__(self, block: Block, completions: Completions, timeout: float | None) -> None:
        self._block = block
        self._completions = completions
        self._timeout = timeout
        self._end: float | None = None
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> PendingResponse:
        if self._closed:
            raise StopIteration
        if self._timeout is not None and self._end is None:
            self._end = self._block.time() + self._timeout
        try:
            return self._completions.take(self._timeout, self._end)
        except NoPendingResponses:
            self._closed = True
            raise StopIteration from None
        except BaseException:
            self._closed = True  # as a generator would be
            raise

    def close(self) -> None:
        """It gives no more. Those that it did not give are the block's."""
        self._closed = True


class Map(typing.Iterator[PendingResponse]):
    """The handles of `Parallel.map`, as they complete."""

    def __init__(
        self,
        block: Block,
        requests: typing.Iterable[URLTypes | Request],
        window: int,
        options: SendOptions,
    ) -> None:
        self._block = block
        self._requests: typing.Iterator[URLTypes | Request] | None = iter(requests)
        self._window = window
        self._tag: typing.Any = options.pop("tag", None)
        self._deadline = check_seconds("deadline", options.pop("deadline", None))
        self._options = options
        self._completions = Completions(block)

    def __iter__(self) -> Self:
        return self

    def __length_hint__(self) -> int:
        """How many are still to come, if the input knows its length; else 0."""
        left = 0 if self._requests is None else operator.length_hint(self._requests)
        return left + len(self._completions.open) if left or self._requests is None else 0

    def __next__(self) -> PendingResponse:
        try:
            self._fill()
            try:
                return self._completions.take(None)
            except NoPendingResponses:
                raise StopIteration from None
        except StopIteration:
            raise
        except BaseException:
            self.close()  # as a generator would be
            raise

    def _fill(self) -> None:
        """
        Read on, up to the window. Only one further if something can be handed out already: an
        input that makes its reader wait must not hold back what is there.
        """
        read = 0
        while self._requests is not None and len(self._completions.open) < self._window:
            if read and self._completions.has_finished:
                return
            read += 1
            try:
                item = next(self._requests)
            except StopIteration:
                self._requests = None
                return
            self._submit(item)

    def _submit(self, item: object) -> None:
        tag, deadline = self._tag, self._deadline
        if isinstance(item, Request):
            self._block.send(self._completions, item, self._options, tag=tag, deadline=deadline)
        elif isinstance(item, (str, URL)):
            self._block.request(
                self._completions, "GET", item, self._options, tag=tag, deadline=deadline
            )
        else:
            raise TypeError(f"map() takes URLs and Requests, not {type(item).__name__}")

    def close(self) -> None:
        """End the requests that were started and not handed out. No more are read."""
        self._requests = None
        self._block.cancel(list(self._completions.open))

    def __del__(self) -> None:
        # A finalizer may run anywhere, also under a lock: the foreman does it.
        completions = getattr(self, "_completions", None)  # if __init__ got that far
        left = [] if completions is None else list(completions.open)
        if left:
            self._block.cancel_soon(left)
