"""What the requests of a block did, and when: as data, a page, a HAR file, and text."""

from .entries import Entry, Message, Phase
from .records import Failure
from .timeline import Timeline

__all__ = ["Entry", "Failure", "Message", "Phase", "Timeline"]
