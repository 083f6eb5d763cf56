"""Reading the codes: of each code dimension, what it says of a row, and what it is read from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from sklearn.utils.validation import check_is_fitted

from keyhole.autoencoder.input_validation import blocks_of
from keyhole.core.environment import PASS_ROWS
from keyhole.core.records import Batch
from keyhole.errors import DataError, SettingError
from keyhole.tasks.effects import LEVELS, Effect, column_spreads, effects_along, tabular

if TYPE_CHECKING:
    from keyhole.autoencoder.estimator import Autoencoder
    from keyhole.modalities import Tabular


MAX_ROWS = 5_000  # whose codes are read
MIN_MOVED, MAX_MOVED = 16, 500  # rows that are moved along a dimension
MOVED_VALUES, MASKED_VALUES = 1 << 20, 1 << 25  # of one dimension; of all columns in turn
MAX_MASKED = 512  # columns; of more, those that the code moves most
MAX_DRIVES, MAX_DRIVEN_BY, MAX_TEXTS = 5, 5, 4
MIN_STRENGTH = 0.01  # spreads: what moves less is not worth a word
ENDS = (0.05, 0.5, 0.95)  # the quantiles of a dimension's examples
ALIKE = 1e-8  # of the largest variance: a dimension with less is the same on every row
NO_ROWS = (
    "this model has no reference rows to read its codes from: give rows, cards(model, rows), or "
    "save the model with AnomalyDetector.save, Generator.save or keyhole fit, which store rows"
)


@dataclass(frozen=True)
class Card:
    """What one code dimension stands for.

    `variance` and `nats` are its shares of the code's, from 0 to 1; `nats` is None where the code
    has no noise. `drives` are the columns whose expected value moves most where this dimension
    alone goes from its 10 % to its 90 % quantile; `monotone`: the first of them never turns on the
    way. `driven_by` are the columns whose masking changes this dimension most, each with the root
    mean square of the change in spreads of the dimension: masking asks the encoder itself, so it
    knows levels and bends, and names no column that is merely correlated with one that is read.
    `examples` are the rows at its 5, 50 and 95 % quantiles. `stability` is its correlation, from 0
    to 1, with the dimension of another net that is matched with it, averaged over the other nets;
    None where there are none. A dimension that never moves has neither.
    """

    name: str
    variance: float
    nats: float | None
    drives: list[Effect]
    driven_by: list[tuple[str, float]]
    monotone: bool
    examples: list[dict[str, str]]
    stability: float | None

    def __repr__(self) -> str:
        share = self.variance if self.nats is None else self.nats
        drives = "; ".join(map(str, self.drives[:3])) or "almost nothing"
        return f"<Card {self.name}: {share:.0%} of the code, changes {drives}>"

    @property
    def moves(self) -> bool:
        """False for a dimension that is the same on every row."""
        return self.variance > 0

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON holds them."""
        return asdict(self)


def cards(model: Autoencoder, rows: Any = None, *, most: int | None = None) -> list[Card]:
    """A card of each code dimension (or of so many), the one with most nats or variance first.

    Without columns, as for images, there are no cards. Codes are the first net's, of these rows
    (a frame, an array or a path; 5,000 of the first at most) or of the model's reference rows.
    Raises: SettingError where it has none, DataError for rows that cannot be read or are fewer
    than two.
    """
    check_is_fitted(model)
    if model.model_.modality.supports("cards") is not None:
        return []
    read = _Read.of(model, _rows(model, rows))
    order = np.argsort(-(read.variance if read.nats is None else read.nats), kind="stable")
    order = sorted(order.tolist(), key=lambda dim: not read.variance[dim])[:most]
    spreads = column_spreads(read.table, read.batch)
    moved = {dim: _along(read, spreads, dim) for dim in order if read.variance[dim] > 0}
    driven = _driven_by(read, moved) if moved else {}
    stability = _stability(read) if len(read.codes) > 1 else None
    moving = [_card(read, dim, moved[dim], driven[dim], stability) for dim in moved]
    return moving + [
        Card(f"code_{dim}", 0.0, read.share_of_nats(dim), [], [], False, [], None)
        for dim in order if dim not in moved
    ]  # fmt: skip


