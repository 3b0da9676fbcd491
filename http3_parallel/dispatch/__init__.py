from .base import Context, Dispatcher
from .network import NetworkDispatch

__all__ = ["Context", "Dispatcher", "NetworkDispatch"]
