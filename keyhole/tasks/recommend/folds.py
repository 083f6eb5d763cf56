"""Users by whom models are compared, and how good a model is for each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from keyhole.data.interactions import Lists
from keyhole.tasks.recommend.base import RankingModel, best_items
from keyhole.tasks.recommend.metrics import paired_difference, ranking_metrics
from keyhole.tasks.recommend.splits import FEWEST_ITEMS, fold_in

MEASURE, DEPTH = "ndcg@100", 100  # what decides
FEW_USERS, FOLDS = 25, 5  # that choose: of fewer, all but those that judge take turns


@dataclass(frozen=True)
class Fold:
    """Lists to fit a model to, and other users, by whom it is judged: their lists are cut.

    `given` is what a model is given of these users, `wanted` what it should find.
    """

    history: Lists
    given: Lists
    wanted: Lists

    def per_user(self, model: RankingModel, measure: str = MEASURE) -> np.ndarray:
        """The measure of each user."""
        top, _ = best_items(model, self.given, DEPTH)
        counts = np.bincount(self.history.indices, minlength=self.history.shape[1])
        return ranking_metrics(top, self.wanted, counts, (DEPTH,)).per_user[measure]

    def fewer(self, scores: int) -> Fold:
        """The first users, of whom all scores are at most so many."""
        users = max(scores // self.given.shape[1], 1)
        return replace(self, given=self.given[:users], wanted=self.wanted[:users])


@dataclass(frozen=True)
class Candidate:
    """A model fitted to each fold, with the measure of each user that decides."""

    models: list[RankingModel]
    values: np.ndarray

    @property
    def model(self) -> RankingModel:
        """The model of the first fold."""
        return self.models[0]

    @property
    def mean(self) -> float:
        """The mean over users; 0 where there is none."""
        known = self.values[~np.isnan(self.values)]
        return float(known.mean()) if len(known) else 0.0

    def ahead_of(self, other: Candidate) -> float:
        """The mean difference in its standard errors."""
        difference = paired_difference(self.values, other.values)
        return difference.mean / max(difference.standard_error, 1e-12)


def folds_of(history: Lists, choosing: np.ndarray, training: np.ndarray, seed: int) -> list[Fold]:
    """The users that choose, beside the training users; where they are few, all in turn."""
    if len(choosing) >= FEW_USERS:
        return [Fold(history[training], *fold_in(history[choosing], seed=0))]
    users = np.union1d(choosing, training)
    choosers = users[np.diff(history.indptr)[users] >= FEWEST_ITEMS]
    shuffled = np.random.default_rng(seed).permutation(choosers)
    return [
        Fold(history[np.setdiff1d(users, part)], *fold_in(history[np.sort(part)], seed=0))
        for part in np.array_split(shuffled, FOLDS)
    ]
