"""What the process of one client measures of itself."""

from __future__ import annotations

import importlib.metadata
import os
import resource
import sys
from collections.abc import Collection

from .work import Work

__all__ = ["found", "stay_on"]


def stay_on(cores: Collection[int]) -> None:
    """None of them: where the system likes."""
    if cores:
        os.sched_setaffinity(0, cores)


def found(package: str | None, work: Work, wall: float, cpu: float) -> dict[str, object]:
    """What is reported, when all is done. `package`: whose version is told."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    report: dict[str, object] = {
        "memory": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),  # bytes
        "version": importlib.metadata.version(package) if package else "",
    }
    if work.answered:
        report.update(
            answered=work.answered,
            cpu=cpu / work.answered,
            wall=wall,
            rate=work.answered / wall,
            switches=usage.ru_nvcsw / work.answered,
        )
    return report
