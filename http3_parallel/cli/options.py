"""
What can be given on the command line: parsed, and checked once. Where curl has a letter for
something, it is curl's.
"""

from __future__ import annotations

import argparse
import getpass
import math
import os
import pathlib
import ssl
import stat
import sys
import typing

from ..__version__ import __version__
from ..auth import AuthTypes, BasicAuth, BearerAuth, DigestAuth, NetRCAuth
from ..client import BLOCK_WORKERS
from ..config import DEFAULT_TIMEOUT_CONFIG, Retry
from ..exceptions import HTTPError, redacted_text
from ..models import URL, Headers, Request
from ..settings import ClientOptions

__all__ = ["DemoOptions", "Options", "parse", "parse_demo", "program"]

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"

#: What a request cannot go without.
_NEEDED = frozenset({"host", "content-length", "transfer-encoding"})

_EPILOG = """\
A line of FILE or of standard input is a URL, or a JSON object with "url" and,
as needed, "method", "headers", "body" or "json", and "tag". Empty lines and
lines that begin with # are passed over. Input is read as it is needed.

A line of output is: status, bytes of the body, seconds, URL; or ERR, URL, what
happened. A status of 4xx or 5xx counts as failed. Passwords and the values of
queries are not shown, except that --jsonl has whole URLs without passwords.

Exit status: 0 if all went well, 1 if anything failed, 2 for wrong usage, 130
after Ctrl-C, 143 after SIGTERM, 141 if nobody reads the output any more.

"demo" in place of URLs shows the library at work, on a server of its own.
"""


class Options(typing.NamedTuple):
    """One run of the command."""

    urls: list[str]
    files: list[str]
    #: For `parallel()`.
    client: ClientOptions
    concurrency: int
    per_host: int | None
    deadline: float | None
    #: Seconds for each request, in all.
    max_time: float | None
    follow: bool
    #: What a line that says nothing else is sent with.
    method: str
    body: bytes | None
    #: What describes that body, unless -H does.
    body_headers: dict[str, str]
    #: Names of all -H, in lower case.
    header_names: frozenset[str]
    output: pathlib.Path | None
    resume: bool
    jsonl: bool
    with_body: bool
    quiet: bool
    verbose: bool
    progress: bool
    waterfall: pathlib.Path | None


class DemoOptions(typing.NamedTuple):
    speed: float
    html: pathlib.Path | None


