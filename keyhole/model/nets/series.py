"""Nets of series: convolutions over time, and a small transformer over patches of time.

A row is a window of `Layout.steps` steps. Decoders return a state of equally many numbers for each
step: one for each number feature, then as many for each code as the stem embeds it in.
"""

import math
from dataclasses import KW_ONLY, dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from keyhole.core.layout import Layout, Shape
from keyhole.core.parts import Part
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.model.layers import Linear, State, TimeConvolution, Tokens, each
from keyhole.model.nets.attention import Blocks, check_sizes, waves
from keyhole.model.nets.base import (
    ACTIVATIONS,
    Net,
    Stem,
    check_stages,
    embedding_width,
    halvings,
    stages_for,
)


class TimeStem(Part):
    """The stem of one step, applied to each: numbers, whether each was observed, codes embedded.

    All steps share one embedding table. A step's features stand behind those of the step before.
    """

    def bind(self, shape: Shape) -> Shape:
        """Make the stem of a step. Raises: SettingError for rows that are no windows."""
        layout = shape.layout
        if not layout.steps:
            raise SettingError(
                "this net is for series, but these rows are not windows of a series; use "
                "MLP, or give Schema(time=...)"
            )
        self.steps, self.numbers = layout.steps, layout.numbers
        self.step = Stem()
        after = self.step.bind(replace(shape, layout=layout_of_step(layout)))
        return shape.widened(self.steps * after.wide)

    def forward(self, batch: Batch) -> Float[Tensor, "member batch wide"]:
        """One vector a row and member; member axis 1 where all members see the same rows."""
        observed = batch.observed.tensor_split([self.numbers], -1)
        numbers, codes, *observed = (
            part.unflatten(-1, (self.steps, -1)).flatten(-3, -2)
            for part in (batch.numbers, batch.codes, *observed)
        )  # (*member, B * step, feature)
        embedded = self.step(Batch(numbers, codes, torch.cat(observed, -1)))
        return embedded.unflatten(-2, (len(batch), self.steps)).flatten(-2)


