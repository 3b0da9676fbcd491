from __future__ import annotations

import codecs
import contextlib
import email
import gzip
import io
import os
import pathlib
import pickle
import re
import tempfile
import typing
from collections.abc import Iterator

import pytest
from django.conf import (  # type: ignore[import-untyped]  # Django has no type information
    UserSettingsHolder,
    global_settings,
    settings,
)
from django.core.files.uploadhandler import (  # type: ignore[import-untyped]  # the same
    MemoryFileUploadHandler,
)
from django.http.multipartparser import (  # type: ignore[import-untyped]  # the same
    MultiPartParser,
)
from hypothesis import assume, given
from hypothesis import strategies as st
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from http3_parallel.models import Headers, QueryParams, Request

BOUNDARY = "0123456789abcdef" * 2


class Part(typing.NamedTuple):
    """What a server finds. `filename` and `content_type` are None for a field."""

    name: str
    filename: str | None
    content_type: str | None
    content: bytes


def post(**arguments: typing.Any) -> Request:
    return Request("POST", "http://example.org/", **arguments)


def wire(request: Request) -> str:
    """The body, with a boundary that is known."""
    found = re.search(r"boundary=([0-9a-f]{32})$", request.headers["content-type"])
    assert found is not None
    return request.content.decode("utf-8").replace(found[1], "BOUNDARY")


def by_werkzeug(request: Request) -> list[Part]:
    mimetype, options = parse_options_header(request.headers["content-type"])
    assert mimetype == "multipart/form-data"
    body = io.BytesIO(request.content)
    parser = FormDataParser(silent=False, max_form_memory_size=None)
    _, form, files = parser.parse(body, mimetype, len(request.content), options)
    parts = [Part(name, None, None, value.encode()) for name, value in form.items(multi=True)]
    for name, file in files.items(multi=True):
        with contextlib.closing(file):
            parts.append(Part(name, file.filename, file.content_type, file.read()))
    return parts


@pytest.fixture(scope="module")
def django_settings() -> Iterator[None]:
    """Django's own, without configuring it for the whole process."""
    configured = settings._wrapped
    if not settings.configured:
        settings._wrapped = UserSettingsHolder(global_settings)
    yield
    settings._wrapped = configured


def by_django(request: Request) -> list[Part]:
    meta = {
        "CONTENT_TYPE": request.headers["content-type"],
        "CONTENT_LENGTH": request.headers["content-length"],
    }
    handlers = [MemoryFileUploadHandler()]
    form, files = MultiPartParser(meta, io.BytesIO(request.content), handlers, "utf-8").parse()
    parts = [
        Part(name, None, None, value.encode()) for name, values in form.lists() for value in values
    ]
    for name, several in files.lists():
        for file in several:
            parts.append(Part(name, file.name, file.content_type, file.read()))
            file.close()
    return parts


def by_email(request: Request) -> list[Part]:
    head = b"Content-Type: " + request.headers["content-type"].encode() + b"\r\n\r\n"
    message = email.message_from_bytes(head + request.content)
    assert message.is_multipart()
    assert message.defects == []
    parts = []
    for part in typing.cast("list[email.message.Message]", message.get_payload()):
        name = part.get_param("name", header="content-disposition")
        assert isinstance(name, str)
        filename = part.get_param("filename", header="content-disposition")
        assert filename is None or isinstance(filename, str)
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        parts.append(Part(name, filename, part["content-type"], content))
    return parts


PARSERS = [by_werkzeug, by_django, by_email]

Parser = typing.Callable[[Request], "list[Part]"]

every_parser = pytest.mark.parametrize("parse", PARSERS)
pytestmark = pytest.mark.usefixtures("django_settings")


# What is on the wire.


