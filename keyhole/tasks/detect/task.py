"""Detect as a task: the detector's answers as lines of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from keyhole.tasks.base import Option, Task

if TYPE_CHECKING:
    import pyarrow as pa

    from keyhole.autoencoder.estimator import Autoencoder
    from keyhole.data import Rows
    from keyhole.tasks.detect.counting import Detecting, Output
    from keyhole.tasks.detect.detector import AnomalyDetector


NEXT = (
    "look at the rows with the highest anomaly_score first; --fdr 0.1 keeps alarms of which about "
    "10 % are false"
)


class Detect(Task):
    """Anomaly score, standard deviation of the score, p-value, alarm and reasons of each row.

    With `fdr`, alarms are chosen over all rows such that about this share of them is false.
    """

    verb = "detect"
    summary = "Anomaly score, p-value, alarm and reasons of every row."
    help = "Anomaly score, p-value, alarm and reasons of every row of DATA, in order."
    options = (
        Option("false_alarm_rate", float,
               "False alarm rate of this run; the model stays the same."),
        Option("fdr", float, "Limit the share of false alarms among the alarms in DATA.",
               metavar="SHARE"),
    )  # fmt: skip

    def __init__(
        self,
        autoencoder: Autoencoder,
        *,
        false_alarm_rate: float = 0.01,
        fdr: float | None = None,
        detector: AnomalyDetector | None = None,
    ) -> None:
        from keyhole.tasks.detect.detector import AnomalyDetector

        super().__init__(autoencoder)
        if detector is None:
            detector = AnomalyDetector.from_fitted(autoencoder, false_alarm_rate=false_alarm_rate)
        self.detector = detector
        self.fdr = fdr
        self.outputs: list[Output] = []  # that are made of the same rows
        self.counting: Detecting | None = None

    @classmethod
    def load(cls, path: str, options: Mapping[str, Any]) -> Self:
        """The task on the detector of a bundle."""
        from keyhole.store import read_bundle
        from keyhole.tasks.detect.detector import AnomalyDetector

        rate = options["false_alarm_rate"]
        detector = AnomalyDetector.load(read_bundle(path), false_alarm_rate=rate)
        return cls(detector.autoencoder_, fdr=options["fdr"], detector=detector)

    def reads(self) -> list[str]:
        """The columns that the detector reads."""
        from keyhole.tasks.detect.detector import columns_read

        return columns_read(self.detector)

    def table(self, rows: Rows, start: int) -> pa.Table:
        """The answer for a block of rows, at the detector's false alarm rate."""
        from keyhole.tasks.detect.detector import answer_rows

        return answer_rows(self.detector, rows, start).arrow()

    def answer(self, X: Any) -> Any:
        """The answers as the kind of frame that was given, labelled as `Answer` says."""
        return self.detector.answer(X, fdr=self.fdr).to_frame()

    def settings(self) -> list[Any]:
        """The model, the detector's state, and the share of false alarms."""
        scorer, rate = self.detector.scorer_, self.detector.false_alarm_rate
        return [self.autoencoder.model_.fingerprint, scorer.section(rate), self.fdr]

    def answerer(self) -> Detecting:
        """Answers blocks, hands them to the outputs, and counts alarms, patterns and drift."""
        from keyhole.tasks.detect.counting import Detecting

        self.counting = Detecting(self.detector, self.fdr, self.outputs)
        return self.counting

    @property
    def rate(self) -> float:
        """The false alarm rate of the last answer."""
        return self.detector.false_alarm_rate if self.counting is None else self.counting.rate

    @property
    def alarms(self) -> int:
        """How many rows of the last answer alarm."""
        return 0 if self.counting is None else self.counting.total.alarms

    def messages(self, rows: int) -> Iterator[tuple[str, str]]:
        """How many rows alarm and how many would by chance; patterns of alarms; data drift."""
        from keyhole.tasks.detect.calibration import beyond_chance

        if self.counting is None:
            return
        detector, rate = self.detector, self.detector.false_alarm_rate
        calibration_rows = len(detector.calibration_.anomaly_scores)
        chance = rate if self.fdr is None else 0.0
        message = beyond_chance(self.alarms, rows, chance, calibration_rows)
        if self.fdr is None:
            yield self.verb, message
            if self.alarms:
                yield "next", NEXT
        else:
            share = f"at most {100 * self.fdr:.2g} % of them are expected to be false"
            yield self.verb, f"{message}; {share}"
            basis = detector.calibration_.basis(self.rate)
            more = "; more normal rows (keyhole calibrate) allow smaller ones"
            yield "p-values", basis if self.alarms else basis + more
        for pattern in self.counting.patterns():
            yield "pattern", str(pattern)
        for remark in self.counting.total.drift.remarks():
            yield "data", remark
