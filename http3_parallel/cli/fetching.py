"""
The run: what comes in goes through a block, and comes out as outcomes, as requests complete.

1. *What has finished comes out at once*, also while the input has nothing to say: a thread reads
   and submits, and the main thread takes what completes.
2. *Back-pressure*: no more is read than twice the concurrency that has not come out yet. A reader
   of the output that stops stops the input.
3. *Bodies that are saved* are streamed, by as many threads as there are requests at the same time:
   each takes an item, submits it, and writes what comes. Nothing is read ahead then.
4. *It can be left at any moment.* No thread is waited for that may be at something that cannot be
   interrupted, as reading a pipe is.
"""

from __future__ import annotations

import contextlib
import errno
import queue
import threading
import time
import typing

from ..aborting import Signal
from ..exceptions import HTTPError, ParallelClosed, redacted_text
from ..facade import Parallel
from ..methods import BodyOptions
from ..models import Request, Response
from ..pending import PendingResponse
from .display import Progress
from .folder import Folder, file_name
from .inputs import BadLine, Input, Item
from .options import Options
from .outcomes import Outcome, Tally

__all__ = ["Lanes", "Run", "Window"]

#: What the next file would meet as well.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
#: Seconds. How often the main thread looks whether there is anything but what it waits for.
_SLICE = 0.1
#: Seconds for threads that save, to take their temporary files away.
_PATIENCE = 0.5
#: Bytes of the body of an error that are read so that its connection can be used again.
_WORTH_READING = 64 * 1024


class Run:
    """
    Iterating over `outcomes` gives each as its request completes. `stop` ends reading.

    * `late`: what was completed by then, and has not come out.
    """

    def __init__(self, options: Options, block: Parallel, inputs: Input) -> None:
        self._options = options
        self._block = block
        self._inputs = inputs
        self._expires = None if options.deadline is None else time.monotonic() + options.deadline
        self._stopped = False
        self._failure: BaseException | None = None
        #: Why reading ended before its end; None if it did not.
        self.gave_up: str | None = None
        self._plain: BodyOptions = {}
        if not options.follow:
            self._plain["allow_redirects"] = False
        if options.max_time is not None:
            self._plain["deadline"] = options.max_time

    def _give_up(self, why: str) -> None:
        self.gave_up = why

    def outcomes(self) -> typing.Iterator[Outcome]:
        raise NotImplementedError

    def progress(self, tally: Tally) -> Progress:
        raise NotImplementedError

    def stop(self) -> None:
        self._stopped = True

    def late(self) -> typing.Iterator[Outcome]:
        return iter(())

    def _next_item(self) -> Item | BadLine | None:
        """Reads. None at the end, or when no more is to be read."""
        if self._stopped or self.gave_up is not None or self._inputs.ended:
            return None
        if self._has_expired():
            return None
        item = next(self._inputs, None)
        # The read may have taken any time.
        return None if self._stopped or (item is not None and self._has_expired()) else item

    def _has_expired(self) -> bool:
        if self._expires is None or time.monotonic() < self._expires:
            return False
        self.gave_up = "the deadline passed"
        return True

    def method_of(self, item: Item) -> str:
        if item.method is not None:
            return item.method.upper()
        return self._options.method if item.body is None else "POST"

    def _settle(self, item: Item) -> BodyOptions:
        options, default = self._plain, self._options
        body = default.body if item.body is None else item.body
        if body is None and item.headers is None:
            return {**options, "tag": item}
        headers = list(item.headers or ())
        names = default.header_names.union([name.lower() for name, _ in headers])
        if body is not None and item.body is None:
            headers += [
                (name, value)
                for name, value in default.body_headers.items()
                if name.lower() not in names
            ]
        elif item.is_json and "content-type" not in names:
            headers.append(("Content-Type", "application/json"))
        return {**options, "data": body, "headers": headers, "tag": item}

    def _submit(self, item: Item | BadLine, *, stream: bool = False) -> PendingResponse:
        """What cannot be a request becomes one that has failed: it comes out in its turn."""
        if isinstance(item, Item):
            options = self._settle(item)
            if stream:
                options["stream"] = True
            try:
                return self._block.request(self.method_of(item), item.url, **options)
            except (TypeError, ValueError) as error:
                item = BadLine(item.source, item.number, str(error))
        return self._block.request("GET", "", tag=item)

    def _ended(self, handle: PendingResponse) -> Outcome:
        """Of one that is done. A stream's body is still to be read."""
        item = handle.tag
        if isinstance(item, BadLine):
            return Outcome(item, "GET")
        method = self.method_of(item)
        try:
            response = handle.get_response()
        except HTTPError as error:
            return Outcome(item, method, error=error)
        if not response.is_closed:
            return Outcome(item, method, response)
        content = response.content
        return Outcome(item, method, response, size=len(content), body=content)