def layout_of_step(layout: Layout) -> Layout:
    """The slots of one step; they are the same in all."""
    numbers, codes = (layout.numbers // layout.steps, layout.codes // layout.steps)
    first_code = layout.numbers
    return Layout((*layout.slots[:numbers], *layout.slots[first_code : first_code + codes]))


def state_of_steps(shape: Shape) -> Shape:
    """The shape of a decoder's state: for each step, as many numbers as its features need."""
    step = layout_of_step(shape.layout)
    wide = step.numbers + step.codes * embedding_width(step.slots[step.numbers :])
    steps = shape.layout.steps
    return Shape(shape.layout, steps * wide, shape.members, steps=steps)


@dataclass(eq=False, repr=False)
class TimeConv(Net):
    """Convolutions that halve the steps a stage, `channels` wide; the decoder doubles them again.

    By default, stages of 16, 32, 64, 64, ... channels until at most 7 steps are left. `skip` is
    that of an MLP: the convolutions learn what a linear map misses.
    """

    kind = "time_conv"
    series = True

    channels: list[int] | None = None
    _: KW_ONLY
    activation: str = "leaky_relu"
    skip: bool = True

    def check(self) -> None:
        """Raises: SettingError for invalid channels or an unknown activation."""
        check_stages(self.channels, self.activation)

    def stem(self) -> Part:
        """Each step's features."""
        return TimeStem()

    def encoder(self, layout: Layout) -> Part:
        """Encoder stages."""
        return TimeConvEncoder(self, self._stages(layout))

    def decoder(self, layout: Layout) -> Part:
        """Decoder stages."""
        return TimeConvDecoder(self, self._stages(layout))

    def _stages(self, layout: Layout) -> list[int]:
        self.check()
        return list(self.channels or stages_for(layout.steps))


class TimeConvEncoder(Part):
    """Strided convolutions; the flat steps of the last, after the input where it is appended."""

    def __init__(self, net: TimeConv, stages: list[int]) -> None:
        super().__init__()
        self.net, self.stages = net, stages

    def bind(self, shape: Shape) -> Shape:
        """Make the stages."""
        self.steps = halvings(shape.layout.steps, len(self.stages))
        self.layers = nn.ModuleList(
            TimeConvolution(wide, after, shape.members)
            for wide, after in pairwise([shape.wide // self.steps[0], *self.stages])
        )
        self.activate = ACTIVATIONS[self.net.activation]()
        wide = self.steps[-1] * self.stages[-1]
        return shape.widened(wide + shape.wide if self.net.skip else wide)

    def forward(self, x: State) -> Float[Tensor, "*out batch state"]:
        """The state of each window."""
        h = x.unflatten(-1, (self.steps[0], -1))
        for layer, steps in zip(self.layers, self.steps[1:], strict=True):
            h = self.activate(layer(h, steps))  # (*out, B, step / 2, channel)
        h = h.flatten(-2)
        return torch.cat([x.expand(*h.shape[:-1], -1), h], -1) if self.net.skip else h


class TimeConvDecoder(Part):
    """Transposed convolutions from a code to the state of each step."""

    def __init__(self, net: TimeConv, stages: list[int]) -> None:
        super().__init__()
        self.net, self.stages = net, stages

    def bind(self, shape: Shape) -> Shape:
        """Make the stages."""
        self.steps = halvings(shape.layout.steps, len(self.stages))[::-1]
        after = state_of_steps(shape)
        self.first = Linear(shape.wide, self.steps[0] * self.stages[-1], shape.members)
        self.layers = nn.ModuleList(
            TimeConvolution(wide, wide_out, shape.members, up=True)
            for wide, wide_out in pairwise([*self.stages[::-1], after.wide // after.steps])
        )
        self.activate = ACTIVATIONS[self.net.activation]()
        if self.net.skip:
            self.linear = Linear(shape.wide, after.wide, shape.members)
        else:
            self.bias = nn.Parameter(torch.zeros(shape.members, 1, after.wide))
        return after

    def forward(self, z: State) -> Float[Tensor, "*out batch state"]:
        """The numbers of each step, one step behind the other."""
        h = self.first(z).unflatten(-1, (self.steps[0], -1))
        for layer, steps in zip(self.layers, self.steps[1:], strict=True):
            h = layer(self.activate(h), steps)  # (*out, B, 2 step, channel)
        return h.flatten(-2) + (self.linear(z) if self.net.skip else self.bias)


@dataclass(eq=False, repr=False)
class TimePatches(Net):
    """A masked autoencoder of windows: patches of time, of all channels, attend to each other.

    The code comes from the mean token; the decoder places it at every patch and attends again.
    `patch` is a patch's length in steps, by default that of the windows' own patches. `skip` is
    that of an MLP: without, the code sees no more of a window than its mean token.

    A masked value is embedded by a flag, so a patch still shows its other channels; what is left
    of a patch that is masked as a whole is one and the same mask token.

    Source: He et al. 2022, on patches of time as in Nie et al. 2023.
    """

    kind = "time_patches"
    series = True

    wide: int = 32
    _: KW_ONLY
    layers: int = 1
    heads: int = 4
    patch: int | None = None
    skip: bool = True

    def check(self) -> None:
        """Raises: SettingError for invalid sizes."""
        check_sizes(self)

    def stem(self) -> Part:
        """Each step's features."""
        return TimeStem()

    def encoder(self, layout: Layout) -> Part:
        """Patches to the mean token."""
        self.check()
        return TimePatchEncoder(self)

    def decoder(self, layout: Layout) -> Part:
        """A code to patches."""
        self.check()
        return TimePatchDecoder(self)


class TimeCut:
    """How a window is cut into patches of time; the last is padded with zeros."""

    def __init__(self, layout: Layout, patch: int | None) -> None:
        self.steps = layout.steps
        self.patch = min(patch or max(layout.patch, 1), self.steps)
        self.patches = math.ceil(self.steps / self.patch)

    def apart(self, x: State) -> Float[Tensor, "*lead batch patch number"]:
        """The patches, all numbers of one behind each other."""
        padding = (self.patches * self.patch - self.steps) * (x.shape[-1] // self.steps)
        return functional.pad(x, (0, padding)).unflatten(-1, (self.patches, -1))

    def together(self, x: Tokens) -> Float[Tensor, "*lead batch number"]:
        """The way back: all numbers of a step, one step behind the other."""
        return x.flatten(-2)[..., : self.steps * (x.shape[-1] // self.patch)]


class TimePatchEncoder(Part):
    """Patches as tokens, blocks, and their mean, after the input where it is appended."""

    def __init__(self, net: TimePatches) -> None:
        super().__init__()
        self.net = net

    def bind(self, shape: Shape) -> Shape:
        """Make the blocks."""
        self.cut = TimeCut(shape.layout, self.net.patch)
        wide = self.cut.patch * shape.wide // self.cut.steps
        self.embed = Linear(wide, self.net.wide, shape.members)
        self.register_buffer("positions", waves(self.cut.patches, self.net.wide), persistent=False)
        self.blocks = Blocks(self.net, shape.members)
        return shape.widened(self.net.wide + (shape.wide if self.net.skip else 0))

    def forward(self, x: State) -> Float[Tensor, "*out batch state"]:
        """The state of each window."""
        tokens = each(self.embed, self.cut.apart(x)) + self.get_buffer("positions")
        h = self.blocks(tokens).mean(-2)
        return torch.cat([x.expand(*h.shape[:-1], -1), h], -1) if self.net.skip else h


class TimePatchDecoder(Part):
    """A code at every patch's place, blocks, and the state of their steps."""

    def __init__(self, net: TimePatches) -> None:
        super().__init__()
        self.net = net

    def bind(self, shape: Shape) -> Shape:
        """Make the blocks."""
        self.cut, after = TimeCut(shape.layout, self.net.patch), state_of_steps(shape)
        self.embed = Linear(shape.wide, self.net.wide, shape.members)
        self.register_buffer("positions", waves(self.cut.patches, self.net.wide), persistent=False)
        self.blocks = Blocks(self.net, shape.members)
        wide = self.cut.patch * after.wide // after.steps
        self.numbers = Linear(self.net.wide, wide, shape.members)
        if self.net.skip:
            self.linear = Linear(shape.wide, after.wide, shape.members)
        else:
            self.bias = nn.Parameter(torch.zeros(shape.members, 1, after.wide))
        return after

    def forward(self, z: State) -> Float[Tensor, "*out batch state"]:
        """The numbers of each step, one step behind the other."""
        tokens = self.embed(z)[..., None, :] + self.get_buffer("positions")
        h = self.cut.together(each(self.numbers, self.blocks(tokens)))
        return h + (self.linear(z) if self.net.skip else self.bias)
