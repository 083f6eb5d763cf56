"""Does the first reason name the value that was spoilt?

The five largest sets are reduced to 10,000 rows as in `benchmarks.anomaly`. A detector is fitted
on a random half of the normal rows. In each of 100 other normal rows one value is spoilt.

*Outer*, bar .80: the value is from the outer .1 % of its column, or beyond. Column (any that
varies) and side are random. In half of the cases the new value is one that training rows have at
the end of the column; all such values together are at most .1 % of them. In the other half it is
beyond the end by up to half of the column's range, and a whole number if the column has only
these. The same is done where an end has no rare value (columns with two values, most counts),
because the other value of a flag would be normal.

*Unlikely*, bar .60: the column is one that boosted trees predict from the others (held-out R2 at
least .5). From 50 values of this column in other normal rows, the one farthest from the prediction
for this row is used. A set without such a column has no line.

*In range*, bar 0: the share of named reasons whose value is inside the range that the same line
calls expected.

The peers get the same rows, with columns standardised by the training rows. COPOD and ECOD: the
tail probability of each dimension, as their `explain_outlier` draws it, for one row at a time, so
that spoilt rows do not make each other look normal. Distance from the mean: what PyOD's
`feature_contributions` ranks by. PyOD's AutoEncoder: the error of each column.

`best` is the peer with the largest share in a line, and `ahead` is the lead of keyhole. A value
beyond all others is by construction the rarest of its row, so a tail probability always finds it.
So in *outer* no method can lead ECOD by more than the rows with rare values of their own.
"""

import argparse
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.preprocessing import StandardScaler

from benchmarks.anomaly import load, split
from benchmarks.common import data, emit

BARS = {"outer": 0.80, "unlikely": 0.60}
OUTER = 0.001  # share of training rows at an end of a column
DRAWN = 50
LEAST_R2 = 0.5


