from __future__ import annotations

import dataclasses
import datetime
import email.utils
import math
import pathlib
import pickle
import ssl
import time
import typing

import pytest

from http3_parallel.config import (
    DEFAULT_TIMEOUT_CONFIG,
    PoolLimits,
    Retry,
    SSLConfig,
    TimeoutConfig,
)

SETTINGS = [
    TimeoutConfig((1.0, 2.0, 3.0)),
    PoolLimits(1, 2, 3.0),
    SSLConfig(verify="/ca.pem", cert=("/cert.pem", "/key.pem")),
    Retry(total=3, statuses=frozenset({500})),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: type(settings).__name__)
def test_settings_are_frozen_hashable_and_pickle(settings: typing.Any) -> None:
    name = dataclasses.fields(settings)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(settings, name, None)
    again = pickle.loads(pickle.dumps(settings))
    assert again == settings
    assert hash(again) == hash(settings)


# TimeoutConfig


def steps(config: TimeoutConfig) -> tuple[float | None, ...]:
    return config.connect_timeout, config.read_timeout, config.write_timeout


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (TimeoutConfig(), (None, None, None)),
        (TimeoutConfig(None), (None, None, None)),
        (TimeoutConfig(5), (5.0, 5.0, 5.0)),
        (TimeoutConfig(0), (0.0, 0.0, 0.0)),
        (TimeoutConfig((1, None, 2.5)), (1.0, None, 2.5)),
        (TimeoutConfig(read_timeout=2), (None, 2.0, None)),
        (TimeoutConfig(connect_timeout=1, read_timeout=2, write_timeout=3), (1.0, 2.0, 3.0)),
        (TimeoutConfig(TimeoutConfig(4)), (4.0, 4.0, 4.0)),
        (TimeoutConfig(math.inf), (None, None, None)),
        (DEFAULT_TIMEOUT_CONFIG, (5.0, 5.0, 5.0)),
    ],
)
def test_timeouts_are_given_for_all_steps_or_each(
    config: TimeoutConfig, expected: typing.Any
) -> None:
    assert steps(config) == expected
    assert all(type(seconds) in (float, type(None)) for seconds in steps(config))
    assert config == TimeoutConfig(expected)


def test_the_repr_of_timeouts_is_short_where_they_are_equal() -> None:
    assert repr(TimeoutConfig(5)) == "TimeoutConfig(timeout=5.0)"
    assert repr(TimeoutConfig((1, None, 2))) == (
        "TimeoutConfig(connect_timeout=1.0, read_timeout=None, write_timeout=2.0)"
    )


@pytest.mark.parametrize("timeout", [-1, math.nan, (1.0,), (1, 2, 3, 4), (), (1, 2, -3)])
def test_timeouts_that_make_no_sense_are_value_errors(timeout: typing.Any) -> None:
    with pytest.raises(ValueError, match=r"seconds|tuple"):
        TimeoutConfig(timeout)


@pytest.mark.parametrize("timeout", ["5", True, [1, 2, 3], (1, "2", 3), object()])
def test_timeouts_that_are_no_numbers_are_type_errors(timeout: typing.Any) -> None:
    with pytest.raises(TypeError, match="number of seconds"):
        TimeoutConfig(timeout)


def test_one_timeout_for_all_and_one_for_each_are_too_many() -> None:
    with pytest.raises(ValueError, match="either"):
        TimeoutConfig(5, read_timeout=1)


# PoolLimits


def test_pool_limits_are_optional() -> None:
    limits = PoolLimits()
    assert (limits.soft_limit, limits.hard_limit, limits.pool_timeout) == (None, None, None)
    assert PoolLimits(0, 1, 0).pool_timeout == 0.0


