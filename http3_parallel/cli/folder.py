"""
The folder that bodies are saved in, each under a name that tells its request.

1. *A name is a function of the request alone*: of its method, URL, body, headers and tag, not of
   what else is fetched, or when. So a later run finds what an earlier one saved, and nothing needs
   to be remembered.
2. *Different requests have different names*, also on file systems that take ``A`` for ``a``. A
   name in lower case that says all of a plain URL is the URL, more or less; any other has 64 bits
   of a hash in it, after a ``~``, which no plain name has.
3. *No name leads out of the folder*: it is one of ours, without separators, not hidden, not a
   device of Windows, not too long. A symbolic link of that name is replaced, not followed.
4. *A file under its name is whole.* It is written under another, hidden one, and renamed. What a
   run that was killed left behind is removed by the next that resumes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import re
import stat
import time
import typing
from collections.abc import Iterable

from ..models import Request

try:
    import fcntl
except ImportError:  # Windows, where nobody removes a file that another has open
    fcntl = None  # type: ignore[assignment]

__all__ = ["Folder"]

_PART = re.compile(r"\.http3-parallel-[0-9a-f]{16}\.part")
#: Seconds. A younger one may just not be locked yet.
_SURELY_LOCKED = 60.0

#: Characters of a name before its hash: with it and the ending, what any file system takes.
_LONGEST = 120
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,8}\Z")
_PLAIN_HOST = re.compile(r"[a-z0-9][a-z0-9.-]*[a-z0-9]")
_PLAIN_PATH = re.compile(r"(/[a-z0-9.-]+)*/?")
_UNSAFE = re.compile(r"(%[0-9A-F]{2}|[^A-Za-z0-9.-])+")
#: What Windows takes for a device, whatever its ending.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|\Z)", re.IGNORECASE)

_HASH = 16


def file_name(request: Request, headers: object, tag: object) -> str:
    """See the module. `headers` and `tag`: of its line of input."""
    url = request.url
    host = url.host if url.is_ssl else f"http+{url.host}"
    if url.port != (443 if url.is_ssl else 80):
        host += f"+{url.port}"
    path = url.path
    is_plain = (
        request.method == "GET"
        and not request.content
        and not headers
        and tag is None
        and not url.query
        and "?" not in url.full_path
        and _PLAIN_HOST.fullmatch(url.host) is not None
        and _PLAIN_PATH.fullmatch(path) is not None
        and (path == "/" or not path.endswith("/"))
        and not path.endswith(".")
    )
    readable = host + ("" if path == "/" else path.replace("/", "_"))
    if is_plain and len(readable) <= _LONGEST and not _DEVICE.match(readable):
        return readable
    ending = _ENDING.search(path)
    stem = readable if ending is None else readable[: -len(ending[0])]
    query = f"_{url.query}" if url.query else ""
    words = (_UNSAFE.sub("_", part) for part in (request.method.lower(), stem + query))
    method, stem = words
    name = (stem if method == "get" else f"{method}_{stem}")[:_LONGEST].strip("._-") or "_"
    if _DEVICE.match(name):
        name = "_" + name
    identity = json.dumps(
        [request.method, host, url.full_path, headers or None, tag], sort_keys=True
    ).encode()
    digest = hashlib.sha256(identity + b"\n" + request.content).hexdigest()[:_HASH]
    return f"{name}~{digest}{'' if ending is None else ending[0].lower()}"


class Folder:
    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def find(self, name: str) -> pathlib.Path:
        return self.path / name

    def has(self, name: str) -> bool:
        """Whether it is there, and so whole."""
        with contextlib.suppress(OSError):
            return stat.S_ISREG(os.lstat(self.path / name).st_mode)
        return False

    def save(self, name: str, pieces: Iterable[bytes]) -> int:
        """Write them to the file `name`. Returns its size. Raises what `pieces` does, `OSError`."""
        target = os.path.join(self.path, name)
        temporary = os.path.join(self.path, f".http3-parallel-{os.urandom(8).hex()}.part")
        size = 0
        try:
            with open(temporary, "xb") as file:
                if fcntl is not None:
                    with contextlib.suppress(OSError):  # some file systems have no locks
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for piece in pieces:
                    file.write(piece)
                    size += len(piece)
            os.replace(temporary, target)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            if isinstance(error, OSError) and error.filename == temporary:
                # Nobody asked for the other name.
                error.filename, error.filename2 = target, None
            raise
        return size

    def remove_remains(self) -> None:
        """What dead runs have left behind; not what one that lives is at."""
        with contextlib.suppress(OSError):
            for path in self._parts():
                with contextlib.suppress(OSError):
                    with open(path, "r+b") as file:
                        if time.time() - os.fstat(file.fileno()).st_mtime < _SURELY_LOCKED:
                            continue
                        if fcntl is not None:
                            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()

    def _parts(self) -> typing.Iterator[pathlib.Path]:
        with os.scandir(self.path) as entries:
            for entry in entries:
                if _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    yield pathlib.Path(entry.path)
