"""How badly is each column guessed from the rest of its row?"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

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
    layout = network.shape.layout
    cells = torch.zeros((), device=batch.seen.device)
    for group in layout.groups(GROUPS):
        hidden = torch.zeros(len(layout), dtype=torch.bool, device=batch.seen.device)
        hidden[group] = True
        found = network(batch.hide(hidden)).likelihood.deviance(batch)[0]  # (M, B, cell)
        cells = torch.where(hidden, found, cells)
    return _columns(cells, batch, layout)


def _columns(
    cells: Float[Tensor, "member row cell"], batch: Batch, layout: Layout
) -> tuple[Tensor, Tensor]:
    found = [column_nats(-member, batch.seen, layout) for member in cells]
    return torch.stack([nats for nats, _ in found]), found[0][1]
