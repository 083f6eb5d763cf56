"""What a page shows of the codes and of drawn rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.autoencoder.sampling import reference_rows, sampler_of
from keyhole.autoencoder.width import WidthChoice
from keyhole.core.progress import clock
from keyhole.data import cast
from keyhole.data.source import ArrowRows
from keyhole.errors import SettingError
from keyhole.modalities import Modality
from keyhole.report.anomaly_maps import png
from keyhole.report.charts import INK, NET, OTHER, Chart, across, upward
from keyhole.report.facts import bar_length
from keyhole.report.words import number, percent, plain
from keyhole.tasks.cards import Card, cards
from keyhole.tasks.generator import Generator

if TYPE_CHECKING:
    import pyarrow as pa

    from keyhole.core.records import Batch


MOST_CARDS, MOST_EFFECTS = 8, 3  # dimensions; columns listed for each
DRAWN, REAL, STEPS = 10, 5, 8  # rows shown; steps from one real row to another
MOST_SHOWN = 8  # columns of a drawn row
JUDGE_S = 30.0  # seconds that a time budget must leave to judge drawn rows
MOST_TICKS = 12  # of the width curve
LEAST_PIXELS, MOST_SIDE, GREYS = 36, 16, 12
# Columns are pixels if at least WIDE_PIXELS of them span WIDE_RANGE of the common range.
WIDE_RANGE, WIDE_PIXELS = 0.5, 0.3

Greys = list[tuple[str, str]]  # an image: for each opacity the path of its pixels


@dataclass(frozen=True)
class CodeRow:
    """The texts of a card: `bar` is the length of its share, from 0 to 100."""

    name: str
    share: str
    bar: float
    drives: list[str]
    read_from: str
    ends: list[str]  # columns of two rows, at the 5 % and 95 % quantiles of the dimension
    stability: str
    moves: bool


@dataclass(frozen=True)
class DrawnRows:
    """Drawn rows beside real ones: texts of columns, or images if the columns are pixels."""

    prior: str
    prior_rows: int  # rows that the prior was fitted to
    columns: list[str]
    more: int
    drawn: list[list[str]]
    real: list[list[str]]
    side: int  # of an image; 0 if there are none
    drawn_images: list[Greys]
    real_images: list[Greys]
    way: list[Greys]
    judgement: list[str]
    images: list[tuple[str, list[str]]] = field(default_factory=list)  # URLs of images, by kind


def width_curve(choice: WidthChoice | None) -> str | None:
    """Held-out nats by width, with the chosen width marked; None if the width was given."""
    if choice is None or not choice.nats:
        return None
    nats = np.array(choice.nats, float)
    widths = np.arange(1, len(nats) + 1)
    chosen = int(np.clip(choice.width, 1, len(nats)))
    bound = float(nats.min()) + choice.tolerance
    room = 0.06 * (max(float(nats.max()), bound) - float(nats.min())) or 0.5
    y = upward("held-out nats per row", nats.min() - room, max(nats.max(), bound) + room)
    x = across("code dimensions kept", 1.0, float(len(nats)))
    x = replace(x, ticks=widths[:: -(-len(nats) // MOST_TICKS)].tolist())
    chart = Chart(x, y, 216)
    chart.upright(chosen, INK, 1.2, "6 3.6")
    chart.line(widths[[0, -1]], [bound, bound], OTHER, 1.2, dash="1.2 2.4")
    chart.line(widths, nats, NET, 2.2, radius=2)
    chart.line([chosen], nats[[chosen - 1]], INK, 0, radius=4.5)
    key = [("held out", NET, "━━"), ("chosen", INK, "●"), ("as good as the best", OTHER, "┈┈")]
    label = (
        f"Held-out nats per row by the width of the code: {number(nats[0])} at 1, "
        f"{number(nats[chosen - 1])} at {chosen}, the chosen width, and "
        f"{number(nats[-1])} at {len(nats)}."
    )
    return chart.svg(label, key)


def own_dimension(choice: WidthChoice | None) -> str:
    """A sentence on the estimated intrinsic dimension of the rows; empty if unknown."""
    estimates = [] if choice is None else [choice.two_nn, choice.likelihood]
    known = [number(dimension, 1) for dimension in estimates if dimension is not None]
    if not known:
        return ""
    count = "two estimates" if len(known) > 1 else "an estimate"
    dimensions = " and ".join(known)
    return (
        f"The rows themselves fill about {dimensions} dimensions, by {count} from near neighbours."
    )


def code_rows(model: Autoencoder) -> tuple[list[CodeRow], int]:
    """The cards of the dimensions with most nats or variance, and how many more there are."""
    if model.model_.reference is None or len(model.model_.reference) < 2:
        return [], 0
    rows = [_code_row(card) for card in cards(model, most=MOST_CARDS)]
    return rows, model.model_.network.width - len(rows)


def _code_row(card: Card) -> CodeRow:
    share = card.variance if card.nats is None else card.nats
    drives = [plain(effect) for effect in card.drives[:MOST_EFFECTS]]
    if drives and not card.monotone:
        drives[0] += " (not monotone)"
    read_from = ", ".join(plain(name, 30) for name, _ in card.driven_by[:MOST_EFFECTS])
    low, *_, high = card.examples or [{}, {}]
    ends = [
        f"{plain(name, 30)}: {plain(text, 30)} → {plain(high[name], 30)}"
        for name, text in list(low.items())[:MOST_EFFECTS]
    ]
    return CodeRow(
        card.name, percent(share), bar_length(share), drives, read_from, ends,
        number(card.stability), card.moves,
    )  # fmt: skip


def samples(model: Autoencoder) -> DrawnRows | None:
    """Ten drawn rows, five real ones, and a judgement; None if the model has no prior."""
    if model.model_.prior is None:
        return None
    table, batch = model.model_.modality, reference_rows(model.model_.reference, held_out=True)
    drawn = sampler_of(model).rows(DRAWN, 0)
    real = (
        None
        if batch is None or not len(batch)
        else table.decode_observed(batch.take(slice(0, REAL)))
    )
    if table.images(drawn) is not None:
        return _of_images(model, drawn, real)
    pixels = _Pixels.of(table)
    shown = [] if pixels else table.encoded_columns[:MOST_SHOWN]
    rows = [
        list(map(list, zip(*(map(plain, table.texts(ArrowRows(part), c.name)) for c in shown))))
        for part in (drawn, real)
        if part is not None
    ]
    images = [[] if part is None or not pixels else pixels.drawn(part) for part in (drawn, real)]
    return DrawnRows(
        prior=model.model_.prior.kind,
        prior_rows=sampler_of(model).fitted.prior_rows,
        columns=[plain(column.name, 30) for column in shown],
        more=len(table.encoded_columns) - len(shown),
        drawn=rows[0],
        real=rows[1] if len(rows) > 1 else [],
        side=pixels.side if pixels else 0,
        drawn_images=images[0],
        real_images=images[1],
        way=pixels.drawn(_way(model, batch)) if pixels and real is not None and batch else [],
        judgement=_judgement(model),
    )


def _of_images(model: Autoencoder, drawn: pa.Table, real: pa.Table | None) -> DrawnRows:
    """Drawn and real images, each as a URL."""
    table, images = model.model_.modality, []
    for kind, part in (("drawn", drawn), ("real, held out of training", real)):
        pixels = None if part is None else table.images(part)
        if pixels is not None:
            urls = [png(x if x.ndim == 3 else x[..., None]) for x in pixels.astype(np.float32)]
            images.append((kind, urls))
    rows = sampler_of(model).fitted.prior_rows
    return DrawnRows(prior=model.model_.prior.kind, prior_rows=rows, columns=[], more=0, drawn=[],  # pyright: ignore
                   real=[], side=0, drawn_images=[], real_images=[], way=[], judgement=[],
                   images=images)  # fmt: skip


def _judgement(model: Autoencoder) -> list[str]:
    if clock().left() < JUDGE_S:
        return ["not judged in the time budget: keyhole sample MODEL --judge, or Generator.judge"]
    try:
        lines = Generator.from_fitted(model).judge().lines()
    except SettingError:  # there are no reference rows to compare with
        return []
    return [plain(f"{line[:1].upper()}{line[1:]}.", 400) for line in lines]


@torch.no_grad()
def _way(model: Autoencoder, batch: Batch) -> pa.Table:
    """The expected rows on the straight line from one row's code to the farthest one's."""
    network = model.model_.network
    codes = network(batch.to(next(network.parameters()).device)).code.mean[0]
    far = int(torch.cdist(codes[:1], codes)[0].argmax())
    share = torch.linspace(0, 1, STEPS).to(codes)[:, None]
    path = network.bottleneck.project((1 - share) * codes[0] + share * codes[far])
    return sampler_of(model).fitted.decode_codes(path.cpu().numpy())


@dataclass(frozen=True)
class _Pixels:
    """How rows are drawn as images: `side` x `side` after down-sampling, white at `least`."""

    names: list[str | None]  # in reading order; None for an ignored column
    side: int
    least: float
    most: float

    @classmethod
    def of(cls, table: Modality) -> _Pixels | None:
        """For a table with a square number of columns, all numbers over one range; else None."""
        side = round(len(table.columns) ** 0.5)
        if side**2 != len(table.columns) or side**2 < LEAST_PIXELS:
            return None
        ends = {c.name: table.ends(c.name) for c in table.encoded_columns}
        ranges = np.array([pair for pair in ends.values() if pair is not None], float)
        if len(ranges) < len(ends) or not len(ranges):
            return None
        low, high = ranges.T
        least, most = float(low.min()), float(high.max())
        wide = (high - low)[high > low] >= WIDE_RANGE * (most - least)
        if not len(wide) or wide.mean() < WIDE_PIXELS:
            return None
        names = [c.name if c.name in ends else None for c in table.columns]
        return cls(names, min(side, MOST_SIDE), least, most)

    def drawn(self, rows: pa.Table) -> list[Greys]:
        """Each row as an image."""
        flat = [
            np.full(rows.num_rows, self.least) if name is None else cast.floats(rows[name])[0]
            for name in self.names
        ]
        whole = round(len(flat) ** 0.5)
        x = (np.stack(flat, 1).reshape(-1, whole, whole) - self.least) / (self.most - self.least)
        x = np.nan_to_num(x).clip(0, 1)
        starts = [part[0] for part in np.array_split(np.arange(whole), self.side)]
        size = np.diff([*starts, whole])
        x = np.add.reduceat(np.add.reduceat(x, starts, 1), starts, 2) / np.outer(size, size)
        return [_greys(image) for image in np.round(x * GREYS).astype(int)]


def _greys(levels: np.ndarray) -> Greys:
    """The pixels of each level that is not white, as one path."""
    greys = []
    for level in range(1, GREYS + 1):
        pixels = np.argwhere(levels == level)
        if len(pixels):
            path = "".join(f"M{x} {y}h1v1h-1z" for y, x in pixels.tolist())
            greys.append((f"{level / GREYS:.2f}", path))
    return greys
