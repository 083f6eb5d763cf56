"""An encoder and its mirror decoder per family of nets, on a stem that embeds cells."""

from keyhole.nets.base import Net
from keyhole.nets.conv import Conv
from keyhole.nets.linear import LinearNet
from keyhole.nets.mlp import MLP
from keyhole.nets.patches import Patches
from keyhole.nets.stem import Stem

__all__ = ["MLP", "Conv", "LinearNet", "Net", "Patches", "Stem"]