def outer(train: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """The columns spoilt, one a row, and in place the rows' new values."""
    spoilt = rng.choice(np.flatnonzero(np.ptp(train, axis=0) > 0), len(rows))
    for row, c in zip(rows, spoilt, strict=True):
        sign = rng.choice([-1, 1])
        ends = np.sort(sign * train[:, c])[::-1]
        values, counts = np.unique(-ends, return_counts=True)
        rare = -values[np.cumsum(counts) <= OUTER * len(train)]
        held = ends[np.isin(ends, rare) & (ends != sign * row[c])]
        if len(held) and rng.random() < 0.5:
            row[c] = sign * rng.choice(held)
            continue
        value = ends[0] + rng.uniform(0.01, 0.5) * np.ptp(train[:, c])
        row[c] = sign * (np.ceil(value) if (ends == np.round(ends)).all() else value)
    return spoilt


def unlikely(train: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """The same for values that a tree finds least likely; None where it predicts no column."""
    half, found = len(rows) // 2, {}
    fresh, rows = rows[:half].copy(), rows[half:]
    for c in np.flatnonzero(np.ptp(train, axis=0) > 0):
        rest = np.arange(train.shape[1]) != c
        tree = HistGradientBoostingRegressor(random_state=0).fit(train[:, rest], train[:, c])
        if np.ptp(fresh[:, c]) > 0 and tree.score(fresh[:, rest], fresh[:, c]) >= LEAST_R2:
            found[c] = tree.predict(rows[:, rest])
    if not found:
        return None
    spoilt = rng.choice(list(found), len(rows))
    for i, c in enumerate(spoilt):
        drawn = rng.choice(fresh[:, c], DRAWN)
        rows[i, c] = drawn[np.abs(drawn - found[c][i]).argmax()]
    return spoilt


def keyhole(
    train: np.ndarray, tests: list[np.ndarray], seed: int
) -> tuple[list[np.ndarray], dict[str, float]]:
    """The column named first in each row of each test, -1 where none is; causes in range."""
    from keyhole import AnomalyDetector

    detector = AnomalyDetector(random_state=seed).fit(train)
    names = list(detector.feature_names_in_)
    answers = [detector.answer(rows, explain_rows="all").reasons for rows in tests]
    cells = [cell for reasons in answers for row in reasons.values() for cell in row]
    causes = [lies_within(cell.value, cell.expected) for cell in cells if cell.expected]
    return [
        np.array([names.index(reasons[i][0].column) if reasons[i] else -1 for i in range(len(t))])
        for reasons, t in zip(answers, tests, strict=True)
    ], {"causes": len(causes), "in_range": float(np.mean(causes))}


def lies_within(value: str, expected: str) -> bool:
    """True where a value lies in what is said to be expected, read from the words of a cause."""
    words = expected.partition(" (")[0]
    try:
        ends = [float(end.replace(",", "")) for end in words.split(" to ")]
        return ends[0] <= float(value.replace(",", "")) <= ends[-1]
    except ValueError:
        return value in re.split(r", | or ", words)


def peers(
    train: np.ndarray, tests: list[np.ndarray], seed: int
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Each peer's name, and the column it finds strongest in each row of each test."""
    from pyod.models.auto_encoder import AutoEncoder
    from pyod.models.copod import COPOD
    from pyod.models.ecod import ECOD

    scaler = StandardScaler().fit(train)
    usual: Any = scaler.transform(train)
    scaled: list[Any] = [scaler.transform(rows) for rows in tests]
    yield "z", [np.abs(rows).argmax(1) for rows in scaled]
    for made in (COPOD, ECOD):
        found = made().fit(usual)
        named = []
        for rows in scaled:
            strongest = []
            for row in rows:
                found.decision_function(row[None])
                strongest.append(found.O[-1].argmax())
            named.append(np.array(strongest))
        yield made.__name__, named
    torch.manual_seed(seed)
    net = AutoEncoder(random_state=seed, verbose=0, preprocessing=False).fit(usual)
    net.model.eval()
    given = [torch.from_numpy(rows).float() for rows in scaled]
    with torch.no_grad():
        yield "AutoEncoder", [(net.model(x) - x).abs().argmax(1).numpy() for x in given]


def measure(path: Path, rows: int, seed: int) -> list[dict[str, Any]]:
    """The figures of one set, a kind each."""
    x, y = load(path, seed)
    train, test = split(y, "clean", seed)
    rng = np.random.default_rng([seed, 1])
    normal = rng.permutation(test[y[test] == 0])
    # The trees' own held-out rows come before those that are spoilt.
    taken = {"outer": normal[:rows].copy(), "unlikely": normal[rows:]}
    tests, causes = {}, {}
    for kind, make in {"outer": outer, "unlikely": unlikely}.items():
        held = x[taken[kind]]
        spoilt = make(x[train], held, rng)
        if spoilt is not None:
            tests[kind], causes[kind] = held[-len(spoilt) :][:rows], spoilt[:rows]
    given = list(tests.values())
    ours, within = keyhole(x[train], given, seed)
    emit("explanations", set=path.stem, kind="in range", **within)
    named = {"keyhole": ours} | dict(peers(x[train], given, seed))
    return [figures(path.stem, kind, causes[kind], {m: found[i] for m, found in named.items()})
            for i, kind in enumerate(tests)]  # fmt: skip


def figures(name: str, kind: str, spoilt: np.ndarray, named: dict[str, Any]) -> dict[str, Any]:
    """One line: how often each method named the spoilt column first."""
    share = {method: float((first == spoilt).mean()) for method, first in named.items()}
    return {"set": name, "kind": kind, "rows": len(spoilt), **compared(share)}


def compared(share: dict[str, float]) -> dict[str, Any]:
    best = max((method for method in share if method != "keyhole"), key=lambda m: share[m])
    return {**share, "best": best, "ahead": share["keyhole"] - share[best]}


def largest(folder: Path, most: int) -> list[Path]:
    """The sets with most rows."""
    rows = {path: len(np.load(path, allow_pickle=False)["y"]) for path in folder.glob("*.npz")}
    return sorted(rows, key=lambda path: -rows[path])[:most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100, help="spoilt of each kind in each set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="of .npz files with X and y")
    parser.add_argument("--sets", type=int, default=5, help="those with most rows")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lines = []
    for path in largest(asked.folder or data("adbench"), asked.sets):
        lines += measure(path, asked.rows, asked.seed)
        for line in lines[-len(BARS) :]:
            if line["set"] == path.stem:
                emit("explanations", **line)
    for kind, bar in BARS.items():
        of_kind = [line for line in lines if line["kind"] == kind]
        if of_kind:
            methods = [m for m, value in of_kind[0].items() if isinstance(value, float)][:-1]
            mean = {m: float(np.mean([line[m] for line in of_kind])) for m in methods}
            emit(
                "explanations", set="mean", kind=kind, sets=len(of_kind), bar=bar, **compared(mean)
            )


if __name__ == "__main__":
    main()
