"""What the command's options send, and what is refused before anything is sent."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from commands import Terminal, end, run, running
from servers import Peer, RawServer, ReceivedRequest, Site, hang_before_response, response_bytes

#: The command does not differ between Pythons; what starts it is in test_cli.
pytestmark = pytest.mark.once


def sent(server: Site, *arguments: str, given: str | None = None) -> ReceivedRequest:
    """The one request that these arguments make."""
    before = len(server.requests)
    result = run(*arguments, server.answer("/page"), given=given)
    assert (result.status, result.errors) == (0, "")
    assert len(server.requests) == before + 1
    return server.requests[-1]


def refused(*arguments: str) -> str:
    result = run(*arguments, "http://127.0.0.1:1/")
    assert (result.status, result.lines) == (2, [])
    assert len(result.errors.splitlines()) == 1
    return result.errors


def test_headers_as_curl_has_them(server: Site, tmp_path: pathlib.Path) -> None:
    request = sent(
        server,
        *("-H", "X-One: 1", "-H", "X-Twice: a", "--header", "X-Twice: b"),
        *("-H", "X-Empty;", "-H", "Accept:", "-A", "ours/1.0", "-HX-Near:n\u00e4h"),
    )
    assert request.headers["x-one"] == "1"
    assert request.headers["x-twice"] == "a, b"
    assert request.headers["x-empty"] == ""
    assert request.headers["user-agent"] == "ours/1.0"
    assert request.headers["x-near"].encode("latin-1").decode() == "n\u00e4h"
    assert "accept" not in request.headers

    file = tmp_path / "headers"
    file.write_text("X-A: 1\n\nX-B: 2\n")
    request = sent(server, "-H", f"@{file}")
    assert (request.headers["x-a"], request.headers["x-b"]) == ("1", "2")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("no colon", "'no colon' is no header"),
        ("a b: c", "'a b' is not a header's name"),
        ("a: b\nc: d", "a line break"),
        ("Host:", "without the header Host"),
        ("@/no/such/file", "No such file or directory: /no/such/file"),
    ],
)
def test_a_header_that_is_none_is_refused(header: str, message: str) -> None:
    assert message in refused("-H", header)


def test_a_form_as_curl_has_it(server: Site, tmp_path: pathlib.Path) -> None:
    request = sent(server, "-d", "a=1", "--data", "b=2&c=\u00e4")
    assert (request.method, request.body) == ("POST", "a=1&b=2&c=\u00e4".encode())
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"

    file = tmp_path / "data"
    file.write_bytes(b"one\r\ntwo\n")
    assert sent(server, "-d", f"@{file}").body == b"onetwo"
    assert sent(server, "--data-binary", f"@{file}").body == b"one\r\ntwo\n"
    assert sent(server, "-d", "@-", given="from\nstdin").body == b"fromstdin"

    request = sent(server, "-X", "put", "-d", "x", "-H", "Content-Type: text/plain")
    assert (request.method, request.headers["content-type"]) == ("PUT", "text/plain")


def test_json_as_curl_has_it(server: Site) -> None:
    request = sent(server, "--json", '{"a":', "--json", "1}")
    assert (request.method, request.body) == ("POST", b'{"a":1}')
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept"] == "application/json"
    request = sent(server, "--json", "1", "-H", "accept: x/y", "-X", "PATCH")
    assert (request.method, request.headers["accept"]) == ("PATCH", "x/y")


def test_a_line_may_say_otherwise(server: Site) -> None:
    url = server.answer("/page")
    lines = [{"url": url, "body": "own"}, {"url": url, "method": "DELETE"}, {"url": url}]
    given = "\n".join(map(json.dumps, lines))
    assert run("-c", "1", "-d", "all=1", "-X", "PUT", "-", given=given).status == 0
    told = [(request.method, request.body) for request in server.requests]
    assert told == [("POST", b"own"), ("DELETE", b"all=1"), ("PUT", b"all=1")]
    types = [request.headers.get("content-type") for request in server.requests]
    assert types[0] is None
    assert types[2] == "application/x-www-form-urlencoded"


def test_only_heads(server: Site) -> None:
    url = server.answer("/page", b"page")
    result = run("-I", url)
    assert result.status == 0
    assert result.lines[0].endswith(f"HEAD {url}")
    assert server.requests[0].method == "HEAD"


def test_redirects_are_followed_unless_told_not_to(server: Site) -> None:
    server.answer("/new", b"new")
    old = server.answer("/old", status=302, headers={"Location": "/new"})
    assert run("-L", old).lines[0].startswith("200 ")
    assert run("--no-follow", old).lines[0].startswith("302 ")


def test_who_is_asking(server: Site, tmp_path: pathlib.Path) -> None:
    basic = "Basic YWRhOnMzY3JldDp4"
    for option in ("-u", "--user", "--auth"):
        assert sent(server, option, "ada:s3cret:x").headers["authorization"] == basic
    for option in ("--oauth2-bearer", "--bearer"):
        assert sent(server, option, "token").headers["authorization"] == "Bearer token"
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login ada password s3cret:x\n")
    assert sent(server, "--netrc-file", str(file)).headers["authorization"] == basic


def test_netrc_is_read_at_home(server: Site, tmp_path: pathlib.Path) -> None:
    file = tmp_path / ".netrc"
    file.write_text("machine 127.0.0.1 login ada password s3cret\n")
    file.chmod(0o600)
    url = server.answer("/page")
    with Terminal("-n", url, environment={"HOME": str(tmp_path)}) as terminal:
        assert terminal.wait() == 0
    assert server.requests[0].headers["authorization"].startswith("Basic ")


def test_digest_auth_answers_a_challenge() -> None:
    challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256'}

    def handle(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            knows = "authorization" in request.headers
            peer.send(response_bytes(200 if knows else 401, b"", None if knows else challenge))

    with RawServer(handle) as server:
        assert run("--digest", "-u", "ada:s3cret", server.url).status == 0
        header = server.requests[-1].headers["authorization"]
    assert header.startswith("Digest ")
    assert "s3cret" not in header


def test_a_proxy_is_asked() -> None:
    def handle(peer: Peer) -> None:
        while peer.read_request() is not None:
            peer.send(response_bytes(200, b"of the proxy"))

    with RawServer(handle) as proxy:
        for url in (proxy.url, proxy.url.removeprefix("http://")):
            assert run("-x", url, "http://host.test/page").status == 0
        assert proxy.requests[0].target == "http://host.test/page"


def test_certificates_are_checked_unless_told_not_to(tls_server: Site, ca_path: str) -> None:
    url = tls_server.answer("/page")
    result = run(url)
    assert result.status == 1
    assert "  CertificateError: " in result.lines[0]
    assert run("--cacert", ca_path, url).status == 0
    assert run("-k", url).status == 0
    assert run("--insecure", url).status == 0


def test_retries(server: Site) -> None:
    url = server.answer("/page", status=503)
    assert run("--retries", "2", url).status == 1
    assert len(server.requests) == 3


def test_the_time_of_a_request_is_limited() -> None:
    with RawServer(hang_before_response) as server:
        result = run("-m", "0.2", "--timeout", "60", server.url)
    assert "  DeadlineExceeded: " in result.lines[0]


def test_sigterm_ends_it_as_ctrl_c_does(server: Site) -> None:
    quick = server.answer("/quick", b"quick")
    with running(quick, server.url + "/wait/never") as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("/quick\n")
        assert server.wait_for_request("/wait/never")
        os.kill(process.pid, 15)
        result = end(process)
        assert server.wait_all_closed()
    assert (result.status, result.errors) == (143, "")
    assert result.lines[-1].startswith("terminated after ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-X", "G T"], "'G T' is not a request method"),
        (["-d", "x", "--json", "1"], "one body"),
        (["-d", "@/no/such/file"], "No such file or directory: /no/such/file"),
        (["-I", "-d", "x"], "-I is a method of its own"),
        (["-u", "ada"], "--user needs USER:PASSWORD"),
        (["-u", "ada:x", "--bearer", "token"], "one auth"),
        (["--digest"], "--digest needs --user"),
        (["--bearer", "a b"], "without spaces"),
        (["--netrc-file", "/no/such/file"], "No such file or directory"),
        (["-x", "ftp://host/"], "ftp: there is no such kind of proxy"),
        (["-x", "http://"], "is no proxy"),
        (["-k", "--cacert", "/x"], "either --insecure or --cacert"),
        (["--cacert", "/no/such/file"], "No such file or directory"),
        (["--cacert", __file__], "there is no certificate in PEM form"),
        (["--retries", "-1"], "--retries"),
        (["--retries", "x"], "'x' is not a whole number from 0 on"),
        (["-m", "inf"], "'inf' is not a number of seconds"),
        (["--deadline"], "expected one argument"),
        (["--jsonn"], "unrecognized arguments: --jsonn"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], message: str) -> None:
    if arguments[-1].startswith("-"):
        result = run("http://127.0.0.1:1/", *arguments)
        assert result.status == 2
        assert message in result.errors
        assert len(result.errors.splitlines()) == 1
    else:
        assert message in refused(*arguments)


def test_options_may_come_between_urls(server: Site) -> None:
    one, two = server.answer("/one"), server.answer("/two")
    assert run(one, "-c", "1", two).lines[-1].startswith("2 fetched")
