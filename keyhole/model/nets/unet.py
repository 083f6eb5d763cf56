"""A residual U-Net: for images of any size, one number a pixel, and no code."""

from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from keyhole.core.layout import Layout, Shape
from keyhole.core.parts import Part
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.model.nets.base import IdentityLayers, Net

Planes = Float[Tensor, "batch channel height width"]
MAX_SCALES = 6  # the coarsest is then 32 times as coarse, which divides a tile evenly
LAST_WEIGHTS = 0.1  # of the last layer's usual start: the net begins near the identity


@dataclass(eq=False, repr=False)
class UNet(Net):
    """Convolutions at `len(channels)` scales, each half as fine, with skips from the way down.

    It predicts what to add to the image (residual learning; Zhang et al. 2017), and no layer has
    a bias, so that what holds at one noise level holds at others (Mohan et al. 2020): twice the
    image, twice the answer. Source: Ronneberger et al. 2015; blocks of He et al. 2016.
    `precision` is that of training: "bfloat16" halves the time where a processor computes in it,
    "auto" asks the processor. Weights and answers are float32.
    """

    kind = "unet"
    images = True
    skips = True

    channels: list[int] | None = None
    _: KW_ONLY
    blocks: int = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def check(self) -> None:
        """Raises: SettingError for invalid channels, blocks or precision."""
        wide = self.widths
        if not wide or not all(isinstance(c, int) and 1 <= c <= 4_096 for c in wide):
            raise SettingError(
                f"channels={self.channels!r:.60}: expected a list such as [32, 64, 128]"
            )
        if len(wide) > MAX_SCALES:
            raise SettingError(f"channels={wide!r:.60}: expected at most {MAX_SCALES} scales")
        if not isinstance(self.blocks, int) or not 1 <= self.blocks <= 64:
            raise SettingError(
                f"blocks={self.blocks!r:.40}: expected a whole number of at least 1"
            )
        if self.precision not in {"auto", "float32", "bfloat16"}:
            raise SettingError(f"precision={self.precision!r:.40}: choose 'float32' or 'bfloat16'")

    def settled(self) -> "UNet":
        """Such a net with the precision that "auto" stands for on this machine.

        Written down before training, so that a run is resumed in the arithmetic it began with.
        """
        if self.precision != "auto":
            return self
        # Before torch 2.11 nothing public tells; float32 is right everywhere.
        processor = getattr(torch.cpu, "get_capabilities", dict)()
        quick = torch.cuda.is_available() or processor.get("avx512_bf16", False)
        precision = "bfloat16" if quick else "float32"
        return UNet(self.channels, blocks=self.blocks, precision=precision)

    @property
    def widths(self) -> list[int]:
        """Channels by scale, the finest first."""
        return [32, 64, 128] if self.channels is None else list(self.channels)

    @property
    def step(self) -> int:
        """Pixels of the coarsest scale: sides are padded to a multiple of it."""
        return 2 ** (len(self.widths) - 1)

    @property
    def reach(self) -> int:
        """How far, in pixels, a pixel's answer may depend on others; a multiple of `step`."""
        deepest = len(self.widths) - 1
        ways = sum(2 * 2 * self.blocks * 2**scale for scale in range(deepest))
        far = 2 + ways + 2 * self.blocks * 2**deepest + self.step
        return -(-far // self.step) * self.step

    def stem(self) -> Part:
        """The numbers of an image."""
        return ImageStem()

    def encoder(self, layout: Layout) -> Part:
        """The whole net: it has no halves that a code could stand between."""
        self.check()
        return UNetLayers(self, self.settled().precision == "bfloat16")

    def decoder(self, layout: Layout) -> Part:
        """Nothing more."""
        return IdentityLayers()


class ImageStem(Part):
    """The numbers of each row as an image; whether they were observed does not matter."""

    def bind(self, shape: Shape) -> Shape:
        """As wide as the image has features. Raises: SettingError without a grid."""
        if shape.layout.grid is None:
            raise SettingError("a U-Net is for images, but these rows are not images")
        self.grid = shape.layout.grid
        return shape.widened(len(shape.layout))

    def forward(self, batch: Batch) -> Float[Tensor, "member batch height width channel"]:
        """The images, of the batch's size where it has its own."""
        numbers = batch.numbers if batch.numbers.dim() == 3 else batch.numbers[None]
        return numbers.unflatten(-1, batch.grid or self.grid)


class UNetLayers(Part):
    """The net's layers: down, along the bottom, and up again with skips."""

    def __init__(self, net: UNet, half_precision: bool) -> None:
        super().__init__()
        self.net, self.half_precision = net, half_precision

    def bind(self, shape: Shape) -> Shape:
        """Make the layers. Raises: SettingError for nets side by side."""
        wide, grid = self.net.widths, shape.layout.grid or (1, 1, 1)
        if shape.members != 1:
            raise SettingError(f"members={shape.members}: a U-Net has no ensemble; give members=1")
        self.first = _conv(grid[2], wide[0])
        self.down = nn.ModuleList(_blocks(c, self.net.blocks) for c in wide)
        self.coarser = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2, bias=False) for a, b in pairwise(wide)
        )
        self.finer = nn.ModuleList(
            nn.ConvTranspose2d(b, a, 2, stride=2, bias=False) for a, b in pairwise(wide)
        )
        self.up = nn.ModuleList(_blocks(c, self.net.blocks) for c in wide[:-1])
        self.last = _conv(wide[0], grid[2])
        with torch.no_grad():
            self.last.weight.mul_(LAST_WEIGHTS)
        self.to(memory_format=torch.channels_last)  # pyright: ignore
        return Shape(shape.layout, len(shape.layout), 1, grid[:2])

    def forward(
        self, x: Float[Tensor, "member batch height width channel"]
    ) -> Float[Tensor, "member batch feature"]:
        """What each pixel should be, of images whose sides are multiples of the net's step.

        Training and its evaluations may be in bfloat16; answers are float32.
        """
        planes = x[0].permute(0, 3, 1, 2)  # (B, C, H, W), channels last
        half = self.half_precision and not torch.is_inference_mode_enabled()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            planes = self.planes(planes)
        return planes.permute(0, 2, 3, 1).flatten(1)[None]  # (1, B, H * W * C)

    def planes(self, x: Planes) -> Planes:
        """What each pixel should be, of images whose sides are multiples of the net's step."""
        h, skips = self.first(x), []
        for level, blocks in enumerate(self.down):
            h = blocks(h)
            if level < len(self.coarser):
                skips.append(h)
                h = self.coarser[level](h)
        for level in reversed(range(len(self.up))):
            h = self.up[level](self.finer[level](h) + skips[level])
        return x + self.last(h).float()


class ResidualBlock(nn.Module):
    """Two convolutions and the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one, self.two = _conv(channels, channels), _conv(channels, channels)

    def forward(self, x: Float[Tensor, "*image"]) -> Float[Tensor, "*image"]:
        """The input, and what the convolutions add."""
        return x + self.two(functional.relu(self.one(functional.relu(x))))


def _conv(wide_in: int, wide_out: int) -> nn.Conv2d:
    return nn.Conv2d(wide_in, wide_out, 3, padding=1, bias=False)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))
