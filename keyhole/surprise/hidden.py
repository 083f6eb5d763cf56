"""How badly is each column guessed from the rest of its row?"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from keyhole.core.coordinates import contrast
from keyhole.core.layout import Layout
from keyhole.core.nats import column_nats
from keyhole.core.records import Batch
from keyhole.network import Network

GROUPS = 8  # of columns hidden together: so many passes, however many columns


@torch.no_grad()
def hidden_deviance(
    network: Network, batch: Batch
) -> tuple[Float[Tensor, "member row column"], Bool[Tensor, "row column"]]:
    """Nats of each column beyond a perfect guess, by each net, and which columns were observed.

    A column is hidden with every eighth one and guessed from the rest.
    """
    return _columns(hidden_cells(network, batch), batch, network.shape.layout)


def hidden_cells(network: Network, batch: Batch) -> Float[Tensor, "member row cell"]:
    """Nats of each cell beyond a perfect guess, hidden with its column and every eighth one.

    Those of a picture as if it had the usual contrast: else what is faint were never surprising,
    and a picture that is lit strongly always.
    """
    layout = network.shape.layout
    cells = torch.zeros((), device=batch.seen.device)
    for group in layout.groups(GROUPS):
        hidden = torch.zeros(len(layout), dtype=torch.bool, device=batch.seen.device)
        hidden[group] = True
        found = network(batch.hide(hidden)).likelihood.deviance(batch)[0]  # (M, B, cell)
        cells = torch.where(hidden, found, cells)
    if layout.grid is None or layout.slots[0].head == "bernoulli":
        return cells
    return cells / contrast(batch).square()[:, None]


def _columns(
    cells: Float[Tensor, "member row cell"], batch: Batch, layout: Layout
) -> tuple[Tensor, Tensor]:
    found = [column_nats(-member, batch.seen, layout) for member in cells]
    return torch.stack([nats for nats, _ in found]), found[0][1]
