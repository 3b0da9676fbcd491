"""
What is to be fetched: from arguments, files and standard input, read when it is asked for.

1. *Nothing is read ahead* but what the system hands over in one piece, at most 64 KiB: ten million
   lines take no more memory than one. A line has a limit, too.
2. *A bad line is one bad line.* It comes out as a `BadLine` with its place, and reading goes on.
3. *Reading can be left at any moment.* It is done with `os.read`, on a thread that nobody waits
   for: a thread in the middle of reading `sys.stdin` would hold its lock, on which the
   interpreter aborts when it ends.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import typing

from ..exceptions import redacted_text

__all__ = ["BadLine", "Input", "Item"]

_CHUNK = 64 * 1024
#: Bytes of a line, that is of a request's body, for the most part.
_LONGEST_LINE = 16 * 1024 * 1024

_KEYS = frozenset({"url", "method", "headers", "body", "json", "tag"})


class Item(typing.NamedTuple):
    """A request to be made."""

    source: str | None
    number: int
    url: str
    #: None: as the command line says.
    method: str | None = None
    headers: list[tuple[str, str]] | None = None
    body: bytes | None = None
    #: Whether that came as JSON.
    is_json: bool = False
    tag: typing.Any = None

    @property
    def place(self) -> str:
        return _place(self.source, self.number)

    def __repr__(self) -> str:
        """What a timeline shows of it: the user's tag. The rest may be secret."""
        if self.tag is None or isinstance(self.tag, str):
            return self.tag or ""
        return json.dumps(self.tag, ensure_ascii=False)


class BadLine(typing.NamedTuple):
    """A line that says nothing that could be requested, or an input that broke off there."""

    source: str | None
    number: int
    message: str

    @property
    def place(self) -> str:
        return _place(self.source, self.number)


def _place(source: str | None, number: int) -> str:
    return f"argument {number}" if source is None else f"{source}, line {number}"


class Input:
    """
    An iterator over all of it, for one thread at a time.

    `total` is how many items there will be, as far as that is known: None until `count` has gone
    through the files, and where standard input or a pipe is among them until all is read.
    """

    def __init__(self, urls: typing.Sequence[str], files: typing.Sequence[str]) -> None:
        self._urls = urls
        self._files = files
        #: How many have been handed out.
        self.read: int = 0
        self._passed_over = 0
        self._counted: int | None = None
        #: There is no more.
        self.ended: bool = False
        self._items = self._all()

    def __iter__(self) -> typing.Iterator[Item | BadLine]:
        return self

    def __next__(self) -> Item | BadLine:
        item = next(self._items, None)
        if item is None:
            self.ended = True
            raise StopIteration
        self.read += 1
        return item

    @property
    def total(self) -> int | None:
        if self.ended:
            return self.read
        return None if self._counted is None else max(self._counted - self._passed_over, self.read)

    def count(self) -> None:
        """See how much there is, if there is a way to know without reading it away."""
        count = sum(url != "-" for url in self._urls)
        if "-" in self._urls or "-" in self._files:
            return
        for path in self._files:
            try:
                with open(path, "rb", buffering=0) as file:
                    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                        return
                    last = b"\n"
                    while chunk := file.read(1024 * 1024):
                        count += chunk.count(b"\n")
                        last = chunk
                    count += not last.endswith(b"\n")
            except OSError:
                return
        self._counted = count

    def _all(self) -> typing.Iterator[Item | BadLine]:
        for number, url in enumerate(self._urls, 1):
            if url == "-":
                yield from self._from("-")
            else:
                yield Item(None, number, url)
        for path in self._files:
            yield from self._from(path)

    def _from(self, path: str) -> typing.Iterator[Item | BadLine]:
        name = "standard input" if path == "-" else path
        number = 0
        try:
            # Closed by us, if it is closed at all: not while another thread reads from it.
            descriptor = sys.stdin.fileno() if path == "-" else os.open(path, os.O_RDONLY)
            try:
                for number, line in enumerate(_lines(descriptor), 1):
                    item = _parse(name, number, line)
                    if item is None:
                        self._passed_over += 1
                    else:
                        yield item
            finally:
                if path != "-":
                    os.close(descriptor)
        except OSError as error:
            yield BadLine(name, number + 1, f"cannot be read: {error.strerror or error}")


def _lines(descriptor: int) -> typing.Iterator[bytes | None]:
    """Lines as they come, without their ends; None for one that is too long."""
    pieces: list[bytes] = []
    size = 0
    while chunk := os.read(descriptor, _CHUNK):
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            if pieces:
                pieces.append(line)
                size += len(line)
                line = b"".join(pieces)
            yield None if size > _LONGEST_LINE else line
            pieces, size = [], 0
        if rest:
            size += len(rest)
            if size <= _LONGEST_LINE:
                pieces.append(rest)
            else:
                pieces = [b""]
    if pieces:
        yield None if size > _LONGEST_LINE else b"".join(pieces)


def _parse(source: str, number: int, line: bytes | None) -> Item | BadLine | None:
    if line is None:
        return BadLine(source, number, f"the line is longer than {_LONGEST_LINE:,} bytes")
    if number == 1:
        line = line.removeprefix(b"\xef\xbb\xbf")
    line = line.strip()
    if not line or line.startswith(b"#"):
        return None
    if b"\0" in line:
        return BadLine(source, number, "there is a NUL in the line: is it text?")
    if not line.startswith(b"{"):
        return Item(source, number, line.decode("utf-8", "surrogateescape"))
    try:
        return _from_json(source, number, line)
    except (ValueError, RecursionError) as error:
        return BadLine(source, number, str(error))


def _from_json(source: str, number: int, line: bytes) -> Item:
    """Raises `ValueError`."""
    try:
        given = json.loads(line)
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    except ValueError as error:  # of the encoding, too
        raise ValueError(f"not JSON: {error}") from None
    unknown = given.keys() - _KEYS
    if unknown:
        raise ValueError(
            f"{redacted_text(min(unknown))!r} is not known: there are url, method, headers, "
            "body, json and tag"
        )
    url, method, body = given.get("url"), given.get("method"), given.get("body")
    if not isinstance(url, str):
        raise ValueError('"url" is missing' if url is None else '"url" is not text')
    if not (method is None or isinstance(method, str)):
        raise ValueError('"method" is not text')
    if not (body is None or isinstance(body, str)):
        raise ValueError('"body" is not text; for JSON there is "json"')
    content = None if body is None else body.encode("utf-8", "surrogatepass")
    if "json" in given:
        if body is not None:
            raise ValueError('either "body" or "json"')
        content = json.dumps(given["json"], ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )
    headers = _headers(given.get("headers"))
    is_json, tag = "json" in given, given.get("tag")
    return Item(source, number, url, method, headers, content, is_json, tag)


def _headers(given: object) -> list[tuple[str, str]] | None:
    """Of an object of text, or of lists of text, as --jsonl has them."""
    if given is None:
        return None
    if not isinstance(given, dict):
        raise ValueError('"headers" is not an object')
    pairs = []
    for name, values in given.items():
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, str):
                raise ValueError(f'"headers": the value of {name[:40]!r} is not text')
            pairs.append((name, value))
    return pairs
