"""What the noise room tells from images alone, and what it makes of it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from keyhole.errors import DataError, SettingError
from keyhole.modalities.tiles.estimate import estimate, estimate_many, pooled
from keyhole.modalities.tiles.filters import FILTERS, classical, psnr, residual_report, ssim
from keyhole.modalities.tiles.noise import NoiseModel, Stabiliser

skimage = pytest.importorskip("skimage")
SHARED = Path(skimage.__file__).parent / "data"
TRIANGLE = np.outer([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3], [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])


def image(name, side=128):
    from skimage import color, io

    x = io.imread(str(SHARED / f"{name}.png"))
    grey = color.rgb2gray(x[..., :3]) if x.ndim == 3 else x / 255.0
    y, z = (grey.shape[0] - side) // 2, (grey.shape[1] - side) // 2
    return grey[y : y + side, z : z + side]


def gaussian(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("name", ["camera", "moon", "page", "brick", "gravel", "coffee"])
@pytest.mark.parametrize("level", [25, 50])
def test_gaussian_noise_is_told_within_six_percent_and_called_white(name, level):
    clean = image(name)
    found = estimate(clean + level / 255 * gaussian(clean.shape))
    assert found.sigma == pytest.approx(level / 255, rel=0.06)
    assert found.kind == "gaussian"
    assert not found.correlated


@pytest.mark.parametrize("name", ["camera", "chelsea", "gravel", "coffee"])
def test_counts_are_called_poisson_with_their_gain(name):
    counts = np.random.default_rng(1).poisson(30 * image(name, 80))
    found = estimate(counts / 30)
    assert found.kind == "poisson-gaussian"
    assert found.gain == pytest.approx(1 / 30, rel=0.15)
    assert found.sigma < 0.03


@pytest.mark.parametrize("name", ["camera", "moon", "brick", "coffee"])
def test_blurred_noise_is_told_with_its_kernel(name):
    clean = image(name, 80)
    noise = 3 * uniform_filter(gaussian(clean.shape), 3, mode="wrap")
    found = estimate(clean + 25 / 255 * noise)
    assert found.sigma == pytest.approx(25 / 255, rel=0.1)
    assert np.abs(np.array(found.kernel) - TRIANGLE).max() < 0.1


def test_small_images_together_tell_what_one_cannot():
    small = np.stack([image("camera", 140)[i : i + 28, i : i + 28] for i in range(0, 112, 2)])
    found = estimate_many(list(small + 0.1 * gaussian(small.shape)))
    assert found.sigma == pytest.approx(0.1, rel=0.05)


def test_black_background_without_noise_is_not_asked():
    x = np.zeros((160, 160))
    x[40:120, 40:120] = 0.5 + 0.1 * gaussian((80, 80))
    assert estimate(x).sigma == pytest.approx(0.1, rel=0.05)


def test_clipped_pixels_are_not_asked():
    clean = image("camera")
    x = np.clip(clean + 0.1 * gaussian(clean.shape), 0, 1)
    assert estimate(x).sigma == pytest.approx(0.1, rel=0.08)
    whole_numbers = np.round(255 * x).astype(np.uint8)
    assert estimate(whole_numbers).sigma == pytest.approx(25.5, rel=0.08)


def test_gaps_are_not_asked():
    x = 0.1 * gaussian((120, 120, 3))
    x[::5, ::40] = np.nan
    assert estimate(x).sigma == pytest.approx(0.1, rel=0.03)


@pytest.mark.parametrize("unit", [1e-5, 1e5])
def test_noise_is_told_in_the_units_of_the_image(unit):
    x = image("moon", 64) + 0.1 * gaussian((64, 64))
    assert estimate(unit * x).sigma == pytest.approx(unit * estimate(x).sigma, rel=1e-6)


@pytest.mark.parametrize(
    "x",
    [
        np.ones((30, 30)),
        np.zeros((1, 1)),
        np.full((9, 9), np.nan),
        np.zeros((0, 5)),
        np.zeros((2, 2, 3), np.uint8),
        np.kron(gaussian((6, 6)), np.ones((12, 12))),
        (gaussian((50, 50)) > 0).astype(float),
    ],
    ids=["constant", "one pixel", "gaps", "empty", "tiny", "patchwork", "two values"],
)
def test_where_there_is_nothing_to_tell_noise_from_it_is_none(x):
    assert estimate(x) == NoiseModel(0.0)


def test_a_clean_image_has_little_noise():
    assert estimate(image("camera", 64)).sigma < 2 / 255


def test_windows_of_a_image_stand_for_the_whole():
    x = image("coffee", 256) + 0.1 * gaussian((256, 256))
    windows = [x[:128, :128], x[128:, 128:]]
    assert estimate(windows).sigma == pytest.approx(0.1, rel=0.03)


def test_what_is_no_image_is_refused():
    with pytest.raises(DataError, match="axes"):
        estimate(np.zeros(5))
    with pytest.raises(DataError, match="numbers"):
        estimate(np.array([["a"]]))


def test_a_noise_says_what_it_is():
    assert str(NoiseModel(0.098)) == (
        "Gaussian noise, standard deviation 0.098 (9.8 % of the range), "
        "not correlated between pixels"
    )
    assert str(NoiseModel(25.0)).startswith("Gaussian noise, standard deviation 25, not")
    assert "(10.0 % of the range)" in NoiseModel(25.5).describe(255)
    assert "no noise" in str(NoiseModel(0.0))
    assert "Poisson noise" in str(NoiseModel(0.0, 1 / 30))
    bound = NoiseModel(0.1, kernel=tuple(map(tuple, TRIANGLE.tolist())))
    assert str(bound).endswith("correlated with the pixel below by 0.67 and beside by 0.67")


def test_a_noise_survives_json():
    noise = NoiseModel(0.1, 0.02, -1.0, tuple(map(tuple, TRIANGLE.tolist())))
    assert NoiseModel.of_recipe(json.loads(json.dumps(noise.recipe()))) == noise


@pytest.mark.parametrize("wrong", [{"sigma": -1}, {"sigma": np.nan}, {"sigma": 1, "gain": -1}])
def test_a_noise_without_sense_is_refused(wrong):
    with pytest.raises(SettingError, match="sigma"):
        NoiseModel(**wrong)


def test_the_level_grows_from_the_offset_on():
    level = NoiseModel(0.3, 0.5, 1.0).level([0.0, 1.0, 3.0])
    np.testing.assert_allclose(level, np.sqrt([0.09, 0.09, 1.09]))


def test_pooling_averages_variances_by_weight():
    assert pooled([NoiseModel(3.0), NoiseModel(4.0)], [1, 1]).sigma == pytest.approx(np.sqrt(12.5))
    assert pooled([NoiseModel(3.0), NoiseModel(4.0)], [1, 0]) == NoiseModel(3.0)
    with pytest.raises(SettingError):
        pooled([], [])


noises = st.builds(
    NoiseModel,
    sigma=st.floats(0.01, 3),
    gain=st.sampled_from([0.0, 0.001, 1 / 30, 0.2, 1.0]),
    offset=st.floats(-1, 1),
)


@settings(max_examples=60, deadline=None)
@given(noises)
def test_making_noise_even_keeps_order_and_never_fails(noise):
    tool = Stabiliser.of(noise)
    values = np.linspace(-50, 50, 2001)
    even = tool.forward(values)
    assert (np.diff(even) > 0).all()
    assert (np.diff(tool.inverse(np.linspace(-50, 50, 2001))) > 0).all()
    assert np.isfinite(tool.inverse(even)).all()


@settings(max_examples=20, deadline=None)
@given(noises, st.floats(0.3, 4), st.integers(0, 99))
def test_even_noise_has_deviation_one_and_comes_back_without_bias(noise, above, seed):
    random = np.random.default_rng(seed)
    value = noise.offset + above
    x = value + noise.sigma * random.standard_normal(40_000)
    if noise.gain:
        x += noise.gain * random.poisson(above / noise.gain, 40_000) - above
    tool = Stabiliser.of(noise)
    even = tool.forward(x)
    counts = above / noise.gain if noise.gain else np.inf
    if counts > 4:
        assert even.std() == pytest.approx(1, abs=0.06)
        assert tool.inverse(even.mean()) == pytest.approx(value, abs=0.05 * noise.level(value))
    else:
        assert tool.inverse(even.mean()) == pytest.approx(value, abs=0.15 * noise.level(value))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_noise_nothing_is_moved(dtype):
    x = gaussian((5, 5)).astype(dtype)
    tool = Stabiliser.of(NoiseModel(0.0))
    assert tool.forward(x).dtype == dtype
    np.testing.assert_array_equal(tool.inverse(tool.forward(x)), x)


@pytest.mark.parametrize("name", FILTERS)
def test_a_classical_filter_gains_seven_decibels_on_the_camera_man(name):
    clean = image("camera", 96)
    done = classical(clean + 25 / 255 * gaussian(clean.shape), 25 / 255, name)
    assert psnr(clean, done, 1.0) > 27.3
    assert ssim(clean, done, 1.0) > 0.68


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_does_not_depend_on_units_and_leaves_gaps(name):
    x = image("moon", 40)[..., None] + 0.1 * gaussian((40, 40, 3))
    x[:4, :4] = np.nan
    done = classical(x, 0.1, name)
    np.testing.assert_array_equal(np.isnan(done), np.isnan(x))
    np.testing.assert_allclose(classical(1e4 * x, 1e3, name), 1e4 * done, rtol=1e-6)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 3, 3), (1, 50), (6, 6), (7, 7, 1), (9, 60)])
def test_a_filter_takes_any_size(name, shape):
    x = 5 + 0.1 * gaussian(shape)
    done = classical(x, 0.1, name)
    assert done.shape == shape
    assert done.mean() == pytest.approx(x.mean(), abs=0.05)
    assert done.std() <= x.std() + 1e-12


def test_an_unknown_filter_is_named_beside_those_there_are():
    with pytest.raises(SettingError, match="wavelets"):
        classical(np.zeros((9, 9)), 0.1, "magic")


def test_filters_say_which_extra_they_need():
    code = (
        "import sys; sys.modules['skimage'] = None; sys.modules['skimage.restoration'] = None\n"
        "import numpy as np\nfrom keyhole.errors import MissingExtraError\n"
        "from keyhole.modalities.tiles.filters import classical\n"
        "try: classical(np.zeros((9, 9)), 0.1, 'total variation')\n"
        "except MissingExtraError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "keyhole-ae[images]"' in done.stdout


def test_a_perfect_result_leaves_nothing_but_noise():
    clean = image("camera", 96)
    found = residual_report(clean + 0.1 * gaussian(clean.shape), clean, NoiseModel(0.1))
    assert found.deviation == pytest.approx(0.1, rel=0.02)
    assert abs(found.below) + abs(found.beside) + abs(found.edges) < 0.06
    assert found.white_p > 0.01
    assert "as much as the noise" in found.sentences()[0]
    assert "as random" in found.sentences()[1]


def test_a_blur_is_caught_by_edges_and_neighbours():
    clean = image("camera", 96)
    noisy = clean + 0.05 * gaussian(clean.shape)
    found = residual_report(noisy, uniform_filter(noisy, 7), NoiseModel(0.05))
    assert found.edges > 0.15
    assert found.white_p < 1e-6
    assert any("edges" in said for said in found.sentences())


def test_noise_that_was_taken_in_part_is_noticed():
    clean = image("camera", 96)
    noise = 0.1 * gaussian(clean.shape)
    found = residual_report(clean + noise, clean + 0.5 * noise, NoiseModel(0.1))
    assert "some noise is left" in found.sentences()[0]


def test_counts_and_correlated_noise_are_judged_by_their_own_measure():
    clean = image("coffee", 96)
    counts = np.random.default_rng(0).poisson(30 * clean) / 30
    assert abs(residual_report(counts, clean, NoiseModel(0.0, 1 / 30)).brightness) < 0.05
    noise = 3 * uniform_filter(gaussian(clean.shape), 3, mode="wrap")
    bound = NoiseModel(0.1, kernel=tuple(map(tuple, TRIANGLE.tolist())))
    found = residual_report(clean + 0.1 * noise, clean, bound)
    assert found.below == pytest.approx(2 / 3, abs=0.05)
    assert "as random" in found.sentences()[1]


def test_a_pixel_is_too_small_to_judge():
    assert "too small" in residual_report([[1.0]], [[1.0]], NoiseModel(0.1)).sentences()[0]


def test_psnr_and_ssim_state_their_range():
    a, b = np.zeros((20, 20)), np.full((20, 20), 0.1)
    assert psnr(a, b, 1.0) == pytest.approx(20)
    assert psnr(255 * a, 255 * b, 255) == pytest.approx(20)
    assert psnr(a, a, 1.0) == float("inf")
    assert ssim(a, a, 1.0) == pytest.approx(1)
    assert np.isnan(ssim(a[:2, :2], a[:2, :2], 1.0))
    assert ssim(a[:4, :5], a[:4, :5], 1.0) == pytest.approx(1)
    with pytest.raises(DataError, match="shape"):
        psnr(a, a[:3], 1.0)