class Window(Run):
    """For bodies that are kept in memory, for as long as it takes to print them."""

    def __init__(self, options: Options, block: Parallel, inputs: Input) -> None:
        super().__init__(options, block, inputs)
        # Not in line where each has so much time in all: nobody but this put it there.
        ahead = 2 if options.max_time is None else 1
        self._room = threading.Semaphore(ahead * options.concurrency)
        self._lock = threading.Lock()
        self._submitted = self._taken = 0
        self._has_read_all = False
        self._waiter: Signal | None = None
        self._feeder = threading.Thread(target=self._feed, name="reader", daemon=True)

    def outcomes(self) -> typing.Iterator[Outcome]:
        self._feeder.start()
        while True:
            for handle in self._block.as_completed():
                self._taken += 1
                yield self._ended(handle)
                del handle
                self._room.release()
            if not self._wait_for_more():
                break
        if self._failure is not None:
            raise self._failure

    def _wait_for_more(self) -> bool:
        """Nothing is pending: wait until there is. False when nothing more comes."""
        signal = Signal()
        with self._lock:
            if self._submitted > self._taken:
                return True
            if self._has_read_all:
                return False
            self._waiter = signal
        left = None if self._expires is None else max(0.0, self._expires - time.monotonic())
        return signal.wait(left) or not self._has_expired()

    def _feed(self) -> None:
        try:
            while True:
                self._room.acquire()
                item = self._next_item()
                if item is None:
                    return
                self._submit(item)
                self._tell(1, False)
        except ParallelClosed:
            pass
        except BaseException as error:
            self._failure = error
        finally:
            self._tell(0, True)

    def _tell(self, submitted: int, has_read_all: bool) -> None:
        with self._lock:
            self._submitted += submitted
            self._has_read_all |= has_read_all
            if self._waiter is not None:
                self._waiter.set()
                self._waiter = None

    def stop(self) -> None:
        super().stop()
        self._room.release()

    def progress(self, tally: Tally) -> Progress:
        stats = self._block.stats
        total = self._inputs.total
        ended = tally.fetched + tally.failed
        queued = stats.queued if total is None else max(0, total - ended - stats.in_flight)
        return Progress(
            total,
            tally.fetched,
            tally.failed,
            0,
            stats.in_flight,
            queued,
            stats.bytes,
            [(one.seconds, _told(one.request)) for one in stats.slowest],
        )


def _told(request: Request) -> str:
    method = "" if request.method == "GET" else f"{request.method} "
    return method + request.url.redacted


class _Lane(threading.Thread):
    """Brings one item after the other to its end."""

    def __init__(self, lanes: Lanes) -> None:
        super().__init__(name="saver", daemon=True)
        self._lanes = lanes
        #: Since when it is at what; None while it waits for something.
        self.at: tuple[float, str] | None = None

    def run(self) -> None:
        self._lanes.work(self)


