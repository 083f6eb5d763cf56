"""An encoder and its mirror decoder per family of nets, on a stem that embeds features."""

from keyhole.model.nets.base import MLP, LinearNet, Net, Stem
from keyhole.model.nets.images import Conv, Patches
from keyhole.model.nets.items import ItemBag
from keyhole.model.nets.series import TimeConv, TimePatches

__all__ = [
    "MLP", "Conv", "ItemBag", "LinearNet", "Net", "Patches", "Stem", "TimeConv", "TimePatches",
]  # fmt: skip
