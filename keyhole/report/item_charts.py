"""Charts of a catalogue: how popular its items are, and which of them go together."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64

from keyhole.data.identifiers import Identifiers
from keyhole.report.charts import INK, LINEAR, NET, OTHER, Axis, Chart, across, upward
from keyhole.report.words import count, percent, plain
from keyhole.tasks.recommend.low_rank import LowRank
from keyhole.tasks.recommend.metrics import HEAD_SHARE, tail_items

MAX_ITEMS, MAX_NAMES, MAX_NAME = 2_000, 10, 24  # of the map; characters of a name on it
MAX_CURVE, LOGARITHMIC_FROM = 400, 200  # points of the curve; items of a logarithmic axis
RADII = (2.0, 3.2, 4.8, 7.0)  # pixels, from a few users to many
ROOM = 0.05  # around the points of the map

ItemCounts = Int64[np.ndarray, " item"]


def popularity_curve(item_counts: ItemCounts) -> str:
    """The share of all pairs that the most popular items hold, with the tail in another colour."""
    items, total = len(item_counts), max(int(item_counts.sum()), 1)
    head = int((~tail_items(item_counts)).sum())
    shares = np.concatenate([[0.0], 100 * np.cumsum(np.sort(item_counts)[::-1]) / total])
    some = np.geomspace(1, items, min(MAX_CURVE, items)).round().astype(int)
    places = np.unique(np.concatenate([[0, head, items], some]))
    chart = Chart(_rank_axis(items), upward("share of all pairs (%)", 0.0, 104.0), 238)
    for colour, part in ((NET, places[places <= head]), (OTHER, places[places >= head])):
        chart.line(part, shares[part], colour, 2.2)
    chart.upright(head, INK, 1.2, "6 3.6")
    label = f"Share of all pairs by popularity. {popularity_in_words(item_counts)}"
    key = [("head", NET, "━━"), ("tail", OTHER, "━━"), ("where the tail starts", INK, "╎")]
    return chart.svg(label, key)


def popularity_in_words(item_counts: ItemCounts) -> str:
    """How few items hold most pairs."""
    tail = tail_items(item_counts)
    items, head, total = len(tail), int((~tail).sum()), max(int(item_counts.sum()), 1)
    share = percent(float(item_counts[~tail].sum() / total))
    few = f"The {count(head, 'most popular item')} ({percent(head / items)} of the catalogue)"
    text = f"{few} {'holds' if head == 1 else 'hold'} {share} of all pairs of users and items."
    if head == items:
        return text
    rest = f"The other {items - head:,} are the tail: those beyond {percent(HEAD_SHARE)} of"
    return f"{text} {rest} the pairs, counted from the most popular item on."


def _rank_axis(items: int) -> Axis:
    label = "items, the most popular first"
    if items < LOGARITHMIC_FROM:
        return across(label, 0.0, float(items), counts=True)
    powers = LINEAR ** np.arange(1, int(np.log10(items)) + 1)
    return Axis(
        f"{label} (logarithmic above 10)", 0.0, 1.05 * items, [0.0, *powers.tolist()],
        logarithmic=True,
    )  # fmt: skip


def item_map(embedding: LowRank | None, items: Identifiers, item_counts: ItemCounts) -> str | None:
    """The most popular items by the two main directions of their vectors; None without vectors."""
    if embedding is None:
        return None
    places = directions(embedding)
    shown = np.argsort(-item_counts, kind="stable")
    shown = shown[np.isfinite(places[shown]).all(1)][:MAX_ITEMS]
    if not len(shown):
        return None
    x, y = places[shown].T
    users = item_counts[shown]
    chart = Chart(_bare("first direction", x), _bare("second direction", y), 460)
    size = np.sqrt(users / max(int(users.max()), 1))  # areas grow with users
    step = np.minimum((len(RADII) * size).astype(int), len(RADII) - 1)
    for i, radius in reversed(list(enumerate(RADII))):  # small dots above large ones
        part = np.flatnonzero(step == i)
        titles = [f"{_named(items, shown[p])}, {count(int(users[p]), 'user')}" for p in part]
        chart.dots(x[part], y[part], NET, radius, titles)
    for item in shown[: 3 * MAX_NAMES]:
        if len(chart.labels) < MAX_NAMES:
            left, up = places[item].tolist()
            chart.name(left, up, _named(items, item, MAX_NAME))
    label = (
        f"Map of {count(len(shown), 'item')} by the two main directions of their vectors; "
        "items near each other are wanted by the same users, larger dots by more users."
    )
    return chart.svg(label, [("an item; larger: more users", NET, "●")])


def directions(embedding: LowRank) -> Float[np.ndarray, "item 2"]:
    """The two main directions of the items' vectors, each of length one, as cosines see them."""
    unit = torch.nn.functional.normalize(embedding.vectors.double(), dim=1).numpy()
    centred = unit - unit.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # by rising variance
    main = axes[:, ::-1][:, :2]
    main = main * np.where(main[np.abs(main).argmax(0), np.arange(main.shape[1])] < 0, -1, 1)
    places = centred @ main
    return np.pad(places, ((0, 0), (0, 2 - places.shape[1])))


def _named(items: Identifiers, item: int, most: int = 60) -> str:
    return plain(items.texts[int(item)], most)


def _bare(label: str, values: Float[np.ndarray, " item"]) -> Axis:
    """An axis without ticks: directions have no unit."""
    low, high = float(values.min()), float(values.max())
    room = ROOM * (high - low) or 0.5
    return Axis(label, low - room, high + room)
