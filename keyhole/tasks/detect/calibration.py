"""From an anomaly score to a p-value, from a promised rate to a threshold, to alarms.

Split-conformal: among n calibration rows that no net trained on, and one more row like them,
every rank is equally likely, so p = (1 + how many are at least as anomalous) / (n + 1) is at
most a with probability at most a. Source: Vovk, Gammerman and Shafer 2005, chapter 2; with
folds, cross-conformal (Vovk 2015), whose guarantee holds up to the difference between nets.
Beyond the largest of them a fitted tail refines the least p-value, where it fits (tail.py).
"""

import math
import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from keyhole.errors import KeyholeWarning, SettingError
from keyhole.tasks.detect.tail import REACH, Tail

CHANCE = 0.95  # quantile of the alarms that normal rows raise: what lies beyond is no chance


def beyond_chance(
    alarms: int, rows: int, rate: float, calibrated_on: int = 0, threshold: float = 0.0
) -> str:
    """How many of the rows alarm, how many would if all were normal, and how many more that is.

    `rate` is the false alarm rate; by how much it may be missed depends on how many rows it was
    calibrated on, 0 where that is not known. No row can alarm above an infinite `threshold`.
    """
    text = f"{alarms:,} alarm{'s' * (alarms != 1)} in {rows:,} row{'s' * (rows != 1)}"
    if not rows or not rate:
        return text
    if not math.isfinite(threshold):
        return f"{text}; no row can alarm at this rate: there are too few calibration rows"
    text += f"; about {expected_alarms(rows, rate)} would be expected by chance if every row were "
    text += f"normal ({100 * rate:.2g} %), so "
    if alarms <= most_by_chance(rows, rate, calibrated_on):
        return f"{text}this is no more than chance, unless the training rows had anomalies too"
    if alarms == 1:
        return f"{text}this one is probably an anomaly"
    return f"{text}about {max(alarms - rate * rows, 1):,.0f} of them are probably anomalies"


def expected_alarms(rows: int, rate: float) -> str:
    """How many rows alarm on average where all are normal, in words."""
    expected = rate * rows
    return f"{expected:,.0f}" if expected >= 10 else f"{expected:.2g}"


def most_by_chance(rows: int, rate: float, calibrated_on: int = 0) -> float:
    """The 95 % quantile of the alarms among normal rows.

    The share that alarms beyond a threshold from n calibration rows is a draw from a beta
    distribution, so the number of alarms is beta-binomial. Source: Vovk 2012, section 2.
    """
    beyond = int(rate * (calibrated_on + 1) * (1 + 1e-12))
    if beyond < 1:
        return float(stats.binom.ppf(CHANCE, rows, rate))
    return float(stats.betabinom.ppf(CHANCE, rows, beyond, calibrated_on + 1 - beyond))


APART = 0.05  # share of rows that may stand apart without a word: a few do on any table
ALIKE = 0.5  # rows that are all alike are a third as anomalous as usual: at no distance
LEVELS = 400  # of p-values below the least rank
MAX_ROWS = 20_000  # that calibrate; more make no rate that anyone asks for more certain


