"""The command line: `options` says what can be given, `command` does it."""

from __future__ import annotations

from .command import main

__all__ = ["main"]
