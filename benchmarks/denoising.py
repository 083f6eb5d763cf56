"""Denoising from noisy images alone, against three classical filters that know the noise level.

    python -m benchmarks.denoising [--only gaussian blind medical poisson correlated xrays size]

*Gaussian*: the ten scikit-image images (256x256 centres, grey, in [0, 1]), with unclipped noise of
sigma 25/255, seed 1000 + i. keyhole measures the level itself. It trains only on these ten images,
on two threads. Results are clipped to [0, 1] for the score. Bars: mean PSNR 30.2 dB (stretch 30.6)
in 15 minutes; BM3D has 30.63.

*Blind*: the same with a blind spot. It uses only the measured level of the noise. Bar: 29.3.

*Medical*: two DICOM and two NIfTI slices and a retina, each scaled to [0, 1]. About two fifths of
the crops are synthetic (dead leaves). Bars: 29.9 dB and SSIM .85. In the notes behind these bars,
non-local means has 29.39 and BM3D 30.49. On the slices as they are read here, non-local means has
less, so compare the lead.

*Poisson* at peak 30, and *correlated* (white noise through a 3x3 box, same total level). Bar:
better than the best filter. With Poisson noise, filters are tried in two ways: on the unchanged
image with its mean level, and on the image stabilised with the true gain.

*X-rays*: the 3,882 training images of PneumoniaMNIST (28x28), with noise of sigma 25; scored on
the 624 test images. Bar: 1.5 dB better than the best filter.

*Size*: a 20,000 x 20,000 image of 16 bits, uncompressed, from file to file without a page, with a
net a quarter as wide as the default; and the default net at 3,000 x 3,000, because memory depends
on the tile only. Bar: 1,000 MB above the loaded library. *Tiles*: the largest difference between
tiles and the whole image, as a share of the range.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import data, emit
from keyhole import Denoiser
from keyhole.modalities.tiles.filters import FILTERS, classical, psnr, ssim
from keyhole.modalities.tiles.noise import NoiseModel, Stabiliser
from keyhole.tasks.denoiser import image_denoiser
from keyhole.training.corruptions import BlindSpot

SIGMA, PEAK = 25 / 255, 30.0
NAMES = (
    "camera", "coins", "moon", "page", "cell", "brick", "grass", "gravel", "chelsea", "coffee",
)  # fmt: skip
SHOWN = {"gaussian": {0: "camera", 9: "coffee"}, "medical": {0: "ct", 1: "mr"}}
MEASURED = ("gaussian", "blind", "medical", "poisson", "correlated", "xrays", "size")


def photographs() -> list[np.ndarray]:
    """The ten images, grey, in [0, 1], their 256x256 centres."""
    import skimage
    from skimage import color, io

    found = []
    for name in NAMES:
        image = io.imread(str(Path(skimage.__file__).parent / "data" / f"{name}.png"))
        grey = color.rgb2gray(image[..., :3]) if image.ndim == 3 else image / 255.0
        y, x = (max((n - 256) // 2, 0) for n in grey.shape)
        found.append(grey[y : y + 256, x : x + 256])
    return found


def medical() -> list[np.ndarray]:
    """CT, MR, two NIfTI slices and a retina, each scaled to [0, 1]."""
    import nibabel
    import pydicom
    import skimage
    from skimage import color, io

    dicom = Path(pydicom.__file__).parent / "data" / "test_files"
    nifti = Path(nibabel.__file__).parent / "tests" / "data"
    retina = io.imread(str(Path(skimage.__file__).parent / "data" / "retina.jpg"))
    slices = [
        pydicom.dcmread(dicom / name).pixel_array for name in ("CT_small.dcm", "MR_small.dcm")
    ]
    volumes: Any = [nibabel.load(nifti / name) for name in ("anatomical.nii", "example4d.nii.gz")]
    slices += [volumes[0].get_fdata()[:, :, 12], volumes[1].get_fdata()[:, :, 12, 0]]
    slices.append(color.rgb2gray(retina)[450:962:2, 450:962:2])
    return [(s - s.min()) / np.ptp(s.astype(float)) for s in slices]


def gaussian(clean: list[np.ndarray]) -> list[np.ndarray]:
    """White noise of the same level everywhere."""
    return [c + SIGMA * _rng(i).standard_normal(c.shape) for i, c in enumerate(clean)]


def counts(clean: list[np.ndarray]) -> list[np.ndarray]:
    """Photons counted."""
    return [_rng(i).poisson(PEAK * c) / PEAK for i, c in enumerate(clean)]


def boxed(clean: list[np.ndarray]) -> list[np.ndarray]:
    """White noise through a 3x3 box, of the same total level."""
    found = []
    for i, c in enumerate(clean):
        high, wide = c.shape
        white = _rng(i).standard_normal((high + 2, wide + 2))
        total = sum(white[y : y + high, x : x + wide] for y in range(3) for x in range(3))
        found.append(c + SIGMA * total / 3)
    return found


def _rng(place: int) -> np.random.Generator:
    return np.random.default_rng(1000 + place)


def scored(clean: list[np.ndarray], found: list[np.ndarray]) -> dict[str, float]:
    """Mean PSNR (dB) and SSIM over images, clipped to [0, 1]."""
    pairs = [(c, np.clip(x, 0, 1)) for c, x in zip(clean, found, strict=True)]
    return {name: float(np.mean([of(c, x, 1.0) for c, x in pairs]))
            for name, of in (("psnr", psnr), ("ssim", ssim))}  # fmt: skip


def filters(
    clean: list[np.ndarray], noisy: list[np.ndarray], *, even: bool = False
) -> dict[str, list[np.ndarray]]:
    """What each classical filter makes of it, given the true level."""
    found = {}
    for name in FILTERS:
        said = []
        for c, y in zip(clean, noisy, strict=True):
            if even:  # by the true gain
                made = Stabiliser.of(NoiseModel(0.0, gain=1 / PEAK))
                said.append(made.inverse(classical(made.forward(y), 1.0, name)))
            else:
                level = SIGMA if not _photons(y) else float(np.sqrt(c.mean() / PEAK))
                said.append(classical(y, level, name))
        found[f"{name}, made even" if even else name] = said
    return found


def _photons(y: np.ndarray) -> bool:
    return bool(np.allclose(y * PEAK, np.round(y * PEAK)))


def compared(
    line: str,
    clean: list[np.ndarray],
    noisy: list[np.ndarray],
    parts: dict[str, Any],
    folder: str | None,
) -> None:
    """One set: keyhole beside the filters; some images into a folder."""
    given = [y.astype(np.float32) for y in noisy]
    began = time.monotonic()
    denoiser = Denoiser(random_state=0, **parts).fit(given)
    fitted = time.monotonic() - began
    found = denoiser.transform(given)
    said = filters(clean, noisy)
    if line == "poisson":
        said |= filters(clean, noisy, even=True)
    rivals = {name: scored(clean, planes) for name, planes in said.items()}
    best = max(rivals, key=lambda name: rivals[name]["psnr"])
    mine = scored(clean, found)
    emit("denoising", line=line, keyhole=mine, noisy=scored(clean, noisy), filters=rivals,
         ahead_of_best=mine["psnr"] - rivals[best]["psnr"], best=best, answered_by=_used(denoiser),
         noise=str(denoiser.noise_), threads=torch.get_num_threads(), fit_seconds=fitted,
         transform_seconds=time.monotonic() - began - fitted,
         by_image=[scored([c], [x]) for c, x in zip(clean, found, strict=True)])  # fmt: skip
    if folder is not None:
        show(folder, line, [noisy, found, said[best], clean])
        for name, planes in (("noisy", noisy), ("keyhole", found), (best, said[best])):
            shown = {SHOWN[line][i]: scored([clean[i]], [planes[i]]) for i in SHOWN[line]}
            emit("denoising", line=f"{line} shown", who=name, **shown)


def show(folder: str, line: str, rows: list[list[np.ndarray]]) -> None:
    """Images side by side: noisy, keyhole's, the best filter's, clean."""
    from PIL import Image

    for place, name in SHOWN[line].items():
        strip = np.concatenate([np.clip(row[place], 0, 1) for row in rows], 1)
        large = strip.repeat(max(1, 192 // len(strip)), 0).repeat(max(1, 192 // len(strip)), 1)
        image = Image.fromarray((255 * large + 0.5).astype(np.uint8))
        image.save(Path(folder) / f"{name}.png", optimize=True)


def _used(denoiser: Denoiser) -> str:
    scores = {name: round(score, 4) for name, score in denoiser.comparison_.scores.items()}
    return f"{denoiser.comparison_.method}; scores without truth {scores}"


def xrays() -> None:
    """Chest X-rays of 28x28, trained on noisy ones, asked about others."""
    held = np.load(data("images") / "pneumoniamnist.npz")
    rng = np.random.default_rng(0)
    train, test = ([c / 255.0 for c in held[f"{part}_images"]] for part in ("train", "test"))
    known, asked = ([c + SIGMA * rng.standard_normal(c.shape) for c in p] for p in (train, test))
    began = time.monotonic()
    denoiser = Denoiser(random_state=0).fit(np.stack(known).astype(np.float32))
    took = time.monotonic() - began
    found = denoiser.transform(np.stack(asked).astype(np.float32))
    mine = scored(test, list(found))
    rivals = {name: scored(test, planes) for name, planes in filters(test, asked).items()}
    best = max(rivals, key=lambda name: rivals[name]["psnr"])
    emit("denoising", line="xrays", keyhole=mine, noisy=scored(test, asked), filters=rivals,
         ahead_of_best=mine["psnr"] - rivals[best]["psnr"], best=best, answered_by=_used(denoiser),
         noise=str(denoiser.noise_), fit_seconds=took, bar="1.5 dB ahead")  # fmt: skip


def size(side: int) -> None:
    """An image of this side from file to file, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.denoising", "--inside", folder, str(side)]
        said = subprocess.run([*command, "write"], check=True, stdout=subprocess.PIPE, text=True)
        print(said.stdout, end="", flush=True)
        done = subprocess.run([*command, "denoise"], check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout.splitlines()[-1], flush=True)


