"""What each request of a block did, and when."""

from __future__ import annotations
