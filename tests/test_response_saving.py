from __future__ import annotations

import errno
import gzip
import os
import pathlib
import pickle
import random
import signal
import stat
import sys
import threading
import time
import tracemalloc
import typing
from collections.abc import Iterator

import pytest

import http3_parallel as http3
from http3_parallel.exceptions import (
    DecodingError,
    HTTPStatusError,
    ReadError,
    ResponseClosed,
    ResponseNotRead,
    StreamConsumed,
)
from http3_parallel.models import Response, saving
from servers import PATIENCE, Peer, RawServer, Site
from streamed import Closing, Source

MIB = 1024 * 1024

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="tests modes and symbolic links")


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    """That files are saved in, and where nothing else may be afterwards."""
    path = tmp_path / "directory"
    path.mkdir()
    return path


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def mode_of(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(directory: pathlib.Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# What is written.


@pytest.mark.parametrize("kept", [False, True])
def test_the_body_is_written_decoded(directory: pathlib.Path, kept: bool) -> None:
    closing = Closing()
    encoded = gzip.compress(b"content")
    response = Response(
        200,
        headers={"content-encoding": "gzip"},
        content=Source(encoded[:5], encoded[5:]),
        on_close=closing,
    )
    if kept:
        response.read()
    path = directory / "file"
    assert response.save(path) == path
    assert path.read_bytes() == b"content"
    assert names_in(directory) == ["file"]
    assert closing.calls == 1


def test_content_that_is_there_is_saved_repeatedly(directory: pathlib.Path) -> None:
    encoded = gzip.compress(b"content")
    response = Response(200, headers={"content-encoding": "gzip"}, content=encoded)
    for name in "a", "b":
        assert response.save(directory / name).read_bytes() == b"content"
    assert response.content == b"content"
    assert response.save(directory / "c").read_bytes() == b"content"


def test_a_body_without_bytes_is_a_file_without_bytes(directory: pathlib.Path) -> None:
    for content in None, iter([b""]):
        assert Response(204, content=content).save(directory / "file").read_bytes() == b""


def test_a_stream_is_saved_once_and_not_kept(directory: pathlib.Path) -> None:
    response = Response(200, content=Source(b"a"))
    response.save(directory / "file")
    with pytest.raises(StreamConsumed):
        response.save(directory / "again")
    with pytest.raises(ResponseNotRead, match="iterated over, and was not kept"):
        response.content  # noqa: B018  (the access is the test)
    assert names_in(directory) == ["file"]
    again = pickle.loads(pickle.dumps(response))
    assert again.status_code == 200
    with pytest.raises(StreamConsumed):
        again.save(directory / "again")


def test_what_was_closed_is_not_saved(directory: pathlib.Path) -> None:
    response = Response(200, content=Source(b"a"))
    response.close()
    with pytest.raises(ResponseClosed):
        response.save(directory / "file")
    assert names_in(directory) == []


@pytest.mark.parametrize("kind", [str, pathlib.Path, os.DirEntry])
def test_a_path_is_text_or_path_like(directory: pathlib.Path, kind: type) -> None:
    (directory / "file").write_bytes(b"old")
    path: typing.Any
    if kind is os.DirEntry:
        (path,) = os.scandir(directory)
    else:
        path = kind(directory / "file")
    saved = Response(200, content=b"new").save(path)
    assert type(saved) is type(directory)
    assert saved == directory / "file"
    assert saved.read_bytes() == b"new"


@pytest.mark.parametrize("path", [b"file", 1, None])
def test_what_is_no_path_is_a_type_error(path: typing.Any) -> None:
    source = Source(b"a")
    with pytest.raises(TypeError):
        Response(200, content=source).save(path)
    assert len(source._chunks) == 1


def test_a_relative_path_is_of_the_current_directory(
    directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory)
    assert Response(200, content=b"a").save("file") == pathlib.Path("file")
    assert (directory / "file").read_bytes() == b"a"


def test_any_status_is_saved_and_raise_for_status_goes_before(directory: pathlib.Path) -> None:
    path = directory / "file"
    assert Response(404, content=b"gone").save(path).read_bytes() == b"gone"
    path.unlink()
    assert Response(200, content=b"a").raise_for_status().save(path) == path
    with pytest.raises(HTTPStatusError):
        Response(404, content=b"gone").raise_for_status().save(path)
    assert path.read_bytes() == b"a"


def test_a_large_body_takes_little_memory(directory: pathlib.Path) -> None:
    def source() -> Iterator[bytes]:
        chunk = bytes(64 * 1024)
        for _ in range(100 * 16):
            yield chunk

    tracemalloc.start()
    try:
        path = Response(200, content=source()).save(directory / "file")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size == 100 * MIB
    assert peak < 4 * MIB


def test_a_stream_of_the_network_is_saved_and_its_connection_used_again(
    server: Site, directory: pathlib.Path
) -> None:
    content = os.urandom(3 * MIB)
    url = server.answer("/file", content)
    with http3.Client() as client:
        for name in "a", "b":
            path = client.get(url, stream=True).save(directory / name)
            assert path.read_bytes() == content
    assert len(server.connections) == 1


# Modes and links.


@pytest.mark.usefixtures("umask")
def test_a_new_file_has_the_mode_that_open_gives(directory: pathlib.Path) -> None:
    (directory / "opened").write_bytes(b"")
    path = Response(200, content=b"a").save(directory / "file")
    assert mode_of(path) == mode_of(directory / "opened") == 0o640


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("mode", [0o600, 0o666, 0o755, 0o240])
def test_a_replaced_file_keeps_its_mode(directory: pathlib.Path, mode: int) -> None:
    path = directory / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    seen: list[int] = []

    def source() -> Iterator[bytes]:
        seen.extend(mode_of(path) for path in directory.iterdir())
        yield b"new"

    Response(200, content=source()).save(path)
    assert seen == [mode, mode]  # the temporary file's from the start
    assert mode_of(path) == mode
    path.chmod(0o600)
    assert path.read_bytes() == b"new"


def test_a_symbolic_link_is_followed(directory: pathlib.Path, tmp_path: pathlib.Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link, chain = directory / "link", directory / "chain"
    link.symlink_to(elsewhere / "file")
    chain.symlink_to("link")
    for content in b"one", b"two":  # the first where nothing is yet
        assert Response(200, content=content).save(chain) == chain
        assert (elsewhere / "file").read_bytes() == content
        assert chain.is_symlink()
        assert link.is_symlink()
        assert names_in(elsewhere) == ["file"]


def test_other_links_to_a_replaced_file_keep_the_old_one(directory: pathlib.Path) -> None:
    path, other = directory / "file", directory / "other"
    path.write_bytes(b"old")
    other.hardlink_to(path)
    Response(200, content=b"new").save(path)
    assert (path.read_bytes(), other.read_bytes()) == (b"new", b"old")


# What cannot be written.


def make_directory(path: pathlib.Path) -> pathlib.Path:
    path.mkdir()
    return path


def make_loop(path: pathlib.Path) -> pathlib.Path:
    path.symlink_to(path)
    return path


def make_pipe(path: pathlib.Path) -> pathlib.Path:
    os.mkfifo(path)
    return path


def make_file_as_parent(path: pathlib.Path) -> pathlib.Path:
    path.write_bytes(b"")
    return path / "file"


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (make_directory, errno.EISDIR),
        (lambda path: f"{path}/", errno.EISDIR),
        (lambda path: path / "file", errno.ENOENT),
        (make_file_as_parent, errno.ENOTDIR),
        (make_loop, errno.ELOOP),
        (make_pipe, errno.EINVAL),
        (lambda _: "/dev/null", errno.EINVAL),
    ],
)
def test_what_cannot_be_written_is_told_before_the_body_is_read(
    directory: pathlib.Path, make: typing.Callable[[pathlib.Path], str | pathlib.Path], number: int
) -> None:
    path = make(directory / "path")
    before = names_in(directory)
    source = Source(b"a")
    response = Response(200, content=source)
    with pytest.raises(OSError) as caught:  # noqa: PT011  (its number is looked at)
        response.save(path)
    assert caught.value.errno == number
    assert str(directory / "path") in str(caught.value) or "/dev/null" in str(caught.value)
    assert ".part" not in str(caught.value)
    assert names_in(directory) == before
    assert len(source._chunks) == 1
    # So that it can be saved elsewhere.
    assert response.save(directory / "elsewhere").read_bytes() == b"a"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everything")
def test_permissions_are_asked_for_before_the_body_is_read(directory: pathlib.Path) -> None:
    path = directory / "file"
    path.write_bytes(b"old")
    path.chmod(0o444)
    response = Response(200, content=Source(b"a"))
    with pytest.raises(PermissionError):
        response.save(path)
    directory.chmod(0o555)
    try:
        with pytest.raises(PermissionError):
            response.save(directory / "new")
    finally:
        directory.chmod(0o755)
    assert path.read_bytes() == b"old"
    assert not response.is_stream_consumed


def test_a_file_that_must_not_be_written_is_not_replaced(
    directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = directory / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda name, mode: False)  # root's tests run as root
    with pytest.raises(PermissionError, match="file"):
        Response(200, content=b"new").save(path)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("length", [1, 200, 255])
def test_a_name_may_be_as_long_as_names_may_be(directory: pathlib.Path, length: int) -> None:
    path = Response(200, content=b"a").save(directory / ("n" * length))
    assert path.read_bytes() == b"a"


def test_a_name_that_is_too_long_is_told(directory: pathlib.Path) -> None:
    with pytest.raises(OSError, match="name too long"):
        Response(200, content=b"a").save(directory / ("n" * 256))
    assert names_in(directory) == []


# What fails in the middle.


class Broken(Exception):
    """Of the user's own."""


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(
    "error", [ReadError("broken"), Broken(), KeyboardInterrupt(), SystemExit()]
)
def test_a_body_that_breaks_leaves_everything_as_it_was(
    directory: pathlib.Path, existing: bool, error: BaseException
) -> None:
    path = directory / "file"
    if existing:
        path.write_bytes(b"old")
    before = names_in(directory)
    closing = Closing()
    response = Response(200, content=Source(b"new", error), on_close=closing)
    with pytest.raises(type(error)) as caught:
        response.save(path)
    assert caught.value is error
    assert names_in(directory) == before
    assert not existing or path.read_bytes() == b"old"
    assert closing.calls == 1


@pytest.mark.parametrize("streamed", [False, True])
def test_a_damaged_body_leaves_everything_as_it_was(
    directory: pathlib.Path, streamed: bool
) -> None:
    cut = gzip.compress(os.urandom(MIB))[:-10]
    response = Response(
        200, headers={"content-encoding": "gzip"}, content=[cut] if streamed else cut
    )
    with pytest.raises(DecodingError, match="ends before"):
        response.save(directory / "file")
    assert names_in(directory) == []


def test_a_full_disk_leaves_everything_as_it_was(
    directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    path = directory / "file"
    path.write_bytes(b"old")
    closing, source = Closing(), Source(b"x" * 100_000, b"x" * 100_000, b"end")
    response = Response(200, content=source, on_close=closing)
    # The same to a process as a disk that is full, but for the number of the error.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with pytest.raises(OSError) as caught:  # noqa: PT011  (its number is looked at)
            response.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == b"old"
    assert names_in(directory) == ["file"]
    # What is left of the body would be of no use: its connection is not kept waiting.
    assert closing.calls == 1
    assert response.is_closed


def test_a_name_that_became_a_directory_meanwhile_leaves_nothing_behind(
    directory: pathlib.Path,
) -> None:
    path = directory / "file"

    def source() -> Iterator[bytes]:
        yield b"a"
        path.mkdir()

    with pytest.raises(OSError, match="directory"):
        Response(200, content=source()).save(path)
    assert names_in(directory) == ["file"]
    assert path.is_dir()


def test_the_file_is_whole_when_it_is_there(directory: pathlib.Path) -> None:
    path = directory / "file"
    path.write_bytes(b"old")
    seen = []

    def source() -> Iterator[bytes]:
        for _ in range(3):
            seen.append(path.read_bytes())
            yield b"x" * 100_000

    Response(200, content=source()).save(path)
    assert seen == [b"old"] * 3
    assert path.stat().st_size == 300_000


def test_many_threads_may_save_to_one_path(directory: pathlib.Path) -> None:
    path = directory / "file"
    contents = [bytes([number]) * 300_000 for number in range(8)]

    def save(content: bytes) -> None:
        Response(200, content=[content[:100_000], content[100_000:]]).save(path)

    threads = [threading.Thread(target=save, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert path.read_bytes() in contents
    assert names_in(directory) == ["file"]


def test_a_stream_that_its_block_closes_while_it_is_saved_leaves_nothing(
    directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[BaseException] = []
    created = threading.Event()
    create = saving._create

    def create_and_tell(*arguments: typing.Any) -> typing.BinaryIO:
        created.set()
        return create(*arguments)

    monkeypatch.setattr(saving, "_create", create_and_tell)

    def half_a_body(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        peer.wait_closed()

    def save(response: Response) -> None:
        try:
            response.save(directory / "file")
        except http3.HTTPError as error:
            failures.append(error)

    with RawServer(half_a_body) as server, http3.parallel(timeout=None) as parallel:
        response = parallel.get(server.url, stream=True).get_response()
        saver = threading.Thread(target=save, args=(response,))
        saver.start()
        assert created.wait(PATIENCE)
        parallel.close()
        saver.join(PATIENCE)
        assert not saver.is_alive()
        assert server.wait_all_closed()
    assert len(failures) == 1
    assert names_in(directory) == []


@pytest.mark.slow  # also since an interrupt within what measures the tests would lock that up
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
# A file that was just opened, before it has a name, is closed by its finalizer.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_an_interrupt_at_any_instant_leaves_the_old_file_or_the_new(
    directory: pathlib.Path,
) -> None:
    generator = random.Random(1)
    path = directory / "file"
    old, new = b"old", b"x" * 400
    started = time.perf_counter()
    Response(200, content=[b"x" * 10] * 40).save(path)
    longest = 2 * (time.perf_counter() - started)
    interrupted = 0
    armed = False

    def interrupt(*_: object) -> None:
        if armed:  # a late one would strike the test itself
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(1000):
            path.write_bytes(old)
            closing = Closing()
            response = Response(200, content=Source(*[b"x" * 10] * 40), on_close=closing)
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, generator.uniform(1e-6, longest))
                try:
                    response.save(path)
                finally:
                    armed = False
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            assert names_in(directory) == ["file"]
            assert path.read_bytes() in (old, new)
            response.close()
            assert closing.calls >= 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted
