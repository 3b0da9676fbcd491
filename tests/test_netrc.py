"""Credentials from a netrc file: where it is found, what it says, and what is wrong with it."""

from __future__ import annotations

import base64
import os
import pathlib
import pickle
import sys
import typing

import pytest

import http3_parallel as http3
from flow_steps import Answers, drive, redirect, respond
from http3_parallel.auth import NetRCAuth

FILE = """# comment
machine example.com login user password secret
machine Example.ORG
    login user2
    account ignored
    password p:w
machine 192.0.2.1 login four password x
machine ::1 login six password x
machine [2001:db8::1] login bracketed password x
default login anonymous password user@example.net
"""


@pytest.fixture
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setenv("USERPROFILE", str(path))
    return path


def write(path: pathlib.Path, text: str, mode: int = 0o600) -> pathlib.Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def credentials(auth: http3.Auth, url: str) -> str | None:
    """What is sent there: user and password of Basic."""
    answers = Answers(respond(200))
    drive(http3.Request("GET", url), answers, auth=auth)
    value = answers.requests[0].headers.get("authorization")
    if value is None:
        return None
    scheme, _, encoded = value.partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(encoded, validate=True).decode("latin-1")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.com/", "user:secret"),
        ("https://EXAMPLE.com:8443/path", "user:secret"),
        ("http://example.org/", "user2:p:w"),
        ("http://192.0.2.1/", "four:x"),
        ("http://[::1]:8000/", "six:x"),
        ("http://[2001:db8::1]/", "bracketed:x"),
        ("http://www.example.com/", "anonymous:user@example.net"),
        ("http://default/", "anonymous:user@example.net"),
    ],
)
def test_a_host_gets_its_entry_or_the_default(
    url: str, expected: str, tmp_path: pathlib.Path
) -> None:
    auth = NetRCAuth(write(tmp_path / "netrc", FILE))
    assert credentials(auth, url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.com/", "user:secret"),
        ("http://url:pw@example.com/", "user:secret"),
        ("http://example.org/", None),
        ("http://url:p%40w@example.org/", "url:p@w"),
        ("http://aexample.com/", None),
        ("http://example.com.evil.test/", None),
    ],
)
def test_without_an_entry_the_request_goes_as_it_is(
    url: str, expected: str | None, tmp_path: pathlib.Path
) -> None:
    file = write(tmp_path / "netrc", "machine example.com login user password secret")
    assert credentials(NetRCAuth(file), url) == expected
    assert credentials(NetRCAuth(str(file)), url) == expected


def test_a_header_of_the_users_own_stays_where_there_is_no_entry(tmp_path: pathlib.Path) -> None:
    auth = NetRCAuth(write(tmp_path / "netrc", "machine example.com login user password secret"))
    for host, expected in [("example.org", "Bearer x"), ("example.com", "Basic dXNlcjpzZWNyZXQ=")]:
        answers = Answers(respond(200))
        request = http3.Request("GET", f"http://{host}/", headers={"Authorization": "Bearer x"})
        drive(request, answers, auth=auth)
        assert answers.requests[0].headers.getlist("authorization") == [expected]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="not understood before")
@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("", None),
        ("login only", "only:"),
        ("password only", ":only"),
        ('login "us er" password "p#\\"w"', 'us er:p#"w'),
        ("login us\u00e9r password x", "us\u00e9r:x"),
    ],
)
def test_what_newer_pythons_understand(
    entry: str, expected: str | None, tmp_path: pathlib.Path
) -> None:
    text = f"machine example.com {entry}\ndefault login user password secret"
    auth = NetRCAuth(write(tmp_path / "netrc", text))
    # Without either, it has none; not those of the default.
    assert credentials(auth, "http://example.com/") == expected


def test_a_machine_that_is_called_like_the_default_is_not_it(tmp_path: pathlib.Path) -> None:
    auth = NetRCAuth(write(tmp_path / "netrc", "machine DEFAULT login user password secret"))
    assert credentials(auth, "http://example.com/") is None
    assert credentials(auth, "http://default/") == "user:secret"


def test_a_redirect_to_another_host_takes_no_credentials_along(tmp_path: pathlib.Path) -> None:
    answers = Answers(redirect("http://example.org/"), respond(200))
    auth = NetRCAuth(write(tmp_path / "netrc", FILE))
    drive(http3.Request("GET", "http://example.com/"), answers, auth=auth)
    first, second = answers.requests
    assert "authorization" in first.headers
    assert "authorization" not in second.headers


def test_it_works_as_a_clients_auth(tmp_path: pathlib.Path) -> None:
    class Echo(http3.Dispatcher):
        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            text = request.headers.get("authorization", "none")
            return http3.Response(200, content=text.encode(), request=request)

    auth = NetRCAuth(write(tmp_path / "netrc", "machine example.com login user password secret"))
    with http3.Client(dispatch=Echo(), auth=auth) as client, client.parallel() as parallel:
        known = parallel.get("http://example.com/")
        unknown = parallel.get("http://example.org/")
        assert known.get_response().text == "Basic dXNlcjpzZWNyZXQ="
        assert unknown.get_response().text == "none"


# Which file.


ONE = "machine example.com login {} password secret"


