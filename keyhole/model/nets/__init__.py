"""An encoder and its mirror decoder per family of nets, on a stem that embeds cells."""

from keyhole.model.nets.base import Net, Stem
from keyhole.model.nets.conv import Conv
from keyhole.model.nets.mlp import MLP, LinearNet
from keyhole.model.nets.patches import Patches

__all__ = ["MLP", "Conv", "LinearNet", "Net", "Patches", "Stem"]
