"""What a request sends: turned into bytes at once, or into a source that yields them later."""

from __future__ import annotations

import contextvars
import inspect
import io
import json as jsonlib
import typing
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from urllib.parse import urlencode

from ..exceptions import StreamConsumed, StreamError
from .headers import Headers
from .multipart import RequestFiles, encode_multipart
from .queryparams import QueryParams

__all__ = [
    "AsyncPieces",
    "AsyncSource",
    "BodySource",
    "RequestData",
    "encode_body",
    "iterate_async",
    "reads_files",
    "slices",
]

RequestData = typing.Union[
    str,
    bytes,
    bytearray,
    memoryview,
    Mapping[str, typing.Any],
    typing.IO[bytes],
    Iterable[typing.Union[bytes, str]],
    Iterable[tuple[str, typing.Any]],
]

_Iterable = typing.TypeVar("_Iterable")

#: The write timeout is for one piece: a slow but steady upload of any length stays within it.
PIECE_SIZE = 64 * 1024

_TEXT_FILE = "the file is open for text: open it in binary mode ('rb')"

_JSON = b"application/json"
_FORM = b"application/x-www-form-urlencoded"


def slices(content: bytes | bytearray | memoryview) -> Iterator[bytes | memoryview]:
    """`content` in pieces of at most `PIECE_SIZE`, without copying."""
    if len(content) <= PIECE_SIZE and isinstance(content, bytes):
        return iter((content,) if content else ())
    view = memoryview(content).cast("B")
    return (view[start : start + PIECE_SIZE] for start in range(0, len(view), PIECE_SIZE))


