"""The deviance of every feature while its group is masked, for nets of fully connected layers.

A mask changes few inputs. So rows are embedded once and go through the first layer once, and each
group subtracts what its inputs add there. States are (member, wide, row): the rows of a state lie
side by side, so that broadcasts and small products work on long vectors. Half of the time of
passes of masked copies (measured: 32 columns, eight groups, three members, one thread).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keyhole.core.environment import rows_of_pass
from keyhole.core.records import Batch, even_places
from keyhole.model.heads.base import FeatureHead, Mixed
from keyhole.model.layers import Linear
from keyhole.model.nets.base import Layers, Stem
from keyhole.model.network import Network

MIN_PASS_ROWS = 1_024  # the weights of a wide table are read once a pass

Rows = Float[Tensor, "_ _ _"]  # (member, wide, row); one member where all see the same
Places = Int64[Tensor, " place"]


@dataclass(frozen=True)
class Affine:
    """The weights of a linear layer, or of some of its outputs, as states need them."""

    weight: Float[Tensor, "member wide_out wide_in"]
    bias: Float[Tensor, "_ _ _"]  # or what else is added: (member, wide_out, 1 or row)

    @classmethod
    def of(cls, layer: Linear, outputs: Places | None = None) -> Self:
        """The layer's weights, or those of these outputs alone."""
        weight, bias = layer.weight, layer.bias.mT
        if outputs is not None:
            weight, bias = (part.index_select(1, outputs) for part in (weight, bias))
        return cls(weight, bias)

    def __call__(self, *parts: Rows) -> Rows:
        """The layer's output; its input is these parts, one behind the other."""
        total, start = self.bias, 0
        for part in parts:
            weight = self.weight[:, :, start : start + part.shape[1]]
            total = torch.baddbmm(total, weight, part.expand(len(weight), -1, -1))
            start += part.shape[1]
        return total


@dataclass(frozen=True)
class MaskedInputs:
    """Where a group's features enter the net, their weights there, and what a mask shows it."""

    places: Places
    weight: Float[Tensor, "member wide place"]
    masked: Float[Tensor, "one place 1"]

    def first_map(self, whole: Rows, embedded: Rows, out: Rows) -> Rows:
        """The first map's output without the group, from its output for whole rows, in `out`."""
        change = embedded.index_select(1, self.places) - self.masked
        change = change.expand(len(self.weight), -1, -1)
        return torch.baddbmm(whole, self.weight, change, alpha=-1, out=out)

    def hide(self, embedded: Rows) -> Rows:
        """The embedded rows without the group."""
        masked = self.masked.expand(-1, -1, embedded.shape[2])
        return embedded.index_copy(1, self.places, masked)


@dataclass(frozen=True)
class MaskedOutputs:
    """A feature head, the features that it decodes, and which of them each group masks.

    `maps` are each group's part of the head's linear map where one number a feature is all that
    the head takes from a state; else it decodes a group at a time.
    """

    head: FeatureHead
    coded: bool
    features: Places
    chosen: list[Places]
    maps: list[Affine] | None

    @classmethod
    def of(cls, head: FeatureHead, coded: bool, features: Places, groups: list[Places]) -> Self:
        """The part of this head, of these features, in each group."""
        chosen = [torch.nonzero(torch.isin(features, group))[:, 0] for group in groups]
        layer = head.to_parameter
        maps = None if layer is None else [Affine.of(layer, places) for places in chosen]
        return cls(head, coded, features, chosen, maps)

    def decode(self, parts: list[Rows], batch: Batch, group: int) -> Rows:
        """The head's parameters of the group's features, or, without `maps`, their deviance."""
        if self.maps is not None:
            return self.maps[group](*parts)
        places, state = self.chosen[group], torch.cat(parts, 1)
        if not len(places):
            return state[:, :0]
        likelihood = self.head.some(state.mT, self._none(batch), places)
        return likelihood.deviance(self._target(batch, self.features[places])).mT

    def deviance(self, parts: list[Rows], batch: Batch) -> Float[Tensor, "member feature row"]:
        """The deviance of all features of the head, from what each group has decoded."""
        order = torch.argsort(torch.cat(self.chosen))
        whole = torch.cat(parts, 1).index_select(1, order)
        if self.maps is None:
            return whole
        likelihood = self.head.from_parameter(whole.mT, self._none(batch))
        return likelihood.deviance(self._target(batch, self.features)).mT

    def _target(self, batch: Batch, features: Places) -> Float[Tensor, "row feature"]:
        part, first = (batch.codes, batch.numbers.shape[1]) if self.coded else (batch.numbers, 0)
        return part.mT.index_select(0, features - first).mT

    def _none(self, batch: Batch) -> Tensor:
        """No feature was observed: where a feature is decoded, it is masked."""
        return torch.zeros((1, len(self.features)), dtype=torch.bool, device=batch.observed.device)


