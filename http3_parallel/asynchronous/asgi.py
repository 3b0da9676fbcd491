from __future__ import annotations
import typing
from .dispatch import AsyncDispatcher


def is_asgi(app: object) -> bool:
    return False


class ASGIDispatch(AsyncDispatcher):
    def __init__(self, app: typing.Any, raise_app_exceptions: bool = True) -> None: ...