class BodySource:
    """
    A body that is read while it is sent.

    * `size`: in bytes, None if unknown.
    * `can_replay`: whether `pieces()` works more than once.
    * `is_whole`: whether it works now.

    This class itself is a body that is gone.
    """

    __slots__ = ("size",)

    can_replay = False

    def __init__(self, size: int | None = None) -> None:
        self.size: int | None = size

    @property
    def is_whole(self) -> bool:
        return self.can_replay

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The body, none of its pieces empty or larger than `PIECE_SIZE`."""
        raise StreamConsumed("the body of the request stayed behind when it was pickled")


def _only_once(unread: list[_Iterable]) -> _Iterable:
    try:
        return unread.pop()
    except IndexError:
        raise StreamConsumed(
            "the body of the request was an iterator, which can be sent only once: "
            "give bytes, a list or a file to have it sent again"
        ) from None


class IteratorSource(BodySource):
    """An iterator: there once."""

    __slots__ = ("_unread",)

    def __init__(self, iterator: Iterator[typing.Any]) -> None:
        super().__init__()
        self._unread = [iterator]

    @property
    def is_whole(self) -> bool:
        return bool(self._unread)

    def pieces(self) -> Iterator[bytes | memoryview]:
        yield from _checked(_only_once(self._unread))


class IterableSource(BodySource):
    """An iterable that starts anew each time, such as a list."""

    __slots__ = ("_iterable",)

    can_replay = True

    def __init__(self, iterable: Iterable[typing.Any]) -> None:
        super().__init__()
        self._iterable = iterable

    def pieces(self) -> Iterator[bytes | memoryview]:
        return _checked(iter(self._iterable))


#: How a thread iterates over what only an event loop can: set for the requests of clients that
#: know of one. The iterator that it returns waits in the calling thread.
iterate_async: contextvars.ContextVar[
    Callable[[AsyncIterable[typing.Any]], Iterator[typing.Any]] | None
] = contextvars.ContextVar("http3_parallel_iterate_async", default=None)


class AsyncSource(BodySource):
    """An asynchronous iterable, read on the event loop of who made the request."""

    __slots__ = ("_unread", "can_replay")

    def __init__(self, iterable: AsyncIterable[typing.Any]) -> None:
        super().__init__()
        #: One that is no iterator starts anew each time.
        self.can_replay: bool = not isinstance(iterable, AsyncIterator)
        self._unread = [iterable]

    @property
    def is_whole(self) -> bool:
        return bool(self._unread)

    def take(self) -> AsyncIterable[typing.Any]:
        if self.can_replay:
            return self._unread[0]
        return _only_once(self._unread)

    def pieces(self) -> Iterator[bytes | memoryview]:
        iterate = iterate_async.get()
        if iterate is None:
            raise StreamConsumed(
                "the body of the request is asynchronous: only an AsyncClient sends it, and "
                "`await request.read()` reads it"
            )
        yield from _checked(iterate(self.take()))

    def async_pieces(self) -> AsyncPieces:
        return AsyncPieces(self.take())


class AsyncPieces(AsyncIterator[typing.Union[bytes, memoryview]]):
    """
    What `BodySource.pieces` yields, of an asynchronous iterable. Not a generator, which would have
    to be closed where it is left.
    """

    __slots__ = ("_iterator", "_parts")

    def __init__(self, iterable: AsyncIterable[typing.Any]) -> None:
        self._iterator = iterable.__aiter__()
        self._parts: Iterator[bytes | memoryview] = iter(())

    async def __anext__(self) -> bytes | memoryview:
        while (part := next(self._parts, None)) is None:
            self._parts = _checked(iter((await self._iterator.__anext__(),)))
        return part

    async def aclose(self) -> None:
        """Close what it iterates over, if that can be closed."""
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()


class FileSource(BodySource):
    """A file with a known position and size: read from there each time."""

    __slots__ = ("_file", "_position")

    can_replay = True

    def __init__(self, file: typing.IO[bytes], position: int, size: int | None) -> None:
        super().__init__(size)
        self._file = file
        self._position = position

    def pieces(self) -> Iterator[bytes | memoryview]:
        left = self.size
        start: int | None = self._position
        while left != 0:
            piece = _read(self._file, PIECE_SIZE if left is None else min(left, PIECE_SIZE), start)
            start = None
            if not piece:
                break
            if left is not None:
                left -= len(piece)
            yield piece
        if left:
            raise StreamError(
                f"the file that is the request's body became shorter: {left} bytes are missing"
            )


def _read(file: typing.IO[typing.Any], size: int, start: int | None = None) -> bytes:
    try:
        if start is not None:
            file.seek(start)
        piece = file.read(size)
    except ValueError as error:
        if not getattr(file, "closed", False):
            raise
        raise StreamError(
            "the file that is the request's body was closed before it was sent: "
            "keep it open until the response is there"
        ) from error
    if isinstance(piece, str):
        raise TypeError(_TEXT_FILE)
    return typing.cast(bytes, piece)


def _read_once(file: typing.IO[bytes]) -> Iterator[bytes]:
    while piece := _read(file, PIECE_SIZE):
        yield piece


def _checked(pieces: Iterator[typing.Any]) -> Iterator[bytes | memoryview]:
    for piece in pieces:
        if isinstance(piece, str):
            piece = piece.encode("utf-8")
        elif not isinstance(piece, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"the pieces of a request's body are bytes or str, not {type(piece).__name__}"
            )
        # An empty piece would, as a chunk of size 0, end the body.
        yield from slices(piece)


def encode_body(
    data: object,
    json: object,
    files: RequestFiles | None,
    headers: Headers,
    *,
    may_await: bool = False,
) -> tuple[bytes | BodySource, bytes | None]:
    """
    The body, and its content type if that follows from the form in which it was given.

    Text, bytes, files and iterables as `data` go before `json`, that before `files`, with which
    a form is sent as multipart.

    * `headers`: the user's. A boundary in their Content-Type is used; one without is completed.
    * `may_await`: whether `data` may be asynchronous.
    """
    if data is None:
        if json is not None:
            return _encode_json(json), _JSON
        return (b"", None) if files is None else encode_multipart([], files, headers)
    if isinstance(data, str):
        return data.encode("utf-8"), None
    if isinstance(data, bytes):
        return data, None
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data), None
    if hasattr(data, "read"):
        if _reads_asynchronously(data):
            if may_await:
                return AsyncSource(_AsyncFile(data)), None
            raise TypeError(
                "the file is asynchronous, and sent by a thread: give it to an AsyncClient"
            )
        return _file_source(data), None
    pairs = _form_pairs(data)
    if pairs is not None:
        if json is not None:
            return _encode_json(json), _JSON
        fields = list(_form_fields(pairs))
        if files is not None:
            return encode_multipart(fields, files, headers)
        return urlencode(fields, doseq=True).encode("ascii"), _FORM
    if isinstance(data, Iterator):
        return IteratorSource(data), None
    if isinstance(data, Iterable):
        return IterableSource(data), None
    if isinstance(data, AsyncIterable):
        if may_await:
            return AsyncSource(data), None
        raise TypeError("the body of a request is sent by a thread: it cannot be asynchronous")
    raise TypeError(
        "the data of a request are bytes, str, a mapping or pairs, a binary file or an iterable "
        f"of bytes, not {type(data).__name__}"
    )


def reads_files(data: object, files: RequestFiles | None) -> bool:
    """Whether `encode_body` may have to wait for a disk, or for whatever else a file is."""
    parts: list[typing.Any] = [data]
    if isinstance(files, Mapping):
        parts += files.values()
    elif isinstance(files, (list, tuple)):  # what it may be else is refused without reading it
        parts += [item[-1] for item in files if isinstance(item, (list, tuple)) and item]
    # A tuple of file name and file, perhaps with more.
    parts = [part[1] if isinstance(part, tuple) and len(part) > 1 else part for part in parts]
    return any(
        hasattr(part, "read")
        and not isinstance(part, io.BytesIO)
        and not _reads_asynchronously(part)
        for part in parts
    )


def _reads_asynchronously(file: typing.Any) -> bool:
    return inspect.iscoroutinefunction(file.read)


class _AsyncFile(AsyncIterator[bytes]):
    """From where it stands: its position is known only to who awaits it."""

    __slots__ = ("_file",)

    def __init__(self, file: typing.Any) -> None:
        self._file = file

    async def __anext__(self) -> bytes:
        piece: bytes = await self._file.read(PIECE_SIZE)
        if not piece:
            raise StopAsyncIteration
        return piece


def _encode_json(value: object) -> bytes:
    return jsonlib.dumps(value).encode("ascii")


def _form_pairs(data: object) -> Iterable[tuple[object, object]] | None:
    """What is to be sent as a form, or None if it is something else."""
    if isinstance(data, QueryParams):
        return data.multi_items()
    if isinstance(data, Mapping):
        return data.items()
    if isinstance(data, (list, tuple)) and all(
        isinstance(item, (tuple, list)) and len(item) == 2 for item in data
    ):
        return data
    return None


def _form_fields(
    pairs: Iterable[tuple[object, object]],
) -> Iterator[tuple[str | bytes, str | bytes]]:
    """Each with one value: those that are a list repeat the name."""
    for name, value in pairs:
        for each in _values(value):
            yield _form_text(name), _form_text(each)


def _values(value: typing.Any) -> Iterable[object]:
    if isinstance(value, (str, bytes, bytearray, memoryview)) or hasattr(value, "read"):
        return (value,)
    try:
        len(value)
    except TypeError:
        return (value,)
    return typing.cast("Iterable[object]", value)


def _form_text(value: object) -> str | bytes:
    if isinstance(value, (str, bytes)):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if hasattr(value, "read"):
        raise TypeError("a file is not sent in a form's data: give it as files={name: file}")
    return str(value)


def _file_source(file: typing.Any) -> BodySource:
    if isinstance(file, io.TextIOBase) or getattr(file, "encoding", None) is not None:
        raise TypeError(_TEXT_FILE)
    if getattr(file, "closed", False):
        raise ValueError("the file is closed")
    try:
        position = file.tell()
        size: int | None = max(0, file.seek(0, io.SEEK_END) - position)
        file.seek(position)
        if not size and file.read(1):
            # Devices and /proc tell no size.
            size = None
            file.seek(position)
    except (OSError, AttributeError, NotImplementedError):
        return IteratorSource(_read_once(file))
    return FileSource(file, position, size)
