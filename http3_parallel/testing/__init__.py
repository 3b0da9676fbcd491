"""
For the tests of code that uses this library: scripted responses in place of the network, on a clock
of their own. See `MockDispatch`; pytest's fixture is in `http3_parallel.testing.pytest_plugin`.
"""

from .clock import VirtualClock
from .mock import Call, MockDispatch, Reply, Route, UnmatchedRequest

__all__ = ["Call", "MockDispatch", "Reply", "Route", "UnmatchedRequest", "VirtualClock"]
