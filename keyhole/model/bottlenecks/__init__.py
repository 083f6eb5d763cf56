"""Bottlenecks: one file each; an import line here registers it everywhere."""

from keyhole.model.bottlenecks.base import L1, Bottleneck, Contractive, Ordered, Plain, TopK
from keyhole.model.bottlenecks.composite import Composite
from keyhole.model.bottlenecks.pursuit import Pursuit
from keyhole.model.bottlenecks.quantised import FSQ, ResidualVQ
from keyhole.model.bottlenecks.stochastic import MMD, Hyperspherical, Variational

__all__ = [
    "FSQ", "L1", "MMD", "Bottleneck", "Composite", "Contractive", "Hyperspherical", "Ordered",
    "Plain", "Pursuit", "ResidualVQ", "TopK", "Variational",
]  # fmt: skip