@dataclass(frozen=True)
class MaskedPasses:
    """Passes of a network in which one group of features after the other is masked.

    `first` is the first layer and, below it, what the input adds to a linear code; `linear` tells
    whether the code is a linear map and a projection.
    """

    network: Network
    encoder: Layers
    decoder: Layers
    first: Affine
    linear: bool
    inputs: list[MaskedInputs]
    outputs: list[MaskedOutputs]

    @classmethod
    @torch.no_grad()
    def of(cls, network: Network, groups: Sequence[Places]) -> Self | None:
        """The passes for these groups, each feature in one; None for nets of other kinds."""
        stem, head, encoder, decoder = network.stem, network.head, network.encoder, network.decoder
        if type(stem) is not Stem or not isinstance(head, Mixed):
            return None
        if not isinstance(encoder, Layers) or not isinstance(decoder, Layers):
            return None
        if not encoder.layers:
            return None
        linear = network.bottleneck.projects
        first = _first_map(encoder, network.bottleneck.to_code if linear else None)
        masked, inputs = stem.masked().mT, []
        groups = [group.to(masked.device) for group in groups]
        for places in map(stem.places_of, groups):
            weight = first.weight.index_select(2, places)
            inputs.append(MaskedInputs(places, weight, masked.index_select(1, places)))
        outputs = [MaskedOutputs.of(*part, groups) for part in head.parts()]
        return cls(network, encoder, decoder, first, linear, inputs, outputs)

    @torch.no_grad()
    def deviance(self, batch: Batch) -> Float[Tensor, "member row feature"]:
        """The deviance of each feature where its group is masked."""
        step = max(rows_of_pass(batch.observed.shape[1]), MIN_PASS_ROWS)
        starts = range(0, max(len(batch), 1), step)
        parts = [self._block(batch.take(slice(start, start + step))) for start in starts]
        return torch.cat(parts, 1)

    def _block(self, batch: Batch) -> Float[Tensor, "member row feature"]:
        rows, members = len(batch), self.network.shape.members
        if rows == 0:
            return batch.numbers.new_zeros(members, 0, batch.observed.shape[1])
        batch = batch.take(even_places(rows).to(batch.observed.device))
        embedded = self.network.stem(batch).mT.contiguous()
        whole = self.first(embedded)
        masked = torch.empty_like(whole)  # new memory for every group would cost as much again
        parts: list[list[Tensor]] = [[] for _ in self.outputs]
        numbers, codes, observed = (
            x.mT.contiguous().mT for x in (batch.numbers, batch.codes, batch.observed)
        )
        batch = Batch(numbers, codes, observed)
        for i, inputs in enumerate(self.inputs):
            first = inputs.first_map(whole, embedded, masked)
            state = self._decoded(first, inputs, embedded)
            for part, outputs in zip(parts, self.outputs, strict=True):
                part.append(outputs.decode(state, batch, i))
        nats = embedded.new_zeros(members, batch.observed.shape[1], len(batch))
        for part, outputs in zip(parts, self.outputs, strict=True):
            nats.index_copy_(1, outputs.features, outputs.deviance(part, batch))
        return nats.mT[:, :rows]

    def _decoded(self, first: Rows, inputs: MaskedInputs, embedded: Rows) -> list[Rows]:
        """The parts of the decoder's state, from the first map's output."""
        layers, skip = self.encoder.linear_layers(), self.encoder.net.skip
        width = layers[0].weight.shape[1]
        h = self.encoder.activate(first[:, :width])
        for layer in layers[1:]:
            h = self.encoder.activate(Affine.of(layer)(h))
        bottleneck = self.network.bottleneck
        if self.linear:
            code = Affine.of(bottleneck.to_code)
            if skip:
                code = Affine(code.weight[:, :, -h.shape[1] :], first[:, width:])
            z = bottleneck.project(code(h).mT).mT
        else:
            hidden = [inputs.hide(embedded).expand(len(h), -1, -1)] if skip else []
            z = bottleneck(torch.cat([*hidden, h], 1).mT).z[0].mT
        h = z
        for layer in self.decoder.linear_layers():
            h = self.decoder.activate(Affine.of(layer)(h))
        return [z, h] if self.decoder.net.skip else [h]


def _first_map(encoder: Layers, to_code: Linear | None) -> Affine:
    """The first layer and, below it, what the encoder's input adds to a linear code."""
    first = Affine.of(encoder.linear_layers()[0])
    if to_code is None or not encoder.net.skip:
        return first
    code, width = Affine.of(to_code), first.weight.shape[2]
    weight = torch.cat([first.weight, code.weight[:, :, :width]], 1)
    return Affine(weight, torch.cat([first.bias, code.bias], 1))
