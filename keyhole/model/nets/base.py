"""The interface of a family of nets, the stem that embeds a batch, and the nets of any rows."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import accumulate
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from keyhole.core.layout import Layout, Shape, Slot
from keyhole.core.parts import Described, Part
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.model.layers import Linear, Places, State

CLIP = 5.0  # standardised numbers are clipped here: a net cannot extrapolate what it never sees
MAX_EMBEDDING = 16  # dimensions
MIN_SIDE = 7  # pixels or steps, at which convolutions take an input as a whole
FIRST_CHANNELS, MAX_CHANNELS = 16, 64  # of the first convolution, and of any
ACTIVATIONS = {
    "silu": nn.SiLU, "gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU, "mish": nn.Mish, "softplus": nn.Softplus,
}  # fmt: skip


class Net(Described):
    """A family: an encoder and the decoder that mirrors it, sized by the data unless told."""

    family = "net"
    images: ClassVar[bool] = False  # True: rows must be images, with a grid
    series: ClassVar[bool] = False  # True: rows must be windows of a series, with steps
    items: ClassVar[bool] = False  # True: rows must be lists of items
    skips: ClassVar[bool] = False  # True: the decoder sees more than a code, so there is none

    def stem(self) -> Part:
        """Features -> one vector a row."""
        return Stem()

    @abstractmethod
    def encoder(self, layout: Layout) -> Part:
        """Embedded features -> a state for the bottleneck."""

    @abstractmethod
    def decoder(self, layout: Layout) -> Part:
        """A code -> a state for the head."""


def clipped(
    numbers: Tensor, observed: Tensor, center: Tensor, scale: Tensor
) -> Float[Tensor, "member batch number"]:
    """Standardised numbers within the range that nets see; 0 where none was observed."""
    return ((numbers - center) / scale).clamp(-CLIP, CLIP) * observed


def embedding_width(slots: Sequence[Slot]) -> int:
    """The dimensions that stand for a code of any of these slots; 0 without slots.

    Source: the rule of thumb 1.6 levels^.56 (fast.ai), for the column with most levels.
    """
    most = max((slot.levels + 1 for slot in slots), default=0)
    return min(MAX_EMBEDDING, math.ceil(1.6 * most**0.56))


def check_stages(channels: Any, activation: str) -> None:
    """Raises: SettingError for invalid channels of convolutions or an unknown activation."""
    if channels is not None and not (
        isinstance(channels, list | tuple)
        and 1 <= len(channels) <= 10
        and all(isinstance(wide, int) and 1 <= wide <= 4_096 for wide in channels)
    ):
        raise SettingError(
            f"channels={channels!r:.60}: expected one to ten numbers, such as [32, 64]"
        )
    if activation not in ACTIVATIONS:
        raise SettingError(f"activation={activation!r}: choose from {sorted(ACTIVATIONS)}")


def stages_for(side: int) -> list[int]:
    """The channels of as many convolutions as halve a side to at most `MIN_SIDE`; at least one."""
    channels = [FIRST_CHANNELS]
    while -(-side // 2) > MIN_SIDE:
        side = -(-side // 2)
        channels.append(min(2 * channels[-1], MAX_CHANNELS))
    return channels


def halvings(side: int, stages: int) -> list[int]:
    """A side, and what is left of it after each stage that halves it, rounded up."""
    return list(accumulate(range(stages), lambda left, _: -(-left // 2), initial=side))


class Stem(Part):
    """Standardised numbers, whether each was observed, and an embedding of each code.

    Only the net's input is clipped; the likelihood scores the number itself.
    """

    def bind(self, shape: Shape) -> Shape:
        """Make the embedding table: one for all codes, each with a row for masked values."""
        slots, wide = shape.layout.slots, shape.layout.numbers
        self.register_buffer("center", torch.tensor([s.center for s in slots[:wide]]), False)
        self.register_buffer("scale", torch.tensor([s.scale for s in slots[:wide]]), False)
        levels = [slot.levels + 1 for slot in slots[wide:]]
        starts = [0, *accumulate(levels)][: len(levels)]
        self.register_buffer("starts", torch.tensor(starts, dtype=torch.int64), False)
        self.total, self.members = sum(levels), shape.members
        self.wide = embedding_width(slots[wide:])
        if levels:
            table = torch.normal(0.0, 0.5, (self.members * self.total, self.wide))
            self.table = nn.Parameter(table)
        return shape.widened(2 * wide + len(levels) * self.wide)

    def forward(self, batch: Batch) -> Float[Tensor, "member batch wide"]:
        """One vector a row and member; member axis 1 where all members see the same rows."""
        if batch.numbers.dim() == 2:
            batch = Batch(batch.numbers[None], batch.codes[None], batch.observed[None])
        wide = batch.numbers.shape[-1]
        observed = batch.observed[..., :wide].to(batch.numbers.dtype)
        center, scale = self.get_buffer("center"), self.get_buffer("scale")
        parts = [clipped(batch.numbers, observed, center, scale), observed]
        if self.wide:
            embedded = self._embed(batch.codes)  # (member, batch, code * wide)
            parts = [*(part.expand(*embedded.shape[:-1], -1) for part in parts), embedded]
        return torch.cat(parts, -1)

    def places_of(self, features: Places) -> Places:
        """Where these features of the layout stand in the vector of a row."""
        wide = len(self.get_buffer("center"))
        numbers, codes = features[features < wide], features[features >= wide] - wide
        axes = torch.arange(self.wide, device=features.device)
        embedded = 2 * wide + (codes[:, None] * self.wide + axes).flatten()
        return torch.cat([numbers, wide + numbers, embedded])

    def masked(self) -> Float[Tensor, "member one wide"]:
        """The vector of a row without any observed feature."""
        center, starts = self.get_buffer("center"), self.get_buffer("starts")
        numbers, codes = torch.zeros_like(center)[None], torch.zeros_like(starts)[None]
        observed = torch.zeros((1, len(center) + len(starts)), dtype=torch.bool)
        return self(Batch(numbers, codes, observed.to(center.device)))

    def _embed(self, codes: Tensor) -> Tensor:
        member = torch.arange(self.members, device=codes.device)[:, None, None] * self.total
        place = codes + self.get_buffer("starts") + member  # (member, batch, code)
        return nn.functional.embedding(place, self.table).flatten(-2)


@dataclass(eq=False, repr=False)
class MLP(Net):
    """Fully connected layers, `hidden` wide in the encoder; the decoder mirrors them.

    By default one layer of 64 units, 128 above 64 features. With `skip`, each half appends its
    input to its last layer, so a linear map is always possible and the layers learn what it
    misses; without, it is the textbook's net.
    """

    kind = "mlp"

    hidden: list[int] | None = None
    _: KW_ONLY
    activation: str = "silu"
    skip: bool = True

    def encoder(self, layout: Layout) -> Part:
        """Encoder layers."""
        return Layers(self, self._widths(layout))

    def decoder(self, layout: Layout) -> Part:
        """Decoder layers."""
        return Layers(self, self._widths(layout)[::-1])

    def _widths(self, layout: Layout) -> list[int]:
        hidden: Any = self.hidden  # one width stands for a list of one
        if hidden is None:
            return [64 if len(layout) <= 64 else 128]
        hidden = list(hidden) if isinstance(hidden, list | tuple) else [hidden]
        if not all(isinstance(wide, int) and 1 <= wide <= 65_536 for wide in hidden):
            raise SettingError(
                f"hidden={hidden!r}: give widths from 1 to 65,536, such as [64, 32]"
            )
        return hidden


class Layers(Part):
    """Linear layers of these widths and their activations; with `skip`, the input is appended."""

    def __init__(self, net: MLP, widths: list[int]) -> None:
        super().__init__()
        if net.activation not in ACTIVATIONS:
            raise SettingError(f"activation={net.activation!r}: choose from {sorted(ACTIVATIONS)}")
        self.net, self.widths = net, widths

    def bind(self, shape: Shape) -> Shape:
        """Make the layers."""
        wide_in = shape.wide
        self.layers = nn.ModuleList()
        for wide in self.widths:
            self.layers.append(Linear(shape.wide, wide, shape.members))
            shape = shape.widened(wide)
        self.activate = ACTIVATIONS[self.net.activation]()
        return shape.widened(shape.wide + wide_in) if self.net.skip else shape

    def linear_layers(self) -> list[Linear]:
        """The linear layers, first to last."""
        return list(self.layers)  # pyright: ignore

    def forward(self, x: State) -> Float[Tensor, "*out batch state"]:
        """The last layer's activations, then the input where it is appended."""
        h = x
        for layer in self.layers:
            h = self.activate(layer(h))
        if not self.net.skip:
            return h
        return torch.cat([x.expand(*h.shape[:-1], -1), h], -1)  # (*lead, B, wide_in + wide)


class LinearNet(Net):
    """The bottleneck's map and the head's map are the whole net.

    Its optimum under squared error spans the principal components (Baldi and Hornik 1989); it is
    the baseline that a deeper net must beat.
    """

    kind = "linear"

    def encoder(self, layout: Layout) -> Part:
        """Nothing before the bottleneck."""
        return IdentityLayers()

    def decoder(self, layout: Layout) -> Part:
        """Nothing before the head."""
        return IdentityLayers()


class IdentityLayers(Part):
    """The input is the output."""

    def bind(self, shape: Shape) -> Shape:
        """The same shape."""
        return shape

    def forward(self, x: State) -> State:
        """The input."""
        return x
