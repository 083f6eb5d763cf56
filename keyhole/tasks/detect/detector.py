"""The anomaly detector, and its anomaly maps of images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from keyhole.autoencoder.base import Estimator
from keyhole.autoencoder.estimator import Autoencoder, fit_for
from keyhole.autoencoder.input_validation import blocks_of, id_column_of, without_weights
from keyhole.core.progress import EvaluateCallback, heard_if_verbose
from keyhole.data import Rows, Source
from keyhole.errors import KeyholeWarning, SettingError
from keyhole.modalities import Modality, Schema
from keyhole.modalities.prepared import FitOptions
from keyhole.store import Bundle, read_bundle, record, wrap_errors
from keyhole.tasks.base import an_autoencoder, seeded
from keyhole.tasks.detect.answer import Answer, answer_of, join
from keyhole.tasks.detect.calibration import Calibration, Discoveries, check_rate
from keyhole.tasks.detect.counting import Draft
from keyhole.tasks.detect.events import events_of, table_of
from keyhole.tasks.detect.explain import MAX_CELLS, check_explained, explain
from keyhole.tasks.detect.labels import anomalies, best_rate
from keyhole.tasks.detect.scorer import DetectorState, ScoredBlock, Scorer, support_fraction_of
from keyhole.tasks.detect.stream import Stream
from keyhole.tasks.drift import Drift


@heard_if_verbose("fit", "partial_fit", "calibrate", "score_samples", "anomaly_map", "answer")
class AnomalyDetector(OutlierMixin, Estimator):
    """Alarms at a promised rate, from an Autoencoder and rows it has not trained on.

    Parameters
    ----------
    autoencoder : Autoencoder, default=None
        The model to fit: a template, which is cloned and never changed. None: `Autoencoder()`.
    false_alarm_rate : float, default=0.01
        The share of false alarms promised on rows like those of training. It can be changed by
        `set_params` after the fit.
    contamination : "auto", "none" or float, default="auto"
        The assumed share of bad training rows, below 0.5; "auto": unknown. It decides how far
        training rows are trusted, never the threshold.
    group : str, default=None
        A column, such as a machine's id: each of its values is judged by its own measure.
    schema : Schema, default=None
        What you say of the columns. It replaces that of `autoencoder`.
    random_state : int, RandomState or None, default=None
        The seed of training; it replaces that of `autoencoder`.
    verbose : bool, default=False
        Show progress and the verdict on standard error.

    Attributes
    ----------
    autoencoder_ : Autoencoder
        The fitted model.
    scorer_ : Scorer
        What makes anomaly scores: distances to reference rows, masked predictions, calibration.
    calibration_ : Calibration
        The anomaly scores of rows that no net trained on.
    contamination_ : float
        The estimated share of outliers among these rows.
    offset_ : float
        The score below which a row alarms.
    n_features_in_, feature_names_in_
        The number and the names of the columns that `fit` saw.
    verdict_, findings_, history_
        How far to trust the model, what the checks object to, and the training run.

    Raises
    ------
    SettingError
        In `fit`, for an invalid argument.
    DataError
        For rows that cannot be read, or that have other columns than those of `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from keyhole import AnomalyDetector, Autoencoder, TrainingConfig
    >>> X = np.random.default_rng(0).normal(size=(300, 1)) * [1.0, 2.0, 3.0]
    >>> model = Autoencoder(width=1, training=TrainingConfig(steps=20))
    >>> detector = AnomalyDetector(model, false_alarm_rate=0.05, random_state=0).fit(X)
    >>> answer = detector.answer([[1.0, 2.0, 3.0], [9.0, -9.0, 9.0]])
    >>> answer.alarm.tolist(), answer.to_frame().num_rows
    ([False, True], 2)
    """

    def __init__(
        self,
        autoencoder: Autoencoder | None = None,
        *,
        false_alarm_rate: float = 0.01,
        contamination: str | float = "auto",
        group: str | None = None,
        schema: Schema | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.autoencoder = autoencoder
        self.schema = schema
        self.false_alarm_rate = false_alarm_rate
        self.contamination = contamination
        self.group = group
        self.random_state = random_state
        self.verbose = verbose

    @without_weights
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        checkpoint: str | None = None,
        on_evaluate: EvaluateCallback | None = None,
        on_data_ready: Callable[[Modality, Source, int], None] | None = None,
    ) -> Self:
        """Fit an Autoencoder on the rows, and calibrate alarms on held-out ones.

        `y` is ignored. Hooks as in `Autoencoder.fit`. Raises: DataError, SettingError, FitError.
        """
        check_rate(self.false_alarm_rate)
        options = FitOptions(support_fraction_of(self.contamination), self.group)
        template = Autoencoder() if self.autoencoder is None else self.autoencoder
        model: Any = seeded(template, "AnomalyDetector", self.random_state, self.verbose)
        if self.schema is not None:
            model.set_params(schema=self.schema)
        self.autoencoder_ = fit_for(
            model, X, options,
            checkpoint=checkpoint, on_evaluate=on_evaluate, on_data_ready=on_data_ready,
        )  # fmt: skip
        return self._calibrated()

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Add new rows to reference and calibration rows; the net stays; `y` is ignored.

        They calibrate too, each as if it were no reference row, in place of what `calibrate` was
        given; p-values before and after mean the same. A net for another world needs `fit`.
        """
        if not hasattr(self, "autoencoder_"):
            return self.fit(X)
        return self._scoring_by(self.scorer_.updated(blocks_of(self.autoencoder_, X)))

    def calibrate(self, X: Any, y: Any = None) -> Self:
        """Calibrate false alarm rates on these rows instead of the held-out ones; no refit.

        `y` marks anomalies, which are left out: 1 or true, or -1 among -1 and 1; None: all rows
        are good. It is the cure for calibration rows that were themselves contaminated.
        """
        anomaly_score = -self.score_samples(X)
        if y is not None:
            anomaly_score = anomaly_score[~anomalies(y, len(anomaly_score))]
        self.scorer_ = self.scorer_.recalibrated(anomaly_score)
        return self._warned()

    def choose_rate(self, X: Any, y: Any) -> float:
        """The false alarm rate whose alarms agree best (F1) with these few labels.

        Raises: DataError where the labels hold no anomaly or no other row.
        """
        p_value = np.maximum(self.p_value(X), self.calibration_.least_rank())  # keeps NaN
        return best_rate(p_value, anomalies(y, len(p_value)))

    @classmethod
    def from_fitted(
        cls,
        autoencoder: Autoencoder,
        *,
        false_alarm_rate: float = 0.01,
        contamination: str | float = "auto",
    ) -> Self:
        """The detector of a fitted Autoencoder, without training; the Autoencoder is not changed.

        A `group` needs `fit`: the rows that a fitted Autoencoder holds have no groups.
        """
        check_is_fitted(an_autoencoder(autoencoder, "AnomalyDetector.from_fitted"))
        support_fraction_of(contamination)
        return cls._over(autoencoder, false_alarm_rate, contamination, None)._calibrated()

    def score_samples(self, X: Any) -> np.ndarray:
        """The negative anomaly score of each row: -1 is normal, -3 three times as far out."""
        check_is_fitted(self)
        judged = self.scorer_.scored_blocks(blocks_of(self.autoencoder_, X), std=False)
        return np.concatenate([-block.anomaly_score for block in judged])

    def decision_function(self, X: Any) -> np.ndarray:
        """Score above the threshold, negative for an alarm; a row with no observed cell is 0."""
        return np.nan_to_num(self.score_samples(X) - self.offset_, nan=0.0)

    def predict(self, X: Any) -> np.ndarray:
        """-1 for an alarm, +1 else."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_value(self, X: Any) -> np.ndarray:
        """The share of rows like those of training that are at least as anomalous."""
        return self.calibration_.p_value(-self.score_samples(X))

    def anomaly_map(self, X: Any) -> np.ndarray:
        """How anomalous each pixel is, (image, height, width): 1 is a normal pixel."""
        check_is_fitted(self)
        scorer = self.scorer_
        scorer.check_maps()
        blocks = blocks_of(self.autoencoder_, X)
        batches = (scorer.table.encode(rows, start) for start, rows in blocks)
        return np.concatenate([scorer.anomaly_map(batch) for batch in batches])

    def answer(self, X: Any, *, explain_rows: str = "alarms", fdr: float | None = None) -> Answer:
        """Anomaly score, p-value, alarm and reasons of every row.

        `explain_rows` is "alarms", "all" or "none": the rows that get reasons.
        With `fdr` the alarms are those that Benjamini and Hochberg's rule raises over all rows of
        X: of them, on average, at most this share is false. Warns of an unattainable false alarm
        rate.
        """
        check_is_fitted(self)
        check_explained(explain_rows)
        judged = self.scorer_.scored_blocks(blocks_of(self.autoencoder_, X))
        if fdr is not None:
            answers = self._discoveries(judged, Discoveries(self.calibration_, fdr), explain_rows)
            return join(answers).labelled_like(X)
        if short := self.calibration_.shortage(self.false_alarm_rate):
            warnings.warn(short, KeyholeWarning, stacklevel=2)
        answers = [self._answer(some, explain_rows, MAX_CELLS) for some in judged]
        return join(answers).labelled_like(X)

    def events(self, X: Any, *, false_events: str | None = None) -> Any:
        """The alarms of a sensor series as events, one a line, as the kind of frame of X.

        `false_events` is how many false ones of a machine are promised at most, such as "1/day".
        Columns: the machine, start, end, peak, the channel that started it, all its channels in
        the order in which they joined, the highest anomaly score, and whether it is still open.
        Raises: SettingError for rows that are no series.
        """
        check_is_fitted(self)
        events = events_of(
            self, self.scorer_.scored_blocks(blocks_of(self.autoencoder_, X)), false_events
        )
        return table_of(events, self.autoencoder_.model_.modality.machine_column, X)

    def stream(
        self,
        *,
        state: str | os.PathLike[str] | None = None,
        false_events: str | None = None,
        explain_rows: str = "alarms",
    ) -> Stream:
        """Answers for rows of a sensor series that are pushed as they come.

        `state` is what `Stream.save` wrote, to go on from there. Raises: SettingError for rows
        that are no series; BundleError, FileError.
        """
        check_is_fitted(self)
        stream = Stream(self, false_events=false_events, explain_rows=explain_rows)
        return stream if state is None else stream.resume(state)

    def _discoveries(
        self, blocks: Iterator[ScoredBlock], discoveries: Discoveries, explain_rows: str
    ) -> list[Answer]:
        """The answers whose alarms depend on all rows, in one pass over them."""
        drafts, all_rows = [], explain_rows == "all"
        for judged in blocks:
            score, no_alarm = judged.anomaly_score, np.zeros(len(judged.rows), bool)
            discoveries.add(score)
            id_column = id_column_of(self.autoencoder_)
            answer = answer_of(judged, self.calibration_, no_alarm, {}, id_column)
            may_alarm = discoveries.may_alarm(score) & (explain_rows != "none")
            candidates = ~np.isnan(score) if all_rows else may_alarm
            drafts.append(Draft.of(answer, judged.rows, candidates))
        threshold = self.calibration_.threshold(discoveries.decide())
        return [draft.finish(self.scorer_, threshold, explain_all=all_rows) for draft in drafts]

    def _answer(self, judged: ScoredBlock, explain_rows: str, most_features: int) -> Answer:
        check_explained(explain_rows)
        anomaly_score = judged.anomaly_score
        alarm = anomaly_score > self.calibration_.threshold(self.false_alarm_rate)
        explained = {"alarms": alarm, "all": ~np.isnan(anomaly_score), "none": alarm & False}
        places = np.flatnonzero(explained[explain_rows])
        reasons = explain(self.scorer_, judged, places, most_features)
        views = self.scorer_.views_of(judged, places.tolist())
        id_column = id_column_of(self.autoencoder_)
        return answer_of(judged, self.calibration_, alarm, reasons, id_column, views)

    @property
    def calibration_(self) -> Calibration:
        """The anomaly scores of rows that no net trained on."""
        return self.scorer_.calibration

    @property
    def contamination_(self) -> float:
        """The estimated share of outliers among the calibration rows."""
        return self.scorer_.apart

    @property
    def offset_(self) -> float:
        """The score below which a row alarms, at today's `false_alarm_rate`."""
        return -self.calibration_.threshold(self.false_alarm_rate)

    @property
    def n_features_in_(self) -> int:
        """The number of columns that fit saw."""
        return self.autoencoder_.n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """The columns that fit saw."""
        return self.autoencoder_.feature_names_in_

    def _sections(self) -> dict[str, Any]:
        return {"detect": self.scorer_.section(self.false_alarm_rate)}

    def _scoring_by(self, scorer: Scorer) -> Self:
        """The detector, which compares new rows with the scorer's reference rows from now on."""
        self.scorer_ = scorer
        model = self.autoencoder_.model_
        self.autoencoder_.model_ = replace(model, reference=scorer.reference)
        return self

    @classmethod
    def load(
        cls, path: str | os.PathLike[str] | Bundle, *, false_alarm_rate: float | None = None
    ) -> Self:
        """The detector saved in a file, at its own false alarm rate unless another is given.

        Raises: BundleError, SettingError for an invalid rate, or one too small to be promised.
        """
        bundle = path if isinstance(path, Bundle) else read_bundle(path)
        model = Autoencoder.load(bundle)
        if "detect" not in bundle.sections:
            rate = 0.01 if false_alarm_rate is None else false_alarm_rate
            return cls.from_fitted(model, false_alarm_rate=rate)
        state = record(DetectorState, bundle.sections["detect"], "section 'detect'")
        with wrap_errors("section 'detect'"):
            scorer = Scorer.restored(state, model)
        if other_views := state.other_views(scorer.table):
            warnings.warn(other_views, KeyholeWarning, stacklevel=2)
        rate = state.false_alarm_rate if false_alarm_rate is None else false_alarm_rate
        detector = cls._over(model, rate, state.contamination, state.group)
        detector.scorer_ = scorer
        shortage = scorer.calibration.shortage(rate)
        if shortage is not None and false_alarm_rate is not None:
            raise SettingError(shortage)
        return detector._warned()

    @classmethod
    def _over(
        cls, model: Autoencoder, rate: float, contamination: str | float, group: str | None
    ) -> Self:
        """A detector on a copy of a fitted model, not calibrated yet."""
        check_rate(rate)
        detector = cls(model, false_alarm_rate=rate, contamination=contamination, group=group)
        detector.autoencoder_ = copy(model)
        return detector

    def _calibrated(self) -> Self:
        scorer = Scorer.calibrated(self.autoencoder_, self.contamination, self.group)
        return self._scoring_by(scorer)._warned()

    def _warned(self) -> Self:
        """Warn if the rate is unattainable or extrapolated, or if all scores tie."""
        for message in self.calibration_.remarks(self.false_alarm_rate):
            warnings.warn(message, KeyholeWarning, stacklevel=3)
        return self


def answer_rows(
    detector: AnomalyDetector,
    rows: Rows,
    start: int = 0,
    *,
    explain_rows: str = "alarms",
    most_features: int = MAX_CELLS,
    drift: Drift | None = None,
) -> Answer:
    """The answer for a block of rows whose first stands at `start`; `drift` counts it in.

    `explain_rows` is "alarms", "all" or "none".
    """
    judged = detector.scorer_.score_block(rows, start)
    answer = detector._answer(judged, explain_rows, most_features)
    if drift is not None:
        drift.add(judged.batch, answer.p_value, judged.unknown_groups)
    return answer


def columns_read(detector: AnomalyDetector) -> list[str]:
    """The columns that an answer reads: the net's, and those that name rows and groups."""
    groups = detector.scorer_.groups
    named = [id_column_of(detector.autoencoder_), None if groups is None else groups.column]
    return [*detector.autoencoder_.model_.modality.needs(), *(name for name in named if name)]
