from .base import Context, Dispatcher
from .network import NetworkDispatch
from .wsgi import WSGIDispatch

__all__ = ["Context", "Dispatcher", "NetworkDispatch", "WSGIDispatch"]