def test_fields_come_first_and_then_files() -> None:
    request = post(
        files={"file": ("a.txt", b"content"), "other": ("b.bin", "é", "image/png")},
        data={"text": "é", "several": ["1", "2"]},
    )
    assert wire(request) == (
        "--BOUNDARY\r\n"
        'Content-Disposition: form-data; name="text"\r\n'
        "\r\n"
        "é\r\n"
        "--BOUNDARY\r\n"
        'Content-Disposition: form-data; name="several"\r\n'
        "\r\n"
        "1\r\n"
        "--BOUNDARY\r\n"
        'Content-Disposition: form-data; name="several"\r\n'
        "\r\n"
        "2\r\n"
        "--BOUNDARY\r\n"
        'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n'
        "Content-Type: text/plain\r\n"
        "\r\n"
        "content\r\n"
        "--BOUNDARY\r\n"
        'Content-Disposition: form-data; name="other"; filename="b.bin"\r\n'
        "Content-Type: image/png\r\n"
        "\r\n"
        "é\r\n"
        "--BOUNDARY--\r\n"
    )


def test_the_body_is_bytes_with_a_length_that_can_be_sent_again() -> None:
    request = post(files={"file": io.BytesIO(b"content")})
    assert not request.is_streaming
    assert request.can_replay
    assert request.headers["content-length"] == str(len(request.content))
    assert "transfer-encoding" not in request.headers
    assert request.headers.keys()[-1] == "content-type"
    assert b"".join(request.stream()) == b"".join(request.stream()) == request.content
    copied = pickle.loads(pickle.dumps(request))
    assert copied.content == request.content
    assert copied.headers == request.headers


def test_each_request_has_a_boundary_of_its_own() -> None:
    types = {post(files={"a": b""}).headers["content-type"] for _ in range(100)}
    assert len(types) == 100
    assert all(re.fullmatch(r"multipart/form-data; boundary=[0-9a-f]{32}", one) for one in types)


@pytest.mark.parametrize("parse", [by_werkzeug, by_django])
@pytest.mark.parametrize("files", [{}, [], iter(())])
def test_no_files_are_a_multipart_form_all_the_same(parse: Parser, files: typing.Any) -> None:
    assert parse(post(files=files, data={"a": "b"})) == [Part("a", None, None, b"b")]
    empty = post(files=files)
    assert wire(empty) == "--BOUNDARY--\r\n"
    assert parse(empty) == []


# Fields.


@every_parser
@pytest.mark.parametrize(
    "data",
    [
        {"a": ["1", 2, 2.5], "b": [True, None], "c": b"\xc3\xa9", b"d": "é", 5: ("x", "y")},
        [
            *[("a", "1"), ("a", 2), ("a", 2.5), ("b", True), ("b", None)],
            *[("c", bytearray(b"\xc3\xa9")), ("d", memoryview(b"\xc3\xa9"))],
            *[("5", "x"), (5, "y")],
        ],
    ],
)
def test_values_are_text_as_in_other_forms(parse: Parser, data: typing.Any) -> None:
    expected = [("a", b"1"), ("a", b"2"), ("a", b"2.5"), ("b", b"True"), ("b", b"None")]
    expected += [("c", "é".encode()), ("d", "é".encode()), ("5", b"x"), ("5", b"y")]
    assert [(part.name, part.content) for part in parse(post(data=data, files={}))] == expected
    form = post(data=data).content
    assert form == b"a=1&a=2&a=2.5&b=True&b=None&c=%C3%A9&d=%C3%A9&5=x&5=y"


def test_bytes_are_sent_as_they_are() -> None:
    request = post(data={b"n\xff": b"v\xff"}, files={b"f\xff": (b"g\xff", b"c\xff")})
    assert b'name="n\xff"\r\n\r\nv\xff\r\n' in request.content
    assert b'name="f\xff"; filename="g\xff"\r\n' in request.content
    assert b"\r\n\r\nc\xff\r\n" in request.content


def test_query_parameters_are_sent_with_all_their_values() -> None:
    data = QueryParams("a=1&a=2")
    assert [part.content for part in by_werkzeug(post(data=data, files={}))] == [b"1", b"2"]


@pytest.mark.parametrize("files", [None, {}])
@pytest.mark.parametrize("several", [False, True])
def test_a_file_in_a_forms_data_is_a_type_error(files: typing.Any, several: bool) -> None:
    file = io.BytesIO(b"content")
    with pytest.raises(TypeError, match="files="):
        post(data={"a": [file] if several else file}, files=files)


# Files.


