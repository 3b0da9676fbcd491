"""
Passes over the body of a response: in pieces as they come, in chunks of one size, as text, in
lines.

`Pieces` is the pass itself. Whatever else the body comes out as is made from it by a `Stage`,
which `StagedPass` feeds one slice after the other. The guarantees:

1. *How the bytes were cut on their way makes no difference*: not in the middle of a character,
   nor between the two halves of a line's end.
2. *It takes linear time, and little memory*: that of a slice and what it is made into, and
   besides that only of the chunk or line at hand, which is held whole.
3. *What was broken off does not go on in silence.* After an error, an interrupt or `close()`,
   the next step raises; a last line that may not be whole is never handed out.
"""

from __future__ import annotations

import codecs
import collections
import sys
import threading
import typing
from collections.abc import Iterable, Iterator

from ..exceptions import HTTPError, ResponseClosed, StreamConsumed
from .streams import ResponseStream

if typing.TYPE_CHECKING:
    from .received import ReceivedBody

__all__ = ["Chained", "Chunks", "Lines", "Pieces", "Stage", "StagedPass", "Text"]

_In = typing.TypeVar("_In", contravariant=True)
_Out = typing.TypeVar("_Out", covariant=True)

#: Bytes that are fed to a stage at once. A byte may become a line, which is some fifty.
_SLICE_SIZE = 64 * 1024


class Pieces(Iterator[bytes]):
    """One pass over the body. It keeps the response alive, not the other way round."""

    __slots__ = ("_begun", "_body", "_decoded", "_ended", "_stream")

    def __init__(self, body: ReceivedBody, stream: ResponseStream, decoded: bool) -> None:
        self._body = body
        self._stream = stream
        self._decoded = decoded
        self._begun = self._ended = False

    def __next__(self) -> bytes:
        if self._ended:
            raise StopIteration
        try:
            if not self._begun:
                self._body._begin(self._stream, self._decoded)
                self._begun = True
            piece = self._stream.next_piece()
            if piece is not None:
                return piece
        except HTTPError as error:
            self._body._about(error)
            raise
        except BaseException:
            # A KeyboardInterrupt may strike outside the step, too.
            self.close()
            raise
        self._ended = True
        raise StopIteration

    def close(self) -> None:
        """As the generator that this could be has it: give up what is left."""
        if self._begun:
            self._stream.close()


class Stage(typing.Protocol[_In, _Out]):
    """Makes something of what comes, however it is cut."""

    def feed(self, piece: _In) -> Iterable[_Out]:
        """What is complete with this piece."""

    def end(self) -> Iterable[_Out]:
        """What is complete since nothing follows."""


class StagedPass(Iterator[_Out]):
    """What a stage makes of a pass. Like that, for one thread at a time."""

    __slots__ = ("_body", "_closed", "_ended", "_lock", "_piece", "_pieces", "_ready", "_stage")

    def __init__(
        self, body: ReceivedBody, pieces: Iterator[bytes], stage: Stage[bytes, _Out]
    ) -> None:
        self._body = body
        self._pieces = pieces
        self._stage = stage
        self._piece: Iterator[bytes] = iter(())  # what was not fed yet of the last one
        self._ready: collections.deque[_Out] = collections.deque()
        self._closed = self._ended = False
        self._lock = threading.RLock()  # only ever tried, as that of the stream

    def __next__(self) -> _Out:
        if not self._lock.acquire(False):
            raise self._body._about(
                StreamConsumed("another thread is reading the body at this moment")
            )
        try:
            if not self._ready or self._closed:
                self._fill()
            return self._ready.popleft()
        except StopIteration:
            raise
        except BaseException:
            self.close()
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """Give up what is left."""
        self._closed = True
        if isinstance(self._pieces, Pieces):
            self._pieces.close()

    def _fill(self) -> None:
        """Until something is ready. StopIteration at the end."""
        while not self._ready or self._closed:
            if self._ended:
                raise StopIteration
            if self._closed:
                raise self._body._about(
                    ResponseClosed("reading the body was broken off, and cannot go on")
                )
            data = next(self._piece, None)
            if data is not None:
                self._ready.extend(self._stage.feed(data))
                continue
            piece = next(self._pieces, None)
            if piece is not None:
                self._piece = _slices(piece)
            else:
                self._ready.extend(self._stage.end())
                self._ended = True  # not before: an interrupt in between is no end


