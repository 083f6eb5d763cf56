"""What a page shows of the codes and of drawn rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.autoencoder.sampling import reference_rows, sampler_of
from keyhole.autoencoder.width import WidthChoice
from keyhole.core.progress import clock
from keyhole.data import cast
from keyhole.data.lazy import pa
from keyhole.data.source import ArrowRows
from keyhole.errors import SettingError
from keyhole.modalities import Modality
from keyhole.report.png import png
from keyhole.report.words import bar_length, number, percent, plain
from keyhole.tasks.cards import Card, cards
from keyhole.tasks.generator import Generator
from keyhole.tasks.realism import Judgement

if TYPE_CHECKING:
    from keyhole.core.records import Batch


MAX_CARDS, MAX_EFFECTS = 8, 3  # dimensions; columns listed for each
DRAWN, REAL, STEPS = 10, 5, 8  # rows shown; steps from one real row to another
MAX_SHOWN_COLUMNS = 8  # of a drawn row
JUDGE_S = 30.0  # seconds that a time budget must leave to judge drawn rows
MIN_PIXELS, MAX_SIDE, GREYS = 36, 16, 12
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
class Question:
    """A judgement of drawn rows in words, with its figure and the ideal one."""

    question: str
    meaning: str
    measured: str
    ideal: str


@dataclass(frozen=True)
class DrawnRows:
    """Drawn rows beside real ones: texts of columns, or images if the columns are pixels."""

    prior: str
    prior_rows: int  # rows that the prior was fitted to
    columns: list[str] = field(default_factory=list)
    more: int = 0
    drawn: list[list[str]] = field(default_factory=list)
    real: list[list[str]] = field(default_factory=list)
    side: int = 0  # of an image; 0 if there are none
    drawn_images: list[Greys] = field(default_factory=list)
    real_images: list[Greys] = field(default_factory=list)
    way: list[Greys] = field(default_factory=list)
    judgement: Judgement | None = None
    questions: list[Question] = field(default_factory=list)
    unjudged: str = ""  # why there is no judgement
    images: list[tuple[str, list[str]]] = field(default_factory=list)  # URLs of images, by kind


def own_dimension(choice: WidthChoice | None) -> str:
    """A sentence on the estimated intrinsic dimension of the rows; empty if unknown."""
    estimates = [] if choice is None else [choice.two_nn, choice.likelihood]
    known = [number(dimension, 1) for dimension in estimates if dimension is not None]
    if not known:
        return ""
    dimensions, count = " and ".join(known), "two estimates" if len(known) > 1 else "an estimate"
    return (
        f"The rows themselves fill about {dimensions} dimensions, by {count} from near neighbours."
    )


def code_rows(model: Autoencoder) -> tuple[list[CodeRow], int]:
    """The cards of the dimensions with most nats or variance, and how many more there are."""
    if model.model_.reference is None or len(model.model_.reference) < 2:
        return [], 0
    rows = [_code_row(card) for card in cards(model, most=MAX_CARDS)]
    return rows, model.model_.network.width - len(rows)


def _code_row(card: Card) -> CodeRow:
    share = card.variance if card.nats is None else card.nats
    drives = [plain(effect) for effect in card.drives[:MAX_EFFECTS]]
    if drives and not card.monotone:
        drives[0] += " (not monotone)"
    read_from = ", ".join(plain(name, 30) for name, _ in card.driven_by[:MAX_EFFECTS])
    low, *_, high = card.examples or [{}, {}]
    ends = [
        f"{plain(name, 30)}: {plain(text, 30)} → {plain(high[name], 30)}"
        for name, text in list(low.items())[:MAX_EFFECTS]
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
    prior = model.model_.prior.kind, sampler_of(model).fitted.prior_rows
    tables, real = [("drawn", drawn)], None
    if batch is not None and len(batch):
        real = table.decode_observed(batch.take(slice(0, REAL)))
        tables.append(("real, held out of training", real))
    judged = _judged(model)
    if table.images(drawn) is not None:
        images = [(kind, _urls(table.images(part))) for kind, part in tables]
        return DrawnRows(*prior, images=images, **judged)
    if (pixels := _Pixels.of(table, drawn)) is not None:
        return DrawnRows(
            *prior,
            side=pixels.side,
            drawn_images=pixels.drawn(drawn),
            real_images=[] if real is None else pixels.drawn(real),
            way=[] if real is None else pixels.drawn(_way(model, batch)),  # pyright: ignore
            **judged,
        )
    shown = table.encoded_columns[:MAX_SHOWN_COLUMNS]
    texts = [
        list(map(list, zip(*(map(plain, table.texts(ArrowRows(part), c.name)) for c in shown))))
        for _, part in tables
    ]
    return DrawnRows(
        *prior,
        columns=[plain(column.name, 30) for column in shown],
        more=len(table.encoded_columns) - len(shown),
        drawn=texts[0],
        real=texts[1] if len(texts) > 1 else [],
        **judged,
    )


def _urls(images: np.ndarray | None) -> list[str]:
    if images is None:
        return []
    return [png(x if x.ndim == 3 else x[..., None]) for x in images.astype(np.float32)]


def _judged(model: Autoencoder) -> dict[str, Any]:
    """The judgement of drawn rows with its questions, or why there is none."""
    if clock().left() < JUDGE_S:
        text = "Not judged in the time budget: keyhole sample MODEL --judge, or Generator.judge."
        return {"unjudged": text}
    try:
        judgement = Generator.from_fitted(model).judge()
    except SettingError:  # there are no reference rows to compare with
        return {}
    return {"judgement": judgement, "questions": questions(judgement)}


def questions(judgement: Judgement) -> list[Question]:
    """The judgement in plain words, the most telling figure first."""
    auc, useful = judgement.c2st_auc, judgement.usefulness
    worst = ", ".join(f"{plain(name, 30)} {error:.3f}" for name, error in judgement.worst_columns)
    few = "too few rows to train it" if np.isnan(auc) else "AUROC of a classifier on unseen rows"
    real = judgement.real_usefulness
    return [
        Question("Can a classifier tell drawn rows from real ones?", few, number(auc, 3), "0.500"),
        Question("Does each column have the right distribution?",
                 f"mean error, from 0 (equal) to 1; largest: {worst}",
                 number(judgement.shape_error, 3), "0.000"),
        Question("Do pairs of columns belong together as in real rows?",
                 "mean error of pairs, from 0 (equal) to 1",
                 number(judgement.trend_error, 3), "0.000"),
        Question("Do models learn as much from drawn rows as from real ones?",
                 "no column can be predicted from the others" if useful is None
                 else "score on held-out rows; ideal: that of models trained on real rows",
                 number(useful, 3), number(real, 3)),
        Question("Were training rows copied?",
                 "share of drawn rows that are closer to a training row than to a held-out one",
                 f"{100 * judgement.closer_share:.1f} %", "50.0 %"),
    ]  # fmt: skip


@torch.no_grad()
def _way(model: Autoencoder, batch: Batch) -> pa.Table:
    """The expected rows on the straight line from one row's code to the farthest one's."""
    network = model.model_.network
    codes = network(batch.to(model.model_.device)).code.mean[0]
    far = int(torch.cdist(codes[:1], codes)[0].argmax())
    share = torch.linspace(0, 1, STEPS).to(codes)[:, None]
    path = network.bottleneck.project((1 - share) * codes[0] + share * codes[far])
    return sampler_of(model).fitted.decode_codes(path.cpu().numpy())


def _ends(values: Any) -> tuple[float, float] | None:
    """The least and the greatest of values that are numbers, or texts of numbers; else None."""
    numbers, bad = cast.floats(values)
    known = numbers[np.isfinite(numbers)]
    return (float(known.min()), float(known.max())) if len(known) and not len(bad) else None


@dataclass(frozen=True)
class _Pixels:
    """How rows are drawn as images: `side` x `side` after down-sampling, white at `least`."""

    names: list[str | None]  # in reading order; None for an ignored column
    side: int
    least: float
    most: float

    @classmethod
    def of(cls, table: Modality, rows: pa.Table) -> _Pixels | None:
        """For a table with a square number of columns, all numbers over one range; else None.

        `rows` are drawn: a pixel of few values may be a column of levels, but its values are
        numbers.
        """
        side = round(len(table.columns) ** 0.5)
        if side**2 != len(table.columns) or side**2 < MIN_PIXELS:
            return None
        ends = {c.name: table.ends(c.name) or _ends(rows[c.name]) for c in table.encoded_columns}
        ranges = np.array([pair for pair in ends.values() if pair is not None], float)
        if len(ranges) < len(ends) or not len(ranges):
            return None
        low, high = ranges.T
        least, most = float(low.min()), float(high.max())
        wide = (high - low)[high > low] >= WIDE_RANGE * (most - least)
        if not len(wide) or wide.mean() < WIDE_PIXELS:
            return None
        names = [c.name if c.name in ends else None for c in table.columns]
        return cls(names, min(side, MAX_SIDE), least, most)

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
