"""
Denoise a microscope image
==========================

The denoiser learns from the noisy image alone. It measures the noise, learns what can be
predicted from the neighbourhood of a pixel, and keeps that.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage.data import immunohistochemistry

from keyhole import Denoiser, TrainingConfig
from keyhole.model.nets.unet import UNet

# %%
# Cells under the microscope. We add noise, so that the clean image is known.

clean = immunohistochemistry()[100:228, 100:228, 1].astype(np.float32)
noisy = clean + 20 * np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)

# %%
# A small net and few steps, so that this example ends within seconds. Leave out both for your
# images. Where a classical filter does better than the net, the filter answers, as here.

quick = TrainingConfig(steps=40, batch=4)
denoiser = Denoiser(net=UNet([8, 16, 32]), training=quick, random_state=0).fit(noisy)
denoised = denoiser.transform(noisy)
print(denoiser.noise_)
print(denoiser.verdict_)


# %%
# PSNR (peak signal-to-noise ratio) says how near an image is to the clean one. Higher is
# better. The last image is what was removed: it should show no trace of the cells.


def psnr(image: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB."""
    return 10 * np.log10(255**2 / ((image - clean) ** 2).mean())


fig, axes = plt.subplots(1, 4, figsize=(11, 3.2), layout="constrained")
for ax, image, title in zip(
    axes,
    (noisy, denoised, clean, noisy - denoised),
    (f"noisy, {psnr(noisy):.1f} dB", f"denoised, {psnr(denoised):.1f} dB", "clean", "removed"),
):
    span = (-60, 60) if title == "removed" else (clean.min(), clean.max())
    ax.imshow(image, cmap="gray", vmin=span[0], vmax=span[1])
    ax.set_title(title)
    ax.set_axis_off()
plt.show()
