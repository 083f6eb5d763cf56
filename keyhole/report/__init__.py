"""One self-contained page on a fitted model, and on the rows that a detector scored."""

from keyhole.report.page import render, write_report
from keyhole.report.rows import ScoredRows, score_rows

__all__ = ["ScoredRows", "render", "score_rows", "write_report"]