class Lanes(Run):
    """For bodies that are saved."""

    def __init__(self, options: Options, block: Parallel, inputs: Input, folder: Folder) -> None:
        super().__init__(options, block, inputs)
        self._folder = folder
        self._reading = threading.Lock()
        self._results: queue.Queue[Outcome | None] = queue.Queue(2 * options.concurrency)
        self._lanes: list[_Lane] = []
        self._ended_lanes = 0
        self._abandoned = False

    def outcomes(self) -> typing.Iterator[Outcome]:
        # One after the other, each started by the one before when it has got something to do: two
        # URLs need no hundred threads.
        self._add_lane()
        while self._ended_lanes < len(self._lanes):
            outcome = self._next_result()
            if outcome is not None:
                yield outcome
            elif self._expires is not None and self._has_expired() and self._is_idle:
                break
        if self._failure is not None:
            raise self._failure

    def _add_lane(self) -> None:
        lane = _Lane(self)
        self._lanes.append(lane)
        lane.start()

    @property
    def _is_idle(self) -> bool:
        return self._results.empty() and all(lane.at is None for lane in self._lanes)

    def _next_result(self) -> Outcome | None:
        try:
            outcome = self._results.get(timeout=_SLICE)
        except queue.Empty:
            return None
        self._ended_lanes += outcome is None
        return outcome

    def work(self, lane: _Lane) -> None:
        try:
            while (item := self._take(lane)) is not None:
                outcome = self._save(item)
                self._put(outcome)
                lane.at = None
        except ParallelClosed:
            pass
        except BaseException as error:
            self._failure, self._stopped = error, True
        finally:
            lane.at = None
            self._put(None)

    def _put(self, outcome: Outcome | None) -> None:
        while not self._abandoned:
            with contextlib.suppress(queue.Full):
                self._results.put(outcome, timeout=_SLICE)
                return

    def _take(self, lane: _Lane) -> Item | BadLine | None:
        with self._reading:
            item = self._next_item()
            if item is None:
                return None
            what = item.url if isinstance(item, Item) else ""
            lane.at = time.monotonic(), what
            if lane is self._lanes[-1] and len(self._lanes) < self._options.concurrency:
                self._add_lane()
        return item

    def _save(self, item: Item | BadLine) -> Outcome:
        if isinstance(item, BadLine):
            return Outcome(item, "GET")
        method = self.method_of(item)
        try:
            body = self._options.body if item.body is None else item.body
            request = Request(method, item.url, data=body)
            name = file_name(request, item.headers, item.tag)
        except HTTPError as error:
            return Outcome(item, method, error=error)
        except (TypeError, ValueError) as error:
            return Outcome(BadLine(item.source, item.number, str(error)), method)
        path = str(self._folder.find(name))
        if self._options.resume and self._folder.has(name):
            return Outcome(item, method, path=path, skipped=True)
        response = None
        try:
            outcome = self._ended(self._submit(item, stream=True))
            response = outcome.response
            if response is None:
                return outcome
            with response:
                if response.is_error:
                    return self._with_error_body(outcome, response)
                size = self._folder.save(name, response.stream())
            return outcome._replace(size=size, path=path)
        except HTTPError as error:
            return Outcome(item, method, response, error)
        except OSError as error:
            if error.errno in _FULL:
                self._give_up(f"{error.strerror or error}: {self._folder.path}")
            return Outcome(item, method, response, error)

    def _with_error_body(self, outcome: Outcome, response: Response) -> Outcome:
        length = response.headers.get("content-length", "")
        is_small = length.isdigit() and len(length) < 10 and int(length) <= _WORTH_READING
        if not (is_small or (self._options.jsonl and self._options.with_body)):
            return outcome
        body = response.read()
        return outcome._replace(size=len(body), body=body)

    def late(self) -> typing.Iterator[Outcome]:
        """After the block was left: what was saved in the meantime. The rest has been cancelled."""
        end = time.monotonic() + _PATIENCE
        while self._ended_lanes < len(self._lanes) and time.monotonic() < end:
            try:
                outcome = self._results.get(timeout=0.02)
            except queue.Empty:
                if self._is_idle:
                    break  # they wait for input, if for anything
                continue
            self._ended_lanes += outcome is None
            if outcome is not None and outcome.error is None and outcome.response is not None:
                yield outcome
        self._abandoned = True

    def progress(self, tally: Tally) -> Progress:
        now = time.monotonic()
        at = sorted(lane.at for lane in list(self._lanes) if lane.at is not None)
        total = self._inputs.total
        ended = tally.fetched + tally.failed + tally.skipped
        return Progress(
            total,
            tally.fetched,
            tally.failed,
            tally.skipped,
            len(at),
            0 if total is None else max(0, total - ended - len(at)),
            self._block.stats.bytes,
            [(now - began, redacted_text(what)) for began, what in at[:5]],
        )
