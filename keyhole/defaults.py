"""The parts of an Autoencoder: given, else what its bottleneck works best with, else defaults."""

from typing import Any

from keyhole.bottlenecks import Bottleneck, Plain
from keyhole.core.part import build
from keyhole.errors import SettingError
from keyhole.heads import Head, Mixed
from keyhole.modalities import Hints
from keyhole.nets import MLP, Net
from keyhole.training import Corruption, Masking, Plan

PARTS = {
    "bottleneck": (Bottleneck, Plain), "net": (Net, MLP), "head": (Head, Mixed),
    "corruption": (Corruption, Masking), "plan": (Plan, Plan), "hints": (Hints, Hints),
}  # fmt: skip


def parts_of(given: dict[str, Any]) -> dict[str, Any]:
    """All parts by name, from those that were given; None: none was.

    Raises: SettingError for what is no such part.
    """
    found: dict[str, Any] = {}
    for name, (base, default) in PARTS.items():
        part = given[name]
        if part is None:
            asked = found["bottleneck"].partners.get(name) if found else None
            part = default() if asked is None else build(name, asked)
        if not isinstance(part, base):
            raise SettingError(f"{name}={part!r:.80}: expected a {base.__name__}")
        found[name] = part
    return found