@dataclass(frozen=True)
class Calibration:
    """Sorted anomaly scores of rows that no net trained on."""

    anomaly_scores: np.ndarray

    @classmethod
    def of(cls, anomaly_scores: np.ndarray, seed: int = 0) -> "Calibration":
        """The calibration by these rows, or by as many of them, drawn evenly, as are of use."""
        known = anomaly_scores[~np.isnan(anomaly_scores)]
        if len(known) > MAX_ROWS:
            known = np.random.default_rng(seed).choice(known, MAX_ROWS, replace=False)
        return cls(np.sort(known.astype(float)))

    @cached_property
    def tail(self) -> Tail | None:
        """The distribution beyond the largest anomaly score; None where none fits."""
        return Tail.fit(self.anomaly_scores)

    def p_value(self, anomaly_score: np.ndarray) -> np.ndarray:
        """The share of rows like those of training that are at least as anomalous; NaN for NaN.

        Ranks down to 1 / (n + 1). Beyond the largest calibration anomaly score, where a tail
        fits, as little as a hundredth of that. Never 0 and never above 1.
        """
        n = len(self.anomaly_scores)
        scores = torch.from_numpy(np.ascontiguousarray(anomaly_score))
        # On all threads, where NumPy's uses one.
        ranks = torch.searchsorted(torch.from_numpy(self.anomaly_scores), scores).numpy()
        p_value = (1 + n - ranks) / (n + 1)
        beyond = (ranks == n) & ~np.isnan(anomaly_score)
        if beyond.any() and self.tail is not None:
            tail = self.tail.p_value(anomaly_score[beyond])
            p_value[beyond] = np.clip(tail, self.least_rate(), 1 / (n + 1))
        return np.where(np.isnan(anomaly_score), np.nan, p_value)

    def scores_at(self, p_value: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
        """The scores with these p-values: by rank, and beyond the largest one by the tail."""
        n = len(self.anomaly_scores)
        place = np.clip(n - np.floor(p_value * (n + 1)).astype(np.int64), 0, n - 1)
        scores = self.anomaly_scores[place]
        if self.tail is None:
            return scores
        beyond = self.tail.scores_at(np.maximum(p_value, self.least_rate()))
        return np.where(p_value < self.least_rank(), np.maximum(scores, beyond), scores)

    def threshold(self, false_alarm_rate: float) -> float:
        """Rows more anomalous than this have a p-value of at most the rate; inf if none can."""
        n = len(self.anomaly_scores)
        allowed = int(np.floor(false_alarm_rate * (n + 1) * (1 + 1e-12))) - 1
        if allowed >= 0:
            return float(self.anomaly_scores[n - 1 - allowed]) if allowed < n else float("-inf")
        if self.tail is None or false_alarm_rate < self.least_rate():
            return float("inf")
        score = max(self.tail.score_at(false_alarm_rate), float(self.anomaly_scores[-1]))
        return float(np.nextafter(score, -np.inf))  # a p-value equal to the rate alarms

    def apart(self) -> float:
        """The share of rows that stand apart from the others: beyond Tukey's outer fence.

        Three times the quartiles' distance above the upper one (Tukey 1977, chapter 2). Bad rows
        that hide among good ones are not counted: it is the least that can be told without labels.
        """
        if len(self.anomaly_scores) < 4:
            return 0.0
        low, high = np.quantile(self.anomaly_scores, (0.25, 0.75))
        return float((self.anomaly_scores > high + 3 * (high - low)).mean())

    def apart_interval(self) -> tuple[float, float]:
        """The 95 % interval of the share that stands apart (Clopper and Pearson 1934)."""
        from scipy.stats import beta

        rows, share = len(self.anomaly_scores), self.apart()
        count = round(share * rows)
        low = beta.ppf(0.025, count, rows - count + 1) if count else 0.0
        high = beta.ppf(0.975, count + 1, rows - count) if count < rows else 1.0
        return float(low), float(high)

    def least_rank(self) -> float:
        """The smallest rate that ranks alone can promise."""
        return 1 / (len(self.anomaly_scores) + 1)

    def least_rate(self) -> float:
        """The smallest false alarm rate possible: by the tail where one fits, else by ranks."""
        return self.least_rank() / (1 if self.tail is None else REACH)

    def shortage(self, false_alarm_rate: float) -> str | None:
        """A sentence where the rate is smaller than the rows allow, else None."""
        if false_alarm_rate > 0 and self.threshold(false_alarm_rate) < float("inf"):
            return None
        n = len(self.anomaly_scores)
        why = "no tail fits beyond them" if self.tail is None else "it is too far beyond them"
        return (
            f"a false alarm rate of {false_alarm_rate:g} is too low for {n:,} calibration "
            f"rows ({why}): no alarm can be raised; the lowest possible rate is "
            f"{self.least_rate():.2g}"
        )

    def extrapolation(self, false_alarm_rate: float) -> str | None:
        """A sentence where a rate rests on the fitted tail, else None."""
        tail = self.tail
        if tail is None or not self.least_rate() <= false_alarm_rate < self.least_rank():
            return None
        return (
            f"extrapolated: ranks among {len(self.anomaly_scores):,} calibration rows support "
            f"rates from {self.least_rank():.2g} up; below, a generalised Pareto tail fitted "
            f"to the {tail.exceedances:,} largest scores is used (goodness of fit p = "
            f"{tail.fit_p:.2f})"
        )

    def remarks(self, rate: float) -> list[str]:
        """What a user of this false alarm rate should know, in sentences."""
        notes = self.shortage(rate), self.extrapolation(rate), self.sameness()
        return [note for note in notes if note is not None]

    def basis(self, false_alarm_rate: float) -> str:
        """What p-values up to this rate rest on, in words: ranks, or the fitted tail."""
        ranks = f"ranks among {len(self.anomaly_scores):,} calibration rows"
        return self.extrapolation(false_alarm_rate) or ranks

    def sameness(self) -> str | None:
        """A sentence where every calibration row is as anomalous as every other, else None."""
        s = self.anomaly_scores
        if len(s) < 2 or (s[0] < s[-1] and s[-1] >= ALIKE):
            return None
        return (
            f"all {len(s):,} calibration rows have the same score (all rows are equal, or all "
            "columns constant): every different row alarms"
        )


def check_rate(false_alarm_rate: object) -> None:
    """Refuse what is no false alarm rate. Raises: SettingError."""
    if not isinstance(false_alarm_rate, int | float) or not 0 < false_alarm_rate < 1:
        rate = f"false_alarm_rate={false_alarm_rate!r:.40}"
        raise SettingError(f"{rate}: it must be above 0 and below 1, such as 0.01")


def apart_in_words(calibration: Calibration) -> str:
    """The share of training rows that stand apart, and what it cannot say."""
    low, high = calibration.apart_interval()
    return (
        f"{100 * calibration.apart():.1f} % of the calibration rows are far from the others (95 % "
        f"interval {100 * low:.1f} to {100 * high:.1f} %): they may be anomalies; anomalies that "
        "look like normal rows cannot be counted without labels"
    )


def trust_in_words(share: float) -> str | None:
    """What training rows that stand apart do to a promise; None where hardly any do."""
    if share < APART:
        return None
    return (
        f"about {100 * share:.2g} % of the training rows are far from the others: if they are "
        "anomalies, there will be fewer alarms than the rate allows, never more"
    )


@dataclass
class Discoveries:
    """Benjamini and Hochberg's rule over a batch of any size: of its alarms at most `share` false.

    p-values are counted at fixed levels, each rounded up to the next one (which errs on the safe
    side), so that memory does not grow with the rows. Source: Benjamini and Hochberg 1995,
    section 3.1; valid for conformal p-values (Bates et al. 2023). Below the least rank the levels
    are those of the fitted tail.
    """

    calibration: Calibration
    share: float

    def __post_init__(self) -> None:
        """Raises: SettingError for an invalid share."""
        if not isinstance(self.share, int | float) or not 0 < self.share < 1:
            raise SettingError(f"fdr={self.share!r}: it must be above 0 and below 1, such as 0.1")
        n, least = len(self.calibration.anomaly_scores), self.calibration.least_rank()
        tail = np.geomspace(self.calibration.least_rate(), least, LEVELS, endpoint=False)
        ranks = np.arange(1, n + 2) / (n + 1)
        self.levels = ranks if self.calibration.tail is None else np.concatenate([tail, ranks])
        self.counts = np.zeros(len(self.levels), np.int64)

    def add(self, anomaly_score: np.ndarray) -> None:
        """Count some rows in; an empty one is no test."""
        p_value = self.calibration.p_value(anomaly_score[~np.isnan(anomaly_score)])
        place = np.searchsorted(self.levels, p_value * (1 - 1e-12))
        self.counts += np.bincount(place, minlength=len(self.levels))

    def to_json(self) -> list[list[int]]:
        """The levels that have p-values, and how many, as JSON."""
        places = np.flatnonzero(self.counts)
        return [places.tolist(), self.counts[places].tolist()]

    def add_json(self, counts: list[list[int]]) -> None:
        """Count in what `to_json` returned. Raises: TypeError, ValueError for anything else."""
        places, numbers = (np.array(part, np.int64) for part in counts)
        if (places >= len(self.levels)).any():
            raise ValueError("p-values at levels of another calibration")
        self.counts[places] += numbers

    def may_alarm(self, anomaly_score: np.ndarray) -> np.ndarray:
        """True for rows that may alarm, whatever the other rows are: p-values up to the share."""
        return anomaly_score > self.calibration.threshold(self.share)

    def decide(self) -> float:
        """The false alarm rate; warns if it is 0 for too few calibration rows."""
        rate, short = self.false_alarm_rate(), self.shortage()
        if rate == 0 and short is not None:
            warnings.warn(short, KeyholeWarning, stacklevel=3)
        return rate

    def shortage(self) -> str | None:
        """A sentence where the calibration rows are too few for any row to alarm alone."""
        n, tests = len(self.calibration.anomaly_scores), int(self.counts.sum())
        least, beyond = float(self.levels[0]), int(self.counts[0])
        needed = int(np.ceil(tests * least / self.share * (1 - 1e-12)))
        if needed <= max(beyond, 1):
            return None
        return (
            f"with {n:,} calibration rows the lowest p-value is {least:.2g}. For a share of "
            f"{self.share:g}, at least {needed:,} of {tests:,} rows must have it; {beyond:,} "
            "have. Calibrate on more normal rows"
        )

    def false_alarm_rate(self) -> float:
        """The largest p-value that alarms, 0 where none does."""
        tests = int(self.counts.sum())
        within = self.levels * tests <= self.share * np.cumsum(self.counts) * (1 + 1e-12)
        rates = self.levels[within & (self.counts > 0)]
        return float(rates.max()) if len(rates) else 0.0


def told_apart(good: Float[Tensor, "member row"], bad: Float[Tensor, "member row"]) -> float:
    """The area under the ROC curve of answers of good and of bad rows; 1: all are told apart."""
    from sklearn.metrics import roc_auc_score

    answers = torch.cat([good.mean(0), bad.mean(0)]).nan_to_num(nan=0.0).numpy()
    truth = np.repeat([0, 1], [good.shape[1], bad.shape[1]])
    return float(roc_auc_score(truth, answers))
