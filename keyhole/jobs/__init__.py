"""More rows than memory: from file to file, in parts that survive a kill."""

from keyhole.data.sinks import open_sink
from keyhole.jobs.files import answer_file

__all__ = ["answer_file", "open_sink"]