@every_parser
@pytest.mark.parametrize(
    "content",
    [
        b"h\xc3\xa9\r\n",
        bytearray(b"h\xc3\xa9\r\n"),
        memoryview(b"h\xc3\xa9\r\n"),
        memoryview(b"\n\r\xa9\xc3h")[::-1],
        "hé\r\n",
        io.BytesIO(b"h\xc3\xa9\r\n"),
        io.StringIO("hé\r\n", newline=""),
    ],
    ids=lambda content: type(content).__name__,
)
def test_content_is_a_file_or_bytes_or_text(parse: Parser, content: typing.Any) -> None:
    expected = [Part("a", "upload", "application/octet-stream", b"h\xc3\xa9\r\n")]
    assert parse(post(files={"a": content})) == expected
    assert parse(post(files={"a": ("upload", content)})) == expected


@every_parser
def test_a_file_may_be_closed_right_after(parse: Parser, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "photo.PNG"
    path.write_bytes(os.urandom(200_000))
    with path.open("rb") as file:
        request = post(files={"a": file})
    assert parse(request) == [Part("a", "photo.PNG", "image/png", path.read_bytes())]


@pytest.mark.parametrize("codec", [False, True])
def test_a_text_files_content_becomes_utf8(tmp_path: pathlib.Path, codec: bool) -> None:
    path = tmp_path / "a.txt"
    path.write_text("é" * 10_000, "latin-1")
    name = str(path)
    with codecs.open(name, "r", "latin-1") if codec else path.open(encoding="latin-1") as file:
        request = post(files={"a": file})
    assert by_werkzeug(request) == [Part("a", "a.txt", "text/plain", "é".encode() * 10_000)]


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_a_file_is_read_from_where_it_stood_and_left_there(
    tmp_path: pathlib.Path, mode: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"read, the rest")
    with path.open(mode) as file:
        file.read(6)
        for _ in range(3):
            assert by_werkzeug(post(files={"a": file}))[0].content == b"the rest"
        assert len(file.read()) == len("the rest")


def test_several_fields_may_have_the_same_open_file() -> None:
    file = io.BytesIO(b"content")
    assert [part.content for part in by_werkzeug(post(files={"a": file, "b": file}))] == [
        b"content",
        b"content",
    ]


def test_a_pipe_is_read_to_its_end() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as source:
        source.write(b"through the pipe")
    with os.fdopen(reader, "rb") as file:
        request = post(files={"a": file})
    # Its name is a descriptor.
    expected = Part("a", "upload", "application/octet-stream", b"through the pipe")
    assert by_werkzeug(request) == [expected]


def test_a_compressed_file_is_read_as_what_it_contains(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"content"))
    with gzip.open(path) as file:
        assert by_werkzeug(post(files={"a": ("a.txt", file)}))[0].content == b"content"
        assert by_werkzeug(post(files={"a": ("a.txt", file)}))[0].content == b"content"


class Reader:
    """Only what a file needs, and a name."""

    def __init__(self, content: typing.Any, **attributes: object) -> None:
        self.content = content
        self.__dict__.update(attributes)

    def read(self) -> typing.Any:
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


@pytest.mark.parametrize(
    ("name", "filename"),
    [
        ("a.txt", "a.txt"),
        ("/home/é/a.txt", "a.txt"),
        (os.fsencode("/home/é.txt"), "é.txt"),
        ("/home/", "upload"),
        ("", "upload"),
        (3, "upload"),
        (None, "upload"),
        ("<stdin>", "upload"),
        ("<a", "<a"),
    ],
)
def test_the_default_file_name_is_the_files_without_its_directory(
    name: object, filename: str
) -> None:
    assert by_werkzeug(post(files={"a": Reader(b"", name=name)}))[0].filename == filename


def test_a_file_without_a_name_is_called_upload() -> None:
    with tempfile.TemporaryFile() as unnamed, tempfile.SpooledTemporaryFile() as spooled:
        for file in (Reader(b""), unnamed, spooled):
            assert by_werkzeug(post(files={"a": file}))[0].filename == "upload"


