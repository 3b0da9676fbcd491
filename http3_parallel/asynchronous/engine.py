"""What runs the requests of an `AsyncClient`: the engine of the synchronous side."""

from __future__ import annotations

import functools
import typing

from ..aborting import Abort
from ..engine import ClientEngine
from ..models import Request, Response, URLTypes
from ..models.bodies import iterate_async, reads_files
from ..settings import Settings
from ..timeline.records import Record
from .bridge import iterate

__all__ = ["AsyncEngine", "Draft"]


class Draft(typing.NamedTuple):
    """In place of `Settings`: the request is made in the worker, since that reads files."""

    make: typing.Callable[[], tuple[Request, Settings]]
    made: typing.Callable[[Request], object]


class AsyncEngine(ClientEngine):
    def draft(
        self, method: str, url: URLTypes, options: typing.Mapping[str, typing.Any]
    ) -> typing.Callable[[], tuple[Request, Settings]] | None:
        """What makes the request, if that may wait for a file."""
        if reads_files(options.get("data"), options.get("files")):
            return functools.partial(self.prepare, method, url, options)
        return None

    def perform(
        self,
        request: Request,
        settings: Settings | Draft,
        abort: Abort,
        submitted: float,
        tag: object,
        record: Record | None = None,
    ) -> Response:
        # In a context that is there for this request alone.
        iterate_async.set(functools.partial(iterate, abort))
        if isinstance(settings, Draft):
            draft = settings
            with abort.user_code():
                request, settings = draft.make()
            draft.made(request)
            del draft
        return super().perform(request, settings, abort, submitted, tag, record)
