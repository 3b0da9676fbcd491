"""
Fields and files in one body: multipart/form-data (RFC 7578).

1. *What goes in comes out.* Whatever the names and contents are, a server finds the parts that
   were given, no other ones, and no header line or parameter among them that was not.
   Names and file names are quoted strings of UTF-8, as browsers send them and servers expect
   them. In them `"` and control characters are percent-encoded. A backslash is doubled, which
   browsers omit but most parsers undo; one at the end is percent-encoded as well, since those
   of Python and Django take even the second of two there for the escape of the closing quote.
2. *It is complete at once.* Files are read here, so they may be closed right after, and the
   body can be sent again. Each is left where it stood: many requests may send the same one.
"""

from __future__ import annotations

import contextlib
import inspect
import mimetypes
import os
import posixpath
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence

from .headers import Headers, HeaderTypes, _value_bytes

__all__ = ["RequestFiles", "encode_multipart"]


class _Readable(typing.Protocol):
    def read(self) -> str | bytes: ...


_Content = typing.Union[str, bytes, bytearray, memoryview, _Readable]
_FileName = typing.Union[str, bytes, None]
_ContentType = typing.Union[str, bytes, None]
_File = typing.Union[
    _Content,
    tuple[_FileName, _Content],
    tuple[_FileName, _Content, _ContentType],
    tuple[_FileName, _Content, _ContentType, typing.Optional[HeaderTypes]],
]

# A dict is an Iterable too: with that instead of Sequence, mypy does not understand mixed literals.
RequestFiles = typing.Union[Mapping[str, _File], Sequence[tuple[str, _File]]]

_Buffer = typing.Union[bytes, bytearray, memoryview]

# What would end the quoted string or its line, or is not allowed in it (RFC 9110, 5.6.4).
_UNSAFE = re.compile(rb'[\x00-\x08\x0a-\x1f\x7f"\\]')

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = rb'(%s)=(%s|"(?:[^"\\]|\\.)*")' % (_TOKEN, _TOKEN)
_MULTIPART = re.compile(
    rb"multipart/%s[ \t]*(?P<parameters>(?:;[ \t]*(?:%s[ \t]*)?)*)" % (_TOKEN, _PARAMETER),
    re.IGNORECASE,
)
# RFC 2046, section 5.1.1.
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")

_DEFAULT_NAME = "upload"
_DEFAULT_TYPE = "application/octet-stream"


def encode_multipart(
    fields: Iterable[tuple[str | bytes, str | bytes]], files: RequestFiles, headers: Headers
) -> tuple[bytes, bytes]:
    """
    The body, and its content type.

    * `headers`: the user's. A boundary in their Content-Type is used; one without is completed.
    """
    boundary, content_type, is_ours = _agree_on_boundary(headers)
    delimiter = b"--" + boundary
    pieces: list[_Buffer] = []
    count = 0
    for head, content in _parts(fields, files):
        pieces += (delimiter, head, content, b"\r\n")
        count += 1
    pieces += (delimiter, b"--\r\n")
    body = b"".join(pieces)
    # Nobody can foresee ours; anything may contain theirs.
    if not is_ours and body.count(delimiter) != count + 1:
        raise ValueError(
            "the boundary in the Content-Type occurs in the form: leave it out to get another"
        )
    return body, content_type


def _parts(
    fields: Iterable[tuple[str | bytes, str | bytes]], files: RequestFiles
) -> Iterator[tuple[bytes, _Buffer]]:
    for field, value in fields:
        yield _head(_encoded(field)), _encoded(value)
    for name, file in _pairs(files):
        yield _file_part(name, file)


def _encoded(text: str | bytes) -> bytes:
    return text.encode("utf-8") if isinstance(text, str) else text


def _head(name: bytes, filename: bytes | None = None, lines: Iterable[bytes] = ()) -> bytes:
    """From the end of the delimiter to the beginning of the content."""
    disposition = b"Content-Disposition: form-data; name=" + _quoted(name)
    if filename is not None:
        disposition += b"; filename=" + _quoted(filename)
    return b"\r\n".join((b"", disposition, *lines, b"", b""))


def _quoted(text: bytes) -> bytes:
    return b'"%s"' % _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[bytes]) -> bytes:
    character = match[0]
    if character == b"\\" and match.end() < len(match.string):
        return rb"\\"
    return b"%%%02X" % ord(character)


# Files.


def _pairs(files: typing.Any) -> Iterator[tuple[str | bytes, object]]:
    """The name of each file's field, and what is said about the file."""
    no_pairs = (
        "files are a mapping of names to files, or pairs of name and file: files={'name': file}"
    )
    items = files.items() if isinstance(files, Mapping) else files
    is_one = isinstance(items, (str, bytes)) or hasattr(items, "read")
    if is_one or not isinstance(items, Iterable):
        raise TypeError(no_pairs)
    for item in items:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise TypeError(no_pairs)
        name, file = item
        if not isinstance(name, (str, bytes)):
            raise TypeError(f"the name of a file's field is str, not {type(name).__name__}")
        yield name, file


