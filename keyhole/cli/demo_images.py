"""The images of keyhole demo: denoise a photograph and an MR slice, and draw new digits."""

import time
from typing import Any

from keyhole.cli.common import Say, kilobytes, spoken_warnings

SIGMA = 25 / 255  # of the noise that is added to the camera image
IMAGE_STEPS, BATCH = 900, 8
DIGIT_WIDTH, DIGIT_STEPS, DIGIT_RATE = 16, 1_000, 3e-3


def denoise_images(page: str, seed: int, say: Say) -> None:
    """Fit a denoiser on a noisy image and a real MR slice, and write a page with both."""
    try:
        clean, scan = _camera(), _slice()
    except ImportError as missing:
        from keyhole.core.environment import install_command

        command = install_command("images", "medical")
        say("images", f"skipped: {missing}; {command} installs what this part needs")
        return
    import numpy as np

    from keyhole.core.progress import progress
    from keyhole.data.images import open_images
    from keyhole.report.images import in_words, write_denoising
    from keyhole.tasks import Denoiser
    from keyhole.training import TrainingConfig

    noisy = clean + SIGMA * np.random.default_rng(seed).standard_normal(clean.shape)
    noisy, began = noisy.astype(np.float32), time.monotonic()
    say("data", f"a photograph with added noise of standard deviation {SIGMA:.3f} (ships with "
        "scikit-image) and an MR slice (ships with pydicom); no clean image is used")  # fmt: skip
    training = TrainingConfig(IMAGE_STEPS, batch=BATCH, learning_rate=2e-3, patience=None)
    with spoken_warnings(say):
        denoiser = Denoiser(training=training, random_state=seed)
        denoiser.fit([noisy, scan], on_evaluate=progress())
    say("verdict", f"{denoiser.verdict_} ({time.monotonic() - began:.0f} s)")
    say("compare", in_words(denoiser))
    (camera,) = denoiser.judge(noisy, clean.astype(np.float32))
    (mr,) = denoiser.judge(scan)
    say("noise", f"photograph: {camera.before}")
    if camera.psnr is not None and camera.ssim is not None:
        (before, after), (from_ssim, to_ssim) = camera.psnr, camera.ssim
        say("quality", f"photograph: PSNR {before:.2f} -> {after:.2f} dB, SSIM {from_ssim:.2f} -> "
            f"{to_ssim:.2f} (higher is better)")  # fmt: skip
    noise, removed, *_ = mr.sentences()
    say("noise", f"MR slice: {noise}; {removed[:1].lower()}{removed[1:]}")
    write_denoising(page, denoiser, open_images([noisy, scan]), [clean.astype(np.float32), None])
    say("wrote", f"{page} ({kilobytes(page)}): before, after, and what was removed")


def _camera() -> Any:
    """The middle 256 x 256 pixels of the camera image, in [0, 1]."""
    from pathlib import Path

    import numpy as np
    import skimage
    from PIL import Image

    path = Path(skimage.__file__).parent / "data" / "camera.png"
    return np.asarray(Image.open(path))[128:384, 128:384] / 255.0


def _slice() -> Any:
    """The real MR slice that ships with pydicom, in the scanner's values."""
    from pydicom.data import get_testdata_file

    from keyhole.data.images import open_images

    return open_images(str(get_testdata_file("MR_small.dcm")))[0].whole()[..., 0]


def draw_digits(page: str, seed: int, say: Say) -> None:
    """Fit a variational code and a prior on scikit-learn's digits, and draw new digits."""
    from sklearn.datasets import load_digits

    from keyhole.autoencoder.estimator import Autoencoder
    from keyhole.core.progress import progress
    from keyhole.model.bottlenecks import Variational
    from keyhole.model.heads import Mixed
    from keyhole.model.priors import Mixture
    from keyhole.report import write_report
    from keyhole.tasks import Generator
    from keyhole.training import TrainingConfig

    digits: Any = load_digits()
    say("digits", f"{len(digits.data):,} handwritten digits of 8 x 8 pixels (ships with "
        f"scikit-learn) -> code of {DIGIT_WIDTH} numbers -> new digits")  # fmt: skip
    model = Autoencoder(
        Variational(width=DIGIT_WIDTH, beta=0.5),
        head=Mixed(continuous="binned"),
        training=TrainingConfig(DIGIT_STEPS, members=1, learning_rate=DIGIT_RATE),
    )
    with spoken_warnings(say):
        generator = Generator(model, prior=Mixture(), random_state=seed)
        generator.fit(digits.data, on_evaluate=progress())
    say.verdict(generator.autoencoder_)
    write_report(page, generator.autoencoder_, None)
    say("wrote", f"{page} ({kilobytes(page)}): new digits, and how realistic they are")
