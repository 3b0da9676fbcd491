"""Progress bars: what they show, and that the loop beneath is what it was without them."""

from __future__ import annotations

import io
import re
import sys
import threading
import typing

import pytest
import rich.console
import rich.progress

import http3_parallel as http3
from http3_parallel import progress
from scripted import InstantDispatch, ScriptedDispatch

ORIGIN = "http://example.com"

URLS = [f"{ORIGIN}/{n}" for n in range(10)]

Bar = typing.Callable[..., typing.Iterator[http3.PendingResponse]]


def rich_progress() -> rich.progress.Progress:
    """One that shows nothing by itself."""
    return rich.progress.Progress(console=rich.console.Console(file=io.StringIO()), disable=True)


def quiet_rich(
    handles: typing.Any, **options: typing.Any
) -> typing.Iterator[http3.PendingResponse]:
    return progress.rich(handles, progress=rich_progress(), **options)


def quiet_tqdm(
    handles: typing.Any, **options: typing.Any
) -> typing.Iterator[http3.PendingResponse]:
    return progress.tqdm(handles, file=io.StringIO(), **options)


both = pytest.mark.parametrize("bar", [quiet_rich, quiet_tqdm])


@both
def test_all_handles_come_through(bar: Bar) -> None:
    with http3.parallel(dispatch=InstantDispatch()) as parallel:
        seen = [pending.get_response().url for pending in bar(parallel.map(URLS))]
        assert sorted(map(str, seen)) == URLS
        for url in URLS:
            parallel.get(url)
        assert len(list(bar(parallel))) == 10
        for url in URLS:
            parallel.get(url)
        assert len(list(bar(parallel.as_completed()))) == 10


@both
def test_those_submitted_in_the_loop_come_too(bar: Bar) -> None:
    with http3.parallel(dispatch=InstantDispatch()) as parallel:
        parallel.get(URLS[0])
        seen = []
        for pending in bar(parallel):
            seen.append(pending)
            if len(seen) < 5:
                parallel.get(URLS[len(seen)])
        assert len(seen) == 5


@both
def test_leaving_the_loop_ends_what_the_map_began(bar: Bar) -> None:
    dispatch = ScriptedDispatch()
    with http3.parallel(dispatch=dispatch, max_workers=2) as parallel:
        loop = [bar(parallel.map(URLS))]
        parallel.get(f"{ORIGIN}/other")

        def leave() -> None:
            for _ in loop.pop():
                break

        dispatch.exchange("/other").respond()
        parallel.next_response()
        # In a thread, since the first handle has to be answered meanwhile.
        thread = threading.Thread(target=leave)
        thread.start()
        dispatch.exchange("/0").respond()
        thread.join(20)
        assert not thread.is_alive()
        dispatch.wait_until_idle()
        assert parallel.stats.queued == parallel.stats.in_flight == 0


@both
def test_what_the_loop_raises_comes_out(bar: Bar) -> None:
    with http3.parallel(dispatch=InstantDispatch()) as parallel:
        with pytest.raises(LookupError):
            for _ in bar(parallel.map(URLS)):
                raise LookupError
        with pytest.raises(http3.WaitTimeout):
            held = ScriptedDispatch()
            with http3.parallel(dispatch=held) as waiting:
                waiting.get(ORIGIN)
                list(bar(waiting.as_completed(timeout=0.01)))


def test_a_bar_that_cannot_be_made_ends_what_the_map_began() -> None:
    with http3.parallel(dispatch=ScriptedDispatch()) as parallel:
        handles = parallel.map(URLS)
        with pytest.raises(Exception, match="nonsense"):
            next(progress.tqdm(handles, file=io.StringIO(), nonsense=1))
        assert list(handles) == []


def test_a_wrong_total_is_put_right() -> None:
    output = io.StringIO()
    with http3.parallel(dispatch=InstantDispatch()) as parallel:
        list(progress.tqdm(parallel.map(url for url in URLS), total=50, file=output))
    assert "10/10" in output.getvalue().rstrip("\n").split("\r")[-1]


@both
@pytest.mark.parametrize("handles", [URLS, None, "x", iter([])])
def test_only_handles_of_a_block_will_do(bar: Bar, handles: typing.Any) -> None:
    with pytest.raises(TypeError, match=r"parallel\.map\(\), parallel\.as_completed\(\)"):
        bar(handles)


@pytest.mark.parametrize(("call", "name"), [(progress.rich, "rich"), (progress.tqdm, "tqdm")])
def test_without_the_package_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, call: Bar, name: str
) -> None:
    for loaded in [module for module in sys.modules if module.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, name, None)
    with http3.parallel(dispatch=InstantDispatch()) as parallel:
        with pytest.raises(ModuleNotFoundError, match=f"pip install {name}"):
            call(parallel)


def test_rich_shows_how_far_it_is() -> None:
    bars = rich_progress()
    dispatch = ScriptedDispatch()
    with http3.parallel(dispatch=dispatch, max_workers=1) as parallel:
        handles = progress.rich(parallel.map(URLS), description="pages", progress=bars)
        first: list[http3.PendingResponse] = []
        thread = threading.Thread(target=lambda: first.append(next(handles)))
        thread.start()
        dispatch.exchange("/0").respond(content=b"12345")
        thread.join(20)
        assert len(first) == 1
        (task,) = bars.tasks
        assert (task.description, task.completed, task.total) == ("pages", 1, 10)
        handles.close()  # type: ignore[attr-defined]  # a generator


def test_the_total_follows_what_is_submitted() -> None:
    bars = rich_progress()
    with http3.parallel(dispatch=InstantDispatch()) as parallel:
        parallel.get(URLS[0])
        parallel.get(URLS[1])
        handles = progress.rich(parallel, progress=bars)
        next(handles)
        (task,) = bars.tasks
        assert (task.completed, task.total) == (1, 2)
        parallel.get(URLS[2])
        assert len(list(handles)) == 2
        assert (task.completed, task.total) == (3, 3)


def test_a_generator_has_no_total_until_its_end() -> None:
    bars = rich_progress()
    with http3.parallel(dispatch=InstantDispatch()) as parallel:
        handles = progress.rich(parallel.map(url for url in URLS), progress=bars)
        next(handles)
        (task,) = bars.tasks
        assert task.total is None
        list(handles)
        assert (bars.tasks[0].completed, bars.tasks[0].total) == (10, 10)
        list(progress.rich(parallel.map(url for url in URLS), total=50, progress=bars))
        assert bars.tasks[1].total == 10  # there were no more


def test_richs_own_bar_shows_failures_and_ends() -> None:
    output = io.StringIO()
    console = rich.console.Console(file=output, force_terminal=True, width=120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rich.console, "Console", lambda *, stderr: console if stderr else None)
        with http3.parallel(dispatch=InstantDispatch()) as parallel:
            parallel.get("no url")
            parallel.get(ORIGIN)
            list(progress.rich(parallel))
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", output.getvalue())
    assert "2/2" in text
    assert "1 failed, 0 in flight" in text
    assert output.getvalue().endswith("\x1b[?25h")  # the cursor is back


def test_tqdm_shows_failures_and_ends() -> None:
    output = io.StringIO()
    with http3.parallel(dispatch=InstantDispatch()) as parallel:
        parallel.get("no url")
        parallel.get(ORIGIN)
        list(progress.tqdm(parallel, file=output, desc="pages"))
    last = output.getvalue().rstrip("\n").split("\r")[-1]
    assert last.startswith("pages: 100%")
    assert "2/2" in last
    assert "failed=1" in last
    assert output.getvalue().endswith("\n")
