"""A bundle: a folder with `manifest.json`, which a person can read, and `weights.safetensors`.

The manifest holds every learned number that is not a weight. It carries a checksum of the
weights and of itself; see docs/format.md for the promise on versions.
"""

import hashlib
import json
import os
import platform
import weakref
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from keyhole.core.environment import version_of
from keyhole.core.files import folder_aside, place_of, standing_folder
from keyhole.core.progress import stage
from keyhole.errors import BundleError, FileError, SettingError
from keyhole.store.strict import FORMAT, check_format, migrate, strict_json
from keyhole.store.tensors import Shapes, finite, opened, read_header, read_tensors

MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
MOST_MANIFEST_BYTES = 64 << 20  # a hundred thousand levels in several columns
TRIES = 20  # of a bundle that is replaced while it is read
MOST_ABOUT = 200  # characters


@dataclass(frozen=True)
class Save:
    """One save of a bundle: where it stands, and a digest that tells it from the next."""

    place: Path
    digest: str

    def check(self) -> None:
        """Raises: FileError where another save has taken its place."""
        try:
            content = (standing_folder(self.place) / MANIFEST).read_bytes()
        except OSError:
            return  # it was removed: nothing can be lost
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise FileError(
                f"{self.place} has changed since this model was read from it, and what changed "
                "would be lost; load it again and repeat, or save elsewhere"
            )


@dataclass(frozen=True)
class Bundle:
    """A model's sections by name ("autoencoder", "detect", ...), its weights, what made it.

    The weights' file is kept open, so that they and the sections are of one save even where
    another takes its place.
    """

    sections: dict[str, Any]
    about: dict[str, str]
    path: str
    handle: int
    save: "Save"

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.handle)

    def tensors(self, expected: Shapes) -> dict[str, Tensor]:
        """The weights, which must have these names and shapes.

        Raises: BundleError.
        """
        with os.fdopen(os.dup(self.handle), "rb") as file:
            tensors, _ = read_tensors(file, os.path.join(self.path, WEIGHTS), expected)
        return tensors

    def most_tensors(self) -> int:
        """How many tensors the weights' file says it holds."""
        with os.fdopen(os.dup(self.handle), "rb") as file:
            return len(read_header(file, self.path)[0])


def write_bundle(
    path: str | os.PathLike[str],
    sections: dict[str, Any],
    tensors: dict[str, Tensor],
    read: Save | None = None,
) -> Save | None:
    """Write a bundle aside, sync it, and put it in the place of what stood there.

    `read` is the save that the model was read from: where `path` is its place, no other save
    there is replaced. Returns which save the model then is of. Raises: FileError, BundleError for
    what is no number or no text, SettingError for what is no path.
    """
    from safetensors.torch import save

    stage("writing the model")
    path = _text(path)
    broken = [name for name, tensor in tensors.items() if not finite(tensor)]
    if broken:
        raise BundleError(f"weights {broken[0]!r} are not numbers; the model is not saved")
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    weights = save(held)
    manifest = _manifest(sections, hashlib.sha256(weights).hexdigest())
    again = read if read is not None and read.place == place_of(path) else None
    check = (lambda: None) if again is None else again.check
    with folder_aside(path, (MANIFEST, WEIGHTS), check) as folder:
        (folder / WEIGHTS).write_bytes(weights)
        (folder / MANIFEST).write_bytes(manifest)
    return read if again is None else replace(again, digest=hashlib.sha256(manifest).hexdigest())


def _text(path: str | os.PathLike[str]) -> str:
    """A path as text. Raises: SettingError for what is none."""
    if not isinstance(path, str | os.PathLike):
        raise SettingError(
            f"{type(path).__name__:.40} is no path: give the folder of the model, 'm.keyhole'"
        )
    return str(path)


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """The bundle in a folder, its checksums compared; nothing is written, nothing run.

    Raises: BundleError that says what is wrong: absent, truncated, altered, too new; SettingError
    for what is no path.
    """
    stage("reading the model")
    path = _text(path)
    for _ in range(TRIES):
        folder = _folder(path)
        met = _stamp(folder)
        try:
            return _read(folder, path)
        except BundleError:
            if _stamp(_folder(path)) == met:
                raise
    raise BundleError(f"{path} is replaced again and again; try later")


