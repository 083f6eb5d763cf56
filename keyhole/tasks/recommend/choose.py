"""Which model ranks best for users it has not seen, and why; the search of its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from keyhole.core.parts import build, copy, kinds, parse
from keyhole.core.progress import stage
from keyhole.data.interactions import Lists
from keyhole.errors import SettingError
from keyhole.tasks.recommend.base import RankingModel, Scores
from keyhole.tasks.recommend.blend import Blend, standardised
from keyhole.tasks.recommend.deep import DeepLists
from keyhole.tasks.recommend.factors import WeightedFactors
from keyhole.tasks.recommend.folds import Candidate, Fold
from keyhole.tasks.recommend.linear import Gram, SolvedLinear
from keyhole.tasks.recommend.low_rank import LowRank
from keyhole.tasks.recommend.simple import ItemNeighbours, Popularity

STRENGTHS = tuple(float(f"{10 ** (i / 2):.2g}") for i in range(9))  # 1 to 10,000, by sqrt(10)
MAX_STRENGTH, MIN_STRENGTH = 1e6, 1e-2
ITEM_POWERS = (0.0, 0.5)  # the second one where a factorisation is cheap
POWERS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # of inputs, and of popular items
# Of users or items, the fewer: for more, no second item power is tried, or no eigenvalues.
FEW, MANY = 3_000, 9_000
FACTOR_SETTINGS = {
    "weight": (5.0, 10.0, 20.0, 40.0, 80.0, 160.0),
    "strength": (1.0, 3.0, 10.0, 30.0, 100.0),
    "factors": (64, 128, 256),
}  # of a factorisation
MAX_SCORES = 1 << 26  # of the users that choose, held while blends are compared
MAX_SIDE = 30_000  # of a matrix that is inverted
NEIGHBOURS, SHRINKS = (200, 1_000), (2.0, 20.0)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
MAX_OPERATIONS = 2e12  # multiply-adds of a net that is trained unasked: some minutes
SURE = 0.5  # standard errors by which a blend must be ahead of its best model
UNSEARCHED = ("variational", "denoising", "composite", "popularity")  # one setting each
NETS = ("auto", "linear", "low_rank", "factors", "item_knn", *UNSEARCHED)


@dataclass
class Choice:
    """The best model, all that were compared (title, measure), and sentences on why."""

    model: RankingModel
    compared: dict[str, float] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)
    families: dict[str, RankingModel] = field(default_factory=dict)  # the best model of each


def choose(
    net: str | RankingModel, folds: list[Fold], seed: int,
    memory: float = np.inf, on_evaluate: Any = None,
) -> Choice:  # fmt: skip
    """The best model for users that it was not fitted to, fitted to the first fold.

    `net` is a name, a text such as "linear:strength=300", or a model, which is then fitted as it
    is. Raises: SettingError for an unknown name, or one that does not fit into memory.
    """
    model = named(net)
    if isinstance(model, RankingModel):
        check_memory(model, folds[0].history, memory)
        fitted = model.fit(folds[0].history, seed)
        candidate = Candidate([fitted], folds[0].per_user(fitted))
        return Choice(fitted, {fitted.title: candidate.mean}, ["set by the user"])
    single = model in UNSEARCHED  # then there is nothing to choose by more folds
    search = _Search(folds[:1] if single else folds, seed, memory, on_evaluate)
    if model != "auto":
        candidate = search.best_of(model, required=True)
        why = f"{_described(candidate.model)}: NDCG@100 {candidate.mean:.3f} on users held out"
        return Choice(candidate.model, {candidate.model.title: candidate.mean}, [why])
    return search.auto()


def named(net: Any) -> str | RankingModel:
    """A name of `NETS`, or the model that a text describes. Raises: SettingError."""
    if isinstance(net, RankingModel):
        fresh = copy(net)  # a fit changes no argument
        fresh.check()
        return fresh
    if isinstance(net, str) and net in NETS:
        return net
    if isinstance(net, str) and net.partition(":")[0] in kinds("ranking"):
        return parse("ranking", net)
    raise SettingError(
        f"net={net!r:.60}: choose from {', '.join(NETS)}, or write settings, such as "
        "linear:strength=300"
    )


def trained(model: RankingModel) -> bool:
    """True for a net, and for a blend with one."""
    return any(map(trained, model.models)) if isinstance(model, Blend) else isinstance(
        model, DeepLists
    )  # fmt: skip


def refitted(model: RankingModel, history: Lists, seed: int) -> RankingModel:
    """The same settings fitted to all lists; a trained net is not trained again."""
    if isinstance(model, DeepLists):
        return model
    if isinstance(model, Blend):
        first, second = (refitted(one, history, seed) for one in model.models)
        return Blend.of(first, second, model.share)
    return build("ranking", model.recipe()).fit(history, seed)


def linear_fits(history: Lists, memory: float) -> bool:
    """True if the linear model can be solved in time and memory."""
    users, items = history.shape
    needed = SolvedLinear.bytes_for(users, items, history.nnz)
    return min(users, items) <= MAX_SIDE and needed <= memory


def check_memory(model: RankingModel, history: Lists, memory: float) -> None:
    """Raises: SettingError for a model that does not fit into memory."""
    users, items = history.shape
    needed = model.bytes_for(users, items, history.nnz)
    if needed > memory:
        smaller = "popularity" if model.kind == "low_rank" else "low_rank"
        raise SettingError(
            f"the {model.title} of {users:,} users and {items:,} items needs about "
            f"{needed / 2**30:.1f} GB, but {memory / 2**30:.1f} GB are free: use net={smaller!r}"
        )


@dataclass
class _Search:
    """The candidates of one fit, and notes on what was tried."""

    folds: list[Fold]
    seed: int
    memory: float
    on_evaluate: Any
    notes: list[str] = field(default_factory=list)

    @property
    def history(self) -> Lists:
        """The lists of the first fold; those of the others are about as many."""
        return self.folds[0].history

    def auto(self) -> Choice:
        """The best of all families that fit, or of a blend of two."""
        families = ["popularity", "item_knn", "factors", self._linear_or_low_rank()]
        if self._deep_pays():
            families += ["variational"]
        by_family = {name: self.best_of(name) for name in families}
        candidates = list(by_family.values())
        best = max(candidates, key=lambda candidate: candidate.mean)
        compared = {c.model.title: c.mean for c in candidates}
        blend = self._blend(best, [c for c in candidates if c is not best])
        if blend is not None:
            compared[blend.model.title] = blend.mean
            best = blend
        others = {t: m for t, m in compared.items() if t != best.model.title}
        second = max(others, key=lambda title: others[title])
        self.notes.insert(
            0,
            f"{_described(best.model)}: NDCG@100 {best.mean:.3f} on users held out, "
            f"{second} {others[second]:.3f}",
        )
        models = {name: candidate.model for name, candidate in by_family.items()}
        return Choice(best.model, compared, self.notes, models)

    def best_of(self, name: str, *, required: bool = False) -> Candidate:
        """The best settings of a family; with `required`, one that does not fit is refused."""
        stage(f"choosing settings: {name}")
        searches: dict[str, Callable[[], Iterator[Candidate]]] = {
            "popularity": lambda: self._fitted([Popularity()]),
            "item_knn": lambda: self._fitted(
                [ItemNeighbours(k, shrink) for k in NEIGHBOURS for shrink in SHRINKS]
            ),
            "linear": self._linear,
            "low_rank": self._low_rank,
            "factors": self._factors,
            "variational": lambda: self._fitted([DeepLists("variational")]),
            "denoising": lambda: self._fitted([DeepLists("plain")]),
            "composite": lambda: self._fitted([DeepLists("composite")]),
        }
        if required and name == "linear":
            check_memory(SolvedLinear(), self.history, self.memory)
        return max(searches[name](), key=lambda candidate: candidate.mean)

    def _fitted(self, models: list[Any]) -> Iterator[Candidate]:
        for model in models:
            yield self._judge(self._fit(model))

    def _fit(self, model: RankingModel) -> list[RankingModel]:
        """These settings fitted to each fold."""
        models = [copy(model) for _ in self.folds]
        for one in models:
            if isinstance(one, DeepLists):
                one.on_evaluate = self.on_evaluate
        pairs = zip(models, self.folds, strict=True)
        return [one.fit(fold.history, self.seed) for one, fold in pairs]

    def _judge(self, models: list[RankingModel]) -> Candidate:
        pairs = zip(models, self.folds, strict=True)
        return Candidate(models, np.concatenate([fold.per_user(one) for one, fold in pairs]))

    def _linear_or_low_rank(self) -> str:
        if linear_fits(self.history, self.memory):
            return "linear"
        users, items = self.history.shape
        needed = SolvedLinear.bytes_for(users, items, self.history.nnz)
        self.notes.append(
            f"a weight for each pair of {items:,} items would need {needed / 2**30:.1f} GB of "
            "memory: the low-rank model is used"
        )
        return "low_rank"

    def _deep_pays(self) -> bool:
        if len(self.folds) > 1:
            self.notes.append("no net was trained: of so few users it would learn little")
            return False
        operations = DeepLists().operations(*self.history.shape)
        if operations <= MAX_OPERATIONS:
            return True
        self.notes.append(
            "no deep model was trained: it needs "
            f"{operations / MAX_OPERATIONS:.0f} times the work that net='auto' does; "
            "use net='variational' to train one"
        )
        return False

    def _linear(self) -> Iterator[Candidate]:
        """For each item power the strength, the powers of inputs and popular items, in turn."""
        side = min(self.history.shape)
        for item_power in ITEM_POWERS if side <= FEW else ITEM_POWERS[:1]:
            grams = [Gram.of(fold.history, item_power) for fold in self.folds]
            grams = [gram.factorised() for gram in grams] if side <= MANY else grams
            model = SolvedLinear(item_power=item_power)
            strengths = STRENGTHS[1:6] if side <= MANY else STRENGTHS[3:6]
            solve = partial(_solved, self.folds, grams)
            yield self._powers(self._strength(model, solve, strengths))

    def _powers(self, best: Candidate) -> Candidate:
        """The best powers of inputs and of popular items: one after the other, twice."""
        linear: list[Any] = best.models
        tried = {(0.0, 0.0): best}

        def attempt(powers: tuple[float, float]) -> float:
            if powers not in tried:
                pairs = zip(linear, self.folds, strict=True)
                models = [one.reweighted(*powers, fold.history) for one, fold in pairs]
                tried[powers] = self._judge(models)
            return tried[powers].mean

        at = 0.0, 0.0
        for _ in range(2):
            at = max(((at[0], power) for power in POWERS), key=attempt)
            at = max(((power, at[1]) for power in POWERS), key=attempt)
        return tried[at]

    def _factors(self) -> Iterator[Candidate]:
        """Uphill from the first setting: one number after the other, a step at a time."""
        best = self._judge(self._fit(WeightedFactors()))
        for name, values in FACTOR_SETTINGS.items():
            at = values.index(getattr(best.model, name))
            for step in (1, -1):
                while 0 <= at + step < len(values):
                    setting = {**best.model.get_params(), name: values[at + step]}
                    tried = self._judge(self._fit(WeightedFactors(**setting)))
                    if tried.mean <= best.mean:
                        break
                    best, at = tried, at + step
        yield best

    def _low_rank(self) -> Iterator[Candidate]:
        yield self._strength(LowRank(), self._fit, STRENGTHS[2:6])

    def _strength(
        self, model: Any, fit: Callable[[Any], list[RankingModel]], strengths: tuple[float, ...]
    ) -> Candidate:
        """The best strength; the search goes on while the best one is at an end."""
        tried: dict[float, float] = {}
        leader: Any = None  # the weights of others are dropped: they may be gigabytes

        def attempt(strength: float) -> None:
            nonlocal leader
            recipe = {**model.get_params(), "strength": strength}
            candidate = self._judge(fit(type(model)(**recipe)))
            tried[strength] = candidate.mean
            leader = candidate if leader is None or candidate.mean > leader.mean else leader

        for strength in strengths:
            attempt(strength)
        while True:
            best = max(tried, key=lambda strength: tried[strength])
            low, high = min(tried), max(tried)
            if best == low > MIN_STRENGTH:
                attempt(float(f"{low / 10**0.5:.2g}"))
            elif best == high < MAX_STRENGTH:
                attempt(float(f"{high * 10**0.5:.2g}"))
            else:
                break
        for strength in (best / 10**0.25, best * 10**0.25):
            attempt(float(f"{strength:.2g}"))
        return leader

    def _blend(self, best: Candidate, others: list[Candidate]) -> Candidate | None:
        """The best blend with another model, if it is surely ahead of the best one alone.

        Scores of each model are made once, for as many users as memory allows.
        """
        stage("choosing settings: blends")
        folds = [fold.fewer(MAX_SCORES // len(self.folds)) for fold in self.folds]
        first = _all_scores(best, folds)
        shares: list[tuple[float, Candidate, float]] = []
        for other in others:
            if isinstance(other.model, Popularity):
                continue
            second = _all_scores(other, folds)
            for share in SHARES:
                parts = zip(folds, first, second, strict=True)
                values = [f.per_user(_Scored((1 - share) * x + share * y)) for f, x, y in parts]
                shares.append((float(np.nanmean(np.concatenate(values))), other, share))
        if not shares:
            return None
        _, other, share = max(shares, key=lambda tried: tried[0])
        pairs = zip(best.models, other.models, strict=True)
        ahead = self._judge([Blend.of(x, y, share) for x, y in pairs])
        return ahead if ahead.ahead_of(best) >= SURE else None


def _all_scores(candidate: Candidate, folds: list[Fold]) -> list[Scores]:
    """The scores of each fold's users, comparable between models."""
    pairs = zip(candidate.models, folds, strict=True)
    return [standardised(model.scores(fold.given)) for model, fold in pairs]


class _Scored(Popularity):
    """Scores that are there, of all users in their order; it has no kind of its own."""

    def __init__(self, scores: Scores) -> None:
        self.ready, self.start = scores, 0

    def scores(self, history: Lists) -> Scores:
        """The scores of the next users."""
        part = slice(self.start, self.start + history.shape[0])
        self.start = part.stop
        return self.ready[part]


def _solved(folds: list[Fold], grams: list[Gram], model: SolvedLinear) -> list[RankingModel]:
    pairs = zip(folds, grams, strict=True)
    return [copy(model).solved(fold.history, gram) for fold, gram in pairs]


def _described(model: RankingModel) -> str:
    """A model and its settings in a few words."""
    if isinstance(model, Blend):
        first, second = (_described(one) for one in model.models)
        return f"{1 - model.share:.0%} {first} and {model.share:.0%} {second}"
    return f"{model.title} ({', '.join(f'{n}={v:g}' for n, v in _numbers(model))})"


def _numbers(model: RankingModel) -> list[tuple[str, float]]:
    return [(n, v) for n, v in model.get_params().items() if isinstance(v, int | float)]