def _slices(piece: bytes) -> Iterator[bytes]:
    if len(piece) <= _SLICE_SIZE:
        return iter((piece,))
    starts = range(0, len(piece), _SLICE_SIZE)
    return (piece[start : start + _SLICE_SIZE] for start in starts)


class Chunks(typing.Generic[typing.AnyStr]):
    """Chunks of `size` bytes or characters, the last one of what is left."""

    __slots__ = ("_held", "_parts", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._parts: list[typing.AnyStr] = []
        self._held = 0

    def feed(self, piece: typing.AnyStr) -> list[typing.AnyStr]:
        size, parts = self._size, self._parts
        start = size - self._held  # where the first chunk ends
        if len(piece) < start:
            parts.append(piece)
            self._held += len(piece)
            return []
        parts.append(piece[:start])
        chunks = [piece[:0].join(parts)]
        self._held = (len(piece) - start) % size
        end = len(piece) - self._held
        chunks += [piece[place : place + size] for place in range(start, end, size)]
        self._parts = [piece[end:]] if self._held else []
        return chunks

    def end(self) -> list[typing.AnyStr]:
        parts = self._parts
        return [parts[0][:0].join(parts)] if parts else []


_MARKS = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
}
_NATIVE_ORDER = "-le" if sys.byteorder == "little" else "-be"


class Text:
    """
    Bytes decoded by `encoding`; what does not decode becomes U+FFFD. None is for UTF-8, until
    bytes come that are none: from there on, `fallback` counts.
    """

    __slots__ = ("_decoder", "_fallback", "_head", "_unmarked")

    def __init__(self, encoding: str | None, fallback: str) -> None:
        self._fallback: str | None = None
        self._unmarked: str | None = None
        self._head = b""
        if encoding is None:
            self._fallback = fallback
            self._decoder: codecs.IncrementalDecoder = codecs.getincrementaldecoder("utf-8")()
        else:
            self._decode_by(encoding)

    def feed(self, piece: bytes) -> tuple[str, ...]:
        return self._decode(piece, False)

    def end(self) -> tuple[str, ...]:
        return self._decode(b"", True)

    def _decode_by(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        name = codecs.lookup(encoding).name
        self._unmarked = name if name in _MARKS else None

    def _decode(self, data: bytes, final: bool) -> tuple[str, ...]:
        if self._unmarked is not None:
            data = self._head + data
            if len(data) < 4 and not final:
                self._head = data
                return ()
            if not data.startswith(_MARKS[self._unmarked]):
                # What bytes.decode() takes for this machine's order is an error here.
                self._decode_by(self._unmarked + _NATIVE_ORDER)
            self._unmarked = None
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError as error:
            assert self._fallback is not None  # all others replace what they cannot decode
            self._decode_by(self._fallback)
            self._fallback = None
            text = error.object[: error.start].decode("utf-8")
            text += "".join(self._decode(error.object[error.start :], final))
        return (text,) if text else ()


class Lines:
    """Text cut after each line feed, carriage return, or both: what editors call a line."""

    __slots__ = ("_after_return", "_parts")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._after_return = False

    def feed(self, piece: str) -> list[str]:
        if self._after_return and piece.startswith("\n"):
            piece = piece[1:]  # its line was handed out at the return: none waits for this
        self._after_return = piece.endswith("\r")
        lines = piece.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._parts.append(lines[0])
        if len(lines) == 1:
            return []
        lines[0] = "".join(self._parts)
        self._parts = [lines.pop()]
        return lines

    def end(self) -> list[str]:
        line = "".join(self._parts)
        return [line] if line else []


class Chained(typing.Generic[_Out]):
    """Two stages as one."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: Stage[bytes, str], second: Stage[str, _Out]) -> None:
        self._first = first
        self._second = second

    def feed(self, piece: bytes) -> Iterator[_Out]:
        for text in self._first.feed(piece):
            yield from self._second.feed(text)

    def end(self) -> Iterator[_Out]:
        for text in self._first.end():
            yield from self._second.feed(text)
        yield from self._second.end()
