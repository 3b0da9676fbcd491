"""
One request and its response on a connection that is open.

The request is written in pieces of at most 64 KiB, each within the write timeout; the head is
read within the read timeout, and so is each piece of the body. A server may answer before it
has read the whole request, and close: that answer is the result.

After every read the abort is looked at before the data are believed: to a reader that was
woken, a body without a length looks complete.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import typing

from urllib3.util.wait import wait_for_read

from ..aborting import Abort
from ..config import IDEMPOTENT_METHODS, TimeoutConfig
from ..exceptions import (
    HTTPError,
    IncompleteRead,
    NetworkError,
    ProtocolError,
    ReadError,
    ReadTimeout,
    WriteError,
    WriteTimeout,
)
from ..models import Request
from .connections import Connection
from .heads import BadMessage, ResponseReader, TruncatedMessage

__all__ = ["Exchange", "Stale", "translate_read_error"]


class Stale(Exception):
    """
    A reused connection turned out to be closed, and the request may be sent again. The
    error that it would have been otherwise is its argument.
    """

    def __init__(self, error: HTTPError) -> None:
        super().__init__(error)
        self.error = error


class Exchange:
    """
    Sends `request` on `connection` and reads the response's head.

    * `target`: the request target (RFC 9112, section 3.2).
    * `extra_headers`: after the request's own.
    * `reused`: whether the connection has served before, so that its server may have closed
      it at this very moment.
    """

    __slots__ = (
        "_abort",
        "_connection",
        "_extra_headers",
        "_may_repeat",
        "_request",
        "_reused",
        "_target",
        "_timeout",
        "sent_whole",
    )

    def __init__(
        self,
        request: Request,
        target: str,
        extra_headers: list[tuple[bytes, bytes]],
        connection: Connection,
        timeout: TimeoutConfig,
        abort: Abort,
        *,
        reused: bool,
    ) -> None:
        self._request = request
        self._target = target
        self._extra_headers = extra_headers
        self._connection = connection
        self._timeout = timeout
        self._abort = abort
        self._reused = reused
        # Whether all of the request was sent: if not, the connection cannot be used again.
        self.sent_whole = False

    def run(self) -> ResponseReader:
        """
        Raises `Stale`, `WriteError`, `WriteTimeout`, `ReadError`, `ReadTimeout`,
        `ProtocolError`, the abort's error, and what the request's body iterator raises.
        """
        failure = self._send()
        if failure is None:
            return self._read_head()
        try:
            early = self._read_head()
        except (NetworkError, ProtocolError, ReadTimeout):
            self._abort.check()
            raise failure from failure.__cause__
        ...
