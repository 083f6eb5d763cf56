"""The one network class, and log p(x) by importance sampling.

    Batch ──▶ stem ──▶ encoder ──▶ bottleneck ──▶ decoder ──▶ head ──▶ likelihood
    numbers   (M,B,w)  (M,B,h)     Code           (S,M,B,h)           log_prob (S,M,B,feature)
    codes                          z (S,M,B,k)
    observed                       mean (M,B,k)

M ensemble members, B rows, S samples of the code, k its width.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor, nn

from keyhole.core.layout import Shape
from keyhole.core.parts import copy
from keyhole.core.records import Batch, Code, Likelihood, Pass
from keyhole.errors import SettingError
from keyhole.model.bottlenecks.base import Bottleneck
from keyhole.model.heads.base import Head
from keyhole.model.nets.base import Net

FEATURES_A_PASS = 1 << 20  # so that a pass stays in the processor's cache
ROWS_A_PASS = 64


class Network(nn.Module):
    """Bound copies of the parts, in the order of the image above; final."""

    def __init__(
        self, net: Net, bottleneck: Bottleneck, head: Head, shape: Shape, *, seed: int = 0
    ) -> None:
        super().__init__()
        self.shape, self.net = shape, net
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
        """The code of each row, and the likelihood of every feature."""
        embedded = self.stem(batch)
        code = self.bottleneck(self.encoder(embedded), generator)
        if self.training and generator is not None:
            code = self.bottleneck.penalised(code, self._encode, embedded, generator)
        # Without gaps the head skips a choice for each feature: a tenth of a score's time.
        gaps = self.training or not bool(batch.observed.all())
        likelihood = self.decode(code.z, batch.observed if gaps else None)
        if self.training and generator is not None:
            likelihood = self.head.sampled(likelihood, generator)
        return Pass(code, likelihood)

    @torch.no_grad()
    def first_member(self) -> "Network":
        """A network of the first ensemble member alone."""
        if self.shape.members == 1:
            return self
        one = Network(self.net, self.bottleneck, self.head, replace(self.shape, members=1))
        whole = self.state_dict()
        for name, tensor in one.state_dict().items():
            part = whole[name]
            for axis, size in enumerate(tensor.shape):
                part = part.narrow(axis, 0, size)  # members come first on the axis they have
            tensor.copy_(part)
        return one.to(next(self.parameters()).device).eval()

    def encode(self, batch: Batch) -> Code:
        """The code of each row, without noise."""
        return self.bottleneck(self.encoder(self.stem(batch)))

    def _encode(self, embedded: Float[Tensor, "*lead batch feature"]) -> Tensor:
        return self.bottleneck(self.encoder(embedded)).mean

    def decode(
        self,
        z: Float[Tensor, "*lead batch code"],
        observed: Bool[Tensor, "*row feature"] | None = None,
        features: Int64[Tensor, " place"] | None = None,
    ) -> Likelihood:
        """The likelihood of the rows with these codes, or of some `features` of them alone.

        `observed`: features the net was given.
        """
        return self.head(self.decoder(z), observed, features)


@torch.no_grad()
def log_likelihood(
    network: Network, batch: Batch, samples: int, generator: torch.Generator
) -> Float[Tensor, " batch"]:
    """The log-marginal of each row's observed values in nats; NaN for a row without any.

    log of the mean, over draws z of q(z|x), of p(x|z) p(z) / q(z|x); members are one mixture.
    Source: Burda et al. 2016, eq. 8 with k = `samples`. Raises: SettingError.
    """
    if not network.bottleneck.stochastic:
        raise SettingError(
            f"log_likelihood needs a code with noise, but a {network.bottleneck.kind} code "
            "has none: fit with Variational(), or use score_samples for log p(x | code(x))"
        )
    if samples < 1 or samples != int(samples):
        raise SettingError(f"samples={samples!r}: give a whole number from 1 up")
    device = next(network.parameters()).device
    parts = [torch.zeros(0)]
    for start in range(0, len(batch), ROWS_A_PASS):
        rows = batch.take(slice(start, start + ROWS_A_PASS)).to(device)
        parts.append(_marginal(network, rows, samples, generator).cpu())
    return torch.cat(parts)


def _marginal(
    network: Network, batch: Batch, samples: int, generator: torch.Generator
) -> Float[Tensor, " batch"]:
    state = network.encoder(network.stem(batch))  # (M or 1, B, wide)
    members, features = network.shape.members, batch.observed.shape[1]
    state = state.expand(members, -1, -1)
    observed = None if bool(batch.observed.all()) else batch.observed
    at_once = max(1, FEATURES_A_PASS // (members * len(batch) * features))
    total = torch.full((members, len(batch)), -torch.inf, device=state.device)
    left = samples
    while left:
        drawn = min(left, at_once)
        code = network.bottleneck(state.repeat(1, drawn, 1), generator)
        z = code.z[0].unflatten(1, (drawn, -1)).transpose(0, 1)  # (S, M, B, code)
        ratio = code.log_ratio[0].unflatten(1, (drawn, -1)).transpose(0, 1)
        log_prob = network.decode(z, observed).log_prob(batch)  # (S, M, B, feature)
        log_prob = log_prob if observed is None else torch.where(observed, log_prob, 0.0)
        total = torch.logaddexp(total, torch.logsumexp(log_prob.sum(-1) + ratio, 0))
        left -= drawn
    marginal = torch.logsumexp(total, 0) - math.log(samples * members)
    return torch.where(batch.observed.any(1), marginal, torch.nan)
