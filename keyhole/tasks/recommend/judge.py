"""How good a recommender is: beside popularity and neighbours, with intervals over users."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from keyhole.checks import Finding
from keyhole.data.interactions import Lists
from keyhole.errors import BundleError
from keyhole.store import wrap_errors
from keyhole.tasks.recommend.base import RankingModel, best_items
from keyhole.tasks.recommend.metrics import Interval, intervals, paired_difference, ranking_metrics
from keyhole.tasks.recommend.simple import ItemNeighbours, Popularity

KS = (20, 50, 100)
SHOWN = ("ndcg@100", "recall@20", "recall@50", "map@100", "mrr@100", "tail_recall@100",
         "novelty@20", "coverage@20")  # fmt: skip
OF_LAST = ("ndcg@100", "recall@20", "mrr@100")  # that are shown of the last item in time
OWN = "this model"
DECIDES = "ndcg@100"
FEW_USERS = 50  # whose lists are judged: fewer tell little


@dataclass(frozen=True)
class RankingEvaluation:
    """Measures by model and name, with 95 % bootstrap intervals over `users`.

    The models are "this model", "popularity" and "item-kNN". `ahead` is the mean difference of
    NDCG@100 to each baseline and its standard error. `notes` say what was left out. `last` are
    the measures of finding each user's last item in time, where all times are known.
    """

    users: int
    measures: dict[str, dict[str, Interval]]
    ahead: dict[str, tuple[float, float]]
    notes: list[str] = field(default_factory=list)
    last: RankingEvaluation | None = None

    def __repr__(self) -> str:
        lines = [f"RankingEvaluation by {self.users:,} users: {self.verdict}"]
        for model, own in self.measures.items():
            means = ", ".join(f"{name} {own[name].mean:.3f}" for name in SHOWN if name in own)
            lines.append(f"  {model}: {means}")
        return "\n".join(lines)

    @property
    def findings(self) -> list[Finding]:
        """What to look at before these lists are used."""
        findings = []
        if self.users < FEW_USERS:
            findings.append(Finding(
                "KH019", "few users were judged",
                f"the figures rest on {self.users} users only: their intervals are wide",
            ))  # fmt: skip
        beaten = [
            name for name, (mean, error) in self.ahead.items() if not mean > 0 or mean < error
        ]
        if beaten and self.users:
            findings.append(Finding(
                "KH020", "no better than a simple list",
                f"NDCG@100 is not significantly above that of {' and '.join(beaten)}: use the "
                "simpler model, or give more data",
            ))  # fmt: skip
        return findings

    @property
    def verdict(self) -> str:
        """One line on how far to trust the lists."""
        if not self.users:
            return "not evaluated: no user has two or more items"
        titles = "; ".join(finding.title for finding in self.findings)
        own = self.measures[OWN][DECIDES].mean
        others = ", ".join(
            f"{name} {self.measures[name][DECIDES].mean:.3f}" for name in self.ahead
        )
        head = "look again" if any(f.code == "KH020" for f in self.findings) else "learned"
        text = f"{head}: NDCG@100 {own:.3f} on users held out ({others})"
        return f"{text}; {titles}" if titles else text

    def lines(self) -> list[str]:
        """A table of the measures, a line each."""
        names = list(self.measures)
        lines = [f"{'':<16}" + "".join(f"{name:>26}" for name in names)]
        lines += [self._line(measure) for measure in SHOWN]
        if self.last is not None and self.last.users:
            lines.append(f"predicting the last item in time of {self.last.users:,} users")
            lines += [self.last._line(measure) for measure in OF_LAST]
        return lines

    def _line(self, measure: str) -> str:
        cells = (own.get(measure) for own in self.measures.values())
        return f"{measure:<16}" + "".join(f"{_cell(cell):>26}" for cell in cells)

    def to_json(self) -> dict[str, Any]:
        """As JSON: measures as mean, low and high end; null for none."""
        measures = {
            name: {m: [_number(x) for x in (i.mean, i.low, i.high)] for m, i in own.items()}
            for name, own in self.measures.items()
        }
        ahead = {name: [_number(x) for x in pair] for name, pair in self.ahead.items()}
        last = None if self.last is None else self.last.to_json()
        return {
            "users": self.users, "measures": measures, "ahead": ahead, "notes": self.notes,
            "last": last,
        }  # fmt: skip

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> Self:
        """The way back. Raises: BundleError for what no fit leaves."""
        with wrap_errors("the evaluation of the recommender"):
            measures = {
                name: {m: Interval(*map(_or_nan, ends)) for m, ends in own.items()}
                for name, own in value["measures"].items()
            }
            ahead = {n: (_or_nan(m), _or_nan(e)) for n, (m, e) in value["ahead"].items()}
            notes = [str(note) for note in value["notes"]]
            last = value["last"] and cls.of_json(value["last"])
            evaluation = cls(int(value["users"]), measures, ahead, notes, last)
            if evaluation.users and any(DECIDES not in measures[n] for n in (OWN, *ahead)):
                raise BundleError(f"it has no {DECIDES}")
        return evaluation


def _cell(interval: Interval | None) -> str:
    if interval is None or np.isnan(interval.mean):
        return "-"
    if np.isnan(interval.low):
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def judge(
    model: RankingModel, history: Lists, given: Lists,
    wanted: Lists, notes: list[str] | None = None,
) -> RankingEvaluation:  # fmt: skip
    """The measures of a model and of baselines that are fitted to `history`.

    Lists are made of `given` items and judged by `wanted` ones; users without any of these are
    left out.
    """
    users = np.flatnonzero(np.diff(wanted.indptr))
    given, wanted = given[users], wanted[users]
    counts = np.bincount(history.indices, minlength=history.shape[1])
    models = {
        OWN: model,
        "popularity": Popularity().fit(history),
        "item-kNN": ItemNeighbours().fit(history),
    }
    measures: dict[str, dict[str, Interval]] = {}
    per_user: dict[str, np.ndarray] = {}
    for name, one in models.items():
        top, _ = best_items(one, given, max(KS))
        metrics = ranking_metrics(top, wanted, counts, KS)
        coverage = {n: Interval(mean, np.nan, np.nan) for n, mean in metrics.coverage.items()}
        measures[name] = intervals(metrics) | coverage
        per_user[name] = metrics.per_user[DECIDES]
    ahead = {}
    for name in models:
        if name != OWN:
            difference = paired_difference(per_user[OWN], per_user[name])
            ahead[name] = (difference.mean, difference.standard_error)
    return RankingEvaluation(len(users), measures, ahead, notes or [])
