"""One extreme value in a row: is it an alarm, for each kind of column and width of the table?

    python -m benchmarks.outliers [--seeds 2] [--widths 5 12 30 100]

The tables have 10,000 rows. Their columns depend on three latent factors and have nine kinds in
turn: normal, Student's t with 3 degrees of freedom, log-normal, uniform, negative binomial counts,
an amount that is zero in 70 % of the rows (otherwise log-normal), dates, six levels, yes or no.

`AnomalyDetector` is fitted with its defaults. In each of 200 new rows one value is spoilt, in a
random column of the kind. It is set beyond the largest training value by 1.2, 2 or 5 spreads of
the upper tail (the distance from the median to the .999 quantile of the column), or to a level
that no training row has ("unseen").

`recall` is the share of these rows that alarm at a false alarm rate of 1 %. `false_alarms` is the
share of 4,000 other new rows that alarm. `least` is the lowest recall over the kinds.

PyOD's ECOD and scikit-learn's IsolationForest get the same rows: levels as codes by frequency (an
unseen level is the next code), dates as seconds. They are fitted with their defaults on 80 % of
the rows; the other 20 % set the threshold, by the same conformal quantile. ECOD includes the rows
that it scores in its distribution. So it gets spoilt rows one at a time (25 of each case);
otherwise they would make each other look normal.

Bar: .99 at five spreads and for unseen levels, for each kind and width.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.ensemble import IsolationForest

from benchmarks.common import emit

TRAIN, CLEAN, SPOILT, ALONE = 10_000, 4_000, 200, 25
RATE, HELD_OUT = 0.01, 0.2
SPREADS = (1.2, 2.0, 5.0)
FACTORS = 3
SHARES = np.array([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])
HALF_YEAR_S = 181 * 86_400

Quantiles = Callable[[np.ndarray], np.ndarray]
NUMBERS: dict[str, Quantiles] = {
    "normal": stats.norm.ppf,
    "student": lambda u: stats.t.ppf(u, 3),
    "lognormal": lambda u: np.exp(stats.norm.ppf(u)),
    "uniform": lambda u: u,
    "count": lambda u: stats.nbinom.ppf(u, 2.0, 0.5),
    "atom": lambda u: np.where(u < 0.7, 0.0, np.exp(stats.norm.ppf((u - 0.7) / 0.3))),
    "date": lambda u: np.floor(u * HALF_YEAR_S),
}
LEVELS = ("levels", "boolean")
KINDS = (*NUMBERS, *LEVELS)


def table(rows: int, kinds: list[str], weights: np.ndarray, rng: np.random.Generator) -> Any:
    """Rows of a Gaussian copula with these weights of the factors, each column of its kind."""
    factors = rng.standard_normal((rows, FACTORS))
    noise = rng.standard_normal((rows, len(kinds)))
    size = np.sqrt(1 + np.square(weights).sum(0))
    u = stats.norm.cdf((factors @ weights + noise) / size)
    columns: dict[str, np.ndarray] = {}
    for i, kind in enumerate(kinds):
        if kind == "levels":
            place = np.searchsorted(np.cumsum(SHARES)[:-1], u[:, i])
            columns[f"{kind}_{i}"] = np.array(list("abcdef"))[place]
        elif kind == "boolean":
            columns[f"{kind}_{i}"] = np.where(u[:, i] < 0.2, "yes", "no")
        else:
            columns[f"{kind}_{i}"] = NUMBERS[kind](u[:, i])
    frame = pd.DataFrame(columns)
    for name in frame:
        if name.startswith("count"):
            frame[name] = frame[name].astype(int)
        if name.startswith("date"):
            frame[name] = pd.Timestamp("2026-01-01") + pd.to_timedelta(frame[name], unit="s")
    return frame


def beyond(values: pd.Series, spreads: float) -> Any:
    """The largest value and so many spreads of the upper tail."""
    if values.dtype.kind == "M":
        start = values.min()
        seconds = beyond((values - start).dt.total_seconds(), spreads)
        return start + pd.Timedelta(int(seconds), unit="s")
    low, high = np.quantile(values, (0.5, 0.999))
    if values.dtype.kind == "i":
        return int(np.ceil(values.max() + spreads * (high - low)))
    return values.max() + spreads * (high - low)


def spoilt(frame: pd.DataFrame, train: pd.DataFrame, kind: str, spreads: float, rng: Any) -> Any:
    """The rows, each with one cell of this kind of column spoilt."""
    names = [name for name in frame if name.startswith(kind)]
    frame, which = frame.copy(), rng.integers(0, len(names), len(frame))
    for i, name in enumerate(names):
        rows = np.flatnonzero(which == i)
        frame.loc[rows, name] = "z" if kind in LEVELS else beyond(train[name], spreads)
    return frame


def numeric(frame: pd.DataFrame, train: pd.DataFrame) -> np.ndarray:
    """The rows as numbers for the peers."""
    columns = []
    for name in train:
        values = frame[name]
        if values.dtype.kind == "M":
            values = (values - train[name].min()).dt.total_seconds()
        elif values.dtype.kind not in "if":
            levels = train[name].value_counts().index.tolist()
            values = values.map({level: i for i, level in enumerate(levels)}).fillna(len(levels))
        columns.append(values.to_numpy(float))
    return np.stack(columns, 1)


def keyhole(train: pd.DataFrame, seed: int) -> Callable[[pd.DataFrame], np.ndarray]:
    """Alarms of a detector with its defaults."""
    from keyhole import AnomalyDetector

    detector = AnomalyDetector(false_alarm_rate=RATE, random_state=seed).fit(train)
    return lambda frame: detector.predict(frame) < 0


def peer(name: str, train: pd.DataFrame, seed: int) -> Callable[[pd.DataFrame], np.ndarray]:
    """Alarms of a peer, its threshold set by rows that it was not fitted on."""
    from pyod.models.ecod import ECOD

    x = np.random.default_rng(seed).permutation(numeric(train, train))
    held = int(HELD_OUT * len(x))
    if name == "ECOD":
        fitted = ECOD().fit(x[held:])

        def score(rows: np.ndarray) -> np.ndarray:
            if len(rows) != SPOILT:
                return fitted.decision_function(rows)
            return np.concatenate([fitted.decision_function(rows[[i]]) for i in range(ALONE)])
    else:
        forest = IsolationForest(random_state=seed).fit(x[held:])

        def score(rows: np.ndarray) -> np.ndarray:
            return -forest.score_samples(rows)

    allowed = int(RATE * (held + 1)) - 1  # of the held-out rows may be above the threshold
    threshold = np.sort(score(x[:held]))[held - 1 - allowed]
    return lambda frame: score(numeric(frame, train)) > threshold


METHODS = {"keyhole": keyhole} | {
    name: lambda train, seed, name=name: peer(name, train, seed) for name in ("ECOD", "IForest")
}


def runs(width: int, seed: int) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """(method, kind, spreads, alarms) of one table; both are "" for rows that are not spoilt."""
    rng = np.random.default_rng([seed, width])
    kinds = [KINDS[(i + 5 * seed) % len(KINDS)] for i in range(width)]  # five columns: by turns
    weights = rng.standard_normal((FACTORS, width))
    train, clean, base = (table(n, kinds, weights, rng) for n in (TRAIN, CLEAN, SPOILT))
    cases = [("", "", clean)]
    for kind in dict.fromkeys(kinds):
        for spreads in SPREADS[-1:] if kind in LEVELS else SPREADS:
            name = "unseen" if kind in LEVELS else f"{spreads:g}"
            cases.append((kind, name, spoilt(base, train, kind, spreads, rng)))
    for method, fitted in METHODS.items():
        alarms = fitted(train, seed)
        for kind, spreads, frame in cases:
            yield method, kind, spreads, alarms(frame)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--widths", type=int, nargs="+", default=[5, 12, 30, 100])
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    for width in asked.widths:
        alarms: dict[tuple[str, str, str], list[np.ndarray]] = {}
        for seed in range(asked.seeds):
            for *key, found in runs(width, seed):
                alarms.setdefault((key[0], key[1], key[2]), []).append(found)
        rates = {key: float(np.mean(np.concatenate(found))) for key, found in alarms.items()}
        for spreads in (*(f"{s:g}" for s in SPREADS), "unseen"):
            for method in METHODS:
                recall = {k: rates[m, k, s] for m, k, s in rates if (m, s) == (method, spreads)}
                if recall:  # narrow tables have not all kinds in every seed
                    emit("outliers", width=width, spreads=spreads, method=method,
                         least=min(recall.values()), recall=recall)  # fmt: skip
        emit("outliers", width=width, false_alarms={m: rates[m, "", ""] for m in METHODS},
             promised=RATE)  # fmt: skip


if __name__ == "__main__":
    main()
