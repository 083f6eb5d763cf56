"""A saved model: one safetensors file, with a manifest as JSON in its header.

The manifest holds every learned number that is not a weight. See docs/format.md.
"""

import json
import os
import platform
import weakref
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from keyhole.core.environment import version_of
from keyhole.core.files import faults_of, is_stream, place_of
from keyhole.core.progress import stage
from keyhole.errors import BundleError, FileError, SettingError
from keyhole.store.strict import FORMAT, check_format, strict_json
from keyhole.store.tensors import (
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

MOST_ABOUT = 200  # characters


@dataclass(frozen=True)
class Save:
    """One save of a model: the path of its file, and the checksum that tells it from the next."""

    place: Path
    sha256: str

    def check(self) -> None:
        """Raises: FileError where another save has taken its place."""
        if self.place.exists() and checksum_at(self.place) != self.sha256:
            raise FileError(
                f"{self.place} has changed since this model was read from it, and what changed "
                "would be lost; load it again and repeat, or save elsewhere"
            )


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
    place = place_of(_text(path))
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or not finite(tensor):
            raise BundleError(f"weights {name!r} are not float32 numbers; the model is not saved")
    text = _manifest(sections)
    again = read if read is not None and read.place == place else None

    def check() -> None:
        check_replaceable(place)
        if again is not None:
            again.check()

    check()
    with faults_of(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    sha256 = write_tensors(place, tensors, text, check)
    return read if again is None else replace(again, sha256=sha256)


def check_replaceable(path: str | os.PathLike[str]) -> None:
    """Raises: FileError where anything but a model stands, which a save would replace."""
    place = place_of(path)
    with faults_of(place):
        if place.is_dir():
            raise FileError(f"{place} is a folder; give the name of a file")
        if is_stream(place):
            raise FileError(f"{place} is not a regular file; give the name of a file")
        if place.exists() and place.stat().st_size and checksum_at(place) is None:
            raise FileError(
                f"{place} is not a keyhole model and would be lost; save elsewhere or remove it"
            )


def _text(path: str | os.PathLike[str]) -> str:
    """A path as text. Raises: SettingError for what is none."""
    if not isinstance(path, str | os.PathLike):
        raise SettingError(
            f"{type(path).__name__:.40} is not a path: give that of the model, 'm.keyhole'"
        )
    return str(path)


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """The model in a file, its checksum compared; nothing is written, nothing run.

    Raises: BundleError that says what is wrong: absent, truncated, altered, too new; SettingError
    for what is no path.
    """
    stage("reading the model")
    path = _text(path)
    try:
        place = place_of(path)
        with opened(path) as file:
            header = read_header(file, path)
            sections, about = _read_manifest(header, path)
            check_tensors(file, header, path)
            save = Save(place, header.sha256)
            return Bundle(sections, about, path, os.dup(file.fileno()), header, save)
    except FileNotFoundError as fault:
        raise BundleError(
            f"{path} does not exist: give a file that keyhole fit or save wrote"
        ) from fault
    except FileError as fault:
        raise BundleError(str(fault)) from fault
    except OSError as fault:
        raise BundleError(f"{path} cannot be read: {fault.strerror}") from fault


def _read_manifest(header: Header, path: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The sections of a manifest, and what it says about its making.

    Raises: BundleError.
    """
    manifest = strict_json(header.text.encode(), f"the manifest of {path}")
    if not isinstance(manifest, dict):
        raise BundleError(f"{path} is not a keyhole model: its manifest is not an object")
    check_format(manifest, path)
    sections, about = manifest.get("sections"), manifest.get("about")
    if not isinstance(sections, dict) or not isinstance(about, dict):
        raise BundleError(f"{path} is not a keyhole model: it has no sections")
    if set(manifest) != {"format", "about", "sections"} or not all(map(_plain, about.values())):
        raise BundleError(f"{path} says odd things about itself")
    return sections, about


def _manifest(sections: dict[str, Any]) -> str:
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
        "sections": sections,
    }
    try:
        text = json.dumps(manifest, ensure_ascii=False, allow_nan=False)
        strict_json(text.encode(), "the manifest")
    except BundleError as fault:
        raise BundleError(
            f"the model cannot be saved: {fault!s:.200}; exclude columns with many texts"
        ) from fault
    except (TypeError, ValueError) as fault:
        raise BundleError(f"the model cannot be saved: {fault!s:.200}") from fault
    return text


def _plain(text: Any) -> bool:
    """True for a line that a terminal can be shown."""
    return isinstance(text, str) and len(text) <= MOST_ABOUT and text.isprintable()
