"""Do drawn rows pass for real ones? Five judgements from tables alone, without our models."""

from __future__ import annotations

import difflib
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from keyhole.core.progress import stage
from keyhole.data.lazy import pa
from keyhole.errors import DataError, SettingError
from keyhole.tasks.tables import LARGE, MAX_LEVELS, Tables, merge_rare, shape_error, trend_error

MAX_ROWS = 10_000  # of each table
ENOUGH_HELD_OUT = 1_000  # rows; fewer are compared together with training rows
MAX_CLASSES = 20  # of a predicted column
MAX_TARGETS = 6  # columns that models predict
FOLDS = 5
FAR = 5.0  # spreads beyond which a number counts as no further away


@dataclass(frozen=True)
class Judgement:
    """Five judgements of made rows; `to_json` and `lines` say them to a program and a person.

    `c2st_auc` is NaN where real or made rows are fewer than ten. Both figures of usefulness are
    None where no column can be predicted. Many rare levels raise `shape_error` and `trend_error`
    of equally good rows: compare with what real rows get instead of made ones.
    """

    shape_error: float
    trend_error: float
    c2st_auc: float
    usefulness: float | None
    real_usefulness: float | None
    closer_share: float
    worst_columns: list[tuple[str, float]]  # three at most, by shape error
    rows: dict[str, int]  # that were looked at

    def __repr__(self) -> str:
        return "\n  ".join(["Judgement of drawn rows:", *self.lines()])

    def lines(self) -> list[str]:
        """Five sentences, each with a figure and what would be ideal."""
        worst = ", ".join(f"{name} {error:.3f}" for name, error in self.worst_columns)
        return [
            f"single columns differ by {self.shape_error:.3f} on average "
            f"(0 is ideal, 1: nothing in common); worst: {worst}",
            f"pairs of columns differ by {self.trend_error:.3f} on average (0 is ideal)",
            "too few rows to train a classifier that separates generated from real rows"
            if math.isnan(self.c2st_auc)
            else f"a classifier separates generated from real rows with AUROC "
            f"{self.c2st_auc:.3f} (0.5 is ideal: it cannot; 1: always)",
            "no column can be predicted from the others, so usefulness is unknown"
            if self.usefulness is None
            else f"models trained on generated rows score {self.usefulness:.3f} on held-out rows "
            f"({self.real_usefulness:.3f} is ideal: trained on as many real rows)",
            f"{self.closer_share:.1%} of the generated rows are nearer to a training row than to "
            "a held-out row (50% is ideal: nothing was copied)",
        ]

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON holds them; an AUROC that is unknown is None."""
        return asdict(self) | {
            "c2st_auc": None if math.isnan(self.c2st_auc) else self.c2st_auc,
            "worst_columns": [list(pair) for pair in self.worst_columns],
        }


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
    the levels' mean, one against the rest) or R2. Models train on equal numbers of made and
    training rows.

    Raises: DataError where a table has no rows or lacks a column; SettingError for the target.
    """
    named = {"training": train, "held-out": held_out, "generated": made}
    stage("judging generated rows")
    _check(named, target)
    rng = np.random.default_rng(seed)
    tables = Tables.of([_sample(table, rng) for table in named.values()])
    real = tables.held_out
    if len(real) < ENOUGH_HELD_OUT:
        real = np.vstack([tables.train, real])
    columns = zip(real.T, tables.made.T, tables.levels)
    shapes = [shape_error(*column) for column in columns]
    worst = np.argsort(-np.array(shapes), kind="stable")[:3]
    useful, real_useful = _usefulness(tables, target, rng)
    return Judgement(
        shape_error=float(np.mean(shapes)),
        trend_error=trend_error(real, tables, rng),
        c2st_auc=_c2st(real, tables, rng),
        usefulness=useful,
        real_usefulness=real_useful,
        closer_share=_closer_share(tables, rng),
        worst_columns=[(tables.names[i], shapes[i]) for i in worst],
        rows={part: len(getattr(tables, part)) for part in ("train", "held_out", "made")},
    )


