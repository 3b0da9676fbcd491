"""
A file written whole or not at all.

1. *Until all is there, the path is what it was.* The bytes go to a temporary file beside it, in
   the same directory and so on the same file system, which takes its place in one step.
2. *Whatever breaks that off, the temporary file goes*: an error of the body or of the disk, an
   interrupt. Only where the process is killed does one stay, named ``.http3-parallel-….part``.
3. *What cannot be written is told before the first piece is asked for*: no such directory, no
   permission, something there that is no file.

Nothing is synced to the disk: after a loss of power, the file may be the old one, the new one,
or by the laws of the file system neither.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import stat
import typing
from collections.abc import Iterable

__all__ = ["save_pieces"]


def save_pieces(path: str | os.PathLike[str], pieces: Iterable[bytes]) -> pathlib.Path:
    """Write them to a file at `path`. Raises `OSError`, and what `pieces` raises."""
    given = pathlib.Path(path)  # a TypeError for what is none
    target, mode = _find_target(os.fspath(path))
    name = f".http3-parallel-{os.urandom(8).hex()}.part"
    temporary = os.path.join(os.path.dirname(target), name)
    try:
        with _create(temporary, mode, os.fspath(path)) as file:
            if mode is not None:
                _restore_mode(file, mode)
            file.writelines(pieces)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):  # not made yet, or in its place already
            os.unlink(temporary)
        raise
    return given


def _find_target(path: str) -> tuple[str, int | None]:
    """The file to put in place, at the end of symbolic links, and the mode of one there now."""
    separators = (os.sep, os.altsep or os.sep)
    if path.endswith(separators):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    target = os.path.realpath(path)
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return target, None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    if not stat.S_ISREG(mode):
        # As root, /dev/null would become an ordinary file.
        raise OSError(errno.EINVAL, "Only an ordinary file can be replaced", path)
    if not os.access(target, os.W_OK):
        # The directory's permission would do, but whoever took the file's own meant something.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    return target, stat.S_IMODE(mode) & 0o777


def _create(temporary: str, mode: int | None, path: str) -> typing.BinaryIO:
    # Never more open than the file that it replaces, not even while it is empty.
    created = 0o666 if mode is None else mode
    try:
        return open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, created))
    except OSError as error:
        error.filename = path  # nobody asked for the other name
        raise


def _restore_mode(file: typing.BinaryIO, mode: int) -> None:
    """Also what the umask took when it was created."""
    if hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):  # some file systems have no modes
            os.fchmod(file.fileno(), mode)
