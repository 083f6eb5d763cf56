"""Bottlenecks: one file each; an import line here registers it everywhere."""

from keyhole.bottlenecks.base import Bottleneck
from keyhole.bottlenecks.contractive import Contractive
from keyhole.bottlenecks.fsq import FSQ
from keyhole.bottlenecks.hyperspherical import Hyperspherical
from keyhole.bottlenecks.l1 import L1
from keyhole.bottlenecks.mmd import MMD
from keyhole.bottlenecks.ordered import Ordered
from keyhole.bottlenecks.plain import Plain
from keyhole.bottlenecks.residual_vq import ResidualVQ
from keyhole.bottlenecks.top_k import TopK
from keyhole.bottlenecks.variational import Variational

__all__ = [
    "FSQ",
    "L1",
    "MMD",
    "Bottleneck",
    "Contractive",
    "Hyperspherical",
    "Ordered",
    "Plain",
    "ResidualVQ",
    "TopK",
    "Variational",
]  # fmt: skip
