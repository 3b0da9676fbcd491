"""What a client says about its requests, and what one of them says besides."""

from __future__ import annotations

import re
import typing
from http.cookiejar import CookieJar

from .auth import AuthTypes, as_auth
from .config import (
    DEFAULT_TIMEOUT_CONFIG,
    CertTypes,
    PoolLimits,
    Retry,
    SSLConfig,
    TimeoutConfig,
    TimeoutTypes,
    VerifyTypes,
    check_count,
)
from .dispatch import Dispatcher
from .driver import Reception
from .exceptions import HTTPError, UnsupportedScheme, redacted_text
from .flow import Policy
from .hooks import NO_HOOKS, EventHooks, Hooks
from .methods import SendOptions
from .models import (
    URL,
    Cookies,
    CookieTypes,
    Headers,
    HeaderTypes,
    QueryParams,
    QueryParamTypes,
    Request,
    RequestData,
    RequestFiles,
    URLTypes,
    is_charset,
)

__all__ = ["MAX_REDIRECTS", "ClientOptions", "Defaults", "Settings", "check_proxies"]

#: As http3 had it, and browsers have it.
MAX_REDIRECTS = 20

#: What other clients have other names for.
_HINTS = {
    "content": "a body of whatever kind is data=",
    "body": "a body of whatever kind is data=",
    "follow_redirects": "here it is allow_redirects=",
    "retries": "it is given to the client",
    "max_redirects": "it is given to the client",
    "proxies": "they are given to the client",
    "max_response_size": "it is given to the client",
}

_PROXY_KEY = re.compile(r"https?|all|no|https?://[^/?#@:]+")


class CommonOptions(typing.TypedDict, total=False):
    """What every client takes."""

    auth: AuthTypes | None
    cookies: CookieTypes | None
    keep_cookies: bool
    verify: VerifyTypes
    cert: CertTypes | None
    timeout: TimeoutTypes
    pool_limits: PoolLimits | None
    max_redirects: int
    base_url: URLTypes | None
    headers: HeaderTypes | None
    params: QueryParamTypes | None
    retries: Retry | int
    event_hooks: EventHooks | None
    max_response_size: int | None
    default_encoding: str | None
    proxies: typing.Mapping[str, str | None] | None
    trust_env: bool


class ClientOptions(CommonOptions, total=False):
    """What `Client` takes, but for `max_workers`."""

    app: typing.Callable[..., typing.Any] | None
    dispatch: Dispatcher | None
    raise_app_exceptions: bool


class Settings(typing.NamedTuple):
    """Of one request."""

    policy: Policy
    timeout: TimeoutConfig
    ssl: SSLConfig


