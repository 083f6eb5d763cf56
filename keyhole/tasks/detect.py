"""Detect: how improbable is each row, how sure is that, and which cells caused it?"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from keyhole.errors import BundleError, KeyholeWarning, SettingError
from keyhole.estimator import Autoencoder
from keyhole.sources import Rows, Source
from keyhole.store import Bundle, read_bundle
from keyhole.tasks.answer import Answer
from keyhole.tasks.base import Task
from keyhole.tasks.calibrate import Calibration
from keyhole.tasks.explain import MOST_CELLS, explain
from keyhole.tasks.likeness import Likeness


class AnomalyDetector(OutlierMixin, BaseEstimator):
    """Alarms at a promised rate, from an Autoencoder and rows it has not trained on.

    `alarm_rate` is the share of false alarms promised on rows like those of training. It moves
    after the fit without refitting: `set_params(alarm_rate=.05)`.
    """

    def __init__(
        self,
        autoencoder: Autoencoder | None = None,
        *,
        alarm_rate: float = 0.01,
        random_state: Any = None,
    ) -> None:
        self.autoencoder = autoencoder
        self.alarm_rate = alarm_rate
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit an Autoencoder on the rows, and keep what held-out rows cost; `y` is ignored."""
        self._check_rate()
        template = self.autoencoder
        if template is None:
            template = Autoencoder(random_state=self.random_state)
        model: Any = clone(template)
        self.autoencoder_ = model.fit(X)
        return self._settle()

    @classmethod
    def of(cls, autoencoder: Autoencoder, *, alarm_rate: float = 0.01) -> Self:
        """The detector of an Autoencoder that is fitted already."""
        check_is_fitted(autoencoder)
        detector = cls(autoencoder, alarm_rate=alarm_rate)
        detector._check_rate()
        detector.autoencoder_ = autoencoder
        return detector._settle()

    def score_samples(self, X: Any) -> np.ndarray:
        """Each row's log-likelihood in nats, higher = more normal; the negative is `surprise`."""
        check_is_fitted(self)
        return self.autoencoder_.score_samples(X)

    def decision_function(self, X: Any) -> np.ndarray:
        """Score above the threshold, negative for an alarm; a row with no observed cell is 0."""
        return np.nan_to_num(self.score_samples(X) - self.offset_, nan=0.0)

    def predict(self, X: Any) -> np.ndarray:
        """-1 for an alarm, +1 else."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_value(self, X: Any) -> np.ndarray:
        """The share of rows like those of training that are at least as surprising."""
        return self.calibration_.p_value(-self.score_samples(X))

    def answer(self, X: Any, *, explain_rows: str = "alarms") -> Answer:
        """Surprise, p-value, alarm and causes of every row; `explain_rows`: "alarms" or "all"."""
        check_is_fitted(self)
        source = self.autoencoder_.open(X)
        return join(list(self.answers(source, explain_rows=explain_rows)))

    def answers(
        self, source: Source, *, chunk: int | None = None, explain_rows: str = "alarms"
    ) -> Iterator[Answer]:
        """Answers chunk by chunk, in the order of the source."""
        start = 0
        for rows in source.blocks(chunk or self.autoencoder_.chunk_rows):
            yield self.answer_rows(rows, start, explain_rows=explain_rows)
            start += len(rows)

    def answer_rows(
        self,
        rows: Rows,
        start: int = 0,
        *,
        explain_rows: str = "alarms",
        most_cells: int = MOST_CELLS,
        likeness: Likeness | None = None,
    ) -> Answer:
        """The answer for a block of rows whose first stands at `start`; `likeness` counts it in.

        `explain_rows` is "alarms", "all" or "none".
        """
        model = self.autoencoder_
        block = model.weigh(rows, start)
        surprise = model.row_nats(block).numpy().astype(np.float64)
        alarm = surprise > -self.offset_  # False for NaN
        chosen = {"alarms": alarm, "all": ~np.isnan(surprise), "none": np.zeros(len(rows), bool)}
        p_value = self.calibration_.p_value(surprise)
        if likeness is not None:
            likeness.add(block.batch, p_value)
        id_name = model.id_column if model.id_column in rows.names else None
        return Answer(
            rows=np.arange(start, start + len(rows)),
            surprise=surprise,
            p_value=p_value,
            alarm=alarm,
            because=explain(model, block, np.flatnonzero(chosen[explain_rows]), most_cells),
            ids=None if id_name is None else rows.column(id_name),
            id_name=id_name,
        )

    def reads(self) -> list[str]:
        """The columns that an answer reads: the net's, and the one that names rows."""
        model = self.autoencoder_
        return [*model.table_.needs(), *([model.id_column] if model.id_column else [])]

    @property
    def offset_(self) -> float:
        """The score below which a row alarms, at today's `alarm_rate`."""
        return -self.calibration_.threshold(self.alarm_rate)

    @property
    def n_features_in_(self) -> int:
        """The number of columns that fit saw."""
        return self.autoencoder_.n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """The columns that fit saw."""
        return self.autoencoder_.feature_names_in_

    def section(self) -> dict[str, Any]:
        """What a bundle keeps of the detector; its calibration is the Autoencoder's."""
        return {"alarm_rate": self.alarm_rate}

    def save(self, path: str) -> None:
        """Keep detector and Autoencoder in a folder, whole or not at all."""
        check_is_fitted(self)
        self.autoencoder_.save(path, {"detect": self.section()})

    @classmethod
    def load(cls, path: str) -> Self:
        """The detector kept in a folder.

        Raises: BundleError that says what is wrong with it.
        """
        return cls.from_bundle(read_bundle(str(path)))

    @classmethod
    def from_bundle(cls, bundle: Bundle, *, alarm_rate: float | None = None) -> Self:
        """The detector of a bundle, at its own alarm rate unless another is given.

        Raises: BundleError, SettingError for a rate that is none.
        """
        section = bundle.sections.get("detect", {})
        rate = section.get("alarm_rate", 0.01) if isinstance(section, dict) else None
        if not isinstance(rate, float | int) or not 0 < rate < 1:
            raise BundleError(f"alarm_rate={rate!r:.40} in the manifest is no rate")
        asked = float(rate) if alarm_rate is None else alarm_rate
        return cls.of(Autoencoder.from_bundle(bundle), alarm_rate=asked)

    def _settle(self) -> Self:
        self.calibration_ = Calibration(self.autoencoder_.held_out_nats_)
        short = self.calibration_.shortage(self.alarm_rate)
        if short is not None:
            warnings.warn(short, KeyholeWarning, stacklevel=3)
        return self

    def _check_rate(self) -> None:
        rate = self.alarm_rate
        if not isinstance(rate, float | int) or not 0 < rate < 1:
            raise SettingError(f"alarm_rate={rate!r}: give a share between 0 and 1, such as 0.01")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        return tags


