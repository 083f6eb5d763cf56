"""From a surprise to a p-value, from a promised rate to a threshold, from a batch to its alarms.

Split-conformal: among n calibration rows that no net trained on, and one more row like them,
every rank is equally likely, so p = (1 + how many are at least as surprising) / (n + 1) is at
most a with probability at most a. Source: Vovk, Gammerman and Shafer 2005, chapter 2; with
folds, cross-conformal (Vovk 2015), whose guarantee holds up to the difference between nets.
"""

from dataclasses import dataclass

import numpy as np
import torch

APART = 0.05  # share of rows that may stand apart without a word: a few do on any table
ALIKE = 0.5  # rows that are all alike are a third as surprising as usual: at no distance
MOST_ROWS = 20_000  # that calibrate; more make no rate that anyone asks for more certain


@dataclass(frozen=True)
class Calibration:
    """Sorted surprises of rows that no net trained on."""

    surprises: np.ndarray

    @classmethod
    def of(cls, surprises: np.ndarray, seed: int = 0) -> "Calibration":
        """The calibration by these rows, or by as many of them, drawn evenly, as are of use."""
        known = surprises[~np.isnan(surprises)]
        if len(known) > MOST_ROWS:
            known = np.random.default_rng(seed).choice(known, MOST_ROWS, replace=False)
        return cls(np.sort(known.astype(float)))

    def p_value(self, surprise: np.ndarray) -> np.ndarray:
        """The share of rows like those of training that are at least as surprising; NaN for NaN.

        Never 0 and never above 1: the least is 1 / (n + 1).
        """
        n = len(self.surprises)
        places = torch.searchsorted(
            torch.from_numpy(self.surprises), torch.from_numpy(np.ascontiguousarray(surprise))
        )  # on all threads, where NumPy's uses one
        above = n - places.numpy()
        return np.where(np.isnan(surprise), np.nan, (1 + above) / (n + 1))

    def threshold(self, alarm_rate: float) -> float:
        """Rows more surprising than this have a p-value of at most the rate; inf if none can."""
        n = len(self.surprises)
        allowed = int(np.floor(alarm_rate * (n + 1) * (1 + 1e-12))) - 1
        if allowed < 0:
            return float("inf")
        return float(self.surprises[n - 1 - allowed]) if allowed < n else float("-inf")

    def apart(self) -> float:
        """The share of rows that stand apart from the others: beyond Tukey's outer fence.

        Three times the quartiles' distance above the upper one (Tukey 1977, chapter 2). Bad rows
        that hide among good ones are not counted: it is the least that can be told without labels.
        """
        if len(self.surprises) < 4:
            return 0.0
        low, high = np.quantile(self.surprises, (0.25, 0.75))
        return float((self.surprises > high + 3 * (high - low)).mean())

    def least_rate(self) -> float:
        """The smallest alarm rate that so many rows can promise."""
        return 1 / (len(self.surprises) + 1)

    def shortage(self, alarm_rate: float) -> str | None:
        """A sentence where the rate needs more rows than there are, else None."""
        if alarm_rate >= self.least_rate():
            return None
        n = len(self.surprises)
        needed = int(np.ceil(1 / alarm_rate)) - 1
        return (
            f"an alarm rate of {alarm_rate:g} needs {needed:,} calibration rows and there are "
            f"{n:,}: no alarm can be raised; the least rate possible is {self.least_rate():.3g}"
        )

    def sameness(self) -> str | None:
        """A sentence where every calibration row is as surprising as every other, else None."""
        s = self.surprises
        if len(s) < 2 or (s[0] < s[-1] and s[-1] >= ALIKE):
            return None
        return (
            f"all {len(self.surprises):,} calibration rows are equally surprising (all alike, or "
            "all columns constant): whatever differs from them alarms, and nothing else is known"
        )


def trust_in_words(share: float) -> str | None:
    """What training rows that stand apart do to a promise; None where hardly any do."""
    if share < APART:
        return None
    return (
        f"about {100 * share:.2g} % of the training rows stand apart from the others: if they are "
        "bad ones, p-values are conservative (alarms rarer than promised, never more frequent)"
    )


@dataclass
class Discoveries:
    """Benjamini and Hochberg's rule over a batch of any size: of its alarms at most `share` false.

    p-values are counted by their rank, so that memory is that of the calibration. Source:
    Benjamini and Hochberg 1995, section 3.1; valid for conformal p-values (Bates et al. 2023).
    """

    calibration: Calibration
    share: float

    def __post_init__(self) -> None:
        self.counts = np.zeros(len(self.calibration.surprises) + 2, np.int64)

    def add(self, surprise: np.ndarray) -> None:
        """Count some rows in; an empty one is no test."""
        n = len(self.calibration.surprises)
        p_value = self.calibration.p_value(surprise[~np.isnan(surprise)])
        ranks = np.rint(p_value * (n + 1)).astype(np.int64)
        self.counts += np.bincount(ranks, minlength=n + 2)

    def shortage(self) -> str | None:
        """A sentence where the calibration rows are too few for any row to alarm alone."""
        n, tests = len(self.calibration.surprises), int(self.counts.sum())
        needed = int(np.ceil(tests / self.share / (n + 1)))  # rows with the least p-value
        if needed <= max(int(self.counts[:2].sum()), 1):
            return None
        return (
            f"at {n:,} calibration rows the least p-value is {1 / (n + 1):.2g}: of {tests:,} rows "
            f"at least {needed:,} would have to be beyond them all for a share of {self.share:g} "
            f"to be promised; {int(self.counts[:2].sum()):,} are"
        )

    def alarm_rate(self) -> float:
        """The largest p-value that alarms, 0 where none does."""
        n, tests = len(self.calibration.surprises), int(self.counts.sum())
        ranks = np.arange(n + 2)
        within = ranks / (n + 1) * tests <= self.share * np.cumsum(self.counts) * (1 + 1e-12)
        found = ranks[within & (self.counts > 0)]
        return float(found.max() / (n + 1)) if len(found) else 0.0
