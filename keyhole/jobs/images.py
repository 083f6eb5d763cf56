"""Images from files to files; a killed run goes on.

Copies are written to a folder aside, which is renamed when all are there. A copy that is there
already is not made again if model and settings are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keyhole.core.files import refuse_existing, write_whole
from keyhole.data.image_rows import as_images
from keyhole.data.images import ImageFile, Images, warn_infinite
from keyhole.errors import DataError, FileError
from keyhole.modalities.tiles.scaling import NoiseEstimates
from keyhole.tasks.denoise.denoiser import Denoiser

if TYPE_CHECKING:
    import pyarrow as pa


NOTE = ".keyhole.json"


@dataclass(frozen=True)
class Written:
    """What came of one file, or of several: images, pixels that did not fit their type.

    `noiseless` are images left as they were, `striped` those whose rows or columns share noise
    that stays, `lossy` files whose format loses more than
    rounding does; `kept` counts the files that an earlier run had done.
    """

    files: int
    images: int
    clipped: int
    lossy: list[str]
    noiseless: list[str]
    striped: list[str]
    kept: int = 0


def denoise_files(
    denoiser: Denoiser, images: Images, out: str, *, force: bool, heard: Callable[[int], None]
) -> Written:
    """Denoised copies of files, one as `out`, several into the folder `out`; memory is a tile's.

    Raises: FileError where something stands there, DataError for files of one name.
    """
    refuse_existing(out, force)
    warn_infinite(images.images)
    measured = denoiser.image_denoiser.estimates(images.images)
    if not _is_folder(images, out):
        return _copied(denoiser, images.files[0], out, measured, force, heard)
    names = [file.name for file in images.files]
    _refuse_same(names, images.name)
    note = Note.begun(Path(f"{out.rstrip('/')}.part"), _settings(denoiser, images))
    found: list[Written] = []
    for file in images.files:
        done = note.done.get(file.name)
        if done is not None and (note.folder / file.name).exists():
            found.append(replace(Written(**done), kept=1))
            heard(len(file.images))
            continue
        place = note.folder / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if hasattr(file, "call"):  # copies of one series stay one, though the run was killed
            file.call = note.call  # pyright: ignore
        found.append(_copied(denoiser, file, str(place), measured, True, heard))
        note.add(file.name, found[-1])
    note.remove()
    _settle(note.folder, Path(out), names)
    return _sum(found)


def _refuse_same(names: list[str], where: str) -> None:
    """Raises: DataError for files of one name, in capitals or not: some disks know no difference.

    Letters with marks are one sign or two; some disks take these for the same as well.
    """
    first: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", name).casefold()
        if key not in first:
            first[key] = name
            continue
        other = first[key]
        if other == name:
            raise DataError(f"{where} names several files {name!r}: give their folder")
        raise DataError(
            f"{where} names {other!r} and {name!r}, which are one file on some disks: rename one"
        )


@dataclass
class Note:
    """What a run has done so far, in a file of the folder where its copies gather."""

    folder: Path
    settings: str
    call: str
    done: dict[str, Any]

    @classmethod
    def begun(cls, folder: Path, settings: str) -> Note:
        """The note of an earlier run of the same model on the same files, or a new one.

        Copies of another run are removed. Raises: FileError for a folder that is none of ours.
        """
        path = folder / NOTE
        try:
            held = json.loads(path.read_text()) if path.exists() else None
            if held is None and folder.exists() and any(folder.iterdir()):
                raise FileError(f"{folder} is in the way, and no run of ours: move it")
            if held is not None and held.get("settings") == settings:
                return cls(folder, settings, str(held["call"]), dict(held["done"]))
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
        """One more file is done."""
        self.done[name] = asdict(written)
        self.write()

    def write(self) -> None:
        """Keep the note, whole."""
        said = {"settings": self.settings, "call": self.call, "done": self.done}
        write_whole(self.folder / NOTE, json.dumps(said))

    def remove(self) -> None:
        """All is done."""
        (self.folder / NOTE).unlink()


def _is_folder(images: Images, out: str) -> bool:
    """One file that was named becomes one file, all else a folder."""
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
    heard: Callable[[int], None],
) -> Written:
    note = f"Denoised by keyhole, model {denoiser.model_.fingerprint}; not for diagnosis"
    noiseless, striped = [], []
    with file.copy_to(path, note=note, force=force) as copy:
        for place, image in enumerate(file.images):
            unit = measured.unit(image)
            if unit.noise.kind == "none":
                noiseless.append(image.name)
            if unit.noise.striped:
                striped.append(image.name)
            for y, rows in denoiser.image_denoiser.bands(image, unit):
                copy.write(place, y, rows)
            heard(1)
    lossy = [file.name] if copy.lossy else []
    return Written(1, len(file.images), copy.clipped, lossy, noiseless, striped)


def _sum(parts: list[Written]) -> Written:
    return Written(
        files=sum(part.files for part in parts),
        images=sum(part.images for part in parts),
        clipped=sum(part.clipped for part in parts),
        lossy=[name for part in parts for name in part.lossy],
        noiseless=[name for part in parts for name in part.noiseless],
        striped=[name for part in parts for name in part.striped],
        kept=sum(part.kept for part in parts),
    )


def _settings(denoiser: Denoiser, images: Images) -> str:
    """A digest of the model, of what it was told, and of which files it is asked about."""
    fitted = denoiser.model_
    said = [
        fitted.fingerprint,
        denoiser.comparison_.method,
        repr(denoiser.noise),
        repr(denoiser.axes),
    ]
    for file in images.files:
        state = os.stat(file.path)
        said.append(f"{os.path.abspath(file.path)} {state.st_size} {state.st_mtime_ns}")
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def _settle(part: Path, out: Path, names: list[str]) -> None:
    """The folder in its place; into a folder that stands there, file by file."""
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
    """Takes tables of drawn images into a folder: 00001.png and so on, 8 bits each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def write(self, table: pa.Table) -> None:
        """The images of a table, grey or of three channels, in the range of their own type."""
        from PIL import Image

        images = as_images(table)
        whole = np.issubdtype(images.dtype, np.integer)
        ends = np.iinfo(images.dtype) if whole else None
        for image in images:
            low, high = (ends.min, ends.max) if ends else (image.min(), image.max())
            tone = (image.astype(float) - low) / max(high - low, 1e-12)
            self.count += 1
            stored = Image.fromarray((255 * tone.clip(0, 1) + 0.5).astype(np.uint8))
            stored.save(self.folder / f"{self.count:05d}.png")
