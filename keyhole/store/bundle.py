"""A bundle: a folder with `manifest.json`, which a person can read, and `weights.safetensors`.

The manifest holds every learnt number that is not a weight. It carries a checksum of the
weights and of itself; see docs/format.md for the promise on versions.
"""

import hashlib
import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import Tensor

from keyhole.core.files import folder_aside, settle_folder
from keyhole.errors import BundleError
from keyhole.store.migrate import FORMAT, migrate
from keyhole.store.strict import strict_json
from keyhole.store.tensors import finite, read_tensors

MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
MOST_MANIFEST_BYTES = 64 << 20  # a hundred thousand levels in several columns


@dataclass(frozen=True)
class Bundle:
    """A model's sections by name ("autoencoder", "detect", ...) and where its weights lie."""

    sections: dict[str, Any]
    weights: str
    about: dict[str, Any]

    def tensors(self, expected: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """The weights, which must have these names and shapes.

        Raises: BundleError.
        """
        tensors, _ = read_tensors(self.weights, expected)
        return tensors


def write_bundle(path: str, sections: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a bundle aside, sync it, and put it in the place of what stood there.

    Raises: FileError, BundleError for weights that are not numbers.
    """
    from safetensors.torch import save

    broken = [name for name, tensor in tensors.items() if not finite(tensor)]
    if broken:
        raise BundleError(f"weights {broken[0]!r} are not numbers; the model is not saved")
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    weights = save(held)
    manifest = {
        "format": FORMAT,
        "about": {
            "keyhole": _version("keyhole"),
            "torch": _version("torch"),
            "scikit-learn": _version("scikit-learn"),
            "pyarrow": _version("pyarrow"),
            "python": platform.python_version(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "sections": sections,
    }
    manifest["sha256"] = _digest(manifest)
    with folder_aside(path) as folder:
        (folder / WEIGHTS).write_bytes(weights)
        text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / MANIFEST).write_text(text, encoding="utf8")


def read_bundle(path: str) -> Bundle:
    """The bundle in a folder, its checksums compared.

    Raises: BundleError that says what is wrong: absent, truncated, altered, too new.
    """
    folder = Path(path)
    settle_folder(folder)
    if not folder.exists():
        raise BundleError(f"{path} does not exist: give the folder that fit or save wrote")
    manifest = _read_manifest(folder / MANIFEST)
    if manifest.pop("sha256", None) != _digest(manifest):
        raise BundleError(f"{path} was altered: the manifest does not match its checksum")
    manifest = migrate(manifest, path)
    weights = folder / WEIGHTS
    try:
        with open(weights, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise BundleError(f"{weights} cannot be read: {fault.strerror}") from fault
    if digest != manifest.get("weights_sha256"):
        raise BundleError(
            f"{path} was altered or truncated: the weights do not match the checksum"
        )
    sections, about = manifest.get("sections"), manifest.get("about")
    if not isinstance(sections, dict) or not isinstance(about, dict):
        raise BundleError(f"{path} is no keyhole model: it has no sections")
    return Bundle(sections, str(weights), about)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_MANIFEST_BYTES:
            raise BundleError(f"{path} is larger than {MOST_MANIFEST_BYTES >> 20} MB")
        text = path.read_bytes()
    except OSError as fault:
        raise BundleError(
            f"{path.parent} is no keyhole model: {path.name} cannot be read ({fault.strerror})"
        ) from fault
    manifest = strict_json(text, str(path))
    if not isinstance(manifest, dict):
        raise BundleError(f"{path} is no keyhole manifest: it holds no object")
    return manifest


def _digest(manifest: dict[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
