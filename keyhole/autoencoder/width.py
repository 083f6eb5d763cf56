"""How wide shall the code be? An ordered code is trained once, and its held-out curve decides."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from keyhole.core.records import Batch, Pass
from keyhole.core.robust import intrinsic_dimension
from keyhole.modalities import Modality
from keyhole.model.bottlenecks import Ordered
from keyhole.training.corruptions import CorruptedBatch
from keyhole.training.loop import Run, train
from keyhole.training.objective import Reconstruction, sample_nats

MAX_START, MIN_START = 64, 4
MIN_GAIN = 0.02  # of what the best width tells
TIMES = 2.0  # the larger estimate of the dimension, to begin with


@dataclass(frozen=True)
class WidthChoice:
    """The width taken, and what it rests on.

    `nats` are held-out nats a row by width, from 1 to `start`; `tolerance` is the standard error
    of the least of them. `two_nn` and `likelihood` estimate the data's own dimension.
    """

    width: int
    start: int
    two_nn: float | None
    likelihood: float | None
    nats: list[float]
    tolerance: float
    why: str


def starting_width(table: Modality, sample: Batch) -> tuple[int, float | None, float | None]:
    """Twice the dimension that the rows seem to fill, below their cells; and both estimates."""
    points = table.coordinates(sample)
    points = points[~torch.isnan(points).any(1)].double().numpy()
    two, likely = (None if math.isnan(d) else d for d in intrinsic_dimension(points))
    features = len(table.layout)
    guess = TIMES * max(two or 1.0, likely or 1.0)
    start = int(np.clip(math.ceil(guess), MIN_START, MAX_START))
    return max(1, min(start, features - 1)), two, likely


def choose_width(
    table: Modality, sample: Batch, run_with: Callable[[Ordered], Run[Reconstruction]]
) -> WidthChoice:
    """The narrowest code whose held-out likelihood is about the best.

    Within one standard error of it, or a fiftieth of what the best width tells.
    Source of the rule: Breiman et al. 1984, section 3.4.3.
    """
    start, two, likely = starting_width(table, sample)
    run = run_with(Ordered(start))
    train(run)
    held_out = run.goal.held_out_on(run.network)
    nats_of_width = [_row_nats(run.network, held_out, w) for w in range(start + 1)]
    rows, without = np.stack(nats_of_width[1:]), float(nats_of_width[0].mean())
    mean = rows.mean(1)
    best = int(mean.argmin())
    # Not that of row by row differences: it is so small that any gain, however slight, counts.
    error = float(rows[best].std() / math.sqrt(rows.shape[1]))
    # With many rows it is small too; a fiftieth of what any code tells is no reason to be wider.
    error = max(error, MIN_GAIN * (without - float(mean[best])))
    within = mean <= mean[best] + error
    width = int(np.flatnonzero(within)[0]) + 1
    why = f"width {width}: held-out error {mean[width - 1]:.2f} nats per row"
    if width == best + 1:
        why += f", the lowest of all widths from 1 to {start}"
    else:
        why += f", within {error:.2f} of the best, {mean[best]:.2f} at width {best + 1}"
    if width == start and start < len(table.layout) - 1:
        why += "; the curve still falls at its end, so a wider code may be better"
    nats = [round(float(n), 4) for n in mean]
    return WidthChoice(width, start, two, likely, nats, round(error, 4), why)


@torch.no_grad()
def _row_nats(
    network: torch.nn.Module, corrupted: CorruptedBatch, width: int
) -> Float[np.ndarray, " n"]:
    """Nats of each held-out row where only the first `width` dimensions of its code are kept."""
    given = corrupted.input
    code = network.bottleneck(network.encoder(network.stem(given)))  # pyright: ignore
    is_open = (torch.arange(code.mean.shape[-1], device=code.mean.device) < width).to(code.mean)
    likelihood = network.decode(code.z * is_open, given.observed)  # pyright: ignore
    return sample_nats(Pass(code, likelihood), corrupted)[0].mean(0).cpu().numpy()