def inside(folder: str, side: int, verb: str) -> None:
    """One step of `size`: a file and a model are written, or the file is denoised."""
    import tifffile

    from keyhole.cli import run
    from keyhole.model.nets.unet import UNet
    from keyhole.training import TrainingConfig

    path, model = Path(folder) / "large.tif", str(Path(folder) / "m.keyhole")
    if verb == "write":
        tile = np.concatenate(
            [np.concatenate(photographs()[:2]), np.concatenate(photographs()[5:7])], 1
        )
        rng, rows = np.random.default_rng(0), -(-side // 512)
        wide = np.tile(tile, (1, -(-side // tile.shape[1])))[:, :side]

        def bands() -> Any:
            for row in range(rows):
                high = min(512, side - 512 * row)
                clean = 20_000 + 20_000 * wide[:high]
                yield (clean + 2_000 * rng.standard_normal(clean.shape)).astype(np.uint16)

        with tifffile.TiffWriter(path, bigtiff=True) as file:
            file.write(bands(), shape=(side, side), dtype=np.uint16, rowsperstrip=512)
        small = (20_000 + 20_000 * tile + 2_000 * rng.standard_normal(tile.shape)).astype(
            np.uint16
        )
        net = UNet([8, 16, 32]) if side > 3_000 else UNet()
        denoiser = Denoiser(net=net, training=TrainingConfig(100, learning_rate=2e-3,
            patience=None),
                            fallback=False, random_state=0).fit(small)  # fmt: skip
        denoiser.save(model)
        if side <= 3_000:
            tiled(denoiser, small)
        return
    denoiser = Denoiser.load(model)  # everything that a run needs is imported by then
    denoiser.transform(np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32) * 100)
    before, began = _peak_mb(), time.monotonic()
    assert run(["denoise", model, str(path), "-o", str(Path(folder) / "out.tif"), "--quiet"]) == 0
    out = tifffile.TiffFile(Path(folder) / "out.tif").series[0]
    emit("denoising", line="size", side=side, dtype=str(out.dtype), shape=list(out.shape),
         megabytes_above_library=_peak_mb() - before, seconds=time.monotonic() - began,
         bar=1_000)  # fmt: skip


def tiled(denoiser: Denoiser, image: np.ndarray) -> None:
    """How far an image in small tiles is from the image at once."""
    from keyhole.modalities.tiles.tiling import bands

    (opened,) = denoiser.open(image).images
    unit = denoiser.measured([opened]).unit(opened)
    answer = image_denoiser(denoiser).method_of(8)
    pieces, whole = (np.concatenate([rows for _, rows in bands(opened, unit, answer, side)])
                     for side in (64, 4_096))  # fmt: skip
    emit("denoising", line="tiles", difference=float(np.abs(pieces - whole).max() / np.ptp(whole)),
         image=list(image.shape), bar=1e-4)  # fmt: skip


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(MEASURED), choices=MEASURED)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--show", metavar="FOLDER", help="Write some images side by side.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--inside", nargs=3, metavar=("FOLDER", "SIDE", "VERB"))
    asked = parser.parse_args()
    if asked.inside:
        inside(asked.inside[0], int(asked.inside[1]), asked.inside[2])
        return
    torch.set_num_threads(asked.threads)
    clean, slices = photographs(), medical()
    sets = {
        "gaussian": (clean, gaussian(clean), {}),
        "blind": (clean, gaussian(clean), {"corruption": BlindSpot()}),
        "medical": (slices, gaussian(slices), {}),
        "poisson": (clean, counts(clean), {}),
        "correlated": (clean, boxed(clean), {}),
    }
    for line in asked.only:
        if line in sets:
            compared(line, *sets[line], asked.show if line in SHOWN else None)
        elif line == "xrays":
            xrays()
        else:
            size(3_000)
            size(asked.side)


if __name__ == "__main__":
    main()
