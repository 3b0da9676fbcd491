from __future__ import annotations

import pickle
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from http3_parallel.exceptions import InvalidURL
from http3_parallel.models import URL, Origin, references


def test_a_url_has_its_components() -> None:
    url = URL("https://user:pass@example.org:8443/a/b?x=1&y=2#frag")
    assert url.scheme == "https"
    assert url.authority == "user:pass@example.org:8443"
    assert (url.username, url.password) == ("user", "pass")
    assert url.host == "example.org"
    assert url.port == 8443
    assert url.path == "/a/b"
    assert url.query == "x=1&y=2"
    assert url.full_path == "/a/b?x=1&y=2"
    assert url.fragment == "frag"
    assert url.is_ssl
    assert url.is_absolute_url is True
    assert url.is_relative_url is False


def test_a_short_url_has_defaults() -> None:
    url = URL("http://example.org")
    assert str(url) == "http://example.org"
    assert url.authority == "example.org"
    assert (url.username, url.password) == ("", "")
    assert (url.port, url.path, url.full_path) == (80, "/", "/")
    assert (url.query, url.fragment) == ("", "")
    assert not url.is_ssl
    assert URL("https://example.org").port == 443
    assert URL("ftp://example.org").port is None


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("HTTPS://Example.ORG/A", "https://example.org/A"),
        ("http://x/a/./b/../c", "http://x/a/c"),
        ("http://x/..", "http://x/"),
        ("http://x/../../a/.", "http://x/a/"),
        ("http://x/a//../b", "http://x/a/b"),
        ("http://x/.well-known/a..b/...", "http://x/.well-known/a..b/..."),
        ("http://x/%c3%a9%7e", "http://x/%C3%A9%7E"),
        ("http://x/a b?c d#e f", "http://x/a%20b?c%20d#e%20f"),
        ("http://x/é?ü=ö", "http://x/%C3%A9?%C3%BC=%C3%B6"),
        ("http://x/100%", "http://x/100%25"),
        ("http://x/%zz%41", "http://x/%25zz%41"),
        ('http://x/"<>\\^`{|}[]', "http://x/%22%3C%3E%5C%5E%60%7B%7C%7D%5B%5D"),
        ("http://x?a=1", "http://x?a=1"),
        ("http://x/?", "http://x/?"),
        ("http://x:80/", "http://x:80/"),
        ("http://x:/", "http://x:/"),
        ("http://u ser:p@ss@x/", "http://u%20ser:p%40ss@x/"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://BÜCHER.example/", "http://xn--bcher-kva.example/"),
        # IDNA 2008 keeps the sharp s, which IDNA 2003 replaced.
        ("http://faß.de/", "http://xn--fa-hia.de/"),
        ("http://日本語。jp/", "http://xn--wgv71a119e.jp/"),
        ("http://[2001:DB8::1]:8080/", "http://[2001:db8::1]:8080/"),
        ("http://[fe80::1%eth0]/", "http://[fe80::1%25eth0]/"),
        ("http://[fe80::1%25Eth0]/", "http://[fe80::1%25Eth0]/"),
        ("http://under_score.r3---sn-x.example./", "http://under_score.r3---sn-x.example./"),
    ],
)
def test_a_url_is_normalised(given: str, normal: str) -> None:
    assert str(URL(given)) == normal
    assert str(URL(normal)) == normal


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "no scheme"),
        ("example.org/path", "no scheme"),
        ("//example.org/", "no scheme"),
        ("localhost:8000/", "no host"),
        ("http://", "no host"),
        ("http:///path", "no host"),
        ("http://:80/", "no host"),
        ("http://user@/", "no host"),
        ("http:path", "no host"),
        ("http://x:65536/", "above 65535"),
        ("http://x:99999999999999999999/", "above 65535"),
        ("http://x:" + "9" * 5000, "above 65535"),
        ("http://x:port/", "not a number"),
        ("http://x:-1/", "not a number"),
        ("http://x:8_0/", "not a number"),
        ("http://x:\uff18\uff10/", "not a number"),
        ("http://x\n/", "host"),
        ("http://x/\r\nSet-Cookie: a=b", "control character \\(U\\+000D\\) in its path"),
        ("http://x/?\0", "control character \\(U\\+0000\\) in its query"),
        ("http://x/#\x7f", "control character \\(U\\+007F\\) in its fragment"),
        ("http://u\t@x/", "control character \\(U\\+0009\\) in its userinfo"),
        ("http://x/\x85", "control character"),
        ("http://exa mple.org/", "not a valid host name"),
        ("http://a..b/", "not a valid host name"),
        ("http://.a/", "not a valid host name"),
        ("http://" + "a" * 64 + ".org/", "not a valid host name"),
        ("http://" + "a." * 127 + "a/", "not a valid host name"),
        ("http://" + "é" * 1000 + "/", "not a valid host name"),
        ("http://*/", "not a valid host name"),
        ("http://a%2eb/", "not a valid host name"),
        ("http://℀.com/", "host"),  # becomes "a/c" when mapped
        ("http://\u2024/", "host"),
        ("http://xn--\u00e9/", "internationalised"),
        ("http://\u200d.example/", "internationalised|host"),
        ("http://good.example\\@evil.example/", "backslash"),
        ("http://[::1/", "IPv6"),
        ("http://[::g]/", "IPv6"),
        ("http://[1.2.3.4]/", "IPv6"),
        ("http://[v1.x]/", "IPv6"),
        ("http://[::1]x/", "after its IPv6"),
        ("http://x/\ud800", "surrogate"),
        ("http://\ud800/", "host"),
        ("ht\u212atp://x/", "no scheme"),
    ],
)
def test_what_is_no_url_is_an_invalid_url(url: str, message: str) -> None:
    with pytest.raises(InvalidURL, match=message) as caught:
        URL(url)
    assert caught.value.url == url
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("url", [b"http://x/", None, 1, ["http://x/"]])
def test_what_is_no_text_is_a_type_error(url: object) -> None:
    with pytest.raises(TypeError, match="a URL is a str or a URL"):
        URL(url)  # type: ignore[arg-type]  # that is the test