def _file_part(name: str | bytes, file: object) -> tuple[bytes, _Buffer]:
    filename: typing.Any
    if not isinstance(file, tuple):
        filename, content, content_type, extra = _name_of(file), file, None, None
    elif 2 <= len(file) <= 4:
        filename, content, content_type, extra = (*file, None, None)[:4]
    else:
        raise TypeError(
            f"file {name!r}: a tuple is (filename, file), (filename, file, content_type) or "
            "(filename, file, content_type, headers)"
        )
    if filename is not None:
        if not isinstance(filename, (str, bytes)):
            raise TypeError(
                f"file {name!r}: its file name is str or None, not {type(filename).__name__}"
            )
        if isinstance(filename, str):
            # Names that the file system has in no known encoding come as lone surrogates.
            filename = filename.encode("utf-8", "replace")
    lines = _header_lines(name, filename, content_type, extra)
    return _head(_encoded(name), filename, lines), _content(name, content)


def _header_lines(
    name: str | bytes, filename: bytes | None, content_type: typing.Any, extra: typing.Any
) -> list[bytes]:
    headers = Headers(extra, "utf-8")
    if isinstance(extra, Headers):
        headers._check()
    if "content-disposition" in headers:
        raise ValueError(
            f"file {name!r}: its Content-Disposition is made of its name and its file name"
        )
    if content_type is not None:
        if "content-type" in headers:
            raise ValueError(f"file {name!r}: two content types")
        if not content_type:
            raise ValueError(f"file {name!r}: an empty content type; None has it guessed")
    elif filename is not None and "content-type" not in headers:
        content_type = _guess_type(filename.decode("utf-8", "replace"))
    lines = [field.title() + b": " + value for field, value in headers.raw]
    if content_type is not None:
        value = _value_bytes(b"content-type", content_type, "ascii")
        lines.insert(0, b"Content-Type: " + value)
    return lines


def _guess_type(filename: str) -> str:
    # Nothing but the suffix, since guess_type() takes its argument for a URL: of one with
    # data: it repeats the type that is said there, line breaks included.
    guess, encoding = mimetypes.guess_type("x" + posixpath.splitext(filename)[1])
    if encoding is not None:
        # The type is that of what is inside.
        return "application/gzip" if encoding == "gzip" else _DEFAULT_TYPE
    return guess or _DEFAULT_TYPE


def _name_of(file: object) -> str:
    """That of an open file, without its directory."""
    name = getattr(file, "name", None)
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if not isinstance(name, str) or (name.startswith("<") and name.endswith(">")):
        return _DEFAULT_NAME  # a descriptor, or one like <stdin>
    return os.path.basename(name) or _DEFAULT_NAME


def _content(name: str | bytes, content: typing.Any) -> _Buffer:
    if hasattr(content, "read"):
        content = _read(name, content)
    if isinstance(content, str):
        return content.encode("utf-8")
    if isinstance(content, (bytes, bytearray)):
        return content
    if isinstance(content, memoryview):
        return content if content.c_contiguous else content.tobytes()
    raise TypeError(
        f"file {name!r}: its content is an open file, bytes or str, not {type(content).__name__}"
    )


def _read(name: str | bytes, file: typing.Any) -> object:
    """What is left of it; it stays where it stood, where it can be set back."""
    if inspect.iscoroutinefunction(file.read):
        raise TypeError(f"file {name!r}: it is asynchronous: await its content, and give that")
    if getattr(file, "closed", False):
        raise ValueError(f"file {name!r}: it is closed")
    try:
        position = file.tell()
    except (AttributeError, NotImplementedError, OSError):
        return file.read()
    content = file.read()
    # Where that fails, it has been read like a pipe.
    with contextlib.suppress(AttributeError, NotImplementedError, OSError):
        file.seek(position)
    return content


# The boundary.


def _agree_on_boundary(headers: Headers) -> tuple[bytes, bytes, bool]:
    """The boundary, the content type that has it, and whether we chose it."""
    given = [value for name, value in headers.raw if name == b"content-type"]
    boundary = os.urandom(16).hex().encode("ascii")
    if not given:
        return boundary, b"multipart/form-data; boundary=" + boundary, True
    value = given[0].strip(b" \t")
    if len(given) > 1 or not (match := _MULTIPART.fullmatch(value)):
        raise ValueError(
            "files are sent as multipart/form-data: leave out the Content-Type, or give that one"
        )
    boundaries = [
        argument[1:-1] if argument.startswith(b'"') else argument
        for parameter, argument in re.findall(_PARAMETER, match["parameters"])
        if parameter.lower() == b"boundary"
    ]
    if not boundaries:
        value = value.rstrip(b" \t;") + b"; boundary=" + boundary
        headers["content-type"] = value
        return boundary, value, True
    if len(boundaries) > 1 or not _BOUNDARY.fullmatch(boundaries[0]):
        raise ValueError(
            "the boundary in the Content-Type is 1 to 70 letters, digits or '()+_,-./:=? and "
            "does not end with a space (RFC 2046, section 5.1.1)"
        )
    return boundaries[0], value, False
