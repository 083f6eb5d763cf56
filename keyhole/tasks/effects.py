"""What one code dimension does to the row that is expected, column by column, in its units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from keyhole.core.layout import Layout
from keyhole.core.records import Batch, Likelihood
from keyhole.errors import SettingError
from keyhole.modalities.expected import number_texts
from keyhole.modalities.rows.holdout import members_mean

if TYPE_CHECKING:
    from keyhole.autoencoder.estimator import Autoencoder
    from keyhole.modalities import Tabular
    from keyhole.modalities.tabular.columns import Column


Unit = Literal["", "points", "s"]
Options = dict[str, np.ndarray]  # of each column (row, option): its number, or levels' shares
MAX_LEVELS = 12  # of a column: the commonest
MIN_SPREAD = 0.2  # of a level's share, so that rare levels do not look as if they moved far
TURN = 0.02  # of the whole way: what goes back by no more has not turned
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)  # the quantiles that a dimension's path leads through
SPANS_S = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0), ("seconds", 1.0))


@dataclass(frozen=True)
class Effect:
    """How far a column's expected value goes along a code dimension's path.

    `change` is in the column's own unit, in seconds for dates, in percentage points for the
    `level` whose share rises most; `strength` is the change in multiples of the column's spread;
    `monotone`: the value never turns on its way.
    """

    column: str
    change: float
    unit: Unit
    level: str | None
    strength: float
    monotone: bool

    def __str__(self) -> str:
        if self.unit == "points":
            digits = 0 if abs(self.change) >= 1 else 1
            return f"{self.column}: {self.level} {self.change:+.{digits}f} points"
        size, unit = abs(self.change), ""
        if self.unit == "s":
            unit, span = next((s for s in SPANS_S if size >= s[1]), SPANS_S[-1])
            size, unit = size / span, f" {unit}"
        (text,) = number_texts(np.array([size]))
        return f"{self.column} {'−' if self.change < 0 else '+'}{text}{unit}"


def tabular(model: Autoencoder) -> Tabular:
    """The model's table. Raises: SettingError for rows that have no cards."""
    modality: Any = model.model_.modality
    if (why_not := modality.supports("cards")) is not None:
        raise SettingError(why_not)
    return modality


def effects_along(
    model: Autoencoder,
    spreads: dict[str, np.ndarray],
    codes: Float[torch.Tensor, "row code"],
    dim: int,
    path: Float[np.ndarray, " step"],
) -> list[Effect]:
    """Every column's effect, strongest first, where this dimension goes along the path.

    The mean over rows, whose other dimensions stay, but for what it takes to be a code that the
    bottleneck can make. `spreads` are those of each column, by option.
    """
    z = codes.repeat(len(path), 1)
    z[:, dim] = torch.from_numpy(path).to(z).repeat_interleave(len(codes))
    effects = []
    for name, options in expected_options(model, z).items():
        if options.shape[1]:
            means = options.reshape(len(path), -1, options.shape[1]).mean(1)
            effects.append(_effect(tabular(model).by_name[name], means, spreads[name]))
    return sorted(effects, key=lambda effect: -effect.strength)


def _effect(column: Column, means: Float[np.ndarray, "step option"], spreads: Any) -> Effect:
    change, level, unit = means[-1] - means[0], None, column.effect_unit
    best = int(np.argmax(change))  # of levels, the one whose share rises most
    size, steps, spread = float(change[best]), np.diff(means[:, best]), float(spreads[best])
    if unit == "points":
        level = column.options[best]
        if means.shape[1] == 1 and size < 0:  # of two values, the other
            level, size = column.options[1], -size
    slack = TURN * abs(size) + 1e-12
    monotone = bool((steps >= -slack).all() or (steps <= slack).all())
    strength = abs(size) / spread if spread > 0 else 0.0
    size = 100 * size if unit == "points" else size
    return Effect(column.name, size, unit, level, strength, monotone)


def decode_first(model: Autoencoder, z: Float[torch.Tensor, "row code"]) -> Likelihood:
    """What the first member expects of these codes of its own, brought to legal ones."""
    network = model.model_.network
    z = network.bottleneck.project(z.to(model.model_.device))
    return network.decode(z.expand(1, network.shape.members, *z.shape))


@torch.no_grad()
def expected_options(model: Autoencoder, z: Float[torch.Tensor, "row code"]) -> Options:
    """Each column's expected number, or the shares of its levels, of rows with these codes."""
    table, likelihood = tabular(model), decode_first(model, z)
    numbers = table.features(members_mean(likelihood.mean, first=True))
    shares = _level_shares(likelihood, table.layout, len(z))
    options: Options = {}
    for column in table.encoded_columns:
        features = table.layout.features(column.name)
        if table.layout.slots[features[0]].coded:
            levels = min(len(column.options), MAX_LEVELS)
            options[column.name] = shares[:, features[0] - table.layout.numbers, :levels]
        else:
            options[column.name] = column.exact(numbers[:, features])[:, None]
    return options


def column_spreads(table: Tabular, batch: Batch) -> dict[str, np.ndarray]:
    """The spread of each column in these rows: robust for numbers, binomial for levels."""
    numbers, observed = table.features(batch), batch.observed.cpu().numpy()
    spreads = {}
    for column in table.encoded_columns:
        features = table.layout.features(column.name)
        values = numbers[:, features][observed[:, features].any(1)]
        if column.options:
            coded = table.layout.slots[features[0]].coded
            codes = np.arange(min(len(column.options), MAX_LEVELS) if coded else 1) + 1
            share = (values[:, :1] == codes).sum(0) / max(len(values), 1)
            spreads[column.name] = np.sqrt(share * (1 - share)).clip(MIN_SPREAD)
        else:
            spreads[column.name] = np.array([_spread(column.exact(values))])
    return spreads


def _spread(numbers: np.ndarray) -> float:
    """Of the middle eight tenths, as a normal's standard deviation; of all where these agree."""
    if not len(numbers):
        return 0.0
    low, high = np.quantile(numbers, [0.1, 0.9])
    return float((high - low) / 2.563 or numbers.std())


def _level_shares(
    likelihood: Likelihood, layout: Layout, rows: int
) -> Float[np.ndarray, "row code level"]:
    """The first member's probability of each coded column's commonest levels."""
    levels = torch.tensor([slot.levels for slot in layout.slots[layout.numbers :]])
    most = min(int(levels.max()), MAX_LEVELS) if len(levels) else 0
    shares = np.zeros((rows, layout.codes, most))
    numbers, observed = torch.zeros(rows, layout.numbers), torch.ones(rows, len(layout)).bool()
    device = likelihood.mean.observed.device
    for code in range(1, most + 1):
        codes = torch.full((rows, layout.codes), code).minimum(levels)
        log_prob = likelihood.log_prob(Batch(numbers, codes, observed).to(device))[0, 0]
        shares[:, :, code - 1] = log_prob[:, layout.numbers :].exp().cpu().numpy()
    return shares