@pytest.mark.parametrize(
    ("filename", "content_type"),
    [
        ("a.html", "text/html"),
        ("a.JPG", "image/jpeg"),
        ("a.unknown", "application/octet-stream"),
        ("a", "application/octet-stream"),
        ("", "application/octet-stream"),
        (".html", "application/octet-stream"),
        # Compressed, it is not the type of what is inside.
        ("a.txt.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("a.tar.bz2", "application/octet-stream"),
        # Not what a URL would say.
        ("data:text/x-evil,a.html", "text/html"),
        ("data:text/x-evil\r\nX-Evil: 1,a", "application/octet-stream"),
        ("http://[a.html", "text/html"),
        ("a.html?b", "application/octet-stream"),
        (b"a.html", "text/html"),
        (b"\xff.html", "text/html"),
    ],
)
def test_the_content_type_is_guessed_from_the_file_name(
    filename: str | bytes, content_type: str
) -> None:
    (part,) = by_email(post(files={"a": (filename, b"")}))
    assert part.content_type == content_type
    (part,) = by_email(post(files={"a": (filename, b"", None, None)}))
    assert part.content_type == content_type
    (part,) = by_email(post(files={"a": (filename, b"", "a/b")}))
    assert part.content_type == "a/b"


@every_parser
def test_without_a_file_name_it_is_a_field(parse: Parser) -> None:
    request = post(files={"a": (None, "1"), "b": (None, io.BytesIO(b"2"))})
    assert parse(request) == [Part("a", None, None, b"1"), Part("b", None, None, b"2")]
    request = post(files={"a": (None, "{}", "application/json")})
    assert 'name="a"\r\nContent-Type: application/json\r\n\r\n{}' in wire(request)


@every_parser
@pytest.mark.parametrize("form", [list, tuple, iter])
def test_pairs_repeat_a_name(parse: Parser, form: typing.Any) -> None:
    files = form([("a", ("1.txt", b"1")), ["a", ("2.txt", b"2")], ("b", ("3.txt", b"3"))])
    assert parse(post(files=files)) == [
        Part("a", "1.txt", "text/plain", b"1"),
        Part("a", "2.txt", "text/plain", b"2"),
        Part("b", "3.txt", "text/plain", b"3"),
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-One": "é", "x-two": b"2"},
        [("x-one", "é"), (b"X-TWO", b"2")],
        Headers({"x-one": "é", "x-two": "2"}, "utf-8"),
    ],
)
def test_a_part_has_the_headers_given(headers: typing.Any) -> None:
    request = post(files={"a": ("a.txt", b"content", "a/b; c=d", headers)})
    assert (
        'filename="a.txt"\r\nContent-Type: a/b; c=d\r\nX-One: é\r\nX-Two: 2\r\n\r\ncontent\r\n'
    ) in wire(request)


def test_a_content_type_among_a_parts_headers_is_not_guessed_again() -> None:
    request = post(files={"a": ("a.txt", b"content", None, {"Content-Type": "a/b"})})
    assert 'filename="a.txt"\r\nContent-Type: a/b\r\n\r\ncontent' in wire(request)


# What cannot be sent.


@pytest.mark.parametrize(
    "files",
    [
        "a",
        b"a",
        "",
        io.BytesIO(),
        io.BytesIO(b"ab\ncd"),
        1,
        ["ab"],
        [b"ab"],
        [("a",)],
        [1],
        [{1, 2}],
    ],
)
def test_files_that_are_no_pairs_are_a_type_error(files: typing.Any) -> None:
    with pytest.raises(TypeError, match=r"files=\{'name': file\}"):
        post(files=files)


@pytest.mark.parametrize("name", [None, 1, ("a",)])
def test_a_name_that_is_no_text_is_a_type_error(name: typing.Any) -> None:
    with pytest.raises(TypeError, match="name of a file's field is str"):
        post(files={name: b""})


@pytest.mark.parametrize(
    "content",
    [
        None,
        1,
        True,
        object(),
        pathlib.Path("a"),
        # A list may mean several files, or what a tuple means.
        ["a.txt", b""],
        [b"", b""],
        {"a": b""},
        Reader(None),
        Reader(1),
        (b"",),
        ("a", b"", None, None, None),
        (),
        ("a", None),
        ("a", ("b", b"")),
        (1, b""),
        (pathlib.Path("a"), b""),
        ("a", b"", 1),
        ("a", b"", None, "a: b"),
        ("a", b"", None, {"a": 1}),
    ],
)
def test_what_is_no_file_is_a_type_error(content: typing.Any) -> None:
    with pytest.raises(TypeError):
        post(files={"a": content})


