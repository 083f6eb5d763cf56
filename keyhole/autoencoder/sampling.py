"""New rows: a code from a prior, a row from its likelihood; the first member's, as codes are."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.utils.validation import check_is_fitted
from torch import Generator, Tensor

from keyhole.autoencoder.fit import Model
from keyhole.core.environment import PASS_ROWS, pass_work, threads_for
from keyhole.core.parts import copy
from keyhole.core.progress import stage
from keyhole.core.records import Batch, Likelihood
from keyhole.data.lazy import pa
from keyhole.errors import KeyholeWarning, SettingError
from keyhole.modalities import Modality
from keyhole.modalities.rows.split import ReferenceSet
from keyhole.model.priors import Mixture, Prior
from keyhole.training import train_by

MAX_CODES = 100_000  # that a prior is fitted to
MIN_CODES = 20_000  # if codes have noise, each row is encoded several times to get this many
NO_PRIOR = (
    "this model has no prior over codes, and no reference rows to fit one to: fit it again "
    "with Generator().fit, or keyhole fit --for sample"
)
PROPOSALS, ROUNDS = 4_096, 32  # codes that are weighed by what is given
TRIES = 16  # times that a cell is drawn for a legal value
MIN_WORTH = 0.1  # share of the rows asked for that proposals should be worth


@torch.no_grad()
def draw_codes(fitted: Model, batch: Batch, generator: Generator) -> Float[Tensor, "row code"]:
    """One code of each row, with its noise where the bottleneck has any."""
    codes = [torch.zeros(0, fitted.network.width)]
    for start in range(0, len(batch), PASS_ROWS):
        part = batch.take(slice(start, start + PASS_ROWS)).to(fitted.device)
        state = fitted.network.encoder(fitted.network.stem(part))
        code = fitted.network.bottleneck(state, generator)
        z = code.z[0] if fitted.network.bottleneck.stochastic else code.mean
        codes.append(z[0].cpu())
    return torch.cat(codes)


@threads_for(0)
def with_prior(fitted: Model, batches: Iterator[Batch], template: Prior, seed: int) -> Model:
    """The model with a copy of this prior, fitted to the codes of these training rows.

    Raises: SettingError where they are too few for it.
    """
    if not isinstance(template, Prior):
        raise SettingError(
            f"prior={template!r:.60}: expected a part of keyhole.priors, such as Mixture()"
        )
    stage("reading rows for the prior")
    batch = Batch.join(list(batches))
    stage("fitting the prior over codes")
    generator = Generator().manual_seed(seed)
    rows, stochastic = len(batch), fitted.network.bottleneck.stochastic
    rounds = max(1, min(MIN_CODES, MAX_CODES) // max(rows, 1)) if stochastic else 1
    prior = copy(template)
    prior.bind_codes(fitted.network.width, rows)
    codes = torch.cat([draw_codes(fitted, batch, generator) for _ in range(rounds)])
    prior.fit(codes, generator, train_by)
    return replace(fitted, prior=prior.eval(), prior_rows=rows)


def reference_rows(reference: ReferenceSet | None, *, held_out: bool) -> Batch | None:
    """The reference rows that the first member has trained on, or has not; None without any."""
    if reference is None:
        return None
    chosen = torch.from_numpy((reference.fold == 0) == held_out)
    return reference.batch.take(chosen)


@torch.no_grad()
def draw_gaps(fitted: Model, batch: Batch, turn: int, generator: Generator) -> Batch:
    """The rows with a legal draw in each unseen cell, by the net whose turn it is.

    Columns are drawn group by group, each given those before.
    """
    network, table = fitted.network, fitted.modality
    member = turn % network.shape.members
    layout, parts = network.shape.layout, []
    for start in range(0, max(len(batch), 1), PASS_ROWS):
        part = batch.take(slice(start, start + PASS_ROWS))
        left = ~part.observed
        for group in table.mask_groups():
            in_group = torch.zeros(len(layout), dtype=torch.bool)
            in_group[group] = True
            drawn_now = left & in_group
            if not bool(drawn_now.any()):
                continue
            likelihood = network(part.to(fitted.device), generator).likelihood
            drawn = legal_draw(table, likelihood, generator, member, drawn_now)
            part = _put(part, drawn_now, drawn)
            left &= ~in_group
        parts.append(part)
    return Batch.join(parts)


def legal_draw(
    table: Modality,
    likelihood: Likelihood,
    generator: Generator,
    member: int = 0,
    needed: Tensor | None = None,
) -> Batch:
    """A draw of each row by a member; features with a value that is not allowed are drawn again.

    So draws follow the likelihood, cut off at the ends of the training data. After `TRIES`, a
    value that is not allowed is left to the table's `drawn`, and a level is replaced by the most
    probable one. Only the features that are `needed` (row, feature) must be allowed; None: all.
    """
    drawn, usual = (_of_member(x, member) for x in (likelihood.sample(generator), likelihood.mean))
    for _ in range(TRIES):
        wrong = ~table.allowed(drawn)
        wrong = wrong if needed is None else wrong & needed
        if not bool(wrong.any()):
            return drawn
        drawn = _put(drawn, wrong, _of_member(likelihood.sample(generator), member))
    wrong = ~table.allowed(drawn)
    wrong[:, : drawn.numbers.shape[1]] = False
    return _put(drawn, wrong, usual)


@dataclass(frozen=True)
class Sampler:
    """A fitted model and a prior over its codes: rows on demand."""

    fitted: Model
    prior: Prior

    @classmethod
    def of(cls, fitted: Model) -> Sampler:
        """The model with its prior; else with a mixture over its reference rows.

        Raises: SettingError without reference rows.
        """
        if fitted.prior is not None:
            return cls(fitted, fitted.prior)
        batch = reference_rows(fitted.reference, held_out=False)
        if batch is None:
            raise SettingError(NO_PRIOR)
        fitted = with_prior(fitted, iter([batch]), Mixture(), 0)
        return cls(fitted, fitted.prior or Mixture())

    def rows(
        self,
        n: int,
        seed: int,
        given: Mapping[str, Any] | None = None,
        *,
        gaps: bool = True,
        rules: bool = True,
    ) -> pa.Table:
        """`n` new rows as an Arrow table, in original units and types.

        `rules` between columns are kept where training found any.
        Raises: SettingError, DataError for what is given and cannot be.
        """
        check_count(n)
        generator = Generator().manual_seed(seed)
        table = self.fitted.modality
        known = None if not given else table.encode_given(given)
        lawful = table.lawful if rules else None
        if lawful is not None and given:
            table.check_given(given)
        tables = []
        with threads_for(pass_work(self.prior, min(n, PASS_ROWS))):
            for start in range(0, n, PASS_ROWS):
                z = self._codes(min(PASS_ROWS, n - start), generator, known)

                def draw(places: np.ndarray, z: Tensor = z) -> pa.Table:
                    codes = z[torch.from_numpy(places)]
                    return table.drawn(self._features(codes, generator, known, gaps=gaps))

                if lawful is None:
                    tables.append(draw(np.arange(len(z))))
                    continue
                names = given or {}
                free = {c.name: np.full(len(z), c.name not in names) for c in lawful.columns}
                tables.append(lawful.whole(lawful.rows(draw, free, seed + start), free))
        return pa.concat_tables(tables)

    @torch.no_grad()
    def _features(
        self, z: Tensor, generator: Generator, known: Batch | None, *, gaps: bool
    ) -> Batch:
        """A draw of each row's cells, those that are known put in."""
        drawn = legal_draw(self.fitted.modality, self._likelihood(z), generator)
        observed = self._observed(z) if gaps else drawn.observed
        numbers, codes, count = drawn.numbers, drawn.codes, drawn.numbers.shape[1]
        if known is not None:
            fixed = known.observed.expand_as(observed)
            numbers = torch.where(fixed[:, :count], known.numbers, numbers)
            codes = torch.where(fixed[:, count:], known.codes, codes)
            observed = observed | fixed
        return Batch(numbers, codes, observed)

    @torch.no_grad()
    def _codes(self, n: int, generator: Generator, known: Batch | None) -> Tensor:
        """Codes of the prior; where cells are known, of those that make them likely.

        Sampling importance resampling (Rubin 1988): proposals weighed by p(known | z).
        """
        if known is None:
            return self.nearest(self.prior.sample(n, generator))
        given = known.to(self.fitted.device)
        codes, weights = [], []
        for _ in range(ROUNDS):
            z = self.nearest(self.prior.sample(PROPOSALS, generator))
            log_prob = self._likelihood(z).log_prob(given)[0, 0].cpu()  # (B, feature)
            codes.append(z)
            weights.append(torch.where(known.observed, log_prob, 0.0).sum(1))
            share = torch.softmax(torch.cat(weights), 0)
            worth = float(1 / share.square().sum())
            if worth >= n:
                break
        if worth < MIN_WORTH * n:
            warnings.warn(
                f"the given values are rare in this model: {n:,} rows come from only about "
                f"{worth:.0f} different codes; give fewer values, or train on more such rows",
                KeyholeWarning,
                stacklevel=4,
            )
        chosen = torch.multinomial(share, n, replacement=True, generator=generator)
        return torch.cat(codes)[chosen]

    def nearest(self, z: Tensor) -> Tensor:
        """The nearest codes that the bottleneck can make, on the processor."""
        return self.fitted.network.bottleneck.project(z.to(self.fitted.device)).cpu()

    def _likelihood(self, z: Tensor) -> Likelihood:
        network, on_device = self.fitted.network, z.to(self.fitted.device)
        return network.decode(on_device.expand(1, network.shape.members, *z.shape))

    def _observed(self, z: Tensor) -> Tensor:
        """Gaps as the reference row with the nearest code has them."""
        if self._rows_with_gaps is None:
            return torch.ones((len(z), len(self.fitted.modality.layout)), dtype=torch.bool)
        codes, observed = self._rows_with_gaps
        scale = codes.std(0) + 1e-6
        return observed[torch.cdist(z / scale, codes / scale).argmin(1)]

    @cached_property
    def _rows_with_gaps(self) -> tuple[Tensor, Tensor] | None:
        """Codes of reference rows and which features were observed; None without any gap."""
        batch = reference_rows(self.fitted.reference, held_out=False)
        if batch is None or not len(batch) or bool(batch.observed.all()):
            return None
        return draw_codes(self.fitted, batch, torch.Generator().manual_seed(0)), batch.observed


def _of_member(batch: Batch, member: int) -> Batch:
    """The first sample of a member: (row, cell), on the processor."""
    parts = (batch.numbers[0, member], batch.codes[0, member], batch.observed[0, member])
    return Batch(*parts).to("cpu")


def _put(batch: Batch, where: Tensor, drawn: Batch) -> Batch:
    """The batch with drawn cells put in, and seen."""
    count = batch.numbers.shape[1]
    numbers = torch.where(where[:, :count], drawn.numbers, batch.numbers)
    codes = torch.where(where[:, count:], drawn.codes, batch.codes)
    return Batch(numbers, codes, batch.observed | where)


def check_count(n: Any) -> int:
    """A number of rows that can be drawn. Raises: SettingError."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise SettingError(f"n={n!r:.40}: ask for a whole number of rows from 1 up")
    return n


def sampler_of(model: Any) -> Sampler:
    """What draws rows of a fitted Autoencoder: its prior, or a mixture over its reference rows.

    A mixture is fitted once. Raises: SettingError if it has neither.
    """
    check_is_fitted(model)
    sampler = Sampler.of(model.model_)
    model.model_ = sampler.fitted
    return sampler