def test_messages_show_neither_credentials_nor_query() -> None:
    for url in ("http://u:secret/word@x/?k=secret", "http://u:secret@x:1x/?k=secret"):
        with pytest.raises(InvalidURL) as caught:
            URL(url)
        assert "secret" not in str(caught.value)


def test_relative_references_are_taken_where_allowed() -> None:
    url = URL("../a b?c#d", allow_relative=True)
    assert str(url) == "../a%20b?c#d"
    assert url.is_relative_url
    assert not url.is_absolute_url
    assert (url.scheme, url.host, url.authority, url.port) == ("", "", "", None)
    assert URL("//x/y", allow_relative=True).host == "x"
    assert str(URL("/.//x", allow_relative=True)) == "/.//x"
    assert str(URL("", allow_relative=True)) == ""
    with pytest.raises(InvalidURL, match="no scheme"):
        URL(url)
    assert URL(url, allow_relative=True) == url


def test_credentials_are_percent_decoded() -> None:
    url = URL("http://us%40er:p%C3%A9%3A%2F:x@example.org/")
    assert url.username == "us@er"
    assert url.password == "pé:/:x"
    assert URL("http://user@x/").password == ""
    assert URL("http://:pw@x/").username == ""


@pytest.mark.parametrize(
    ("url", "header"),
    [
        ("http://example.org/", "example.org"),
        ("http://user:pw@example.org/", "example.org"),
        ("http://example.org:80/", "example.org"),
        ("http://example.org:/", "example.org"),
        ("https://example.org:80/", "example.org:80"),
        ("https://example.org:443/", "example.org"),
        ("https://example.org:00443/", "example.org"),
        ("http://u@[::1]:8080/", "[::1]:8080"),
        ("http://[fe80::1%25eth0]/", "[fe80::1]"),
        ("http://[fe80::1%25eth0]:8080/", "[fe80::1]:8080"),
    ],
)
def test_the_host_header_has_host_and_port_only(url: str, header: str) -> None:
    assert URL(url).host_header == header


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("http://u:p@x:81/a/b?q=secret&x=1&flag&=y#frag", "http://x:81/a/b?q=…&x=…&…&=…"),
        ("https://x", "https://x"),
        ("http://x/?token", "http://x/?…"),
        ("http://x/?a=b=c", "http://x/?a=…"),
    ],
)
def test_redacted_has_no_credentials_and_no_values(url: str, redacted: str) -> None:
    assert URL(url).redacted == redacted


