"""log p(x) by importance sampling: one function for every model whose code has noise."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.model.network import Network

FEATURES_A_PASS = 1 << 20  # what a pass makes should not fall out of the processor's cache
ROWS_A_PASS = 64


@torch.no_grad()
def log_likelihood(
    network: Network, batch: Batch, samples: int, generator: torch.Generator
) -> Float[Tensor, " batch"]:
    """The log-marginal of each row's seen cells in nats; NaN for a row without any.

    log of the mean, over draws z of q(z|x), of p(x|z) p(z) / q(z|x); members are one mixture.
    Source: Burda et al. 2016, eq. 8 with k = `samples`. Raises: SettingError.
    """
    if not network.bottleneck.stochastic:
        raise SettingError(
            f"log_likelihood needs a code with noise, and a {network.bottleneck.kind} code has "
            "none: fit with Variational(), or ask score_samples for log p(x | code(x))"
        )
    if samples < 1 or samples != int(samples):
        raise SettingError(f"samples={samples!r}: give a whole number from 1 up")
    device = next(network.parameters()).device
    found = [torch.zeros(0)]
    for start in range(0, len(batch), ROWS_A_PASS):
        here = batch.take(slice(start, start + ROWS_A_PASS)).to(device)
        found.append(_of_rows(network, here, samples, generator).cpu())
    return torch.cat(found)


def _of_rows(
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
        rows = (
            log_prob.sum(-1) if observed is None else torch.where(observed, log_prob, 0.0).sum(-1)
        )
        total = torch.logaddexp(total, torch.logsumexp(rows + ratio, 0))
        left -= drawn
    marginal = torch.logsumexp(total, 0) - math.log(samples * members)
    return torch.where(batch.observed.any(1), marginal, torch.nan)