def _read(folder: Path, path: str) -> Bundle:
    if not folder.exists():
        raise BundleError(f"{path} does not exist: give the folder that fit or save wrote")
    manifest, digest = _read_manifest(folder / MANIFEST, path)
    check_format(manifest, path)
    if manifest.pop("sha256", None) != _digest(manifest):
        raise BundleError(f"{path} was altered: the manifest does not match its checksum")
    manifest = migrate(manifest)
    sections, about = manifest.get("sections"), manifest.get("about")
    if not isinstance(sections, dict) or not isinstance(about, dict):
        raise BundleError(f"{path} is no keyhole model: it has no sections")
    if not all(_plain(text) for text in about.values()):
        raise BundleError(f"{path} says odd things about itself")
    handle = _open_weights(folder / WEIGHTS, manifest.get("weights_sha256"), path)
    return Bundle(sections, about, path, handle, Save(place_of(path), digest))


def _read_manifest(file_path: Path, path: str) -> tuple[dict[str, Any], str]:
    """The manifest, and the digest of its file."""
    try:
        with opened(file_path, links=False) as file:
            text = file.read(MOST_MANIFEST_BYTES + 1)
    except OSError as fault:
        raise BundleError(
            f"{path} is no keyhole model: {MANIFEST} cannot be read ({fault.strerror})"
        ) from fault
    if len(text) > MOST_MANIFEST_BYTES:
        raise BundleError(f"{file_path} is larger than {MOST_MANIFEST_BYTES >> 20} MB")
    manifest = strict_json(text, str(file_path))
    if not isinstance(manifest, dict):
        raise BundleError(f"{file_path} is no keyhole manifest: it holds no object")
    return manifest, hashlib.sha256(text).hexdigest()


def _open_weights(file_path: Path, digest: Any, path: str) -> int:
    """A handle on the weights, whose size and checksum are as they should be."""
    try:
        with opened(file_path, links=False) as file:
            read_header(file, str(file_path))
            file.seek(0)
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:  # pyright: ignore
                raise BundleError(f"{path} was altered: the weights do not match the checksum")
            return os.dup(file.fileno())
    except OSError as fault:
        raise BundleError(f"{file_path} cannot be read: {fault.strerror}") from fault


def _manifest(sections: dict[str, Any], weights_sha256: str) -> bytes:
    """The manifest's text.

    Raises: BundleError for a section that cannot be read back.
    """
    packages = ("keyhole", "torch", "scikit-learn", "pyarrow")
    manifest = {
        "format": FORMAT,
        "about": {name: version_of(name) for name in packages}
        | {
            "python": platform.python_version(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "weights_sha256": weights_sha256,
        "sections": sections,
    }
    try:
        manifest["sha256"] = _digest(manifest)
        text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False).encode("utf8")
        strict_json(text, MANIFEST)
    except (TypeError, ValueError) as fault:
        raise BundleError(f"the model cannot be saved: {fault!s:.200}") from fault
    if len(text) > MOST_MANIFEST_BYTES:
        raise BundleError(
            f"the model cannot be saved: what it learned takes {len(text) >> 20} MB and at most "
            f"{MOST_MANIFEST_BYTES >> 20} MB are read; exclude columns with long texts"
        )
    return text


def _folder(path: str) -> Path:
    try:
        return standing_folder(path)
    except FileError as fault:
        raise BundleError(str(fault)) from fault


def _stamp(folder: Path) -> tuple[int, int] | None:
    """What tells one save of a bundle from the next."""
    try:
        found = os.stat(folder / MANIFEST)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _digest(manifest: dict[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(text: Any) -> bool:
    """True for a line that a terminal can be shown."""
    return isinstance(text, str) and len(text) <= MOST_ABOUT and text.isprintable()
