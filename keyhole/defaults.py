"""The parts of an Autoencoder: given, else what its bottleneck works best with, else defaults."""

from typing import Any

from keyhole.bottlenecks import Bottleneck, Plain
from keyhole.core.part import build
from keyhole.errors import SettingError
from keyhole.heads import Head, Mixed
from keyhole.modalities import Hints
from keyhole.nets import MLP, Conv, Net
from keyhole.training import Corruption, Masking, Plan

PARTS = {
    "bottleneck": (Bottleneck, Plain), "net": (Net, MLP), "head": (Head, Mixed),
    "corruption": (Corruption, Masking), "plan": (Plan, Plan), "hints": (Hints, Hints),
}  # fmt: skip
OF_PICTURES: dict[str, Any] = {"net": Conv, "head": lambda: Mixed(continuous="gaussian")}


def parts_of(given: dict[str, Any], container: str | None = None) -> dict[str, Any]:
    """All parts by name, from those that were given; None: none was.

    `container` is what the rows came in, where that is known. Raises: SettingError for what is no
    such part, or does not go with such rows.
    """
    found: dict[str, Any] = {}
    for name, (base, default) in PARTS.items():
        part = given[name]
        if part is None:
            asked = found["bottleneck"].partners.get(name) if found else None
            made = OF_PICTURES.get(name, default) if container == "pictures" else default
            part = made() if asked is None else build(name, asked)
        if not isinstance(part, base):
            raise SettingError(f"{name}={part!r:.80}: expected a {base.__name__}")
        found[name] = part
    _check_net(found["net"], container)
    return found


def _check_net(net: Net, container: str | None) -> None:
    """Raises: SettingError for a net that has no code, or is not for such rows."""
    if net.skips:
        raise SettingError(f"{net!r} has skip connections, so there is no code; use Denoiser")
    if net.pictures and container not in {None, "pictures"}:
        raise SettingError(
            f"{net!r} is for pictures, and these rows are those of a table: give an array "
            "(n, height, width) or a folder of image files, or take MLP"
        )
