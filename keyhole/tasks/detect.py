"""Detect as a verb: the detector's answers as lines of a table."""

from typing import Any

from keyhole.estimator import Autoencoder
from keyhole.sources import Rows
from keyhole.tasks.base import Task
from keyhole.tasks.detector import AnomalyDetector


class Detect(Task):
    """Surprise, doubt, p-value, alarm and causes of each row."""

    verb = "detect"

    def __init__(self, autoencoder: Autoencoder, *, alarm_rate: float = 0.01) -> None:
        super().__init__(autoencoder)
        self.detector = AnomalyDetector.of(autoencoder, alarm_rate=alarm_rate)

    def reads(self) -> list[str]:
        """The columns that the detector reads."""
        return self.detector.reads()

    def table(self, rows: Rows, start: int) -> Any:
        """The answer for a block of rows."""
        return self.detector.answer_rows(rows, start).arrow()

    def answer(self, X: Any) -> Any:
        """The answers as the kind of frame that was given, labelled as `Answer` says."""
        return self.detector.answer(X).table()
