"""The part of the demo that takes noise from a picture and from an MR slice."""

import os
import time
from typing import Any

from keyhole.cli.common import Say, spoken_warnings
from keyhole.core.package import install_command

SIGMA = 25 / 255
STEPS, BATCH = 900, 8


def clean_pictures(page: str, seed: int, say: Say) -> None:
    """A denoiser fitted on a noisy picture and a real MR slice; both, cleaned, on a page."""
    try:
        clean, scan = _camera(), _slice()
    except ImportError as missing:
        command = install_command("images", "medical")
        say("pictures", f"left out: {missing}; {command} installs all that this part needs")
        return
    import numpy as np

    from keyhole.images import open_images
    from keyhole.report.denoising import in_words, write_denoising
    from keyhole.tasks import Denoiser
    from keyhole.training import Plan

    noisy = clean + SIGMA * np.random.default_rng(seed).standard_normal(clean.shape)
    noisy, began = noisy.astype(np.float32), time.monotonic()
    plan = Plan(STEPS, batch=BATCH, learning_rate=2e-3, patience=None)
    with spoken_warnings(say):
        denoiser = Denoiser(plan=plan, random_state=seed).fit([noisy, scan])
    say("denoise", f"{denoiser.verdict_}; {in_words(denoiser)} "
        f"({time.monotonic() - began:.0f} s)")  # fmt: skip
    (camera,) = denoiser.judge(noisy, clean.astype(np.float32))
    (mr,) = denoiser.judge(scan)
    say("noise", f"camera (ships with scikit-image): {camera.before}; {SIGMA:.3f} was added")
    if camera.psnr is not None and camera.ssim is not None:
        (before, after), (from_ssim, to_ssim) = camera.psnr, camera.ssim
        say("camera", f"{before:.2f} -> {after:.2f} dB, SSIM {from_ssim:.2f} -> {to_ssim:.2f}, "
            "learnt without any clean picture")  # fmt: skip
    say("MR slice", f"MR_small.dcm (ships with pydicom): {mr.sentences()[0]}; "
        f"{mr.sentences()[1][:1].lower()}{mr.sentences()[1][1:]}")  # fmt: skip
    write_denoising(page, denoiser, open_images([noisy, scan]))
    say("wrote", f"{page} ({os.path.getsize(page) / 1000:,.0f} kB): before, after, taken away")


def _camera() -> Any:
    """The middle 256 x 256 of the picture, in [0, 1]."""
    from pathlib import Path

    import numpy as np
    import skimage
    from PIL import Image

    path = Path(skimage.__file__).parent / "data" / "camera.png"
    return np.asarray(Image.open(path))[128:384, 128:384] / 255.0


def _slice() -> Any:
    """The real MR slice that pydicom's tests use, as it came from the scanner."""
    from pydicom.data import get_testdata_file

    from keyhole.images import open_images

    return open_images(str(get_testdata_file("MR_small.dcm")))[0].whole()[..., 0]
