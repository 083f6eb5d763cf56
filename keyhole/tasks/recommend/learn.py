"""One fit of a recommender: choose a model, judge it on other users, fit it to all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keyhole.core.environment import free_memory
from keyhole.core.parts import build, parse
from keyhole.core.progress import stage
from keyhole.data.interactions import InteractionColumns, Interactions, Lists
from keyhole.tasks.recommend.base import RankingModel
from keyhole.tasks.recommend.choose import (
    check_memory,
    choose,
    linear_fits,
    named,
    refitted,
    trained,
)
from keyhole.tasks.recommend.embedding import embedding_of
from keyhole.tasks.recommend.folds import folds_of
from keyhole.tasks.recommend.judge import RankingEvaluation, judge
from keyhole.tasks.recommend.splits import fold_in, held_out_users, last_out
from keyhole.tasks.recommend.state import Fitted

HELD_OUT, MAX_HELD_OUT = 0.2, 10_000  # of users: half choose the model, half judge it
MIN_USERS = 20  # with two items or more; of fewer users none is held out
MEMORY_SHARE = 0.7  # of what is free
UNCHOSEN = {  # what is fitted where no user can be held out
    "variational": "deep:code=variational",
    "denoising": "deep:code=plain",
    "composite": "deep:code=composite",
}


@dataclass(frozen=True)
class Learned:
    """What a fit leaves: the model, its measures, what was compared, and why it was chosen."""

    fitted: Fitted
    evaluation: RankingEvaluation
    compared: dict[str, float]
    why: list[str]


def learn_lists(
    own: Interactions, columns: InteractionColumns | None, net: Any, seed: int,
    on_evaluate: Any = None,
) -> Learned:  # fmt: skip
    """The model of these interactions. Raises: SettingError."""
    history, memory = own.history, MEMORY_SHARE * free_memory()
    choosing, judging, training = _parts_of(history, seed)
    if not len(choosing):
        model: Any = named(net)
        if model == "auto":
            model = "linear" if linear_fits(history, memory) else "low_rank"
        model = parse("ranking", UNCHOSEN.get(model, model)) if isinstance(model, str) else model
        check_memory(model, history, memory)
        why = ["too few users to compare models: this is the default"]
        fitted = Fitted(own, columns, model.fit(history, seed), embedding_of(history, seed))
        return Learned(fitted, RankingEvaluation(0, {}, {}), {}, why)
    folds = folds_of(history, choosing, training, seed)
    choice = choose(net, folds, seed, memory, on_evaluate)
    stage("evaluating on held-out users")
    some, model = folds[0].history, choice.model
    if len(folds) > 1:
        some = history[np.union1d(choosing, training)]
        model = refitted(model, some, seed)
    evaluation = _judged(model, some, own, judging)
    stage("fitting to all users")
    model = refitted(choice.model, history, seed)
    fitted = Fitted(own, columns, model, embedding_of(history, seed))
    return Learned(fitted, evaluation, choice.compared, choice.why)


def learn_more(
    before: Fitted, own: Interactions, seed: int
) -> tuple[Fitted, RankingEvaluation | None]:
    """The same settings on more interactions; vectors of items stay near those they had.

    A net that is not trained again is not judged again either: it has seen the users who would
    be held out now. Then the evaluation is None.
    """
    history = own.history
    _, judging, training = _parts_of(history, seed)
    evaluation = RankingEvaluation(0, {}, {})
    if trained(before.model) and len(own.items) == len(before.interactions.items):
        evaluation = None
    elif len(judging):
        stage("evaluating on held-out users")
        model = _again(before, own, history[training], seed)
        evaluation = _judged(model, history[training], own, judging)
    stage("fitting to all users")
    model = _again(before, own, history, seed)
    fitted = Fitted(own, before.columns, model, embedding_of(history, seed))
    return fitted.turned_to(before), evaluation


def _judged(
    model: RankingModel, history: Lists, own: Interactions, users: np.ndarray
) -> RankingEvaluation:
    """How good a model that was fitted to `history` is for these users, which it has not seen.

    A fifth of their items is to be found; where all times are known, also the last one.
    """
    some = own.take_users(users)
    evaluation = judge(model, history, *fold_in(some.history, seed=1))
    if some.times is None or np.isnan(some.times).any():
        return evaluation
    return replace(evaluation, last=judge(model, history, *last_out(some.history, some.times)))


def _parts_of(history: Lists, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The users that choose the model, those that judge it, and all others."""
    eligible = int((np.diff(history.indptr) >= 2).sum())
    every = np.arange(history.shape[0])
    if eligible < MIN_USERS:
        return every[:0], every[:0], every
    share = min(HELD_OUT, MAX_HELD_OUT / eligible)
    held_out = np.flatnonzero(held_out_users(history, seed, share))
    shuffled = np.random.default_rng(seed).permutation(held_out)
    half = len(shuffled) // 2
    training = np.setdiff1d(every, held_out)
    return np.sort(shuffled[:half]), np.sort(shuffled[half:]), training


def _again(before: Fitted, own: Interactions, history: Lists, seed: int) -> RankingModel:
    """The model of before on these lists; a net is trained again where the catalogue grew."""
    if len(own.items) == len(before.interactions.items):
        return refitted(before.model, history, seed)
    return build("ranking", before.model.recipe()).fit(history, seed)
