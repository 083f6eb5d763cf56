"""Bottlenecks: one file each; an import line here registers it everywhere."""

from keyhole.bottlenecks.base import Bottleneck
from keyhole.bottlenecks.plain import Plain

__all__ = ["Bottleneck", "Plain"]