def lines(card: Card) -> list[str]:
    """A card for a person; the first line says which dimension it is of."""
    if not card.moves:
        return [f"{card.name}: the same on every row, so it holds no information"]
    head = f"{card.name}: {card.variance:.0%} of the code's variance"
    if card.nats is not None:
        head += f", {card.nats:.0%} of its information"
    if card.stability is not None:
        head += f"; correlation with its match in the other networks: {card.stability:.2f}"
    texts = [head]
    if card.drives:
        way = "monotone" if card.monotone else "not monotone"
        first, *others = map(str, card.drives)
        texts.append("drives     " + "; ".join([f"{first} ({way})", *others]))
    else:
        texts.append("drives     no column by 1 % of its spread or more")
    if card.driven_by:
        by = ", ".join(f"{name} ({change:.2f} spreads)" for name, change in card.driven_by)
        texts.append(f"driven by  {by}")
    for end, example in zip(ENDS, card.examples, strict=True):
        values = ", ".join(f"{name} {text}" for name, text in example.items())
        texts.append(f"at {end:>4.0%}    {values}")
    return texts


@dataclass(frozen=True)
class _Read:
    """Rows and their codes (member, row, code); shares of variance and nats are the first's."""

    model: Autoencoder
    batch: Batch
    codes: Float[torch.Tensor, "member row code"]
    variance: Float[np.ndarray, " code"]
    nats: Float[np.ndarray, " code"] | None

    @classmethod
    def of(cls, model: Autoencoder, batch: Batch) -> _Read:
        codes, nats = _encode(model, batch)
        variance = codes[0].double().var(0, unbiased=False).numpy()
        variance[variance <= ALIKE * max(variance.max(), 1e-12)] = 0.0
        shares = None if nats is None else nats / (nats.sum() or 1.0)
        return cls(model, batch, codes, variance / (variance.sum() or 1.0), shares)

    @property
    def table(self) -> Tabular:
        return tabular(self.model)

    def share_of_nats(self, dim: int) -> float | None:
        return None if self.nats is None else float(self.nats[dim])

    def sample(self, values: int, features: int) -> torch.Tensor:
        """The indices of evenly chosen rows: so many that they hold about so many values."""
        return _sample(len(self.batch), int(np.clip(values // features, MIN_MOVED, MAX_MOVED)))


@torch.no_grad()
def _encode(model: Autoencoder, batch: Batch) -> tuple[torch.Tensor, np.ndarray | None]:
    """The codes of all nets, and the first one's nats a row by dimension where it has noise."""
    network, means, nats = model.model_.network, [], []
    for start in range(0, len(batch), PASS_ROWS):
        part = batch.take(slice(start, start + PASS_ROWS)).to(model.model_.device)
        code = network.bottleneck(network.encoder(network.stem(part)))
        means.append(code.mean.cpu())
        if "nats" in code.stats:
            nats.append(code.stats["nats"][0].cpu())
    return torch.cat(means, 1), torch.cat(nats).double().mean(0).numpy() if nats else None


def _rows(model: Autoencoder, rows: Any) -> Batch:
    """The encoded rows whose codes are read."""
    if rows is None:
        if model.model_.reference is None:
            raise SettingError(NO_ROWS)
        batch = model.model_.reference.batch
    else:
        parts = []
        for start, block in blocks_of(model, rows):
            parts.append(model.model_.modality.encode(block, start))
            if start + len(block) >= MAX_ROWS:
                break
        batch = Batch.join(parts)
    if len(batch) < 2:
        raise DataError("cards need at least 2 rows; got one")
    return batch.take(_sample(len(batch), MAX_ROWS))


def _sample(rows: int, most: int) -> torch.Tensor:
    chosen = np.random.default_rng(0).permutation(rows)[:most]
    return torch.from_numpy(np.sort(chosen))


def _along(read: _Read, spreads: dict[str, np.ndarray], dim: int) -> list[Effect]:
    """What all columns do along this dimension from its 10 % to its 90 % quantile.

    Where these agree (a sparse one, or one of few values), from its least to its largest.
    """
    codes = read.codes[0]
    values = codes[:, dim].numpy()
    path = np.unique(np.quantile(values, LEVELS, method="inverted_cdf"))
    if len(path) < 2:
        path = np.array([values.min(), values.max()])
    moved = codes[read.sample(MOVED_VALUES, len(read.table.layout))]
    return effects_along(read.model, spreads, moved, dim, path)


@torch.no_grad()
def _driven_by(read: _Read, moved: dict[int, list[Effect]]) -> dict[int, list[tuple[str, float]]]:
    """The columns whose masking changes each of these dimensions most."""
    layout, dims = read.table.layout, list(moved)
    strength = dict.fromkeys(layout.columns, 0.0)
    for effects in moved.values():
        for effect in effects:
            strength[effect.column] = max(strength[effect.column], effect.strength)
    names = sorted(strength, key=lambda name: -strength[name])[:MAX_MASKED]
    rows = read.sample(MASKED_VALUES, max(len(names), 1) * len(layout))
    batch, codes = read.batch.take(rows), read.codes[0][rows][:, dims]
    spread = read.codes[0][:, dims].double().std(0, unbiased=False).numpy()
    changes: dict[int, list[tuple[str, float]]] = {dim: [] for dim in dims}
    for name in names:
        masked = torch.zeros(len(layout), dtype=torch.bool)
        masked[layout.features(name)] = True
        filled = batch.observed[:, masked].any(1)
        without = _encode(read.model, batch.take(filled).hide(masked))[0][0][:, dims]
        square = (without - codes[filled]).double().square().sum(0) / max(len(filled), 1)
        for dim, change in zip(dims, square.sqrt().numpy() / spread, strict=True):
            if change > MIN_STRENGTH:
                changes[dim].append((name, float(change)))
    return {dim: sorted(pairs, key=lambda pair: -pair[1]) for dim, pairs in changes.items()}


def _card(
    read: _Read,
    dim: int,
    effects: list[Effect],
    driven_by: list[tuple[str, float]],
    stability: list[float] | None,
) -> Card:
    drives = [e for e in effects if e.strength >= MIN_STRENGTH][:MAX_DRIVES]
    driven_by = driven_by[:MAX_DRIVEN_BY]
    names = dict.fromkeys([e.column for e in drives[:MAX_TEXTS]] + [n for n, _ in driven_by])
    return Card(
        name=f"code_{dim}",
        variance=float(read.variance[dim]),
        nats=read.share_of_nats(dim),
        drives=drives,
        driven_by=driven_by,
        monotone=bool(drives) and drives[0].monotone,
        examples=_examples(read, dim, list(names)[:MAX_TEXTS]),
        stability=None if stability is None else stability[dim],
    )


def _examples(read: _Read, dim: int, names: list[str]) -> list[dict[str, str]]:
    """These columns of the rows at the dimension's quantiles, as a person would write them."""
    order = np.argsort(read.codes[0][:, dim].numpy(), kind="stable")
    rows = order[[round(end * (len(order) - 1)) for end in ENDS]]
    table = read.table.decode_observed(read.batch.take(torch.from_numpy(rows)))
    texts = {name: read.table.by_name[name].text(table.column(name)) for name in names}
    return [{name: texts[name][i] for name in names} for i in range(len(ENDS))]


def _stability(read: _Read) -> list[float]:
    """How well each dimension's match in the other nets correlates with it, on average.

    Dimensions are matched one to one, so that the sum of correlations is largest (Hungarian).
    """
    first, *others = (_standard(codes) for codes in read.codes.double().numpy())
    matched = []
    for other in others:
        correlations = np.abs(first.T @ other).clip(0, 1)
        matched.append(correlations[linear_sum_assignment(correlations, maximize=True)])
    return np.mean(matched, 0).tolist()


def _standard(codes: Float[np.ndarray, "row code"]) -> Float[np.ndarray, "row code"]:
    """Columns of mean 0 and length 1; those that never move are 0."""
    centred = codes - codes.mean(0)
    length = np.sqrt(np.square(centred).sum(0))
    return np.where(length > 1e-6, centred, 0.0) / np.maximum(length, 1e-6)