class Detect(Task):
    """The detector as a task: its answers as lines of a table."""

    verb = "detect"

    def __init__(self, autoencoder: Autoencoder, *, alarm_rate: float = 0.01) -> None:
        super().__init__(autoencoder)
        self.detector = AnomalyDetector.of(autoencoder, alarm_rate=alarm_rate)

    def reads(self) -> list[str]:
        """The net's columns and the one that names rows."""
        return self.detector.reads()

    def table(self, rows: Rows, start: int) -> Any:
        """The answer for a block of rows."""
        return self.detector.answer_rows(rows, start).table()


def join(answers: list[Answer]) -> Answer:
    """Answers of consecutive blocks as one."""
    import pyarrow as pa

    because, start = {}, 0
    for answer in answers:
        because |= {start + place: cells for place, cells in answer.because.items()}
        start += len(answer)
    ids = None
    if answers[0].ids is not None:
        ids = pa.chunked_array([answer.ids for answer in answers]).combine_chunks()
    return Answer(
        rows=np.concatenate([answer.rows for answer in answers]),
        surprise=np.concatenate([answer.surprise for answer in answers]),
        p_value=np.concatenate([answer.p_value for answer in answers]),
        alarm=np.concatenate([answer.alarm for answer in answers]),
        because=because,
        ids=ids,
        id_name=answers[0].id_name,
    )
