"""Bundles of older formats, brought up to date one step at a time; read forever."""

from collections.abc import Callable
from typing import Any

from keyhole.core.package import install_command
from keyhole.errors import BundleError

FORMAT = 1  # raised by one with every change that an older version could misread

# From format n to n + 1: one function each, kept for ever and tested on a stored old bundle.
STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


def check_format(manifest: dict[str, Any], where: str) -> None:
    """Raises: BundleError for a newer format, or for what is no format at all."""
    found = manifest.get("format")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise BundleError(f"{where} is no keyhole model: its format is {found!r:.40}")
    if found > FORMAT:
        raise BundleError(
            f"{where} has format {found}, this version of keyhole reads up to {FORMAT}: "
            f"{install_command(upgrade=True)}"
        )


def migrate(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest in today's format; its own was checked."""
    for step in range(manifest["format"], FORMAT):
        manifest = STEPS[step](manifest)
    return manifest