class _Parser(argparse.ArgumentParser):
    """Whose errors are one line."""

    def error(self, message: str) -> typing.NoReturn:
        self.refuse(f"{message} (see --help)")

    def refuse(self, message: str) -> typing.NoReturn:
        self.exit(2, _one_line(f"{self.prog}: {message}") + "\n")


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def program() -> str:
    name = os.path.basename(sys.argv[0])
    return "python -m http3_parallel" if name == "__main__.py" else name


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _retries(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _picture(text: str) -> pathlib.Path:
    path = pathlib.Path(text)
    if path.suffix.lower() not in (".html", ".htm", ".har", ".txt"):
        raise argparse.ArgumentTypeError(f"{text!r} ends neither in .html nor in .har nor in .txt")
    return _to_write(path)


def _page(text: str) -> pathlib.Path:
    path = pathlib.Path(text)
    if path.suffix.lower() not in (".html", ".htm"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .html")
    return _to_write(path)


def _to_write(path: pathlib.Path) -> pathlib.Path:
    """It is written when all is done: too late to be told that it cannot be."""
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{str(path)!r} is a directory")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {str(path.parent)!r}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{str(path)!r} cannot be written")
    return path


def _make_parser() -> _Parser:
    parser = _Parser(
        prog=program(),
        usage="%(prog)s [options] URL...\n       %(prog)s [options] -i FILE\n       %(prog)s demo",
        description="Fetch URLs in parallel. Prints a line as each completes, and a summary.",
        epilog=_EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=28, width=79
        ),
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument_group("what to fetch").add_argument
    add("urls", metavar="URL", nargs="*", help="what to fetch; - is standard input")
    add(
        *("-i", "--input"),
        metavar="FILE",
        action="append",
        default=[],
        help="lines of URLs or JSON objects; - is standard input; may be repeated",
    )

    add = parser.add_argument_group("how much at the same time, and for how long").add_argument
    add(
        *("-c", "--concurrency"),
        metavar="N",
        type=_count,
        default=BLOCK_WORKERS,
        help="requests at the same time (default: %(default)s)",
    )
    add(
        "--per-host",
        metavar="N",
        type=_count,
        help="requests at the same time to one host and port (default: no limit of its own)",
    )
    add(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=DEFAULT_TIMEOUT_CONFIG.read_timeout,
        help="how long each step of a request may be inactive (default: %(default)g)",
    )
    add(
        *("-m", "--max-time"),
        metavar="SECONDS",
        type=_seconds,
        help="for each request in all, redirects, retries and --per-host included (default: none)",
    )
    add(
        "--deadline",
        metavar="SECONDS",
        type=_seconds,
        help="for the whole run; what is not complete by then fails, and no more is read "
        "(default: none)",
    )
    add(
        *("--retries", "--retry"),
        metavar="N",
        type=_retries,
        default=0,
        help="try again so many times, where that is safe, after a failed connection or "
        "429, 502, 503, 504 (default: 0)",
    )

    add = parser.add_argument_group("what is sent").add_argument
    add(
        *("-X", "--request"),
        metavar="METHOD",
        help="the method (default: GET, or POST with a body)",
    )
    add(*("-I", "--head"), action="store_true", help="only the head: the method HEAD")
    add(
        *("-H", "--header"),
        metavar="HEADER",
        action="append",
        default=[],
        help="'Name: value'; 'Name;' for an empty one, 'Name:' for none; @FILE for a file "
        "of them; may be repeated",
    )
    add(*("-A", "--user-agent"), metavar="NAME", help="the header User-Agent")
    add(
        *("-d", "--data"),
        metavar="DATA",
        action="append",
        help="a form as the body; @FILE, or @- for standard input, without its line breaks; "
        "repeated, joined by &",
    )
    add(
        "--data-binary",
        metavar="DATA",
        action="append",
        help="the same, with line breaks",
    )
    add(
        "--json",
        metavar="JSON",
        action="append",
        help="JSON as the body, or @FILE or @-; sets Content-Type and Accept",
    )

    add = parser.add_argument_group("who is asking").add_argument
    add(
        *("-u", "--user", "--auth"),
        metavar="USER:PASSWORD",
        help="Basic auth, for every URL; without :PASSWORD, it is asked for",
    )
    add("--digest", action="store_true", help="Digest auth with -u")
    add(
        *("--oauth2-bearer", "--bearer"),
        metavar="TOKEN",
        help="a bearer token, for every URL",
    )
    add(*("-n", "--netrc"), action="store_true", help="user and password from ~/.netrc")
    add("--netrc-file", metavar="FILE", help="the same from FILE")

    add = parser.add_argument_group("the way there").add_argument
    add(
        *("-x", "--proxy"),
        metavar="URL",
        help="a proxy for all (default: what the environment says)",
    )
    add(
        *("-k", "--insecure"),
        action="store_true",
        help="take any certificate: nobody knows who answers then",
    )
    add("--cacert", metavar="FILE", help="whose certificates to trust, in PEM form")
    add("--no-follow", action="store_true", help="do not follow redirects")
    add(
        *("-L", "--location"),
        action="store_true",
        help="follow redirects, which is done anyway",
    )
    add(
        *("-f", "--fail", "-S", "--show-error"),
        dest="curls",
        action="store_true",
        help="for a status of 4xx or 5xx to be a failure, and to be told, as they are anyway",
    )

    add = parser.add_argument_group("what comes out").add_argument
    add(
        *("-o", "--output"),
        metavar="DIR",
        help="save bodies in a folder, but for those of 4xx and 5xx",
    )
    add("--resume", action="store_true", help="with -o: pass over what is saved already")
    add(
        "--jsonl",
        action="store_true",
        help="a JSON object for each, in place of its line; the summary goes to standard error",
    )
    add("--no-body", action="store_true", help="with --jsonl: without bodies")
    add(
        "--waterfall",
        metavar="FILE",
        type=_picture,
        help="what happened when, of the last 10,000 requests: FILE.html, FILE.har or FILE.txt",
    )
    add(
        *("-s", "--silent", "-q", "--quiet"),
        action="store_true",
        help="no live display, no summary, and of the lines only those that failed",
    )
    add("--no-progress-meter", action="store_true", help="no live display")
    add(
        *("-v", "--verbose"),
        action="store_true",
        help="a log line for each request that has ended, on standard error",
    )

    add = parser.add_argument_group("this command").add_argument
    add(*("-h", "--help"), action="help", help="show this, and exit")
    add(
        *("-V", "--version"),
        action="version",
        version=f"http3-parallel {__version__}",
        help="show the version, and exit",
    )
    return parser


def parse(arguments: list[str]) -> Options:
    """Exits with a line and status 2 for what cannot be."""
    parser = _make_parser()
    if not arguments:
        parser.print_usage(sys.stderr)
        parser.error("no URL, and no -i FILE")
    given = parser.parse_intermixed_args(arguments)
    try:
        return _checked(given)
    except (OSError, ValueError, TypeError) as error:
        parser.refuse(_told(error))


def parse_demo(arguments: list[str]) -> DemoOptions:
    parser = _Parser(
        prog=f"{program()} demo",
        description="Show parallel requests at work, on a server of its own: about 12 seconds.",
        allow_abbrev=False,
    )
    # For tests: by how much the server is faster than it says.
    parser.add_argument("--speed", type=_seconds, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument(
        "--html", metavar="FILE", type=_page, help="save the waterfall of its requests as a page"
    )
    given = parser.parse_args(arguments)
    return DemoOptions(given.speed, given.html)


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        if error.filename is None:
            return error.strerror
        return f"{error.strerror}: {os.fsdecode(error.filename) or repr('')}"
    return str(error)


def _checked(given: argparse.Namespace) -> Options:
    """Raises `OSError`, `ValueError` and `TypeError`."""
    if not given.urls and not given.input:
        raise ValueError("no URL, and no -i FILE")
    stdin = [*given.urls, *given.input].count("-")
    stdin += [
        *(given.data or ()),
        *(given.data_binary or ()),
        *(given.json or ()),
        *given.header,
    ].count("@-")
    if stdin > 1:
        raise ValueError("standard input can be read for one thing only, and is asked for several")
    if stdin and sys.stdin is None:
        raise ValueError("standard input is closed")
    for url in given.urls:
        if url != "-":
            _check_url(url)
    for file in given.input:
        if file != "-":
            _check_input(file)

    headers, names, removed = _headers(given)
    body, body_headers = _body(given)
    body_headers = {n: v for n, v in body_headers.items() if n.lower() not in names}
    if given.head and (body is not None or given.request):
        raise ValueError("-I is a method of its own, without a body: not with -X or a body")
    method = given.request or ("HEAD" if given.head else "GET" if body is None else "POST")
    method = Request(method, "http://host/").method
    output = _output(given, method)
    if given.no_body and not given.jsonl:
        raise ValueError("--no-body is for --jsonl: a line has no body anyway")

    client: ClientOptions = {
        "timeout": given.timeout,
        "retries": Retry(given.retries),
        "headers": headers,
        "auth": _auth(given),
    }
    if removed:
        client["event_hooks"] = {"request": [_Remover(removed)]}
    if given.proxy is not None:
        client["proxies"] = {"all": _proxy(given.proxy)}
    if given.insecure and given.cacert:
        raise ValueError("either --insecure or --cacert")
    if given.insecure:
        client["verify"] = False
    elif given.cacert:
        _check_certificates(given.cacert)
        client["verify"] = given.cacert
    return Options(
        urls=given.urls,
        files=given.input,
        client=client,
        concurrency=given.concurrency,
        per_host=given.per_host,
        deadline=given.deadline,
        max_time=given.max_time,
        follow=not given.no_follow,
        method=method,
        body=body,
        body_headers=body_headers,
        header_names=names,
        output=output,
        resume=given.resume,
        jsonl=given.jsonl,
        with_body=not given.no_body,
        quiet=given.silent,
        verbose=given.verbose,
        progress=not (given.silent or given.no_progress_meter or given.verbose),
        waterfall=given.waterfall,
    )


def _check_url(text: str) -> None:
    try:
        url = URL(text)
    except HTTPError as error:
        hint = ""
        if "://" not in text and not text.startswith("-"):
            try:
                hint = f"; did you mean {URL('https://' + text).redacted} ?"
            except HTTPError:
                hint = ""
            if os.path.isfile(text):
                hint = f"; a file of URLs is given as -i {text}"
        raise ValueError(f"{redacted_text(text)!r} is no URL: {error.message}{hint}") from None
    if url.scheme not in ("http", "https"):
        raise ValueError(f"{url.redacted}: only http and https can be fetched")


def _check_input(path: str) -> None:
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise ValueError(f"{path} is a directory, and no file of URLs")
    if not stat.S_ISREG(mode):  # a pipe's first bytes are not to be taken from its reader
        if not os.access(path, os.R_OK):
            raise ValueError(f"{path} cannot be read")
        return
    with open(path, "rb") as file:
        start = file.read(4096)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} is UTF-16: save it as UTF-8")
    if b"\0" in start:
        raise ValueError(f"{path} is binary, and no file of URLs")


def _content(text: str) -> bytes:
    """What an option says, or the file it names."""
    if not text.startswith("@"):
        return os.fsencode(text)
    if text == "@-":
        return sys.stdin.buffer.read()
    return pathlib.Path(text[1:]).read_bytes()


def _body(given: argparse.Namespace) -> tuple[bytes | None, dict[str, str]]:
    kinds = [kind for kind in (given.data, given.data_binary, given.json) if kind is not None]
    if len(kinds) > 1:
        raise ValueError("one body: either --data, or --data-binary, or --json")
    if given.json is not None:
        return b"".join(map(_content, given.json)), {"Content-Type": _JSON, "Accept": _JSON}
    if given.data_binary is not None:
        return b"&".join(map(_content, given.data_binary)), {"Content-Type": _FORM}
    if given.data is not None:
        pieces = [
            content.translate(None, b"\r\n\0") if text.startswith("@") else content
            for text, content in [(text, _content(text)) for text in given.data]
        ]
        return b"&".join(pieces), {"Content-Type": _FORM}
    return None, {}


def _headers(given: argparse.Namespace) -> tuple[Headers, frozenset[str], frozenset[str]]:
    """Those to send, the names of all that were given, and of those not to send."""
    lines: list[str] = []
    for text in given.header:
        if text.startswith("@"):
            lines += os.fsdecode(_content(text)).splitlines()
        else:
            lines.append(text)
    pairs: list[tuple[str, bytes]] = []
    removed = set()
    for line in lines:
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        value = value.strip(" \t")
        if not colon and line.rstrip().endswith(";"):
            pairs.append((line.rstrip()[:-1], b""))
        elif not colon:
            raise ValueError(
                f"{line[:40]!r} is no header: it must be 'Name: value', or 'Name;' for an empty one"
            )
        elif value:
            pairs.append((name, os.fsencode(value)))
        elif name.lower() in _NEEDED:
            raise ValueError(f"no request can be sent without the header {name}")
        else:
            Headers([(name, b"")])
            removed.add(name.lower())
    if given.user_agent is not None:
        pairs.append(("User-Agent", os.fsencode(given.user_agent)))
    headers = Headers(pairs)
    names = frozenset(name.decode() for name, _ in headers.raw)
    return headers, names | removed, frozenset(removed)


class _Remover:
    """Takes headers away that every request has by itself."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def __call__(self, request: Request) -> None:
        for name in self._names:
            if name in request.headers:
                del request.headers[name]


def _auth(given: argparse.Namespace) -> AuthTypes | None:
    ways = [given.user is not None, given.oauth2_bearer is not None]
    ways.append(given.netrc or given.netrc_file is not None)
    if sum(ways) > 1:
        raise ValueError("one auth: either --user, or --oauth2-bearer, or --netrc")
    if given.digest and given.user is None:
        raise ValueError("--digest needs --user USER:PASSWORD")
    if given.user is not None:
        user, colon, password = given.user.partition(":")
        if not colon:
            if sys.stdin is None or not sys.stdin.isatty():
                raise ValueError("--user needs USER:PASSWORD where nobody can be asked")
            password = getpass.getpass(f"Password of {_one_line(user)}: ")
        return DigestAuth(user, password) if given.digest else BasicAuth(user, password)
    if given.oauth2_bearer is not None:
        return BearerAuth(given.oauth2_bearer)
    if given.netrc_file is not None:
        return NetRCAuth(given.netrc_file)
    return NetRCAuth() if given.netrc else None


def _check_certificates(path: str) -> None:
    is_directory = stat.S_ISDIR(os.stat(path).st_mode)
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(
            cafile=None if is_directory else path, capath=path if is_directory else None
        )
    except ssl.SSLError:
        raise ValueError(f"--cacert {path}: there is no certificate in PEM form") from None


def _proxy(text: str) -> str:
    url = text if "://" in text else f"http://{text}"
    try:
        scheme = URL(url).scheme
    except HTTPError as error:
        raise ValueError(f"{redacted_text(text)!r} is no proxy: {error.message}") from None
    if scheme not in ("http", "https", "socks4", "socks4a", "socks5", "socks5h"):
        raise ValueError(f"{scheme}: there is no such kind of proxy")
    return url


def _output(given: argparse.Namespace, method: str) -> pathlib.Path | None:
    if given.output is None:
        if given.resume:
            raise ValueError("--resume needs -o DIR, where it looks for what is saved")
        return None
    if method == "HEAD":
        raise ValueError("-o saves bodies, and -I asks for none")
    if not given.output:
        raise ValueError("-o needs a folder; . is this one")
    if given.output == "-":
        raise ValueError(
            "-o is a folder here; what goes to standard output is --jsonl, with bodies"
        )
    path = pathlib.Path(given.output)
    if path.exists() and not path.is_dir():
        raise ValueError(f"-o {path}: it is a file, and must be a folder")
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK | os.X_OK):
        raise ValueError(f"-o {path}: the folder cannot be written to")
    return path