class Defaults:
    """
    A client's, checked once. Nothing changes but `headers` and `cookies`, in place.

    Raises `TypeError` and `ValueError` for what cannot be.
    """

    def __init__(
        self,
        *,
        auth: AuthTypes | None = None,
        cookies: CookieTypes | None = None,
        keep_cookies: bool = True,
        verify: VerifyTypes = True,
        cert: CertTypes | None = None,
        timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
        max_redirects: int = MAX_REDIRECTS,
        base_url: URLTypes | None = None,
        headers: HeaderTypes | None = None,
        params: QueryParamTypes | None = None,
        retries: Retry | int = 0,
        event_hooks: EventHooks | None = None,
        max_response_size: int | None = None,
        default_encoding: str | None = None,
        request_class: type[Request] = Request,
    ) -> None:
        self._request_class = request_class
        if not keep_cookies and isinstance(cookies, CookieJar):
            raise ValueError(
                "a CookieJar is there to be filled: give a dict with keep_cookies=False"
            )
        self.given_auth = auth
        self.cookies: Cookies = Cookies(cookies)
        self.base_url: URL | None = None if base_url is None else URL(base_url)
        self.headers: Headers = Headers(headers)
        self.params: QueryParams = QueryParams(params)
        self._has_params = bool(self.params)
        self.reception: Reception = Reception(
            Hooks.of(event_hooks),
            check_count("max_response_size", max_response_size, 0),
            _check_charset(default_encoding),
        )
        most = check_count("max_redirects", max_redirects, 0)
        self._defaults = Settings(
            Policy(
                auth=as_auth(auth),
                retries=retries if isinstance(retries, Retry) else Retry(retries),
                allow_redirects=True,
                max_redirects=MAX_REDIRECTS if most is None else most,
                stream=False,
                cookies=self.cookies,
                keep_cookies=keep_cookies,
            ),
            TimeoutConfig(timeout),
            SSLConfig(verify=verify, cert=cert),
        )

    @property
    def has_hooks(self) -> bool:
        return self.reception.hooks is not NO_HOOKS

    @property
    def max_redirects(self) -> int:
        return self._defaults.policy.max_redirects

    @property
    def retries(self) -> Retry:
        return self._defaults.policy.retries

    def prepare(
        self, method: str, url: URLTypes, options: typing.Mapping[str, typing.Any]
    ) -> tuple[Request, Settings]:
        """The request and its settings. Raises `InvalidURL`, `TypeError`, `ValueError`."""
        try:
            if options or self.base_url is not None or self._has_params or self.headers.raw:
                request, settings = self._build_and_settle(method, url, **options)
            else:
                request, settings = self._request_class(method, url), self._defaults
            if request.url._parts[0] not in ("http", "https"):
                raise UnsupportedScheme(
                    f"cannot request a URL with the scheme {request.url.scheme!r}: only http and "
                    "https are supported"
                )
        except HTTPError as error:
            error._method, error._url = method, url
            if not isinstance(error, UnsupportedScheme):
                _check_scheme(str(url), error)
            raise
        return request, settings

    def _build_and_settle(
        self,
        method: str,
        url: URLTypes,
        *,
        data: RequestData | None = None,
        files: RequestFiles | None = None,
        json: typing.Any = None,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes | None = None,
        **rest: typing.Any,
    ) -> tuple[Request, Settings]:
        settings = self._settle(rest) if rest else self._defaults
        if self.base_url is not None:
            url = self.base_url.join(url)
        if self._has_params:
            url = URL(url, allow_relative=True)
            params = self._merged_params(url, params)
        if self.headers.raw:
            merged = Headers(self.headers)
            merged.update(Headers(headers))
            headers = merged
        request = self._request_class(
            method, url, params=params, headers=headers, data=data, files=files, json=json
        )
        if cookies is not None:
            # Not yet in a header: that would stand in place of the client's.
            request._cookies = Cookies(cookies)
        return request, settings

    def _merged_params(self, url: URL, params: QueryParamTypes | None) -> QueryParams:
        """The client's, but for names that the request has: in its params, or in the URL."""
        own = QueryParams(params)
        if not own:
            own = QueryParams(url.query)
        inherited = [pair for pair in self.params.multi_items() if pair[0] not in own]
        return QueryParams(inherited + own.multi_items())

    def settings(self, options: typing.Mapping[str, typing.Any]) -> Settings:
        """Those of a request that is there already, and is sent as it is."""
        settings = self._settle(options) if options else self._defaults
        return settings._replace(policy=settings.policy.without_merging())

    def _settle(self, options: typing.Mapping[str, typing.Any]) -> Settings:
        unknown = options.keys() - SendOptions.__annotations__.keys()
        if unknown:
            name = min(unknown)
            hint = f": {_HINTS[name]}" if name in _HINTS else ""
            raise TypeError(f"unexpected keyword argument {name!r}{hint}")
        policy, default_timeout, ssl = self._defaults
        auth, timeout = options.get("auth"), options.get("timeout")
        return Settings(
            Policy(
                auth=policy.auth if auth is None else as_auth(auth),
                retries=policy.retries,
                allow_redirects=options.get("allow_redirects", True),
                max_redirects=policy.max_redirects,
                stream=options.get("stream", False),
                cookies=policy.cookies,
                keep_cookies=policy.keep_cookies,
            ),
            default_timeout if timeout is None else TimeoutConfig(timeout),
            ssl.with_overrides(verify=options.get("verify"), cert=options.get("cert")),
        )


def _check_scheme(url: str, error: HTTPError) -> None:
    """A URL that cannot be used may say by its scheme why it has no host, say."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    if match is not None and match[1].lower() not in ("http", "https"):
        raise UnsupportedScheme(
            f"cannot request a URL with the scheme {match[1]!r}: only http and https are supported",
            method=error.method,
            url=error.url,
        ) from error


def _check_charset(encoding: str | None) -> str | None:
    if encoding is None:
        return None
    if not isinstance(encoding, str):
        raise TypeError(f"default_encoding is a str or None, not {type(encoding).__name__}")
    if not is_charset(encoding):
        raise ValueError(f"Python knows no text encoding {encoding!r}")
    return encoding


def check_proxies(
    proxies: typing.Mapping[str, str | None] | None,
) -> dict[str, str | None] | None:
    if proxies is None:
        return None
    if not isinstance(proxies, typing.Mapping):
        raise TypeError(f"proxies is a dict of scheme to URL, not {type(proxies).__name__}")
    for key in proxies:
        # A key that means nothing would let its requests pass by the proxy, unseen.
        if not _PROXY_KEY.fullmatch(key):
            raise ValueError(
                f"{redacted_text(key)!r} is no key of proxies: they are 'http', 'https', 'all', "
                "'no', and 'http://host' or 'https://host', without a port, for one host"
            )
    return dict(proxies)
