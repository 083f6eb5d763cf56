"""Do made rows pass for real ones? Five judgements from tables alone, no model of ours asked."""

from __future__ import annotations

import difflib
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keyhole.core.progress import stage
from keyhole.errors import DataError, SettingError
from keyhole.tasks.generate.tables import (
    LARGE,
    MOST_LEVELS,
    FeatureLikelihood,
    few,
    shape_error,
    trend_error,
)

if TYPE_CHECKING:
    import pyarrow as pa


MOST_ROWS = 10_000  # of each table
ENOUGH_HELD_OUT = 1_000
MOST_CLASSES = 20  # of a predicted column
MOST_TARGETS = 6
FOLDS = 5
FAR = 5.0  # spreads beyond which a number counts as no further away


@dataclass(frozen=True)
class Judgement:
    """Five judgements of made rows; `to_json` and `lines` say them to a program and a person.

    `c2st_auc` is NaN where real or made rows are fewer than ten. Both figures of usefulness are
    None where no column can be predicted. Many rare levels raise `shape_error` and `trend_error`
    of equally good rows: compare with what real rows get in the place of made ones.
    """

    shape_error: float
    trend_error: float
    c2st_auc: float
    usefulness: float | None
    real_usefulness: float | None
    closer_share: float
    worst_columns: list[tuple[str, float]]  # three at most, by shape error
    rows: dict[str, int]  # that were looked at

    def lines(self) -> list[str]:
        """Five sentences, each with a figure and what would be ideal."""
        worst = ", ".join(f"{name} {error:.3f}" for name, error in self.worst_columns)
        told = (
            "too few rows to train a classifier that tells made from real rows"
            if math.isnan(self.c2st_auc)
            else f"a classifier tells made from real rows with an AUROC of {self.c2st_auc:.3f} "
            "(ideal 0.5: it cannot; 1: always)"
        )
        used = (
            "no column can be predicted from the others, so usefulness is unknown"
            if self.usefulness is None
            else f"models taught on made rows score {self.usefulness:.3f} on held-out rows "
            f"(ideal {self.real_usefulness:.3f}: what as many training rows teach)"
        )
        return [
            f"single columns are off by {self.shape_error:.3f} on average "
            f"(ideal 0; 1 is nothing in common); worst: {worst}",
            f"pairs of columns are off by {self.trend_error:.3f} on average (ideal 0)",
            told,
            used,
            f"{self.closer_share:.1%} of the made rows lie nearer to a training row than to a "
            "held-out one (ideal 50%: nothing was copied)",
        ]

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON holds them; an AUROC that is unknown is None."""
        unknown = math.isnan(self.c2st_auc)
        worst = [list(pair) for pair in self.worst_columns]
        return asdict(self) | {
            "c2st_auc": None if unknown else self.c2st_auc, "worst_columns": worst
        }  # fmt: skip


def judge(
    train: pa.Table,
    held_out: pa.Table,
    made: pa.Table,
    *,
    target: str | None = None,
    seed: int = 0,
) -> Judgement:
    """Five judgements of made rows, from 10,000 rows of each table at most.

    Shapes, trends and the classifier compare with held-out rows; where these are fewer than
    1,000, with training and held-out rows together. Usefulness is for `target`, or the mean over
    the first six columns of 2 to 20 levels, or else over the first six of numbers: AUROC (over
    the levels' mean, one against the rest) or R2. Made and training rows teach in equal numbers.

    Raises: DataError where a table has no rows or lacks a column; SettingError for the target.
    """
    tables = {"training": train, "held-out": held_out, "made": made}
    stage("judging drawn rows")
    _check(tables, target)
    rng = np.random.default_rng(seed)
    cells = FeatureLikelihood.of([_some(table, rng) for table in tables.values()])
    real = cells.held_out
    if len(real) < ENOUGH_HELD_OUT:
        real = np.vstack([cells.train, real])
    shapes = [
        shape_error(real[:, i], cells.made[:, i], level) for i, level in enumerate(cells.levels)
    ]
    worst = np.argsort(-np.array(shapes), kind="stable")[:3]
    useful, real_useful = _usefulness(cells, target, rng)
    return Judgement(
        shape_error=float(np.mean(shapes)),
        trend_error=trend_error(real, cells, rng),
        c2st_auc=_c2st(real, cells, rng),
        usefulness=useful,
        real_usefulness=real_useful,
        closer_share=_closer_share(cells, rng),
        worst_columns=[(cells.names[i], shapes[i]) for i in worst],
        rows={"train": len(cells.train), "held_out": len(cells.held_out), "made": len(cells.made)},
    )


def _check(tables: dict[str, pa.Table], target: str | None) -> None:
    names = list(dict.fromkeys(name for table in tables.values() for name in table.column_names))
    for what, table in tables.items():
        if not table.num_rows:
            raise DataError(f"there are no {what} rows: nothing to judge")
        if absent := sorted(set(names) - set(table.column_names)):
            raise DataError(
                f"column {absent[0]!r} is absent from the {what} rows but not from the others; "
                f"their columns: {table.column_names[:20]}"
            )
    if not names:
        raise DataError("the tables have no columns: nothing to judge")
    if target is not None and target not in names:
        near = difflib.get_close_matches(target, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"columns: {names[:20]}"
        raise SettingError(f"target {target!r} is no column of these tables; {hint}")


def _some(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """At most 10,000 rows, in their order."""
    if table.num_rows <= MOST_ROWS:
        return table
    return table.take(np.sort(rng.choice(table.num_rows, MOST_ROWS, replace=False)))


def _c2st(real: np.ndarray, cells: FeatureLikelihood, rng: np.random.Generator) -> float:
    """Mean AUROC over five folds of a classifier between as many real as made rows.

    Source: Lopez-Paz and Oquab 2017, with boosted trees.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    n = min(len(real), len(cells.made))
    if n < 2 * FOLDS:
        return math.nan
    x = np.vstack([rng.choice(rows, n, replace=False) for rows in (real, cells.made)])
    seed = int(rng.integers(2**31))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    model = _boosted("levels", cells.levels, seed)
    found = cross_val_score(
        model, _inputs(x, cells.levels), np.arange(2 * n) < n, scoring="roc_auc", cv=folds
    )
    return float(found.mean())


def _inputs(x: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """What models are given: a gap is a number far below all others, as trees may cut it off."""
    return np.where(levels, few(x, MOST_LEVELS), np.nan_to_num(x, nan=-2 * LARGE))


def _boosted(kind: Literal["levels", "numbers"], levels: np.ndarray, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    trees = {"levels": HistGradientBoostingClassifier, "numbers": HistGradientBoostingRegressor}
    return trees[kind](categorical_features=levels, early_stopping=False, random_state=seed)


def _usefulness(
    cells: FeatureLikelihood, target: str | None, rng: np.random.Generator
) -> tuple[float | None, float | None]:
    """Mean score of made rows as teachers, and that of as many training rows."""
    n, seed = min(len(cells.train), len(cells.made)), int(rng.integers(2**31))
    teachers = [rng.choice(rows, n, replace=False) for rows in (cells.made, cells.train)]
    targets = _targets(cells) if target is None else [cells.names.index(target)]
    scores = [
        [_score(rows, cells.held_out, cells.levels, i, seed) for rows in teachers] for i in targets
    ]
    known = [pair for pair in scores if not math.isnan(pair[0] + pair[1])]
    if not known:
        return None, None
    useful, real_useful = np.mean(known, axis=0).tolist()
    return useful, real_useful


def _targets(cells: FeatureLikelihood) -> list[int]:
    """The first columns of 2 to 20 levels, or else of numbers that vary."""
    real = np.vstack([cells.train, cells.held_out])
    count = [len(np.unique(x[~np.isnan(x)])) for x in real.T]
    found = [i for i, level in enumerate(cells.levels) if level and 2 <= count[i] <= MOST_CLASSES]
    if not found:
        found = [i for i, level in enumerate(cells.levels) if not level and count[i] > 1]
    return found[:MOST_TARGETS]


def _score(
    train: np.ndarray, test: np.ndarray, levels: np.ndarray, target: int, seed: int
) -> float:
    """AUROC or R2 of a model for a column from all others; NaN where there is nothing to score."""
    level, others = levels[target], np.arange(len(levels)) != target
    train, test = (rows[~np.isnan(rows[:, target])] for rows in (train, test))
    y, truth = (few(rows[:, target], MOST_CLASSES) if level else rows[:, target]
                for rows in (train, test))  # fmt: skip
    if not others.any() or not len(y) or len(np.unique(truth)) < 2:
        return math.nan
    x, asked = (_inputs(rows, levels)[:, others] for rows in (train, test))
    if level:
        return _levels_score(x, y, asked, truth, levels[others], seed)
    return _numbers_score(x, y, asked, truth, levels[others], seed)


def _levels_score(x: Any, y: Any, asked: Any, truth: Any, levels: Any, seed: int) -> float:
    """AUROC of each held-out level against the rest, their mean; .5 for one never taught."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score

    taught = np.unique(y)
    if len(taught) < 2:
        return 0.5
    model = _boosted("levels", levels, seed)
    if len(taught) > 2:  # boosting would grow a tree a level: slow
        model = RandomForestClassifier(50, min_samples_leaf=5, random_state=seed)
    chance = model.fit(x, y).predict_proba(asked)
    place = {level: i for i, level in enumerate(taught)}
    return float(np.mean([
        roc_auc_score(truth == level, chance[:, place[level]]) if level in place else 0.5
        for level in np.unique(truth)
    ]))  # fmt: skip


def _numbers_score(x: Any, y: Any, asked: Any, truth: Any, levels: Any, seed: int) -> float:
    """R2 in held-out rows; that of a constant where only one number was taught."""
    from sklearn.metrics import r2_score

    told = np.full(len(truth), y[0])
    if len(np.unique(y)) > 1:
        told = _boosted("numbers", levels, seed).fit(x, y).predict(asked)
    return float(r2_score(truth, told))


def _closer_share(cells: FeatureLikelihood, rng: np.random.Generator) -> float:
    """Share of made rows nearer to a training row than to one of as many held-out rows.

    A number counts in training spreads, at most five from the median; a level that differs, or a
    gap against a number, counts one. Ties count half.
    """
    from sklearn.neighbors import NearestNeighbors

    n = min(len(cells.train), len(cells.held_out))
    halves = [rng.choice(len(rows), n, replace=False) for rows in (cells.train, cells.held_out)]
    rows = np.vstack([cells.train[halves[0]], cells.held_out[halves[1]], cells.made])
    numbers, codes = _measured(rows, cells)
    wide = few(codes, MOST_LEVELS)
    hot = [column[:, None] == np.unique(column) for column in wide.T]
    space = np.hstack([numbers, *(np.sqrt(0.5) * part for part in hot)], dtype=np.float32)
    squares = []
    for start in (0, n):
        index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(space[start : start + n])
        near = start + index.kneighbors(space[2 * n :], return_distance=False)[:, 0]
        # Once more and exactly, so that equal distances are found equal.
        squares.append(
            np.square(numbers[near] - numbers[2 * n :]).sum(1)
            + (codes[near] != codes[2 * n :]).sum(1)
        )
    to_train, to_held_out = squares
    tie = np.isclose(to_train, to_held_out, rtol=1e-6, atol=1e-9)
    return float(np.mean(np.where(tie, 0.5, to_train < to_held_out)))


def _measured(rows: np.ndarray, cells: FeatureLikelihood) -> tuple[np.ndarray, np.ndarray]:
    """Numbers in training spreads, 0 in a gap; and codes of levels and of gaps."""
    numbers, codes = [np.empty((len(rows), 0))], [np.empty((len(rows), 0))]
    for i, level in enumerate(cells.levels):
        column, known = rows[:, i], cells.train[:, i]
        if level:
            codes.append(column[:, None])
            continue
        known = known[~np.isnan(known)]
        low, center, high = np.quantile(known, [0.25, 0.5, 0.75]) if len(known) else (0.0,) * 3
        spread = (high - low) / 1.349 or (known.std() if len(known) else 0.0) or 1.0
        away = np.clip((column - center) / spread, -FAR, FAR)
        numbers.append(np.nan_to_num(away, nan=0.0)[:, None])
        if np.isnan(column).any():
            codes.append(np.isnan(column)[:, None])
    return np.hstack(numbers), np.hstack(codes)
