"""From a surprise to a p-value, and from a promised alarm rate to a threshold.

Split-conformal: among n calibration rows that no net trained on, and one more row like them,
every rank is equally likely, so p = (1 + how many are at least as surprising) / (n + 1) is at
most a with probability at most a. Source: Vovk, Gammerman and Shafer 2005, chapter 2; with
folds, cross-conformal (Vovk 2015), whose guarantee holds up to the difference between nets.
"""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Calibration:
    """Sorted surprises of rows that no net trained on."""

    surprises: np.ndarray

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
