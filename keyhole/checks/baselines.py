"""What a trained net must beat: the mean, and PCA at the same width.

Linear autoencoders are solved: under a Gaussian head the best one is PCA (Baldi and Hornik
1989). Both floors are put under the net's own kinds of likelihood, with scales fitted to
their own residuals, and judged on rows they have not seen.
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

REACH = 5.0  # numbers are judged as the net sees them: clipped
MOST_LEVELS = 50  # levels of a column that get a one-hot column each
NU = 3.0
LEAST_SCALE = 0.3  # of a column's spread, as in the net's head
LEAST_PROBABILITY = 1e-3
OWN_NATS = ("categorical", "bernoulli", "counts")  # heads of cells that are no plain numbers
PASS_FEATURES = 256  # that are looked at at once
LEAST_ERRORS = 1.0  # standard errors of the mean gain
LEAST_LOSS = 0.05  # of a column's uncertainty


@dataclass(frozen=True)
class Predicted:
    """What a model says of each cell (row, cell): its nats, and what it expected.

    The expectation of a code cell is the probability that the true code was given; of a count,
    log(1 + mean count), whoever predicts it: the mean of the logs would be another question.
    """

    nats: np.ndarray
    expected: np.ndarray

    def row_nats(self, batch: Batch) -> np.ndarray:
        """Nats of each row, over the cells that were observed."""
        return np.where(batch.observed.numpy(), self.nats, 0).sum(1)

    def mean_nats(self, batch: Batch) -> float:
        """Nats per row."""
        return float(self.row_nats(batch).mean())


@dataclass(frozen=True)
class Baselines:
    """What the mean and PCA say of held-out cells, in sight and hidden in groups."""

    mean: Predicted
    rebuilt: Predicted
    masked: Predicted
    base: np.ndarray  # (feature,): the uncertainty of each cell under the mean

    @classmethod
    def measure(
        cls, layout: Layout, batch: Batch, fold: np.ndarray, width: int, groups: list[np.ndarray]
    ) -> "Baselines":
        """Both floors, each row judged by one fitted without its fold (halves where none are)."""
        if fold.max(initial=0) == 0:
            fold = np.arange(len(batch)) % 2
        table, shape = Wide.of(layout, batch), (len(batch), len(layout))
        mean, rebuilt, masked = (Predicted(np.zeros(shape), np.zeros(shape)) for _ in range(3))
        for one in np.unique(fold):
            rest, here = np.flatnonzero(fold != one), np.flatnonzero(fold == one)
            rest = rest if len(rest) else here
            known, asked = table.matrix[rest], table.matrix[here]
            linear = Linear.fit(known, width)
            none = np.zeros(known.shape[1], bool)
            for said, given in ((mean, none), (rebuilt, ~none)):
                pair = (linear.expect(known, given), linear.expect(asked, given))
                _note(said, table, layout, rest, here, *pair, np.arange(len(layout)))
            for group in groups:
                given = ~none
                for feature in group:
                    given[table.places[feature]] = False
                pair = (linear.expect(known, given), linear.expect(asked, given))
                _note(masked, table, layout, rest, here, *pair, group)
        base = np.array([_uncertainty(layout, batch, feature) for feature in range(len(layout))])
        return cls(mean, rebuilt, masked, base)

    def skill(self, layout: Layout, batch: Batch, said: Predicted) -> dict[str, float]:
        """The share of each column's uncertainty under the mean that is gone, from -1 to 1."""
        return {
            column: float(np.clip(np.mean(gains), -1, 1)) if len(gains) else 0.0
            for column, gains in self._gains(layout, batch, said)
        }

    def worse(self, layout: Layout, batch: Batch, said: Predicted) -> dict[str, float]:
        """The skill of those columns that are predicted worse than by their mean.

        Their mean gain is below 0 by more than `LEAST_LOSS` of the column's uncertainty and by
        more than `LEAST_ERRORS` of its standard errors.
        """
        lost = {}
        for column, gains in self._gains(layout, batch, said):
            error = LEAST_ERRORS * gains.std() / max(len(gains), 1) ** 0.5 if len(gains) else 0.0
            if len(gains) and gains.mean() < -max(LEAST_LOSS, error):
                lost[column] = float(max(gains.mean(), -1))
        return lost

    def _gains(
        self, layout: Layout, batch: Batch, said: Predicted
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Of each column, what was gained on the mean in each observed value (its mean: skill)."""
        observed, numbers = batch.observed.numpy(), batch.numbers.numpy()
        for column in layout.columns:
            gains = []
            for feature in layout.features(column):
                at, slot = observed[:, feature], layout.slots[feature]
                if not at.any() or self.base[feature] <= 1e-12:
                    continue
                if slot.coded:
                    left = 1 - said.expected[at, feature]
                    base = np.full(len(left), self.base[feature])
                else:
                    loss = _count_loss if slot.head == "counts" else _square_loss
                    true = numbers[at, feature]
                    left, base = (loss(true, m.expected[at, feature]) for m in (said, self.mean))
                gains.append((base - left) / max(float(base.mean()), 1e-12))
            yield column, np.concatenate(gains) if gains else np.zeros(0)


@dataclass(frozen=True)
class Wide:
    """The cells as one dense matrix, levels one-hot: what PCA is fitted to."""

    matrix: np.ndarray  # gaps hold the column's mean
    places: list[slice]  # of each cell's columns
    batch: Batch

    @classmethod
    def of(cls, layout: Layout, batch: Batch) -> "Wide":
        """The dense matrix of a batch."""
        parts, places, start = [], [], 0
        observed = batch.observed.numpy()
        for feature, slot in enumerate(layout.slots):
            part = _dense(slot, feature, layout, batch)
            held = part[observed[:, feature]]
            part[~observed[:, feature]] = held.mean(0) if len(held) else 0.0
            parts.append(part)
            places.append(slice(start, start + part.shape[1]))
            start += part.shape[1]
        return cls(np.concatenate(parts, 1), places, batch)


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
        if width < 1 or not np.ptp(matrix, 0).any():  # all rows alike: nothing to turn
            return cls(matrix.mean(0), np.zeros((matrix.shape[1], 1)), 1.0)
        pca = PCA(width, svd_solver="full").fit(matrix)
        noise = max(float(pca.noise_variance_), 1e-6)
        root = np.sqrt(np.maximum(pca.explained_variance_ - noise, 0.0))
        loadings = np.transpose(np.asarray(pca.components_)) * root
        return cls(pca.mean_, loadings, noise)

    def expect(self, matrix: np.ndarray, given: np.ndarray) -> np.ndarray:
        """The expected row where only the `given` columns are known."""
        loads = self.loadings[given]
        square = loads.T @ loads + self.noise * np.eye(loads.shape[1])
        z = (matrix[:, given] - self.center[given]) @ np.linalg.solve(square, loads.T).T
        return self.center + z @ self.loadings.T


def _note(
    said: Predicted,
    table: Wide,
    layout: Layout,
    rest: np.ndarray,
    here: np.ndarray,
    fitted: np.ndarray,
    rebuilt: np.ndarray,
    features: np.ndarray,
) -> None:
    """Put what was said of these cells of rows `here` in place, with scales from rows `rest`."""
    plain = [c for c in features.tolist() if layout.slots[c].head not in OWN_NATS]
    for start in range(0, len(plain), PASS_FEATURES):
        few = np.array(plain[start : start + PASS_FEATURES])
        at = [table.places[feature].start for feature in few]
        least = LEAST_SCALE * np.array([layout.slots[feature].scale for feature in few])
        observed = table.batch.observed.numpy()[np.ix_(rest, few)]
        scale = _student_scale(table.matrix[np.ix_(rest, at)] - fitted[:, at], observed, least)
        true = table.batch.numbers[torch.from_numpy(here)][:, few]
        near = torch.from_numpy(rebuilt[:, at].astype(np.float32))
        likely = StudentTFeatures(near, torch.from_numpy(scale.astype(np.float32))[None], NU)
        said.expected[np.ix_(here, few)] = rebuilt[:, at]
        said.nats[np.ix_(here, few)] = -likely.log_prob(true).numpy()
    for feature in set(features.tolist()) - set(plain):
        slot, at = layout.slots[feature], table.places[feature]
        if slot.coded:
            share = _true_probability(table.matrix[here, at], rebuilt[:, at])
            said.expected[here, feature], said.nats[here, feature] = share, -np.log(share)
            continue
        observed = table.batch.observed.numpy()[rest, feature]
        known = table.matrix[rest, at.start][observed]
        true = table.batch.numbers.numpy()[here, feature]
        near, far = fitted[observed, at.start], rebuilt[:, at.start]
        if slot.head == "counts":
            near, far = _to_mean_counts(known, near, far)
        said.expected[here, feature] = far
        said.nats[here, feature] = _number_nats(slot, known, near, true, far)


def _dense(slot: Slot, feature: int, layout: Layout, batch: Batch) -> np.ndarray:
    if not slot.coded:
        return batch.numbers.numpy()[:, [feature]].clip(-REACH, REACH).astype(np.float64)
    codes = batch.codes.numpy()[:, feature - layout.numbers]
    levels = min(slot.levels, MOST_LEVELS + 1)  # rarer levels share the last column
    return np.eye(levels)[np.clip(codes - 1, 0, levels - 1)]


def _true_probability(one_hot: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
    share = rebuilt.clip(LEAST_PROBABILITY, None)
    share = share / share.sum(1, keepdims=True)
    return (share * (one_hot > 0.5)).sum(1).clip(LEAST_PROBABILITY, 1.0)


def _number_nats(
    slot: Slot, known: np.ndarray, fitted: np.ndarray, true: np.ndarray, rebuilt: np.ndarray
) -> np.ndarray:
    target, near = (torch.from_numpy(np.asarray(v, np.float32))[:, None] for v in (true, rebuilt))
    if slot.head == "bernoulli":
        share = near.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        features = BernoulliFeatures(torch.logit(share), torch.tensor([slot.nats_unobserved]))
    else:
        mean, count = np.expm1(_in_reach(fitted)), np.expm1(known)
        excess = max(float(np.mean((count - mean) ** 2 - mean)), 1e-6)
        size = float(np.clip(np.mean(mean) ** 2 / excess, 1e-2, 1e3)) if len(mean) else 1.0
        log_mean = torch.log(torch.expm1(near.clamp(0.01, MAX_LOG_MEAN)))
        features = CountFeatures(
            log_mean, torch.tensor([[size]]), torch.tensor([slot.nats_unobserved])
        )
    return -features.log_prob(target)[:, 0].numpy()


def _square_loss(true: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return (true.clip(-REACH, REACH) - expected.clip(-REACH, REACH)) ** 2


def _count_loss(true: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Poisson deviance of counts given as logs: like the square, least at the mean count."""
    count, mean = np.expm1(true.clip(0, MAX_LOG_MEAN)), np.expm1(_in_reach(expected))
    return 2 * (xlogy(count, count / mean) - count + mean)


def _to_mean_counts(
    known: np.ndarray, fitted: np.ndarray, rebuilt: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log(1 + mean count) from predictions of the mean of the logs, as the net predicts it.

    One factor makes the predicted counts right on average (smearing; Duan 1983).
    """
    counts, predicted = np.expm1(known).mean() if len(known) else 0.0, np.expm1(_in_reach(fitted))
    factor = counts / max(float(predicted.mean()), 1e-9) if len(predicted) else 1.0
    near, far = (np.log1p(factor * np.expm1(_in_reach(logs))) for logs in (fitted, rebuilt))
    return near, far


def _in_reach(logs: np.ndarray) -> np.ndarray:
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
    at = batch.observed.numpy()[:, feature]
    if not at.any():
        return 0.0
    if not layout.slots[feature].coded:
        return float(batch.numbers.numpy()[at, feature].clip(-REACH, REACH).var())
    codes = batch.codes.numpy()[at, feature - layout.numbers]
    share = np.bincount(codes) / len(codes)
    return float(1 - (share**2).sum())
