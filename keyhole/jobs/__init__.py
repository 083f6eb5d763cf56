"""Answers from file to file, for more rows than fit into memory; a killed run can go on."""

from keyhole.data.sinks import open_sink
from keyhole.jobs.files import answer_file

__all__ = ["answer_file", "open_sink"]
