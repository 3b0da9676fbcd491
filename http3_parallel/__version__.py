"""The version of the package, and how it introduces itself to servers."""

__title__ = "http3_parallel"
__description__ = "Many HTTP requests in parallel from synchronous code, in http3's style."
__version__ = "0.1.0"

#: The default ``User-Agent`` (RFC 9110, section 10.1.5).
USER_AGENT = f"python-http3-parallel/{__version__}"
