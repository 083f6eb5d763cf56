"""The page of a recommender: how good its lists are, why this model, and what they look like."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Int64
from sklearn.utils.validation import check_is_fitted

from keyhole.core.files import write_whole
from keyhole.core.progress import stage
from keyhole.report.facts import made_with
from keyhole.report.headline import Fact, Headline
from keyhole.report.item_charts import MAX_ITEMS, item_map, popularity_curve, popularity_in_words
from keyhole.report.trust import trust_of
from keyhole.report.words import bar_length, count, fill, number, percent, plain
from keyhole.tasks.recommend.base import NONE, best_items
from keyhole.tasks.recommend.blend import Blend
from keyhole.tasks.recommend.judge import DECIDES, OWN, SHOWN, RankingEvaluation
from keyhole.tasks.recommend.low_rank import LowRank
from keyhole.tasks.recommend.metrics import Interval
from keyhole.tasks.recommend.recommender import Recommender

EXAMPLES, OF_HISTORY, TOP, REASONS = 5, 6, 5, 2  # users; items of history, list and reason
MAX_SCORES = 20_000_000  # of an example: a reason scores the catalogue for each item of a list
DIGITS = 3  # of measures
MEANINGS = {
    "ndcg": "are hidden items near the top of the list? A hit counts less the lower it stands; "
            "1 is a list with all of them in front",
    "recall": "share of a user's hidden items that are among the first {k}; of more than {k} "
              "hidden ones, {k} count",
    "map": "share of hits down to each hit, averaged; 1 is a list with all hits in front",
    "mrr": "1 / the place of the first hit: 0.5 is the second place",
    "tail_recall": "recall of hidden items that are in the tail, the less popular ones",
    "novelty": "how rare the first {k} items are, in bits: one more is half as popular",
    "coverage": "share of the catalogue that is in the first {k} items of any user",
}  # fmt: skip
ACRONYMS = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR"}


@dataclass(frozen=True)
class Measure:
    """A row of the table: a name, what it means, and for each model the mean and interval."""

    name: str
    meaning: str
    cells: list[tuple[str, str]]


@dataclass(frozen=True)
class ExampleList:
    """A user's history, and the list with the number of users of each item and its reason."""

    user: str
    length: str
    history: list[str]
    more: int
    ranked: list[tuple[str, str, str]]
    explained: bool


def write_recommender(path: str | os.PathLike[str], recommender: Recommender) -> None:
    """Atomically write the page on a fitted recommender. Raises: FileError."""
    write_whole(path, render_recommender(recommender))


def render_recommender(recommender: Recommender) -> str:
    """The page on a fitted recommender."""
    check_is_fitted(recommender, "fitted_")
    stage("writing the page")
    fitted, evaluation = recommender.fitted_, recommender.evaluation_
    own, embedding = fitted.interactions, cast("LowRank | None", fitted.embedding)
    measures = _measures(evaluation)
    shown = [measure for name, measure in measures.items() if name in SHOWN]
    notes = [] if fitted.columns is None else own.counts.sentences(fitted.columns)
    return fill(
        "lists.html.j2",
        {
            "headline": _headline(recommender),
            "trust": trust_of(recommender.verdict_, recommender.findings_),
            "name": "",
            "remarks": [plain(note, 400) for note in [*notes, *evaluation.notes]],
            "judged": evaluation.users,
            "models": list(evaluation.measures),
            "measures": shown,
            "more_measures": [m for name, m in measures.items() if name not in SHOWN],
            "model_title": fitted.model.title,
            "why": [plain(sentence, 400) for sentence in recommender.why_],
            "compared": _compared(recommender),
            "popularity": popularity_in_words(own.item_counts),
            "popularity_curve": popularity_curve(own.item_counts),
            "item_map": item_map(embedding, own.items, own.item_counts),
            "items": len(own.items),
            "most": MAX_ITEMS,
            "examples": _examples(recommender),
            "making": made_with(_parts(fitted.model, embedding), ""),
        },
    )


def _headline(recommender: Recommender) -> Headline:
    """How good the lists are, and what to do with them."""
    evaluation, facts = recommender.evaluation_, _facts(recommender)
    if not evaluation.users:
        verdict = evaluation.verdict
        text = f"{verdict[:1].upper()}{verdict[1:]}. Nobody knows how good the lists are."
        return Headline("The lists were not judged", [text], facts)
    recall = [evaluation.measures[name].get("recall@20") for name in (OWN, *evaluation.ahead)]
    shares = [percent(None if one is None else one.mean) for one in recall]
    others = " and ".join(
        f"{share} by {name}" for name, share in zip(evaluation.ahead, shares[1:], strict=True)
    )
    title = f"The first 20 items of a list hold {shares[0]} of a user's hidden items"
    texts = [_in_words(evaluation.measures[name][DECIDES]) for name in (OWN, *evaluation.ahead)]
    names = [f"{text} for {name}" for name, text in zip(evaluation.ahead, texts[1:], strict=True)]
    sentences = [
        f"Some items of {count(evaluation.users, 'user')} were hidden, and lists were made from "
        f"the others. For comparison: {others}.",
        f"NDCG@100, which decides, is {texts[0]}; it is {' and '.join(names)}.",
    ]
    steps = ["Make lists for all users: keyhole recommend MODEL -o lists.csv"]
    if not recommender.verdict_.startswith("learned"):
        steps = ["Read the findings below before you show these lists to anybody."]
    return Headline(title, sentences, facts, steps)


