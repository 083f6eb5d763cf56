"""One self-contained page on a fitted model, and on the rows that a detector was asked about."""

from keyhole.report.page import render
from keyhole.report.rows import Asked, asked_of
from keyhole.report.write import write_report

__all__ = ["Asked", "asked_of", "render", "write_report"]
