"""Denoised copies of image files; a run after a kill goes on.

Copies are written to a temporary folder, which is renamed when it is complete. Copies of an
earlier run are reused if model, settings and files are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import unicodedata
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keyhole.core.files import refuse_existing, write_whole
from keyhole.data.image_rows import as_images
from keyhole.data.images import ImageFile, Images, warn_infinite
from keyhole.data.lazy import pa
from keyhole.errors import DataError, FileError
from keyhole.jobs.files import Progress
from keyhole.modalities.tiles.source import NoiseEstimates
from keyhole.tasks.denoiser import Denoiser, image_denoiser

NOTE = ".keyhole.json"


@dataclass(frozen=True)
class Written:
    """Counts of written files, images, and pixels that were clipped to their type.

    `noiseless` images are unchanged, `striped` ones keep the noise that rows or columns share,
    `lossy` files lose more than rounding; `reused` counts the files of an earlier run.
    """

    files: int
    images: int
    clipped: int
    lossy: list[str]
    noiseless: list[str]
    striped: list[str]
    reused: int = 0


def denoise_files(
    denoiser: Denoiser, images: Images, out: str, *, force: bool, on_progress: Progress
) -> Written:
    """Write the denoised copy of one file to `out`, or of several into the folder `out`.

    Images are read tile by tile. Raises: FileError if `out` exists, DataError for equal names.
    """
    refuse_existing(out, force)
    warn_infinite(images.images)
    measured = image_denoiser(denoiser).estimates(images.images)
    if not _is_folder(images, out):
        return _copied(denoiser, images.files[0], out, measured, force, on_progress)
    names = [file.name for file in images.files]
    check_distinct(names, images.name)
    note = Note.begun(Path(f"{out.rstrip('/')}.part"), _settings(denoiser, images))
    written: list[Written] = []
    for file in images.files:
        path, done = note.folder / file.name, note.done.get(file.name)
        if done is not None and path.exists():
            written.append(replace(Written(**done), reused=1))
            on_progress(len(file.images))
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if hasattr(file, "call"):  # all copies are one DICOM series, also after a kill
            file.call = note.call  # pyright: ignore
        written.append(_copied(denoiser, file, str(path), measured, True, on_progress))
        note.add(file.name, written[-1])
    (note.folder / NOTE).unlink()
    _move(note.folder, Path(out), names)
    return _sum(written)


def check_distinct(names: list[str], source: str) -> None:
    """Raises: DataError for names that are equal, or equal on some disks.

    Those ignore case, or whether an accent is a character of its own.
    """
    known: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", name).casefold()
        if known.get(key) == name:
            raise DataError(f"{source} has several files named {name!r}: give their folder")
        if key in known:
            raise DataError(
                f"{source} has {known[key]!r} and {name!r}, which have the same name on some "
                "disks: rename one"
            )
        known[key] = name


@dataclass
class Note:
    """What a run has done so far, as a file in its temporary folder."""

    folder: Path
    settings: str
    call: str
    done: dict[str, Any]

    @classmethod
    def begun(cls, folder: Path, settings: str) -> Note:
        """The note of an earlier run of the same model on the same files, or a new one.

        Copies of another run are removed. Raises: FileError for a folder with other files.
        """
        path = folder / NOTE
        try:
            content = json.loads(path.read_text()) if path.exists() else None
            if content is None and folder.exists() and any(folder.iterdir()):
                raise FileError(f"{folder} has files that no earlier run wrote: move it")
            if content is not None and content.get("settings") == settings:
                return cls(folder, settings, str(content["call"]), dict(content["done"]))
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
        except (OSError, ValueError, KeyError, TypeError) as fault:
            if isinstance(fault, FileError):
                raise
            raise FileError(f"{folder} cannot be used: {fault!s:.160}") from fault
        note = cls(folder, settings, secrets.token_hex(16), {})
        note.write()
        return note

    def add(self, name: str, written: Written) -> None:
        """Save that a file is done."""
        self.done[name] = asdict(written)
        self.write()

    def write(self) -> None:
        """Atomically save the note."""
        content = {"settings": self.settings, "call": self.call, "done": self.done}
        write_whole(self.folder / NOTE, json.dumps(content))


def _is_folder(images: Images, out: str) -> bool:
    """False if the user named one file, and `out` is not a folder."""
    if out.endswith("/") or len(images.files) > 1:
        return True
    file = images.files[0]
    named = os.path.abspath(file.path) == os.path.abspath(images.name)
    return not named or (os.path.isdir(out) and not file.folder)


def _copied(
    denoiser: Denoiser,
    file: ImageFile,
    path: str,
    measured: NoiseEstimates,
    force: bool,
    on_progress: Progress,
) -> Written:
    note = f"Denoised by keyhole, model {denoiser.model_.fingerprint}; not for diagnosis"
    noiseless, striped = [], []
    with file.copy_to(path, note=note, force=force) as copy:
        for plane, image in enumerate(file.images):
            unit = measured.unit(image)
            if unit.noise.kind == "none":
                noiseless.append(image.name)
            if unit.noise.striped:
                striped.append(image.name)
            for y, rows in image_denoiser(denoiser).bands(image, unit):
                copy.write(plane, y, rows)
            on_progress(1)
    lossy = [file.name] if copy.lossy else []
    return Written(1, len(file.images), copy.clipped, lossy, noiseless, striped)


def _sum(parts: list[Written]) -> Written:
    """Counts added, lists joined."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Written(*(sum(column, type(column[0])()) for column in columns))  # pyright: ignore


def _settings(denoiser: Denoiser, images: Images) -> str:
    """A digest of the model, its settings and the files."""
    method, given = denoiser.comparison_.method, (denoiser.noise, denoiser.axes)
    lines = [denoiser.model_.fingerprint, method, *map(repr, given)]
    for file in images.files:
        state = os.stat(file.path)
        lines.append(f"{os.path.abspath(file.path)} {state.st_size} {state.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _move(part: Path, out: Path, names: list[str]) -> None:
    """Rename the folder to `out`, or move its files if `out` exists."""
    try:
        if not out.exists():
            part.rename(out)
            return
        for name in names:
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():  # a Zarr: whole, lest old chunks stay
                shutil.rmtree(target)
            os.replace(part / name, target)
        shutil.rmtree(part)
    except OSError as fault:
        raise FileError(f"{out} cannot be written: {fault}; the copies are in {part}") from fault


class ImageFolder:
    """Writes tables of drawn images into a folder as 00001.png and so on, with 8 bits."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def write(self, table: pa.Table) -> None:
        """Write the images of a table, scaled from the range of their type or their values."""
        from PIL import Image

        images = as_images(table)
        ends = np.iinfo(images.dtype) if np.issubdtype(images.dtype, np.integer) else None
        for image in images:
            low, high = (ends.min, ends.max) if ends else (image.min(), image.max())
            share = (image.astype(float) - low) / max(high - low, 1e-12)
            self.count += 1
            png = Image.fromarray((255 * share.clip(0, 1) + 0.5).astype(np.uint8))
            png.save(self.folder / f"{self.count:05d}.png")
