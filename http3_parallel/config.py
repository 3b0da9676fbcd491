"""
Settings. All are frozen and validated once, since threads share them: to change one, make
another.
"""

from __future__ import annotations

import dataclasses
import datetime
import email.utils
import math
import os
import random
import ssl
import threading
import time
import typing
from collections.abc import Iterable

__all__ = [
    "DEFAULT_TIMEOUT_CONFIG",
    "MAX_WORKERS",
    "CertTypes",
    "PoolLimits",
    "Retry",
    "SSLConfig",
    "TimeoutConfig",
    "TimeoutTypes",
    "VerifyTypes",
    "default_pool_limits",
]

CertTypes = typing.Union[str, os.PathLike[str], tuple[str, str], tuple[str, str, str]]
VerifyTypes = typing.Union[bool, str, os.PathLike[str], ssl.SSLContext]

_Item = typing.TypeVar("_Item")


def check_seconds(name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number of seconds or None, not {value!r}")
    if not value >= 0:  # NaN is not either
        raise ValueError(f"{name} must be 0 or more seconds, not {value!r}")
    # Longer than any clock of the system can wait is for ever.
    return float(value) if value < threading.TIMEOUT_MAX else None


def check_count(name: str, value: object, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number or None, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, not {value!r}")
    return value


def _check_set(name: str, values: object, kind: type[_Item]) -> frozenset[_Item]:
    # A str is an iterable of str too: that of its letters.
    if isinstance(values, Iterable) and not isinstance(values, str):
        items = frozenset(values)
        if all(isinstance(item, kind) for item in items):
            return items
    raise TypeError(f"{name} is a set of {kind.__name__}, not {values!r}")


@dataclasses.dataclass(frozen=True, init=False)
class TimeoutConfig:
    """
    How long each step of a request may be inactive, in seconds; None is without limit.

    * `connect_timeout`: resolving, connecting and the TLS handshake, together.
    * `read_timeout`: between two reads of the response, and until its first byte.
    * `write_timeout`: for each piece of the request that is written.

    ``TimeoutConfig(5.0)`` sets all three, ``TimeoutConfig((connect, read, write))`` each.
    None of them bounds the whole request: a `deadline` does.
    """

    connect_timeout: float | None
    read_timeout: float | None
    write_timeout: float | None

    def __init__(
        self,
        timeout: TimeoutTypes = None,
        *,
        connect_timeout: float | None = None,
        read_timeout: float | None = None,
        write_timeout: float | None = None,
    ) -> None:
        given = (connect_timeout, read_timeout, write_timeout)
        if timeout is not None and given != (None, None, None):
            raise ValueError("give either one timeout for all steps, or one for each")
        if isinstance(timeout, TimeoutConfig):
            given = (timeout.connect_timeout, timeout.read_timeout, timeout.write_timeout)
        elif isinstance(timeout, tuple):
            if len(timeout) != 3:
                raise ValueError(
                    f"a tuple of timeouts is (connect, read, write), not {timeout!r}; None is "
                    "without limit"
                )
            given = timeout
        elif timeout is not None:
            given = (timeout, timeout, timeout)
        for name, value in zip(
            ("connect_timeout", "read_timeout", "write_timeout"), given, strict=True
        ):
            object.__setattr__(self, name, check_seconds(name, value))

    def __repr__(self) -> str:
        if self.connect_timeout == self.read_timeout == self.write_timeout:
            return f"TimeoutConfig(timeout={self.connect_timeout})"
        return (
            f"TimeoutConfig(connect_timeout={self.connect_timeout}, "
            f"read_timeout={self.read_timeout}, write_timeout={self.write_timeout})"
        )


TimeoutTypes = typing.Union[
    None,
    float,
    tuple[typing.Optional[float], typing.Optional[float], typing.Optional[float]],
    TimeoutConfig,
]

#: Five seconds of inactivity, as http3 had it.
DEFAULT_TIMEOUT_CONFIG = TimeoutConfig(5.0)

#: Threads of a client: enough for slow upstreams, few enough for any system's defaults.
MAX_WORKERS = 128


@dataclasses.dataclass(frozen=True)
class PoolLimits:
    """
    How many connections a client may have; None is without limit.

    * `soft_limit`: idle connections kept for reuse.
    * `hard_limit`: open connections in all. Idle ones of other hosts are closed before
      anyone waits, and a request that only has to wait its turn does not fail.
    * `pool_timeout`: how many seconds a request waits while all connections are held by
      delivered, unread streams, and by requests that wait for the next piece from the
      iterator of their body; then it fails with `PoolTimeout`.
    """

    soft_limit: int | None = None
    hard_limit: int | None = None
    pool_timeout: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "soft_limit", check_count("soft_limit", self.soft_limit, 0))
        object.__setattr__(self, "hard_limit", check_count("hard_limit", self.hard_limit, 1))
        object.__setattr__(self, "pool_timeout", check_seconds("pool_timeout", self.pool_timeout))


def default_pool_limits(max_workers: int) -> PoolLimits:
    """As many idle connections as workers, and a few seconds for those that are held."""
    return PoolLimits(
        soft_limit=max_workers,
        hard_limit=max(100, max_workers),
        pool_timeout=DEFAULT_TIMEOUT_CONFIG.connect_timeout,
    )


@dataclasses.dataclass(frozen=True)
class SSLConfig:
    """
    Whom to trust, and who to be.

    * `verify`: True for the system's trust store, a path to a file or directory of CA
      certificates in PEM form, an `ssl.SSLContext`, or False to check nothing.
    * `cert`: the client's certificate: the path of a PEM file with its key, or a tuple
      ``(cert, key)`` or ``(cert, key, password)``. Its password is not shown in the `repr`.

    Connections are shared only between requests with equal settings.
    """

    verify: VerifyTypes = True
    cert: CertTypes | None = None

    def __post_init__(self) -> None:
        if isinstance(self.verify, os.PathLike):
            object.__setattr__(self, "verify", os.fspath(self.verify))
        elif not isinstance(self.verify, (bool, str, ssl.SSLContext)):
            raise TypeError(f"verify is True, False, a path or an SSLContext, not {self.verify!r}")
        if isinstance(self.cert, os.PathLike):
            object.__setattr__(self, "cert", os.fspath(self.cert))
        elif isinstance(self.cert, tuple):
            if len(self.cert) not in (2, 3):
                raise ValueError("cert is a path, (cert, key) or (cert, key, password)")
        elif self.cert is not None and not isinstance(self.cert, str):
            # By its type alone: it may be meant to be a password.
            raise TypeError(f"cert is a path or a tuple, not {type(self.cert).__name__}")

    def __repr__(self) -> str:
        cert = self.cert
        if isinstance(cert, tuple) and len(cert) == 3:
            return f"SSLConfig(verify={self.verify!r}, cert=({cert[0]!r}, {cert[1]!r}, '[secret]'))"
        return f"SSLConfig(verify={self.verify!r}, cert={cert!r})"

    def with_overrides(
        self, *, verify: VerifyTypes | None = None, cert: CertTypes | None = None
    ) -> SSLConfig:
        if verify is None and cert is None:
            return self
        return SSLConfig(
            verify=self.verify if verify is None else verify,
            cert=self.cert if cert is None else cert,
        )


#: RFC 9110, section 9.2.2: doing it twice is doing it once.
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


@dataclasses.dataclass(frozen=True)
class Retry:
    """
    When a request that failed is made again by itself.

    * `total`: how many times at most, whatever the reason.
    * `connect`: at most so many times because no connection could be made. No byte was
      sent, so this is safe for every method. None: as many as `total`.
    * `read`: at most so many times because the connection broke, or timed out, after that.
      Only `methods`, by default the idempotent ones (RFC 9110, section 9.2.2).
    * `status`: at most so many times because of a status in `statuses`. Only `methods`.
    * `backoff`: seconds before the first retry, doubled for each one after, at most
      `backoff_max`; with `jitter`, a random part of that (full jitter), so that clients do
      not come back in step.
    * `respect_retry_after`: whether a ``Retry-After`` header, in seconds or as a date (RFC
      9110, section 10.2.3), says how long to wait instead; at most `retry_after_max` seconds:
      a response that asks for longer is returned as it is.

    The default, ``Retry()``, retries nothing. Apart from this, the pool sends a request once
    more if a *reused* connection turns out to be closed and that is safe.
    """

    total: int = 0
    connect: int | None = None
    read: int | None = None
    status: int | None = None
    backoff: float = 0.1
    backoff_max: float = 30.0
    jitter: bool = True
    statuses: typing.AbstractSet[int] = frozenset({429, 502, 503, 504})
    methods: typing.AbstractSet[str] = IDEMPOTENT_METHODS
    respect_retry_after: bool = True
    retry_after_max: float = 60.0

    def __post_init__(self) -> None:
        if self.total is None:
            raise TypeError("total is a whole number: retries always have an end")
        for name in ("total", "connect", "read", "status"):
            check_count(name, getattr(self, name), 0)
        for name in ("connect", "read", "status"):
            if not self.total and getattr(self, name):
                raise ValueError(
                    f"total is 0, so {name}={getattr(self, name)} allows no retry: give total too"
                )
        for name in ("backoff", "backoff_max", "retry_after_max"):
            if check_seconds(name, getattr(self, name)) is None:
                raise ValueError(f"{name} must be a finite number of seconds")
        statuses = _check_set("statuses", self.statuses, int)
        object.__setattr__(self, "statuses", statuses)
        methods = _check_set("methods", self.methods, str)
        object.__setattr__(self, "methods", frozenset(method.upper() for method in methods))

    def allows(self, kind: typing.Literal["connect", "read", "status"], made: int) -> bool:
        """Whether one more is allowed after `made` retries for reasons of this kind."""
        limit: int | None = getattr(self, kind)
        return limit is None or made < limit

    def backoff_delay(self, made: int) -> float:
        """Seconds to wait before the next retry, after `made` of them."""
        # 2**1024 overflows a float; any backoff has met its cap long before.
        delay = min(self.backoff_max, self.backoff * 2.0 ** min(made, 64))
        return delay * random.random() if self.jitter else delay

    def retry_after_delay(self, value: str | None) -> float | None:
        """Seconds that a ``Retry-After`` value asks for; None if there is none to go by."""
        if value is None or not self.respect_retry_after:
            return None
        value = value.strip()
        if value.isascii() and value.isdigit():
            # Longer than any wait: no need to read a number of a million digits.
            return float(value) if len(value) < 10 else math.inf
        try:
            when = email.utils.parsedate_to_datetime(value)
        except (TypeError, ValueError, IndexError, OverflowError):
            return None
        if when.tzinfo is None:  # "-0000", or asctime's form: it is GMT, not the local time
            when = when.replace(tzinfo=datetime.timezone.utc)
        return max(0.0, when.timestamp() - time.time())
