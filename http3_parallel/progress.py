"""
Progress bars for loops over a block: with rich or tqdm, whichever is installed.

    from http3_parallel import progress

    with http3.parallel() as parallel:
        for pending in progress.rich(parallel.map(urls)):
            ...

They go around `Parallel.map()`, `Parallel.as_completed()`, or the block itself, and hand out the
same handles at the same time.
"""

from __future__ import annotations

import operator
import time
import typing

from .facade import AsCompleted, Map, Parallel
from .pending import PendingResponse
from .stats import Stats

__all__ = ["rich", "tqdm"]

_Handles = typing.Union[Map, AsCompleted, Parallel]

#: Seconds between looks at how far the block is.
_INTERVAL = 0.1


class _Watched:
    """What is iterated over, and how far it is."""

    def __init__(self, handles: _Handles, total: int | None) -> None:
        if not isinstance(handles, (Map, AsCompleted, Parallel)):
            raise TypeError(
                "a progress bar goes around parallel.map(), parallel.as_completed() or the block, "
                f"not {type(handles).__name__}"
            )
        self.source: Map | AsCompleted = (
            handles.as_completed() if isinstance(handles, Parallel) else handles
        )
        self.handed_out: int = 0
        self._given = total
        # How many items an input has, if it knows: 0 may mean that it does not.
        hint = operator.length_hint(self.source) if isinstance(self.source, Map) else 0
        self._hint = hint or None

    @property
    def total(self) -> int | None:
        """How many there will be, as far as that is known."""
        if self._given is not None:
            return self._given
        if isinstance(self.source, Map):
            return self._hint
        return self.handed_out + len(self.source._completions.open)

    @property
    def stats(self) -> Stats:
        return self.source._block.exact_stats()


def rich(
    handles: _Handles,
    *,
    total: int | None = None,
    description: str = "requests",
    progress: typing.Any = None,
) -> typing.Iterator[PendingResponse]:
    """
    Iterate over `handles` beneath a bar of rich's: how many are through, failed and in flight,
    bytes, the time that is left.

    * `total`: how many there will be, if `handles` cannot know.
    * `description`: what stands before the bar.
    * `progress`: a `rich.progress.Progress` of yours, to which it is added; by default one of its
      own, shown for as long as the loop runs.

    Raises `ModuleNotFoundError` if rich is not installed, and `TypeError` for `handles` of another
    kind; and as iterating over `handles` does.
    """
    try:
        import rich.console
        import rich.progress as bars
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("progress.rich() needs rich: pip install rich") from error
    return _with_rich(_Watched(handles, total), description, progress, bars, rich.console.Console)


def _with_rich(
    watched: _Watched,
    description: str,
    given: typing.Any,
    bars: typing.Any,
    console_class: typing.Any,
) -> typing.Iterator[PendingResponse]:
    class State(bars.ProgressColumn):  # type: ignore[misc]  # rich may not be there
        def render(self, task: typing.Any) -> str:
            stats = watched.stats
            return f"{stats.failed} failed, {stats.in_flight} in flight"

    class Size(bars.ProgressColumn):  # type: ignore[misc]
        def render(self, task: typing.Any) -> str:
            return _size(watched.stats.bytes)

    own = given is None
    progress = given
    if own:
        progress = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            State(),
            Size(),
            bars.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            # What the program prints may be for another program.
            console=console_class(stderr=True),
        )
    try:
        if own:
            progress.start()
        task = progress.add_task(description, total=watched.total)
        for handle in watched.source:
            watched.handed_out += 1
            progress.update(task, completed=watched.handed_out, total=watched.total)
            yield handle
            del handle
        progress.update(task, total=watched.handed_out)
    finally:
        if own:
            progress.stop()
        watched.source.close()


def tqdm(
    handles: _Handles, *, total: int | None = None, **options: typing.Any
) -> typing.Iterator[PendingResponse]:
    """
    Iterate over `handles` beneath a bar of tqdm's, with how many have failed and are in flight.

    * `total`: how many there will be, if `handles` cannot know.
    * `options`: what `tqdm.tqdm` takes besides: `desc`, `leave`, `file`, `disable` and so on.

    Raises `ModuleNotFoundError` if tqdm is not installed, and `TypeError` for `handles` of another
    kind; and as iterating over `handles` does.
    """
    try:
        from tqdm.auto import tqdm as bar_class
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("progress.tqdm() needs tqdm: pip install tqdm") from error
    return _with_tqdm(_Watched(handles, total), {"unit": "req", **options}, bar_class)


def _with_tqdm(
    watched: _Watched, options: dict[str, typing.Any], bar_class: typing.Any
) -> typing.Iterator[PendingResponse]:
    bar = None
    look_at = 0.0
    try:
        bar = bar_class(total=watched.total, **options)
        for handle in watched.source:
            watched.handed_out += 1
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + _INTERVAL
                _tell(bar, watched)
            bar.update(1)
            yield handle
            del handle
        _tell(bar, watched)
        bar.total = watched.handed_out
    finally:
        if bar is not None:
            bar.close()
        watched.source.close()


def _tell(bar: typing.Any, watched: _Watched) -> None:
    stats = watched.stats
    bar.total = watched.total
    bar.set_postfix(failed=stats.failed, in_flight=stats.in_flight, refresh=False)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