@pytest.mark.parametrize(
    "limits", [{"soft_limit": -1}, {"hard_limit": 0}, {"hard_limit": -1}, {"pool_timeout": -1}]
)
def test_pool_limits_that_make_no_sense_are_value_errors(limits: dict[str, typing.Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        PoolLimits(**limits)


@pytest.mark.parametrize(
    "limits", [{"soft_limit": 1.0}, {"hard_limit": "1"}, {"hard_limit": True}, {"pool_timeout": ""}]
)
def test_pool_limits_that_are_no_numbers_are_type_errors(limits: dict[str, typing.Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(limits))):
        PoolLimits(**limits)


# SSLConfig


def test_paths_become_text_so_that_equal_settings_are_equal() -> None:
    config = SSLConfig(verify=pathlib.Path("/ca.pem"), cert=pathlib.Path("/cert.pem"))
    assert config == SSLConfig(verify="/ca.pem", cert="/cert.pem")
    assert (config.verify, config.cert) == ("/ca.pem", "/cert.pem")


def test_ssl_settings_of_a_request_override_the_clients() -> None:
    config = SSLConfig(verify="/ca.pem", cert="/cert.pem")
    assert config.with_overrides() is config
    assert config.with_overrides(verify=False) == SSLConfig(verify=False, cert="/cert.pem")
    assert config.with_overrides(cert=("/a", "/b")) == SSLConfig("/ca.pem", ("/a", "/b"))
    context = ssl.create_default_context()
    assert config.with_overrides(verify=context).verify is context


@pytest.mark.parametrize("verify", [None, 1, 0, b"/ca.pem", object()])
def test_verify_of_another_type_is_a_type_error(verify: typing.Any) -> None:
    with pytest.raises(TypeError, match="verify"):
        SSLConfig(verify=verify)


@pytest.mark.parametrize("cert", [1, b"/cert.pem", ["/a", "/b"]])
def test_cert_of_another_type_is_a_type_error(cert: typing.Any) -> None:
    with pytest.raises(TypeError, match="cert"):
        SSLConfig(cert=cert)


def test_an_error_about_cert_does_not_show_it() -> None:
    with pytest.raises(TypeError, match=r"not list$"):
        SSLConfig(cert=typing.cast(typing.Any, ["/cert.pem", "/key.pem", "hunter2"]))


def test_the_repr_shows_the_paths_but_not_the_password() -> None:
    secret = SSLConfig(cert=("/cert.pem", "/key.pem", "hunter2"))
    assert repr(secret) == "SSLConfig(verify=True, cert=('/cert.pem', '/key.pem', '[secret]'))"
    assert repr(SSLConfig()) == "SSLConfig(verify=True, cert=None)"
    pair = SSLConfig(verify=False, cert=("/cert.pem", "/key.pem"))
    assert repr(pair) == "SSLConfig(verify=False, cert=('/cert.pem', '/key.pem'))"


@pytest.mark.parametrize("cert", [(), ("/a",), ("/a", "/b", "c", "d")])
def test_a_cert_of_too_few_or_many_is_a_value_error(cert: typing.Any) -> None:
    with pytest.raises(ValueError, match="cert"):
        SSLConfig(cert=cert)


# Retry


def test_by_default_nothing_is_retried() -> None:
    assert Retry().total == 0
    assert Retry().methods == {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}


def test_sets_are_normalised() -> None:
    retry = Retry(statuses=[500, 503], methods=["get", "Post"])  # type: ignore[arg-type]  # lists
    assert retry.statuses == frozenset({500, 503})
    assert retry.methods == frozenset({"GET", "POST"})


@pytest.mark.parametrize("name", ["total", "connect", "read", "status"])
def test_counts_are_whole_numbers_from_0(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Retry(**{name: -1})  # type: ignore[arg-type]  # of another field's type, to mypy
    for value in (1.0, "1", True):
        with pytest.raises(TypeError, match=name):
            Retry(**{name: value})  # type: ignore[arg-type]  # that is the test


def test_retries_have_an_end() -> None:
    with pytest.raises(TypeError, match="total"):
        Retry(total=None)  # type: ignore[arg-type]  # that is the test


@pytest.mark.parametrize("name", ["backoff", "backoff_max", "retry_after_max"])
def test_waits_are_finite(name: str) -> None:
    for value in (-1, math.nan, math.inf, None):
        with pytest.raises(ValueError, match=name):
            Retry(**{name: value})  # type: ignore[arg-type]  # that is the test
    with pytest.raises(TypeError, match=name):
        Retry(**{name: "1"})  # type: ignore[arg-type]  # that is the test


def test_a_kind_is_allowed_as_often_as_its_limit() -> None:
    retry = Retry(total=5, read=1, status=0)
    assert retry.allows("connect", 4)
    assert retry.allows("read", 0)
    assert not retry.allows("read", 1)
    assert not retry.allows("status", 0)


def test_backoff_doubles_up_to_its_maximum() -> None:
    retry = Retry(backoff=0.5, backoff_max=3.0, jitter=False)
    assert [retry.backoff_delay(made) for made in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert retry.backoff_delay(10_000) == 3.0


def test_jitter_takes_a_part_of_the_backoff() -> None:
    retry = Retry(backoff=1.0)
    delays = {retry.backoff_delay(2) for _ in range(100)}
    assert len(delays) > 1
    assert all(0.0 <= delay <= 4.0 for delay in delays)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("9" * 5000, math.inf),
        ("-1", None),
        ("1.5", None),
        ("+1", None),
        ("\uff11", None),
        ("", None),
        ("soon", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0.0),
        ("Wednesday, 21-Oct-15 07:28:00 GMT", 0.0),
        ("Wed Oct 21 07:28:00 2015", 0.0),
        (None, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(value: str | None, seconds: float | None) -> None:
    assert Retry().retry_after_delay(value) == seconds


def test_retry_after_as_a_date_counts_from_now() -> None:
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=3600)
    delay = Retry().retry_after_delay(email.utils.format_datetime(when, usegmt=True))
    assert delay is not None
    assert 3500 < delay <= 3600


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs tzset")
def test_retry_after_as_a_date_does_not_depend_on_the_local_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=3600)
    for zone in ("UTC+11", "UTC-11"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            # asctime's form tells no zone: it is GMT (RFC 9110, section 5.6.7).
            for form in (
                "%a, %d %b %Y %H:%M:%S GMT",
                "%a, %d %b %Y %H:%M:%S -0000",
                "%a %b %d %H:%M:%S %Y",
            ):
                delay = Retry().retry_after_delay(when.strftime(form))
                assert delay is not None
                assert 3500 < delay <= 3600
        finally:
            monkeypatch.undo()
            time.tzset()


def test_retry_after_can_be_ignored() -> None:
    assert Retry(respect_retry_after=False).retry_after_delay("1") is None


@pytest.mark.parametrize("name", ["connect", "read", "status"])
def test_retries_of_one_kind_without_a_total_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"total is 0, so {name}=2"):
        Retry(**{name: 2})  # type: ignore[arg-type]  # one of several types
    assert getattr(Retry(3, **{name: 2}), name) == 2  # type: ignore[arg-type]  # the same
    assert getattr(Retry(**{name: 0}), name) == 0  # type: ignore[arg-type]  # the same