def test_a_relative_url_is_redacted_too() -> None:
    assert URL("a/b?c=d#e", allow_relative=True).redacted == "a/b?c=…"
    assert URL("//u:p@x/", allow_relative=True).redacted == "//x/"


def test_repr_hides_the_password() -> None:
    assert repr(URL("https://example.org/a")) == "URL('https://example.org/a')"
    assert repr(URL("https://u@example.org/")) == "URL('https://u@example.org/')"
    assert repr(URL("https://u:x@example.org/x")) == "URL('https://u:[secure]@example.org/x')"
    # Not where the same text stands first.
    assert repr(URL("http://h:h@h:1/h:h@")) == "URL('http://h:[secure]@h:1/h:h@')"


def test_urls_compare_and_hash_by_their_text() -> None:
    url = URL("http://x/")
    assert url == URL("HTTP://X/")
    assert url == "http://x/"
    assert url != URL("http://x")
    assert url != 1
    assert len({url, URL("http://X/"), "http://x/"}) == 1


def test_origins_compare_and_hash_by_tls_host_and_port() -> None:
    origin = URL("http://x").origin
    assert origin == Origin("http://u@X:80/path?query")
    assert (origin.is_ssl, origin.host, origin.port) == (False, "x", 80)
    assert origin != Origin("https://x")
    assert Origin("https://x") != Origin("https://x:444")
    assert origin != Origin("http://y")
    assert origin != "http://x"
    assert len({origin, Origin("http://x:80")}) == 1
    assert repr(origin) == "Origin('http://x:80')"
    assert pickle.loads(pickle.dumps(origin)) == origin


def test_params_replace_the_query() -> None:
    assert str(URL("http://x/?a=1#f", params={"b": [1, 2]})) == "http://x/?b=1&b=2#f"
    assert str(URL("http://x/", params={"q": "a b&c"})) == "http://x/?q=a+b%26c"
    assert str(URL(URL("http://x/"), params="a=1")) == "http://x/?a=1"


def test_empty_params_leave_the_query() -> None:
    assert str(URL("http://x/?a=1", params={})) == "http://x/?a=1"
    assert str(URL("http://x/?a=1", params="")) == "http://x/?a=1"


def test_params_that_no_encoding_can_express_are_an_invalid_url() -> None:
    with pytest.raises(InvalidURL, match="surrogate"):
        URL("http://x/", params={"a": "\ud800"})


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        ({"scheme": "HTTP"}, "http://user:pw@example.org:444/a?q#f"),
        ({"authority": "other:1"}, "https://other:1/a?q#f"),
        ({"host": "Other"}, "https://user:pw@other:444/a?q#f"),
        ({"port": None}, "https://user:pw@example.org/a?q#f"),
        ({"port": 8080}, "https://user:pw@example.org:8080/a?q#f"),
        ({"username": None, "password": None}, "https://example.org:444/a?q#f"),
        ({"username": "a@b%41"}, "https://a%40b%2541:pw@example.org:444/a?q#f"),
        ({"password": "a:b"}, "https://user:a%3Ab@example.org:444/a?q#f"),
        ({"password": None}, "https://user@example.org:444/a?q#f"),
        ({"path": "/b c/../d"}, "https://user:pw@example.org:444/d?q#f"),
        ({"path": "no/slash"}, "https://user:pw@example.org:444/no/slash?q#f"),
        ({"path": "/a?b#c"}, "https://user:pw@example.org:444/a%3Fb%23c?q#f"),
        ({"path": None}, "https://user:pw@example.org:444?q#f"),
        ({"query": "a=1#2"}, "https://user:pw@example.org:444/a?a=1%232#f"),
        ({"query": None, "fragment": None}, "https://user:pw@example.org:444/a"),
        ({}, "https://user:pw@example.org:444/a?q#f"),
    ],
)
def test_copy_with_replaces_components(components: dict[str, str], expected: str) -> None:
    url = URL("https://user:pw@example.org:444/a?q#f")
    assert str(url.copy_with(**components)) == expected
    assert str(url) == "https://user:pw@example.org:444/a?q#f"