def test_an_asynchronous_file_is_a_type_error() -> None:
    class File:
        async def read(self) -> bytes:
            raise AssertionError("nobody awaits")

        async def tell(self) -> int:
            raise AssertionError("nobody awaits")

    # Python would warn if one was called and not awaited.
    with pytest.raises(TypeError, match="await its content"):
        post(files={"a": File()})


def test_a_closed_file_is_a_value_error() -> None:
    file = io.BytesIO()
    file.close()
    with pytest.raises(ValueError, match="'a': it is closed"):
        post(files={"a": file})


def test_errors_of_a_file_come_through() -> None:
    with pytest.raises(OSError, match="mine"):
        post(files={"a": Reader(OSError("mine"))})
    with tempfile.TemporaryFile("wb") as file, pytest.raises(io.UnsupportedOperation):
        post(files={"a": file})


def test_text_that_is_not_unicode_is_a_value_error() -> None:
    for arguments in (
        {"files": {"a": "\ud800"}},
        {"files": {"\ud800": b""}},
        {"files": {}, "data": {"a": "\ud800"}},
    ):
        with pytest.raises(UnicodeEncodeError):
            post(**arguments)


def test_a_file_name_in_no_known_encoding_does_not_keep_the_file_from_being_sent() -> None:
    name = b"a\xff.txt".decode("ascii", "surrogateescape")
    for file in (Reader(b"content", name=name), (name, b"content")):
        assert by_django(post(files={"a": file})) == [Part("a", "a?.txt", "text/plain", b"content")]


# Nothing is injected.


@pytest.mark.parametrize(
    "content_type", ["a/b\r\nX-Evil: 1", "a/b\n", "a/b\r", b"a/b\r\n\r\nevil", "a/b\0", "é", ""]
)
def test_a_content_type_that_is_none_is_a_value_error(content_type: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"content.type"):
        post(files={"a": ("a", b"", content_type)})


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "1\r\nX-Evil: 1"},
        {"X": "1\n"},
        {"X\r\nX-Evil": "1"},
        {"X: 1\r\nX-Evil": "1"},
        {"": "1"},
        Headers._from_raw([(b"x", b"1\r\nX-Evil: 1")]),
        {"Content-Disposition": "form-data; name=evil"},
    ],
)
def test_part_headers_that_are_none_are_a_value_error(headers: typing.Any) -> None:
    with pytest.raises(ValueError, match=r"header|Content-Disposition"):
        post(files={"a": ("a", b"", None, headers)})


def test_two_content_types_of_a_part_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="two content types"):
        post(files={"a": ("a", b"", "a/b", {"Content-Type": "c/d"})})


def test_names_are_utf8_with_what_would_end_them_escaped() -> None:
    request = post(files={'é"\r\n%22\\': ("\\\\ü\0\x7f\t%", b"")})
    assert 'name="é%22%0D%0A%22%5C"; filename="\\\\\\\\ü%00%7F\t%"\r\n' in wire(request)


def server_side(name: str) -> str:
    """How `name` arrives where percent escapes are left as they are."""
    return re.sub(r'[\0-\x08\n-\x1f\x7f"]|\\\Z', lambda found: f"%{ord(found[0]):02X}", name)


@every_parser
@pytest.mark.parametrize(
    "name",
    [
        'a"; filename="evil',
        'a\\"; filename="evil',
        'a\\\\"; filename="evil',
        "a\\",
        "a\\\\",
        "; filename=evil; x=\\",
        "a\r\nX-Evil: 1\r\n\r\nevil",
        "a\n\nevil",
        "a\0",
    ],
)
def test_no_parser_finds_more_than_was_given(parse: Parser, name: str) -> None:
    request = post(files=[(name, (name, b"content"))], data={name: "value"})
    parts = parse(request)
    assert [part.content for part in parts] == [b"value", b"content"]
    assert b"\nX-Evil" not in request.content
    assert len({part.name for part in parts}) == 1
    assert parts[0].filename is None
    assert parts[0].name.replace('"', "%22") == server_side(name)


