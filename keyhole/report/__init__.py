"""One self-contained page on a fitted model, and on the rows that a detector scored."""

from keyhole.report.page import render
from keyhole.report.rows import ScoredRows, score_rows
from keyhole.report.write import write_report

__all__ = ["ScoredRows", "render", "score_rows", "write_report"]