@pytest.mark.parametrize(
    "components",
    [
        {"scheme": None},
        {"scheme": "ht tp"},
        {"authority": None},
        {"authority": ""},
        {"authority": "evil/"},
        {"authority": "a:b:c"},
        {"host": "a@b"},
        {"host": "a/b"},
        {"host": None},
        {"port": "80/"},
        {"port": -1},
        {"path": "/\r\n"},
        {"fragment": "\ud800"},
    ],
)
def test_copy_with_does_not_lead_around_the_checks(components: dict[str, str | int]) -> None:
    with pytest.raises(InvalidURL):
        URL("http://example.org/").copy_with(**components)


@pytest.mark.parametrize("components", [{"hots": "x"}, {"port": True}, {"path": b"/"}])
def test_copy_with_refuses_wrong_arguments(components: dict[str, str]) -> None:
    with pytest.raises(TypeError):
        URL("http://example.org/").copy_with(**components)


# RFC 3986, sections 5.4.1 and 5.4.2, but for references with another scheme.
_EXAMPLES = {
    "g": "http://a/b/c/g",
    "./g": "http://a/b/c/g",
    "g/": "http://a/b/c/g/",
    "/g": "http://a/g",
    "//g": "http://g",
    "?y": "http://a/b/c/d;p?y",
    "g?y": "http://a/b/c/g?y",
    "#s": "http://a/b/c/d;p?q#s",
    "g#s": "http://a/b/c/g#s",
    "g?y#s": "http://a/b/c/g?y#s",
    ";x": "http://a/b/c/;x",
    "": "http://a/b/c/d;p?q",
    ".": "http://a/b/c/",
    "./": "http://a/b/c/",
    "..": "http://a/b/",
    "../g": "http://a/b/g",
    "../..": "http://a/",
    "../../g": "http://a/g",
    "../../../g": "http://a/g",
    "/./g": "http://a/g",
    "/../g": "http://a/g",
    "g.": "http://a/b/c/g.",
    "..g": "http://a/b/c/..g",
    "./../g": "http://a/b/g",
    "g;x=1/../y": "http://a/b/c/y",
    "g?y/../x": "http://a/b/c/g?y/../x",
    "https://u@h:1/x/../y": "https://u@h:1/y",
}


@pytest.mark.parametrize(("reference", "expected"), _EXAMPLES.items())
def test_join_follows_the_examples_of_the_rfc(reference: str, expected: str) -> None:
    base = URL("http://a/b/c/d;p?q#base")
    assert str(base.join(reference)) == expected
    assert str(base.resolve_with(URL(reference, allow_relative=True))) == expected


def test_join_keeps_the_credentials_of_the_base_on_its_host_only() -> None:
    base = URL("http://u:p@a:81")
    assert str(base.join("x y")) == "http://u:p@a:81/x%20y"
    assert str(base.join("//b/x")) == "http://b/x"


@pytest.mark.parametrize("reference", ["mailto:a@b", "http:g", "//", "http://a:b/", "/\n"])
def test_join_refuses_what_leads_nowhere(reference: str) -> None:
    with pytest.raises(InvalidURL):
        URL("http://a/b").join(reference)


def test_a_url_of_an_unknown_scheme_is_left_to_who_sends_it() -> None:
    url = URL("ftp://x:21/a")
    assert (url.scheme, url.port, url.host_header) == ("ftp", 21, "x:21")
    assert URL("mailto:a@b", allow_relative=True).scheme == "mailto"


def test_urls_pickle() -> None:
    for text in ("http://u:p@example.org:81/a?b#c", "http://bücher.example/"):
        url = URL(text)
        copy = pickle.loads(pickle.dumps(url))
        assert copy == url
        assert copy.host == url.host
    relative = URL("a/b", allow_relative=True)
    assert pickle.loads(pickle.dumps(relative)) == relative


