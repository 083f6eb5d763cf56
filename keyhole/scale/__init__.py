"""More rows than memory: from file to file, in parts that survive a kill."""

from keyhole.scale.files import answer_file
from keyhole.scale.sinks import open_sink

__all__ = ["answer_file", "open_sink"]
