"""A saved model: one safetensors file, with a manifest as JSON in its header.

The manifest holds every learned number that is not a weight. See docs/format.md.
"""

import json
import os
import platform
import weakref
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from keyhole.core.environment import version_of
from keyhole.core.files import faults_of, place_of, reason
from keyhole.core.progress import stage
from keyhole.errors import BundleError, FileError
from keyhole.store.strict import FORMAT, check_format, record, strict_json
from keyhole.store.tensors import (
    CURE,
    Header,
    Shapes,
    check_tensors,
    checksum_at,
    finite,
    opened,
    read_header,
    read_tensors,
    write_tensors,
)

MOST_ABOUT = 200  # characters of a line that a terminal can be shown


@dataclass(frozen=True)
class Manifest:
    """The manifest of a model: these keys, of these types."""

    format: int
    about: dict[str, str]
    sections: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Save:
    """One save of a model: the path of its file, and the checksum that tells it from the next."""

    place: Path
    sha256: str


@dataclass(frozen=True)
class Bundle:
    """A model's sections by name ("autoencoder", "detect", ...), its weights, what made it.

    The file is kept open, so that weights and sections are of one save even where another takes
    its place.
    """

    sections: dict[str, Any]
    about: dict[str, str]
    path: str
    handle: int
    header: Header
    save: Save

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.handle)

    def tensors(self, expected: Shapes) -> dict[str, Tensor]:
        """The weights, which must have these names and shapes.

        Raises: BundleError.
        """
        with os.fdopen(os.dup(self.handle), "rb") as file:
            return read_tensors(file, self.header, self.path, expected)

    def most_tensors(self) -> int:
        """The number of tensors in the file."""
        return len(self.header.tensors)


def write_bundle(
    path: str | os.PathLike[str],
    sections: dict[str, Any],
    tensors: dict[str, Tensor],
    read: Save | None = None,
) -> Save | None:
    """Save a model atomically.

    `read` is the save that the model was read from: where `path` is its place, no other save
    there is replaced. Returns which save the model then is of. Raises: FileError, BundleError for
    what is no number or no text, SettingError for what is no path.
    """
    stage("writing the model")
    place = place_of(path)
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or not finite(tensor):
            raise BundleError(f"weights {name!r} are not float32 numbers; the model is not saved")
    text = _manifest(sections)
    check_replaceable(place, read)
    with faults_of(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    sha256 = write_tensors(place, tensors, text, lambda: check_replaceable(place, read))
    return Save(place, sha256) if read is not None and read.place == place else read


def check_replaceable(path: str | os.PathLike[str], read: Save | None = None) -> None:
    """Refuse to lose what stands at a path, if a model is saved there that `read` is of.

    Raises: FileError where it is no model, or another save than the one that was read.
    """
    place = place_of(path)
    with faults_of(place):
        if place.exists() and not place.is_file():
            kind = "a folder" if place.is_dir() else "not a regular file"
            raise FileError(f"{place} is {kind}; give the name of a file")
        if not place.exists() or not place.stat().st_size:
            return
        sha256 = checksum_at(place)
    if sha256 is None:
        raise FileError(
            f"{place} is not a keyhole model and would be lost; save elsewhere or remove it"
        )
    if read is not None and read.place == place and read.sha256 != sha256:
        raise FileError(
            f"{place} has changed since this model was read from it, and what changed would be "
            "lost; load it again and repeat, or save elsewhere"
        )


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """The model in a file, its checksum compared; nothing is written, nothing run.

    Raises: BundleError that says what is wrong: absent, truncated, altered, too new; SettingError
    for what is no path.
    """
    stage("reading the model")
    try:
        place, path = place_of(path), os.fspath(path)
        with opened(path) as file:
            header = read_header(file, path)
            value = strict_json(header.text.encode(), f"the manifest of {path}")
            check_format(value, path)
            manifest = record(Manifest, value, f"the manifest of {path}")
            check_tensors(file, header, path)
            if not all(len(t) <= MOST_ABOUT and t.isprintable() for t in manifest.about.values()):
                raise BundleError(f"{path} says odd things about itself")
            save, handle = Save(place, header.sha256), os.dup(file.fileno())
            return Bundle(manifest.sections, manifest.about, path, handle, header, save)
    except FileNotFoundError as fault:
        raise BundleError(f"{path} does not exist; {CURE}") from fault
    except OSError as fault:
        raise BundleError(f"{path!r:.200} cannot be read: {reason(fault)}") from fault


def _manifest(sections: dict[str, Any]) -> str:
    """The manifest's text.

    Raises: BundleError for a section that cannot be read back.
    """
    about = {name: version_of(name) for name in ("keyhole", "torch", "scikit-learn", "pyarrow")}
    about["python"] = platform.python_version()
    about["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        manifest = vars(Manifest(FORMAT, about, sections))
        text = json.dumps(manifest, ensure_ascii=False, allow_nan=False)
        strict_json(text.encode(), "the manifest")
    except BundleError as fault:
        raise BundleError(
            f"the model cannot be saved: {fault!s:.200}; exclude columns with many texts"
        ) from fault
    except (TypeError, ValueError) as fault:
        raise BundleError(f"the model cannot be saved: {fault!s:.200}") from fault
    return text