def test_a_str_subclass_is_taken_as_its_text() -> None:
    class Text(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "something else"

    assert str(URL(Text("http://x/a"))) == "http://x/a"
    assert type(str(URL(Text("http://x/a b")))) is str


def test_a_plain_url_needs_no_tables_of_international_names() -> None:
    assert not hasattr(URL("http://x/"), "__dict__")
    size = sys.getsizeof(URL("http://example.org/a"))
    assert size <= 64  # bytes: two slots and the object's head


_url_like = st.lists(
    st.sampled_from(
        [
            "http",
            "https",
            ":",
            "//",
            "/",
            "?",
            "#",
            "@",
            "[",
            "]",
            "::1",
            "%",
            "%4",
            "%41",
            "%2e",
            "example.org",
            "EXAMPLE",
            "é",
            "ß",
            ".",
            "..",
            "/../",
            "80",
            "65536",
            " ",
            "\\",
            "a",
            "\n",
            "\0",
            "\ud800",
            "\u3002",
            "xn--",
            "-",
            "&",
            "=",
            "+",
            "|",
            "\u200d",
            "\uff11",
        ]
    )
    | st.characters(),
    max_size=12,
).map("".join)


@given(
    st.text(max_size=30) | _url_like | _url_like.map("http://".__add__),
    st.booleans(),
)
@example("http://h/%2", False)
@example("/.//x", True)
@example("http:///.//x", True)
@example("a:/..//b", True)
def test_any_text_is_a_normal_url_or_an_invalid_url(text: str, allow_relative: bool) -> None:
    try:
        url = URL(text, allow_relative)
    except InvalidURL:
        return
    normal = str(url)
    again = URL(normal, allow_relative)
    assert str(again) == normal
    assert again == url
    assert again.host == url.host
    assert normal.isascii()
    assert normal.isprintable()
    assert " " not in normal
    for component in ("scheme", "authority", "username", "password", "host", "port", "path"):
        assert getattr(again, component) == getattr(url, component)
    for component in ("full_path", "query", "fragment", "host_header", "redacted", "origin"):
        assert getattr(again, component) == getattr(url, component)
    assert url.host in url.authority


@given(_url_like | st.text(max_size=20))
def test_any_reference_joins_to_a_normal_url_or_is_an_invalid_url(reference: str) -> None:
    try:
        joined = URL("http://u:p@base.example:81/a/b?q").join(reference)
    except InvalidURL:
        return
    assert joined.is_absolute_url
    assert URL(str(joined)) == joined


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ["scheme", "authority", "username", "password", "host", "path", "query", "fragment"],
            st.none() | st.text(max_size=8) | _url_like,
        ),
    )
)
def test_any_copy_is_a_normal_url_or_an_invalid_url(components: dict[str, str | None]) -> None:
    try:
        url = URL("http://u:p@base.example:81/a/b?q").copy_with(**components)
    except InvalidURL:
        return
    assert URL(str(url)) == url
    if "host" not in components and "authority" not in components:
        assert URL(str(url)).host == "base.example"


@pytest.mark.parametrize(
    "rest",
    ["/", "/a/b;c?d=e/f#g", "", "?a/b", "#a/b", "/a/../b", "/ä", "/a%zz", "/a b", "//"],
)
def test_a_url_of_a_known_origin_is_what_it_would_be_of_a_new_one(rest: str) -> None:
    text = f"http://known.example:8080{rest}"
    references._known_origins.clear()
    new = URL(text)
    assert URL("http://known.example:8080/").port == 8080
    assert "http://known.example:8080" in references._known_origins
    known = URL(text)
    assert (known._url, known._parts) == (new._url, new._parts)


def test_what_is_no_url_is_none_of_a_known_origin_either() -> None:
    URL("http://known.example/")
    with pytest.raises(InvalidURL, match="control character"):
        URL("http://known.example/\n")


def test_few_origins_are_remembered() -> None:
    for number in range(3 * references._MAX_KNOWN_ORIGINS):
        assert URL(f"http://host{number}.example/").host == f"host{number}.example"
    assert len(references._known_origins) <= references._MAX_KNOWN_ORIGINS


def test_text_of_another_class_becomes_text() -> None:
    class Text(str):
        __slots__ = ()

    assert type(str(URL(Text("http://example.com/")))) is str


def test_a_port_that_is_no_number_to_python_is_refused() -> None:
    assert URL("http://example.com:00080/").port == 80
    with pytest.raises(InvalidURL, match="more digits"):
        URL(f"http://example.com:{'0' * 5000}80/")