def test_the_default_file_is_in_the_home_directory(home: pathlib.Path) -> None:
    write(home / ".netrc", ONE.format("home"))
    assert credentials(NetRCAuth(), "http://example.com/") == "home:secret"


def test_the_environment_may_name_another(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / ".netrc", ONE.format("home"))
    write(home / "other", ONE.format("other"), mode=0o644)
    for named in (str(home / "other"), "~/other"):
        monkeypatch.setenv("NETRC", named)
        assert credentials(NetRCAuth(), "http://example.com/") == "other:secret"
    assert credentials(NetRCAuth(home / ".netrc"), "http://example.com/") == "home:secret"
    monkeypatch.setenv("NETRC", "")
    assert credentials(NetRCAuth(), "http://example.com/") == "home:secret"


def test_a_file_that_nobody_named_may_be_missing(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert credentials(NetRCAuth(), "http://example.com/") is None
    monkeypatch.setenv("NETRC", str(home / "missing"))
    write(home / ".netrc", ONE.format("home"))
    assert credentials(NetRCAuth(), "http://example.com/") is None
    monkeypatch.delenv("NETRC")
    monkeypatch.setenv("HOME", os.devnull)
    monkeypatch.setenv("USERPROFILE", os.devnull)
    assert credentials(NetRCAuth(), "http://example.com/") is None


def test_windows_has_another_name_for_it(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / "_netrc", ONE.format("underscore"))
    assert credentials(NetRCAuth(), "http://example.com/") is None
    monkeypatch.setattr("http3_parallel.auth.netrc._FALLBACK", "~/_netrc")
    assert credentials(NetRCAuth(), "http://example.com/") == "underscore:secret"
    write(home / ".netrc", ONE.format("dot"))
    assert credentials(NetRCAuth(), "http://example.com/") == "dot:secret"


def test_it_is_read_once(tmp_path: pathlib.Path) -> None:
    file = write(tmp_path / "netrc", ONE.format("first"))
    auth = NetRCAuth(file)
    file.unlink()
    assert credentials(auth, "http://example.com/") == "first:secret"


# What is wrong with it.


def test_a_named_file_must_be_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        NetRCAuth(tmp_path / "missing")
    with pytest.raises(OSError, match=tmp_path.name):
        NetRCAuth(tmp_path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("machine example.com login user password secret\nsecret-typo x\n", 2),
        ("machine example.com login user secret\n", 2),
        ("machine example.com\n\n  login user\n  passwort secret\n", 4),
    ],
)
def test_a_malformed_file_is_named_but_not_shown(
    text: str, line: int, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(home / ".netrc", text)
    with pytest.raises(ValueError, match=rf"netrc file.* line {line}\b") as caught:
        NetRCAuth(file)
    assert str(caught.value).startswith(f"{file} ")
    assert not {"secret", "user", "passwort"} & set(str(caught.value).replace("-", " ").split())
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    with pytest.raises(ValueError, match=r"^~/\.netrc is not a netrc file"):
        NetRCAuth()
    monkeypatch.setenv("NETRC", str(file))
    with pytest.raises(ValueError, match="is not a netrc file"):
        NetRCAuth()


def test_a_file_that_is_no_text_is_named_but_not_shown(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def undecodable(file: str) -> typing.NoReturn:
        b"machine example.com login user password secret\xff".decode("utf-8")
        raise AssertionError

    # Where the system's encoding takes anything, as many do, the library falls back to that.
    monkeypatch.setattr("netrc.netrc", undecodable)
    with pytest.raises(ValueError, match="is not a netrc file") as caught:
        NetRCAuth(tmp_path / "netrc")
    assert str(tmp_path) in str(caught.value)
    assert type(caught.value) is ValueError
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_user_name_that_cannot_be_sent_is_an_error_of_the_file(tmp_path: pathlib.Path) -> None:
    file = write(tmp_path / "netrc", "machine example.com login us:er password secret")
    with pytest.raises(ValueError, match="colon") as caught:
        NetRCAuth(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "secret" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="the system has no such permissions")
def test_the_default_file_must_be_closed_to_others(home: pathlib.Path) -> None:
    file = write(home / ".netrc", ONE.format("user"), mode=0o644)
    with pytest.raises(ValueError, match="chmod 600") as caught:
        NetRCAuth()
    assert "~/.netrc" in str(caught.value)
    assert "secret" not in str(caught.value)
    # Who names it wants it, as with any other program.
    assert credentials(NetRCAuth(file), "http://example.com/") == "user:secret"


@pytest.mark.parametrize("file", [5, b"netrc", ["netrc"], True])
def test_what_is_no_path_is_refused(file: typing.Any) -> None:
    with pytest.raises(TypeError, match="path"):
        NetRCAuth(file)


def test_it_pickles_and_shows_nothing_of_itself(tmp_path: pathlib.Path) -> None:
    auth = NetRCAuth(write(tmp_path / "netrc", FILE))
    assert repr(auth) == "<NetRCAuth>"
    copy = pickle.loads(pickle.dumps(auth))
    assert credentials(copy, "http://example.com/") == "user:secret"
    assert credentials(copy, "http://example.net/") == "anonymous:user@example.net"