def grouped(parts: typing.Iterable[Part]) -> dict[str, list[Part]]:
    groups: dict[str, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.name, []).append(part)
    return groups


HARD = st.sampled_from(
    ['"', "\\", "\r", "\n", "\r\n", ";", "%22", "%", "=", " ", "\t", "\0", "\x85", "\u2028", "é"]
)
NAMES = st.one_of(st.text(max_size=20), st.lists(HARD, max_size=10).map("".join))
CONTENTS = st.one_of(
    st.binary(max_size=100),
    st.lists(
        st.sampled_from([b"\r\n", b"\n", b"\r", b"--", b"-", BOUNDARY.encode(), b"a", b": "]),
        max_size=12,
    ).map(b"".join),
)
FIELDS = st.lists(st.tuples(NAMES, NAMES), max_size=4)
FILES = st.lists(st.tuples(NAMES, st.tuples(NAMES, CONTENTS)), max_size=4)


@given(FIELDS, FILES)
def test_werkzeug_finds_what_was_sent(
    fields: list[tuple[str, str]], files: list[tuple[str, tuple[str, bytes]]]
) -> None:
    def arrived(name: str) -> str:
        return server_side(name).replace("%22", '"')

    found = by_werkzeug(post(data=fields, files=files))
    expected = [Part(arrived(name), None, None, value.encode()) for name, value in fields]
    assert grouped(part for part in found if part.filename is None) == grouped(expected)
    assert grouped(
        part._replace(content_type=None) for part in found if part.filename is not None
    ) == grouped(
        Part(arrived(name), arrived(filename), None, content) for name, (filename, content) in files
    )


@given(FIELDS, FILES)
def test_django_finds_what_was_sent(
    fields: list[tuple[str, str]], files: list[tuple[str, tuple[str, bytes]]]
) -> None:
    def arrived(name: str) -> str:
        return server_side(name).strip(" \t\v\f\r\n")

    def sanitized(filename: str) -> str | None:
        # It takes directories off, and refuses what is left empty.
        return typing.cast(
            "str | None", MultiPartParser.sanitize_file_name(None, server_side(filename))
        )

    # It takes one without a file name for a field, and drops one without a name.
    files = [file for file in files if arrived(file[0]) and file[1][0]]
    found = by_django(post(data=fields, files=files))
    expected = [Part(arrived(name), None, None, value.encode()) for name, value in fields]
    assert grouped(part for part in found if part.filename is None) == grouped(expected)
    assert grouped(
        part._replace(content_type=None) for part in found if part.filename is not None
    ) == grouped(
        Part(arrived(name), os.path.basename(sanitized(filename) or ""), None, content)
        for name, (filename, content) in files
        if sanitized(filename)
    )


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="ascii"), max_size=20),
            st.tuples(
                st.text(st.characters(codec="ascii"), max_size=20),
                CONTENTS,
                st.just("application/octet-stream"),
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_email_finds_what_was_sent(files: list[tuple[str, tuple[str, bytes, str]]]) -> None:
    assert by_email(post(files=files)) == [
        Part(server_side(name), server_side(filename), content_type, content)
        for name, (filename, content, content_type) in files
    ]


# The user's own boundary.


@every_parser
@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=mine", b"mine"),
        ('multipart/form-data; boundary="mine"', b"mine"),
        ('multipart/form-data; charset=utf-8; boundary="a b:/?c"', b"a b:/?c"),
        ('multipart/form-data; x="; boundary=no"; Boundary=mine;', b"mine"),
        ("multipart/form-data;boundary=" + "a" * 70, b"a" * 70),
        ("multipart/form-data; boundary=-", b"-"),
    ],
)
def test_a_boundary_of_the_users_own_is_used(
    parse: Parser, content_type: str, boundary: bytes
) -> None:
    request = post(files={"a": ("a.txt", b"content")}, headers={"Content-Type": content_type})
    assert request.headers.getlist("content-type") == [content_type]
    assert request.content.startswith(b"--" + boundary + b"\r\n")
    assert request.content.endswith(b"\r\n--" + boundary + b"--\r\n")
    assert parse(request) == [Part("a", "a.txt", "text/plain", b"content")]


