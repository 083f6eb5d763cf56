"""What held-out rows teach after training: what columns cost, and what a mean is worth."""

from collections.abc import Iterator

import numpy as np
import torch

from keyhole.core.layout import column_nats
from keyhole.core.records import Batch
from keyhole.data.cast import floats
from keyhole.data.source import Rows
from keyhole.modalities.base import Modality
from keyhole.model.network import Network

CHUNK_ROWS = 16_384
HIDDEN_SHARE = 0.2
ROUNDS = 8  # times that cells of each row are hidden and guessed


def held_out_nats(
    network: Network, table: Modality, rows: Rows, member: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(row, column): the nats of each row by the member that has not seen it; what was seen."""
    nats_of_rows, seen_of_rows = [], []
    for batch, mine in _chunks(network, table, rows, member):
        with torch.no_grad():
            log_prob = network(batch).likelihood.log_prob(batch)[0]
        nats, observed = column_nats(
            _by_member(log_prob, mine), batch.observed.cpu(), table.layout
        )
        nats_of_rows.append(nats.double().numpy())
        seen_of_rows.append(observed.numpy())
    return np.concatenate(nats_of_rows), np.concatenate(seen_of_rows)


def calibrate_means(network: Network, table: Modality, rows: Rows, member: np.ndarray) -> Modality:
    """The modality whose `mean_columns` map expected values to observed means.

    Values are masked at random and expected from the rest, as in a gap.
    """
    names = table.mean_columns
    if not names:
        return table
    rng = np.random.default_rng(0)
    place = {name: i for i, name in enumerate(table.layout.columns)}
    guessed: dict[str, list[np.ndarray]] = {name: [] for name in names}
    observed: dict[str, list[np.ndarray]] = {name: [] for name in names}
    start = 0
    for batch, mine in _chunks(network, table, rows, member):
        block = rows.take(slice(start, start + len(mine)))
        start += len(mine)
        true = {name: floats(block.column(name))[0] for name in names}
        for _ in range(ROUNDS):
            hidden = rng.random((len(mine), len(table.layout.columns))) < HIDDEN_SHARE
            features = torch.from_numpy(hidden[:, table.layout.column_of_feature])
            decoded = table.decode(
                _expected(network, batch.hide(features.to(batch.observed.device)), mine)
            )
            for name in names:
                at = hidden[:, place[name]]
                guessed[name].append(floats(decoded.column(name))[0][at])
                observed[name].append(true[name][at])
    return table.calibrated(
        {name: np.concatenate(parts) for name, parts in guessed.items()},
        {name: np.concatenate(parts) for name, parts in observed.items()},
    )


def members_mean(mean: Batch, *, first: bool = False) -> Batch:
    """The expected row over all members (or the first): the mean number, the commonest code.

    Takes the (sample, member, row) lead axes away.
    """
    numbers, codes = mean.numbers[0], mean.codes[0]
    if first:
        return Batch(numbers[0], codes[0], mean.observed[0, 0])
    codes = codes.mode(0).values if codes.shape[-1] else codes[0]
    return Batch(numbers.mean(0), codes, mean.observed[0, 0])


def _expected(network: Network, batch: Batch, member: torch.Tensor) -> Batch:
    with torch.no_grad():
        mean = network(batch).likelihood.mean
    numbers, codes, observed = (
        _by_member(part[0], member) for part in (mean.numbers, mean.codes, mean.observed)
    )
    return Batch(numbers, codes, observed)


def _by_member(found: torch.Tensor, member: torch.Tensor) -> torch.Tensor:
    """(member, row, cell) -> (row, cell): each row by its own member."""
    return found.cpu()[member, torch.arange(len(member))]


def _chunks(
    network: Network, table: Modality, rows: Rows, member: np.ndarray
) -> Iterator[tuple[Batch, torch.Tensor]]:
    device = next(network.parameters()).device
    for start in range(0, len(rows), CHUNK_ROWS):
        mine = torch.from_numpy(member[start : start + CHUNK_ROWS])
        batch = table.encode(rows.take(slice(start, start + CHUNK_ROWS)))
        yield batch.to(device), mine