def _in_words(interval: Interval) -> str:
    if np.isnan(interval.low):
        return number(interval.mean, DIGITS)
    ends = f"{number(interval.low, DIGITS)} to {number(interval.high, DIGITS)}"
    return f"{number(interval.mean, DIGITS)} ({ends})"


def _facts(recommender: Recommender) -> list[Fact]:
    own = recommender.fitted_.interactions
    users, items = own.history.shape
    lengths = np.diff(own.history.indptr)
    usual = number(float(np.median(lengths)), 0) if len(lengths) else "–"
    embedding: Any = recommender.fitted_.embedding
    width = 0 if embedding is None else embedding.vectors.shape[1]
    share = 100 * own.history.nnz / max(users * items, 1)
    last = recommender.evaluation_.last
    of_last = [] if last is None else [
        Fact("last item in time", _in_words(last.measures[OWN]["recall@20"]), "recall@20 of it"),
    ]  # fmt: skip
    return [
        Fact("users", f"{users:,}", f"{usual} items each, median"),
        Fact("items", f"{items:,}", "in the catalogue"),
        Fact("pairs", f"{own.history.nnz:,}", f"{share:.2g} % of all that could be"),
        Fact("judged by", f"{recommender.evaluation_.users:,}", "users held out"),
        *of_last,
        Fact("vectors", f"{width:,}", "numbers of an item, as features"),
    ]


def _measures(evaluation: RankingEvaluation) -> dict[str, Measure]:
    """All measures of this model, those that are shown first in their order."""
    known = list(evaluation.measures.get(OWN, {}))
    ordered = [name for name in SHOWN if name in known]
    ordered += [name for name in known if name not in SHOWN]
    return {
        name: Measure(
            _title(name), _meaning(name),
            [_cell(own.get(name)) for own in evaluation.measures.values()],
        )
        for name in ordered
    }  # fmt: skip


def _title(name: str) -> str:
    kind, at, k = name.partition("@")
    return f"{ACRONYMS.get(kind, kind.replace('_', ' '))}{at}{k}"


def _meaning(name: str) -> str:
    kind, _, k = name.partition("@")
    return MEANINGS.get(kind, "").replace("{k}", k)


def _cell(interval: Interval | None) -> tuple[str, str]:
    """The mean, and the interval where there is one."""
    if interval is None:
        return "–", ""
    ends = f"{number(interval.low, DIGITS)} to {number(interval.high, DIGITS)}"
    return number(interval.mean, DIGITS), "" if np.isnan(interval.low) else ends


def _compared(recommender: Recommender) -> list[tuple[str, str, float, bool]]:
    """What was compared, best first: title, measure, bar, and whether it was chosen."""
    compared, chosen = recommender.compared_, recommender.fitted_.model.title
    most = max(compared.values(), default=0.0) or 1.0
    return [
        (title, number(value, DIGITS), bar_length(value / most), title == chosen)
        for title, value in sorted(compared.items(), key=lambda pair: -pair[1])
    ]


def _parts(model: Any, embedding: Any) -> dict[str, Any]:
    """The parts whose settings are listed."""
    parts: dict[str, Any] = {"model": model}
    if isinstance(model, Blend):
        parts = {"first model": model.models[0], "second model": model.models[1]}
    return parts if embedding is None else parts | {"vectors of items": embedding}


def _examples(recommender: Recommender) -> list[ExampleList]:
    """The lists of some users, from short histories to long ones."""
    own, model = recommender.fitted_.interactions, recommender.fitted_.model
    lengths = np.diff(own.history.indptr)
    users = np.flatnonzero(lengths)
    cheap = users[(lengths[users] + 1) * len(own.items) <= MAX_SCORES]
    chosen = _spread(cheap if len(cheap) else users, lengths)
    top, _ = best_items(model, own.history[chosen], TOP)
    return [
        _example(recommender, int(user), row[row != NONE], explained=bool(len(cheap)))
        for user, row in zip(chosen, top, strict=True)
    ]


def _spread(
    users: Int64[np.ndarray, " candidate"], lengths: Int64[np.ndarray, " user"]
) -> Int64[np.ndarray, " example"]:
    """Users at even steps of the lengths of lists, from the shortest to the longest."""
    ordered = users[np.argsort(lengths[users], kind="stable")]
    places = np.linspace(0, len(ordered) - 1, min(EXAMPLES, len(ordered)))
    return ordered[np.unique(places.round().astype(int))]


def _example(
    recommender: Recommender, user: int, top: Int64[np.ndarray, " rank"], *, explained: bool
) -> ExampleList:
    own = recommender.fitted_.interactions
    history = own.history[[user]].indices
    counts = own.item_counts
    ranked = []
    for item in top.tolist():
        reason = _reason(recommender, own.users.texts[user], own.items.texts[item], explained)
        ranked.append((plain(own.items.texts[item]), f"{int(counts[item]):,}", reason))
    return ExampleList(
        user=plain(own.users.texts[user]),
        length=count(len(history), "item"),
        history=[plain(own.items.texts[i]) for i in history[:OF_HISTORY].tolist()],
        more=max(len(history) - OF_HISTORY, 0),
        ranked=ranked,
        explained=explained,
    )


def _reason(recommender: Recommender, user: str, item: str, explained: bool) -> str:
    """The items of the history that brought an item."""
    if not explained:
        return ""
    causes = recommender.explain(user, item, REASONS)  # an Arrow table, or a frame of pandas
    columns = causes.to_pydict() if hasattr(causes, "to_pydict") else causes.to_dict("list")
    pairs = zip(columns["item"], columns["change"], strict=True)
    names = [plain(name) for name, change in pairs if change > 0]
    return ", ".join(names) if names else "no item in particular"
