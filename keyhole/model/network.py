"""The one network class.

    Batch ──▶ stem ──▶ encoder ──▶ bottleneck ──▶ decoder ──▶ head ──▶ likelihood
    numbers   (M,B,w)  (M,B,h)     Code           (S,M,B,h)           log_prob (S,M,B,feature)
    codes                          z (S,M,B,k)
    observed                       mean (M,B,k)

M ensemble members, B rows, S samples of the code, k its width.
"""

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from keyhole.core.layout import Shape
from keyhole.core.parts import copy
from keyhole.core.records import Batch, Likelihood, Pass
from keyhole.model.bottlenecks.base import Bottleneck
from keyhole.model.heads.base import Head
from keyhole.model.nets.base import Net


class Network(nn.Module):
    """Bound copies of the parts, in the order of the image above; final."""

    def __init__(
        self, net: Net, bottleneck: Bottleneck, head: Head, shape: Shape, *, seed: int = 0
    ) -> None:
        super().__init__()
        self.shape = shape
        with torch.random.fork_rng(devices=[]):  # the caller's random state is not ours to move
            torch.manual_seed(seed)
            self.stem, self.encoder = net.stem(), net.encoder(shape.layout)
            self.bottleneck = copy(bottleneck)
            self.decoder, self.head = net.decoder(shape.layout), copy(head)
            for part in (self.stem, self.encoder, self.bottleneck):
                shape = part.bind(shape)
            self.width = shape.wide
            for part in (self.decoder, self.head):
                shape = part.bind(shape)

    def forward(self, batch: Batch, generator: Generator | None = None) -> Pass:
        """The code of each row, and the likelihood that it gives to every cell."""
        embedded = self.stem(batch)
        code = self.bottleneck(self.encoder(embedded), generator)
        if self.training and generator is not None:
            code = self.bottleneck.penalised(code, self._encode, embedded, generator)
        # Without gaps the head is spared a choice for every cell: a tenth of a score's time.
        gaps = self.training or not bool(batch.observed.all())
        return Pass(code, self.decode(code.z, batch.observed if gaps else None))

    def _encode(self, embedded: Float[Tensor, "*lead batch feature"]) -> Tensor:
        return self.bottleneck(self.encoder(embedded)).mean

    def decode(
        self,
        z: Float[Tensor, "*lead batch code"],
        observed: Bool[Tensor, "*row feature"] | None = None,
    ) -> Likelihood:
        """The likelihood of the rows with these codes; `observed`: the cells the net was given."""
        return self.head(self.decoder(z), observed)