@every_parser
@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data ; ",
        "multipart/form-data; charset=utf-8",
        'multipart/form-data; x="; boundary=no"',
    ],
)
def test_a_multipart_type_without_boundary_is_completed_where_it_is(
    parse: Parser, content_type: str
) -> None:
    headers = Headers([("Content-Type", content_type), ("X", "1")])
    request = post(files={"a": ("a.txt", b"content")}, headers=headers)
    assert request.headers.keys()[-2:] == ["content-type", "x"]
    completed, _, boundary = request.headers["content-type"].rpartition("; boundary=")
    assert completed == content_type.rstrip(" ;")
    assert re.fullmatch("[0-9a-f]{32}", boundary)
    assert parse(request) == [Part("a", "a.txt", "text/plain", b"content")]
    # The user's own stay as they are.
    assert headers["content-type"] == content_type


@pytest.mark.parametrize("content_type", ["Multipart/Form-Data", "multipart/mixed"])
def test_another_multipart_type_is_the_users_choice(content_type: str) -> None:
    request = post(files={"a": b""}, headers={"Content-Type": content_type})
    assert request.headers["content-type"].startswith(content_type + "; boundary=")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "multipart",
        "multipart/",
        "",
        "multipart/form-data boundary=a",
        "multipart/form-data; boundary=a b",
        "multipart/form-data; boundary=a/b",
        'multipart/form-data; boundary="a',
        "multipart/form-data; boundary",
        "multipart/form-data, multipart/form-data",
    ],
)
def test_a_content_type_that_is_no_multipart_type_is_a_value_error(content_type: str) -> None:
    with pytest.raises(ValueError, match="leave out the Content-Type"):
        post(files={"a": b""}, headers={"Content-Type": content_type})
    with pytest.raises(ValueError, match="leave out the Content-Type"):
        post(files={"a": b""}, headers=[("Content-Type", "multipart/form-data")] * 2)


@pytest.mark.parametrize(
    "boundary", ['""', '"a "', '"a;b"', r'"a\"b"', "a*b", "a" * 71, "a; boundary=b", '"é"']
)
def test_a_boundary_that_is_none_is_a_value_error(boundary: str) -> None:
    content_type = f"multipart/form-data; boundary={boundary}".encode()
    with pytest.raises(ValueError, match="RFC 2046"):
        post(files={"a": b""}, headers={"Content-Type": content_type})


@pytest.mark.parametrize(
    "arguments",
    [
        {"files": {"a": b"\r\n--mine\r\n"}},
        {"files": {"a": b"x--minerals"}},
        {"files": {"--mine": b""}},
        {"files": {"a": ("--mine", b"")}},
        {"files": {"a": ("a", b"", "a/b; c=--mine")}},
        {"files": {}, "data": {"a": "--mine"}},
    ],
)
def test_a_boundary_that_occurs_in_the_form_is_a_value_error(
    arguments: dict[str, typing.Any],
) -> None:
    with pytest.raises(ValueError, match="occurs in the form"):
        post(**arguments, headers={"Content-Type": "multipart/form-data; boundary=mine"})
    assert by_werkzeug(post(**arguments)) != []


BOUNDARIES = st.text("0123456789abcXYZ'()+_,./:=? -", min_size=1, max_size=70).filter(
    lambda boundary: boundary == boundary.strip()
)


@given(BOUNDARIES, st.data())
def test_no_content_gets_out_of_the_users_boundary(boundary: str, data: st.DataObject) -> None:
    piece = st.sampled_from([b"\r\n", b"\n", b"--", b"-", boundary.encode(), b"a", b"=", b" "])
    content = b"".join(data.draw(st.lists(piece, max_size=10)))
    headers = {"Content-Type": f'multipart/form-data; boundary="{boundary}"'}
    try:
        request = post(files={"a": ("a", content)}, data={"b": "c"}, headers=headers)
    except ValueError:
        # It is refused for a reason: the delimiter is in there.
        assume(False)
    for parse in (by_werkzeug, by_django):
        assert [part.content for part in parse(request)] == [b"c", content]
