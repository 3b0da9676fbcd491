"""
A fixture for pytest. In a ``conftest.py``:

    pytest_plugins = ["http3_parallel.testing.pytest_plugin"]
"""

from __future__ import annotations

import typing

import pytest

from .mock import MockDispatch

__all__ = ["http3_mock"]


@pytest.fixture
def http3_mock() -> typing.Iterator[MockDispatch]:
    """
    A `MockDispatch` that every client has which the test makes without a dispatcher of its own. At
    the end of the test it is checked: each request has matched a route, each route was used.
    """
    with MockDispatch() as mock, mock.installed():
        yield mock