def _check(tables: dict[str, pa.Table], target: str | None) -> None:
    names = list(dict.fromkeys(name for table in tables.values() for name in table.column_names))
    for what, table in tables.items():
        if not table.num_rows:
            raise DataError(f"there are no {what} rows: nothing to judge")
        if absent := sorted(set(names) - set(table.column_names)):
            raise DataError(
                f"the {what} rows lack the column {absent[0]!r}, which the others have; "
                f"their columns: {table.column_names[:20]}"
            )
    if not names:
        raise DataError("the tables have no columns: nothing to judge")
    if target is not None and target not in names:
        near = difflib.get_close_matches(target, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"columns: {names[:20]}"
        raise SettingError(f"target {target!r} is not a column of these tables; {hint}")


def _sample(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """At most 10,000 rows, in their order."""
    if table.num_rows <= MAX_ROWS:
        return table
    return table.take(np.sort(rng.choice(table.num_rows, MAX_ROWS, replace=False)))


def _c2st(real: np.ndarray, tables: Tables, rng: np.random.Generator) -> float:
    """Mean AUROC over five folds of a classifier between as many real as made rows.

    Source: Lopez-Paz and Oquab 2017, with boosted trees.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    n = min(len(real), len(tables.made))
    if n < 2 * FOLDS:
        return math.nan
    x = np.vstack([rng.choice(rows, n, replace=False) for rows in (real, tables.made)])
    seed = int(rng.integers(2**31))
    aucs = cross_val_score(
        _boosted("levels", tables.levels, seed),
        _inputs(x, tables.levels),
        np.arange(2 * n) < n,
        scoring="roc_auc",
        cv=StratifiedKFold(FOLDS, shuffle=True, random_state=seed),
    )
    return float(aucs.mean())


def _inputs(x: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """What models are given: a gap is a number far below all others, as trees may cut it off."""
    return np.where(levels, merge_rare(x, MAX_LEVELS), np.nan_to_num(x, nan=-2 * LARGE))


def _boosted(kind: Literal["levels", "numbers"], levels: np.ndarray, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    trees = {"levels": HistGradientBoostingClassifier, "numbers": HistGradientBoostingRegressor}
    return trees[kind](categorical_features=levels, early_stopping=False, random_state=seed)


def _usefulness(
    tables: Tables, target: str | None, rng: np.random.Generator
) -> tuple[float | None, float | None]:
    """Mean score of models that trained on made rows, and on as many training rows."""
    n, seed = min(len(tables.train), len(tables.made)), int(rng.integers(2**31))
    teachers = [rng.choice(rows, n, replace=False) for rows in (tables.made, tables.train)]
    targets = _targets(tables) if target is None else [tables.names.index(target)]
    scores = [
        [_score(rows, tables.held_out, tables.levels, i, seed) for rows in teachers]
        for i in targets
    ]
    known = [pair for pair in scores if not math.isnan(pair[0] + pair[1])]
    if not known:
        return None, None
    useful, real_useful = np.mean(known, axis=0).tolist()
    return useful, real_useful


def _targets(tables: Tables) -> list[int]:
    """The first columns of 2 to 20 levels, or else of numbers that vary."""
    real = np.vstack([tables.train, tables.held_out])
    count = [len(np.unique(x[~np.isnan(x)])) for x in real.T]
    targets = [
        i for i, level in enumerate(tables.levels) if level and 2 <= count[i] <= MAX_CLASSES
    ]
    if not targets:
        targets = [i for i, level in enumerate(tables.levels) if not level and count[i] > 1]
    return targets[:MAX_TARGETS]


def _score(
    train: np.ndarray, test: np.ndarray, levels: np.ndarray, target: int, seed: int
) -> float:
    """AUROC or R2 of a model for a column from all others; NaN where there is nothing to score."""
    level, others = levels[target], np.arange(len(levels)) != target
    train, test = (rows[~np.isnan(rows[:, target])] for rows in (train, test))
    y, truth = train[:, target], test[:, target]
    if level:
        y, truth = merge_rare(y, MAX_CLASSES), merge_rare(truth, MAX_CLASSES)
    if not others.any() or not len(y) or len(np.unique(truth)) < 2:
        return math.nan
    x, x_test = (_inputs(rows, levels)[:, others] for rows in (train, test))
    score = _levels_score if level else _numbers_score
    return score(x, y, x_test, truth, levels[others], seed)


def _levels_score(x: Any, y: Any, x_test: Any, truth: Any, levels: Any, seed: int) -> float:
    """AUROC of each held-out level against the rest, their mean; .5 for one never trained on."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score

    classes = np.unique(y).tolist()
    if len(classes) < 2:
        return 0.5
    model = _boosted("levels", levels, seed)
    if len(classes) > 2:  # boosting would grow a tree a level: slow
        model = RandomForestClassifier(50, min_samples_leaf=5, random_state=seed)
    chance = dict(zip(classes, model.fit(x, y).predict_proba(x_test).T, strict=True))
    return float(np.mean([
        roc_auc_score(truth == level, chance[level]) if level in chance else 0.5
        for level in np.unique(truth)
    ]))  # fmt: skip


def _numbers_score(x: Any, y: Any, x_test: Any, truth: Any, levels: Any, seed: int) -> float:
    """R2 in held-out rows; that of a constant where training rows hold only one number."""
    from sklearn.metrics import r2_score

    predicted = np.full(len(truth), y[0])
    if len(np.unique(y)) > 1:
        predicted = _boosted("numbers", levels, seed).fit(x, y).predict(x_test)
    return float(r2_score(truth, predicted))


def _closer_share(tables: Tables, rng: np.random.Generator) -> float:
    """Share of made rows nearer to a training row than to one of as many held-out rows.

    A number counts in training spreads, at most five from the median; a level that differs, or a
    gap against a number, counts one. Ties count half.
    """
    from sklearn.neighbors import NearestNeighbors

    real = tables.train, tables.held_out
    n = min(map(len, real))
    samples = [rows[rng.choice(len(rows), n, replace=False)] for rows in real]
    numbers, codes = _distance_parts(np.vstack([*samples, tables.made]), tables)
    hot = [column[:, None] == np.unique(column) for column in merge_rare(codes, MAX_LEVELS).T]
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


def _distance_parts(rows: np.ndarray, tables: Tables) -> tuple[np.ndarray, np.ndarray]:
    """Numbers in training spreads, 0 in a gap; and codes of levels and of gaps."""
    numbers, codes = [np.empty((len(rows), 0))], [np.empty((len(rows), 0))]
    for column, train, level in zip(rows.T, tables.train.T, tables.levels):
        if level:
            codes.append(column[:, None])
            continue
        known = train[~np.isnan(train)]
        low, center, high = np.quantile(known, [0.25, 0.5, 0.75]) if len(known) else (0.0,) * 3
        spread = (high - low) / 1.349 or (known.std() if len(known) else 0.0) or 1.0
        away = np.clip((column - center) / spread, -FAR, FAR)
        numbers.append(np.nan_to_num(away, nan=0.0)[:, None])
        if np.isnan(column).any():
            codes.append(np.isnan(column)[:, None])
    return np.hstack(numbers), np.hstack(codes)
