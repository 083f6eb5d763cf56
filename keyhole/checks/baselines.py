"""What a trained net must beat: the mean, and PCA at the same width.

Linear autoencoders are solved: under a Gaussian head the best one is PCA (Baldi and Hornik
1989). Both baselines get the net's own kinds of likelihood, with scales fitted to their own
residuals, and are judged on rows they have not seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import xlogy
from sklearn.decomposition import PCA

from keyhole.core.layout import Layout, Slot
from keyhole.core.records import Batch
from keyhole.model.heads.continuous import StudentTFeatures
from keyhole.model.heads.discrete import MAX_LOG_MEAN, BernoulliFeatures, CountFeatures

CLIP = 5.0  # numbers are judged as the net sees them
MAX_LEVELS = 50  # levels of a column that get a one-hot column each
NU = 3.0
MIN_SCALE = 0.3  # of a column's spread, as in the net's head
MIN_PROBABILITY = 1e-3  # of a level, so that its nats stay finite
OWN_NATS = ("categorical", "bernoulli", "counts")  # heads of values that are no plain numbers
FEATURES_A_PASS = 256
STANDARD_ERRORS = 1.0  # of the mean gain, that a loss must exceed
MIN_LOSS = 0.05  # of a column's uncertainty


@dataclass(frozen=True)
class Predicted:
    """What a model predicts of each value (row, feature): its nats, and its expectation.

    The expectation of a code is the probability of the true code; of a count, log(1 + mean
    count), whoever predicts it: the mean of the logs would be another question.
    """

    nats: np.ndarray
    expected: np.ndarray

    def row_nats(self, batch: Batch) -> np.ndarray:
        """Nats of each row, over the observed values."""
        return np.where(batch.observed.numpy(), self.nats, 0).sum(1)

    def mean_nats(self, batch: Batch) -> float:
        """Nats per row."""
        return float(self.row_nats(batch).mean())


@dataclass(frozen=True)
class Baselines:
    """What the mean and PCA predict of held-out values, visible ones and ones masked in groups."""

    mean: Predicted
    rebuilt: Predicted
    masked: Predicted
    base: np.ndarray  # (feature,): the uncertainty of each feature under the mean

    @classmethod
    def measure(
        cls, layout: Layout, batch: Batch, fold: np.ndarray, width: int, groups: list[np.ndarray]
    ) -> "Baselines":
        """Both baselines; each row is judged by one fitted without its fold (or its half)."""
        if fold.max(initial=0) == 0:
            fold = np.arange(len(batch)) % 2
        table, shape = Table.of(layout, batch), (len(batch), len(layout))
        mean, rebuilt, masked = (Predicted(np.zeros(shape), np.zeros(shape)) for _ in range(3))
        none, all_features = np.zeros(table.matrix.shape[1], bool), np.arange(len(layout))
        questions = [(mean, none, all_features), (rebuilt, ~none, all_features)]
        for group in groups:
            given = ~none
            for feature in group:
                given[table.places[feature]] = False
            questions.append((masked, given, group))
        for one in np.unique(fold):
            test = np.flatnonzero(fold == one)
            train = np.flatnonzero(fold != one) if (fold != one).any() else test
            known, unseen = table.matrix[train], table.matrix[test]
            linear = Linear.fit(known, width)
            for predicted, given, features in questions:
                expected = (linear.expect(known, given), linear.expect(unseen, given))
                _judge(predicted, table, (train, test), expected, features)
        base = np.array([_uncertainty(layout, batch, feature) for feature in range(len(layout))])
        return cls(mean, rebuilt, masked, base)

    def skill(self, layout: Layout, batch: Batch, predicted: Predicted) -> dict[str, float]:
        """The share of each column's uncertainty under the mean that is gone, from -1 to 1."""
        return {
            column: float(np.clip(np.mean(gains), -1, 1)) if len(gains) else 0.0
            for column, gains in self._gains(layout, batch, predicted)
        }

    def worse(self, layout: Layout, batch: Batch, predicted: Predicted) -> dict[str, float]:
        """The skill of those columns that are predicted worse than by their mean.

        Their mean gain is below 0 by more than `MIN_LOSS` of the column's uncertainty and by more
        than `STANDARD_ERRORS` of its standard errors.
        """
        lost = {}
        for column, gains in self._gains(layout, batch, predicted):
            if not len(gains):
                continue
            error = STANDARD_ERRORS * gains.std() / len(gains) ** 0.5
            if gains.mean() < -max(MIN_LOSS, error):
                lost[column] = float(max(gains.mean(), -1))
        return lost

    def _gains(
        self, layout: Layout, batch: Batch, predicted: Predicted
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Each column, and the gain on the mean of each of its observed values (mean: skill)."""
        observed, numbers = batch.observed.numpy(), batch.numbers.numpy()
        for column in layout.columns:
            gains = []
            for feature in layout.features(column):
                rows, slot = observed[:, feature], layout.slots[feature]
                if not rows.any() or self.base[feature] <= 1e-12:
                    continue
                expected = predicted.expected[rows, feature]
                if slot.coded:
                    left, base = 1 - expected, np.full(len(expected), self.base[feature])
                else:
                    loss = _count_loss if slot.head == "counts" else _square_loss
                    target = numbers[rows, feature]
                    left = loss(target, expected)
                    base = loss(target, self.mean.expected[rows, feature])
                gains.append((base - left) / max(float(base.mean()), 1e-12))
            yield column, np.concatenate(gains) if gains else np.zeros(0)


@dataclass(frozen=True)
class Table:
    """The values as one dense matrix, levels one-hot: what PCA is fitted to."""

    layout: Layout
    matrix: np.ndarray  # gaps hold the column's mean
    places: list[slice]  # of each feature's columns
    numbers: np.ndarray
    observed: np.ndarray

    @classmethod
    def of(cls, layout: Layout, batch: Batch) -> "Table":
        """The dense matrix of a batch."""
        parts, places, start = [], [], 0
        observed = batch.observed.numpy()
        for feature, slot in enumerate(layout.slots):
            part, rows = _dense(slot, feature, layout, batch), observed[:, feature]
            part[~rows] = part[rows].mean(0) if rows.any() else 0.0
            parts.append(part)
            places.append(slice(start, start + part.shape[1]))
            start += part.shape[1]
        return cls(layout, np.concatenate(parts, 1), places, batch.numbers.numpy(), observed)


@dataclass(frozen=True)
class Linear:
    """PCA, and as a density: probabilistic PCA (Tipping and Bishop 1999, equations 7 to 9)."""

    center: np.ndarray
    loadings: np.ndarray  # (feature, component)
    noise: float

    @classmethod
    def fit(cls, matrix: np.ndarray, width: int) -> "Linear":
        """The likeliest components of these rows."""
        width = min(width, matrix.shape[0] - 1, matrix.shape[1])
        if width < 1 or not np.ptp(matrix, 0).any():  # all rows are equal: no component
            return cls(matrix.mean(0), np.zeros((matrix.shape[1], 1)), 1.0)
        pca = PCA(width, svd_solver="full").fit(matrix)
        noise = max(float(pca.noise_variance_), 1e-6)
        root = np.sqrt(np.maximum(pca.explained_variance_ - noise, 0.0))
        loadings = np.transpose(np.asarray(pca.components_)) * root
        return cls(pca.mean_, loadings, noise)

    def expect(self, matrix: np.ndarray, given: np.ndarray) -> np.ndarray:
        """The expected rows if only the `given` columns are known."""
        loads = self.loadings[given]
        square = loads.T @ loads + self.noise * np.eye(loads.shape[1])
        z = (matrix[:, given] - self.center[given]) @ np.linalg.solve(square, loads.T).T
        return self.center + z @ self.loadings.T


def _judge(
    predicted: Predicted,
    table: Table,
    rows: tuple[np.ndarray, np.ndarray],
    expected: tuple[np.ndarray, np.ndarray],
    features: np.ndarray,
) -> None:
    """Fill in nats and expectations of the test rows' features, with scales from training rows.

    `rows` and `expected` are those of the training and of the test rows.
    """
    (train, test), (fitted, rebuilt), slots = rows, expected, table.layout.slots
    plain = [f for f in features.tolist() if slots[f].head not in OWN_NATS]
    for start in range(0, len(plain), FEATURES_A_PASS):
        some = np.array(plain[start : start + FEATURES_A_PASS])
        at = [table.places[feature].start for feature in some]
        least = MIN_SCALE * np.array([slots[feature].scale for feature in some])
        residuals = table.matrix[np.ix_(train, at)] - fitted[:, at]
        scale = _student_scale(residuals, table.observed[np.ix_(train, some)], least)
        likelihood = StudentTFeatures(_float32(rebuilt[:, at]), _float32(scale)[None], NU)
        target = _float32(table.numbers[np.ix_(test, some)])
        predicted.expected[np.ix_(test, some)] = rebuilt[:, at]
        predicted.nats[np.ix_(test, some)] = -likelihood.log_prob(target).numpy()
    flags = [f for f in features.tolist() if slots[f].head == "bernoulli"]
    if flags:
        far = rebuilt[:, [table.places[feature].start for feature in flags]]
        predicted.expected[np.ix_(test, flags)] = far
        target = _float32(table.numbers[np.ix_(test, flags)])
        predicted.nats[np.ix_(test, flags)] = _flag_nats([slots[f] for f in flags], target, far)
    for feature in set(features.tolist()) - set(plain) - set(flags):
        slot, at = slots[feature], table.places[feature]
        if slot.coded:
            probability = _true_probability(table.matrix[test, at], rebuilt[:, at])
            predicted.expected[test, feature] = probability
            predicted.nats[test, feature] = -np.log(probability)
            continue
        observed = table.observed[train, feature]
        known = table.matrix[train, at.start][observed]
        near, far = _to_mean_counts(known, fitted[observed, at.start], rebuilt[:, at.start])
        predicted.expected[test, feature] = far
        target = table.numbers[test, feature]
        predicted.nats[test, feature] = _count_nats(slot, known, near, target, far)


def _float32(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))


def _dense(slot: Slot, feature: int, layout: Layout, batch: Batch) -> np.ndarray:
    if not slot.coded:
        return batch.numbers.numpy()[:, [feature]].clip(-CLIP, CLIP).astype(np.float64)
    codes = batch.codes.numpy()[:, feature - layout.numbers]
    levels = min(slot.levels, MAX_LEVELS + 1)  # rarer levels share the last column
    return np.eye(levels)[np.clip(codes - 1, 0, levels - 1)]


def _true_probability(one_hot: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
    share = rebuilt.clip(MIN_PROBABILITY, None)
    share = share / share.sum(1, keepdims=True)
    return (share * (one_hot > 0.5)).sum(1).clip(MIN_PROBABILITY, 1.0)


def _flag_nats(slots: list[Slot], target: torch.Tensor, rebuilt: np.ndarray) -> np.ndarray:
    share = _float32(rebuilt).clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    bound = torch.tensor([slot.nats_unobserved for slot in slots])
    return -BernoulliFeatures(torch.logit(share), bound).log_prob(target).numpy()


def _count_nats(
    slot: Slot, known: np.ndarray, fitted: np.ndarray, true: np.ndarray, rebuilt: np.ndarray
) -> np.ndarray:
    target, near = _float32(true)[:, None], _float32(rebuilt)[:, None]
    mean, count = np.expm1(_bounded(fitted)), np.expm1(known)
    excess = max(float(np.mean((count - mean) ** 2 - mean)), 1e-6)
    size = float(np.clip(np.mean(mean) ** 2 / excess, 1e-2, 1e3)) if len(mean) else 1.0
    log_mean = torch.log(torch.expm1(near.clamp(0.01, MAX_LOG_MEAN)))
    bound = torch.tensor([slot.nats_unobserved])
    features = CountFeatures(log_mean, torch.tensor([[size]]), bound)
    return -features.log_prob(target)[:, 0].numpy()


def _square_loss(true: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return (true.clip(-CLIP, CLIP) - expected.clip(-CLIP, CLIP)) ** 2


def _count_loss(true: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Poisson deviance of counts given as logs: like the square, smallest at the mean count."""
    count, mean = np.expm1(true.clip(0, MAX_LOG_MEAN)), np.expm1(_bounded(expected))
    return 2 * (xlogy(count, count / mean) - count + mean)


def _to_mean_counts(
    known: np.ndarray, fitted: np.ndarray, rebuilt: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log(1 + mean count) from predictions of the mean of the logs, as the net predicts it.

    One factor makes the predicted counts right on average (smearing; Duan 1983).
    """
    predicted = np.expm1(_bounded(fitted))
    counts = np.expm1(known).mean() if len(known) else 0.0
    factor = counts / max(float(predicted.mean()), 1e-9) if len(predicted) else 1.0
    near, far = (np.log1p(factor * np.expm1(_bounded(logs))) for logs in (fitted, rebuilt))
    return near, far


def _bounded(logs: np.ndarray) -> np.ndarray:
    return logs.clip(0.01, MAX_LOG_MEAN)


def _student_scale(residuals: np.ndarray, observed: np.ndarray, least: np.ndarray) -> np.ndarray:
    """The likeliest scale of Student's t a column, by its EM steps (Lange et al. 1989)."""
    each = np.maximum(observed.sum(0), 1)
    squares = np.where(observed, residuals**2, 0.0)
    scale = np.maximum(squares.sum(0) / each, least**2)
    for _ in range(30):
        weighted = (NU + 1) / (NU + squares / scale) * squares
        scale = np.maximum(weighted.sum(0) / each, least**2)
    return np.where(observed.any(0), scale, 1.0) ** 0.5


def _uncertainty(layout: Layout, batch: Batch, feature: int) -> float:
    values = batch.feature(feature)[batch.observed[:, feature]].numpy()
    if not len(values):
        return 0.0
    if not layout.slots[feature].coded:
        return float(values.clip(-CLIP, CLIP).var())
    share = np.bincount(values) / len(values)
    return float(1 - (share**2).sum())
