"""Hot pixels, stripes and constant backgrounds: measured, and not smeared."""

import os

import numpy as np
import pytest

from keyhole import Denoiser, TrainingConfig
from keyhole.modalities.tiles.estimate import estimate, pooled
from keyhole.modalities.tiles.noise import NoiseModel, impulse_scale, impulses
from keyhole.modalities.tiles.source import NoiseScaler
from keyhole.model.nets.unet import UNet

skimage = pytest.importorskip("skimage")
CAMERA = os.path.join(os.path.dirname(skimage.__file__), "data", "camera.png")


def camera(side=192):
    from skimage import io

    return io.imread(CAMERA)[100 : 100 + side, 100 : 100 + side].astype(np.float32)


def noisy(clean, sd=10, seed=0):
    return clean + sd * np.random.default_rng(seed).standard_normal(clean.shape)


def quick(**said):
    net = UNet([4, 8], precision="float32")
    return Denoiser(net=net, training=TrainingConfig(6, batch=4), random_state=0, **said)


def test_noise_that_rows_or_columns_share_is_measured_and_said():
    rng = np.random.default_rng(1)
    striped = noisy(camera()) + 50 * rng.standard_normal((192, 1))
    noise = estimate(striped)
    assert noise.rows == pytest.approx(50, rel=0.2)
    assert noise.columns == 0
    assert noise.sigma == pytest.approx(10, rel=0.1)
    assert "pixels of a row share noise of standard deviation" in noise.describe(None)
    assert "not removed" in noise.describe(None)
    assert "not correlated" not in noise.describe(None)
    assert estimate(striped.T).columns == pytest.approx(noise.rows, rel=1e-6)


@pytest.mark.parametrize("name", ["camera", "brick", "page", "moon", "coins", "text", "grass"])
@pytest.mark.parametrize("sd", [0, 5, 25])
def test_images_without_them_have_neither_stripes_nor_impulses(name, sd):
    from skimage import io

    clean = io.imread(os.path.join(os.path.dirname(CAMERA), f"{name}.png"))[:256, :256]
    noise = estimate(noisy(clean, sd))
    assert (noise.rows, noise.columns, noise.impulses) == (0, 0, 0)


def test_noise_alone_has_no_impulses():
    x = np.random.default_rng(0).standard_normal((1_000, 1_000, 1)).astype(np.float32)
    assert impulse_scale([x]) == (0, 0)
    assert impulses(x, 1.0).sum() == 0
    counts = np.random.default_rng(0).poisson(3, (500, 500, 1))
    assert impulse_scale([counts]) == (0, 0)


@pytest.mark.parametrize("width", [1.2, 1.5, 3.0])
def test_stars_are_no_impulses(width):
    rng = np.random.default_rng(0)
    sky, (y, x) = 100 + noisy(np.zeros((256, 256))), np.mgrid[:256, :256]
    for _ in range(60):
        cy, cx = rng.random(2) * 250 + 3
        brightness = 10 ** rng.uniform(2, 4)
        sky += brightness * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 2 / (width / 2.355) ** 2)
    assert impulse_scale([sky[..., None]]) == (0, 0)


@pytest.mark.parametrize("share", [0.001, 0.01])
def test_hot_pixels_are_found_and_counted(share):
    clean = camera()
    hot = np.random.default_rng(5).random(clean.shape) < share
    spoilt = np.where(hot, 4_000, noisy(clean)).astype(np.float32)
    noise = estimate(spoilt)
    assert noise.impulses == pytest.approx(hot.mean(), rel=0.2)
    assert noise.sigma == pytest.approx(10, rel=0.1)
    assert "% of the pixels are impulses (hot or dead), treated as missing" in str(noise)
    told = impulses(spoilt[..., None], impulse_scale([spoilt])[1])[..., 0]
    assert (told & ~hot).sum() == 0


@pytest.mark.parametrize("fallback", [True, False])
def test_hot_pixels_are_guessed_and_their_neighbours_are_not_smeared(fallback):
    clean = camera(72)
    hot = np.zeros(clean.shape, bool)
    hot[6::12, 6::12] = True
    spoilt = np.where(hot, 2_000, noisy(clean)).astype(np.float32)
    model = quick(fallback=fallback).fit(spoilt)
    after = model.transform(spoilt)
    ring = np.zeros_like(hot)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            ring |= np.roll(hot, (dy, dx), (0, 1))
    error = np.abs(after - clean)
    assert error[ring & ~hot].mean() < 1.3 * error[~ring].mean()
    assert error[hot].mean() < 40  # 2,000 less the image before


def test_a_background_that_is_exactly_constant_stays_so():
    y, x = np.mgrid[:128, :128] - 64
    organ = np.hypot(y, x) < 45
    image = np.where(organ, noisy(300 + 50 * np.sin(x / 9.0), 20), 0).round().astype(np.int16)
    model = quick(fallback=False).fit(image)
    after = model.transform(image)
    inside = np.hypot(y, x) < 43
    outside = np.hypot(y, x) > 50
    assert (after[outside] == 0).all()
    assert (after[inside] != image[inside]).mean() > 0.8


def test_dark_counts_are_no_background():
    counts = np.random.default_rng(0).poisson(0.05 + 5 * (np.arange(128) > 90), (128, 128))
    windows = [counts[..., None].astype(np.float32)]
    assert NoiseScaler.of(NoiseModel(0.0, 1.0), windows).background is None
    assert NoiseScaler.of(NoiseModel(0.3), windows).background is None


def test_pooled_noise_keeps_stripes_and_impulses():
    one = pooled([NoiseModel(1.0, rows=3.0, impulses=0.02), NoiseModel(1.0, rows=4.0)], [1, 1])
    assert one.rows == pytest.approx(np.sqrt(12.5))
    assert one.impulses == pytest.approx(0.01)
    assert NoiseModel.of_recipe(one.recipe()) == one
