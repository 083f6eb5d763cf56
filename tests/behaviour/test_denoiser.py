"""Images without their noise, learned from noisy images alone."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone

from benchmarks.mutants import manifest_of
from keyhole import Denoiser
from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.data.images import open_images
from keyhole.errors import BundleError, DataError, SettingError
from keyhole.modalities.tiles.crops import Crops, ImageDataset
from keyhole.modalities.tiles.filters import filled, psnr
from keyhole.modalities.tiles.noise import NoiseModel, filter_of
from keyhole.modalities.tiles.source import NoiseScaler
from keyhole.modalities.tiles.tiling import Denoise, bands, whole
from keyhole.model.nets.unet import UNet
from keyhole.training import TrainingConfig
from keyhole.training.corruptions import BlindSpot, Pairs, Recorrupted
from keyhole.training.corruptions import Noise as Synthetic

pytest.importorskip("skimage")
SIGMA = 20.0
TINY = UNet([4, 8], precision="float32")
NOISE = {"sigma": 1.0, "gain": 0.0, "offset": 0.0, "kernel": [[1.0]], "rows": 0.0, "columns": 0.0,
         "impulses": 0.0}  # fmt: skip


def shapes(size=(48, 56), seed=0):
    """An image of rectangles and a slope, in [40, 220]: much for a filter or a net to find."""
    rng = np.random.default_rng(seed)
    image = np.full(size, 90.0) + np.linspace(0, 40, size[1])
    for _ in range(8):
        y, x = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
        high, wide = rng.integers(8, 24, 2)
        image[y : y + high, x : x + wide] = rng.uniform(40, 220)
    return image


def noisy(clean, sigma=SIGMA, seed=1):
    rng = np.random.default_rng(seed)
    return (clean + sigma * rng.standard_normal(clean.shape)).astype(np.float32)


def quick(steps=6, **more):
    return Denoiser(
        net=TINY,
        training=TrainingConfig(steps, batch=2, learning_rate=5e-3),
        noise=SIGMA,
        random_state=0,
        **more,
    )


@pytest.fixture(scope="module")
def fitted():
    """A net that has learned a little, for whatever asks only how it answers."""
    return quick(20, fallback=False).fit([noisy(shapes()), noisy(shapes((40, 40), 2), seed=3)])


def test_noisy_images_come_back_nearer_the_clean_ones_than_they_were():
    """Takes 4 s: a net is trained."""
    clean = [shapes((64, 64), seed) for seed in range(4)]
    given = [noisy(c, seed=i) for i, c in enumerate(clean)]
    denoiser = Denoiser(net=UNet([8, 16], precision="float32"), random_state=0,
                        training=TrainingConfig(100, batch=6,
                        learning_rate=5e-3)).fit(given)  # fmt: skip
    assert abs(denoiser.noise_.sigma - SIGMA) < 0.15 * SIGMA
    before = [psnr(c, y, 255) for c, y in zip(clean, given)]
    after = [psnr(c, x, 255) for c, x in zip(clean, denoiser.transform(given))]
    assert np.mean(after) > np.mean(before) + 5


@pytest.mark.parametrize(
    ("given", "axes"),
    [
        (np.stack([noisy(shapes())] * 2), None),
        (np.stack([noisy(shapes())] * 2, 1), "YZX"),
        (noisy(shapes()).clip(0, 255).astype(np.uint8), None),
        (noisy(shapes()).clip(0, 255).astype(np.uint16)[::-1], "YX"),
        ([noisy(shapes()), noisy(shapes((20, 31)))], None),
    ],
)
def test_images_come_back_in_the_kind_shape_and_type_they_were_given(given, axes):
    found = quick(2, axes=axes).fit_transform(given)
    pairs = zip(given, found) if isinstance(given, list) else [(given, found)]
    assert type(found) is type(given)
    for before, after in pairs:
        assert after.shape == before.shape
        assert after.dtype == before.dtype
        assert np.abs(after.astype(float) - before).max() > 1


def test_a_colour_image_is_denoised_in_all_its_channels():
    colour = np.stack([noisy(shapes(), seed=s) for s in range(3)], -1)
    found = quick(4, fallback=False).fit(colour).transform(colour)
    assert found.shape == colour.shape
    assert (np.abs(found - colour).mean((0, 1)) > 0.5).all()


def test_a_image_in_tiles_is_the_image_at_once(fitted):
    (image,) = open_images(noisy(shapes((90, 75)))).images
    unit = NoiseScaler.of(NoiseModel(SIGMA), [image.whole()])
    answer = Denoise(fitted.model_.network, TINY)
    pieces = np.concatenate([rows for _, rows in bands(image, unit, answer, 16)])
    at_once = np.concatenate([rows for _, rows in bands(image, unit, answer, 4_096)])
    assert pieces.shape == at_once.shape == (90, 75, 1)
    assert np.abs(pieces - at_once).max() < 1e-4 * np.ptp(at_once)


@pytest.mark.parametrize("net", [TINY, UNet([3], blocks=2), UNet([2, 3, 4], blocks=2)])
def test_no_pixel_depends_on_one_beyond_the_nets_reach(net):
    side = 2 * net.reach + 4 * net.step
    body = net.encoder(Layout((), (8, 8, 1)))
    body.bind(_shape())
    x = torch.randn(1, 1, side, side)
    near, far = x.clone(), x.clone()
    far[..., 0, 0] += 100
    near[..., net.reach // 2, net.reach // 2] += 100
    at = (..., slice(net.reach, None), slice(net.reach, None))
    with torch.no_grad():
        before = body.planes(x)
        torch.testing.assert_close(body.planes(far)[at], before[at])
        assert not torch.equal(body.planes(near), before)


def _shape():
    from keyhole.core.layout import Shape, Slot, pixels

    return Shape(pixels(Slot("pixel", "number", "student_t"), (8, 8, 1), 8))


def test_twice_a_image_is_answered_by_twice_the_answer(fitted):
    x = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        once, twice = (fitted.model_.network.encoder.planes(k * x) for k in (1, 2))
    torch.testing.assert_close(twice, 2 * once)


def row(x):
    flat = x.reshape(1, 1, -1)
    none = torch.zeros((1, 1, 0), dtype=torch.int64)
    return Batch(flat, none, torch.ones_like(flat, dtype=torch.bool), target=flat + 1)


@pytest.mark.parametrize("a", [0.5, 1.0, 2.0])
def test_the_two_noises_of_a_recorrupted_image_know_nothing_of_each_other(a):
    rng = torch.Generator().manual_seed(0)
    noise = row(torch.randn(400, 400, generator=rng))
    corrupted = Recorrupted(a).corrupt(noise, Layout((), (400, 400, 1)), rng)
    given, target = corrupted.input.numbers.flatten(), corrupted.target.numbers.flatten()
    assert abs(float((given * target).mean())) < 0.02 * (1 + a**2)
    assert float(given.var()) == pytest.approx(1 + a**2, rel=0.02)
    assert float(target.var()) == pytest.approx(1 + 1 / a**2, rel=0.02)
    assert Recorrupted(a).noisier == pytest.approx(float(given.std()), rel=0.02)


def test_recorrupted_noise_is_correlated_as_the_noise_of_the_images_is():
    triangle = np.array([1, 2, 3, 2, 1]) / 3.0
    kernel = np.outer(triangle, triangle)
    noise = NoiseModel(1.0, kernel=tuple(map(tuple, kernel)))
    assert filter_of(NoiseModel(1.0)) is None
    corruption = Recorrupted(filter=filter_of(noise))
    layout, rng = Layout((), (300, 300, 1)), torch.Generator().manual_seed(0)
    given = corruption.corrupt(row(torch.zeros(300, 300)), layout, rng).input.numbers
    made = given.reshape(300, 300).numpy() / 0.5
    assert made.var() == pytest.approx(1, rel=0.03)
    for lag, expected in ((1, 2 / 3), (2, 1 / 3), (3, 0)):
        assert (made[lag:] * made[:-lag]).mean() == pytest.approx(expected, abs=0.05)
        assert (made[:, lag:] * made[:, :-lag]).mean() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("reach", [None, [0, 2]])
def test_a_blind_spot_holds_another_pixels_value_and_only_it_is_asked_for(reach):
    image = row(torch.arange(40.0 * 30).reshape(40, 30))
    corruption = BlindSpot(0.05, reach=reach)
    corrupted = corruption.corrupt(
        image, Layout((), (40, 30, 1)), torch.Generator().manual_seed(0)
    )
    changed = corrupted.input.numbers != image.numbers
    asked = corrupted.loss_weight > 0
    assert 20 < int(asked.sum()) < 120
    assert changed[asked].all()
    assert torch.equal(corrupted.target.numbers, image.numbers)
    if reach is None:
        assert torch.equal(changed, asked)
    else:
        plane, spots = changed.reshape(40, 30), asked.reshape(40, 30)
        near = torch.zeros_like(spots)
        for across in range(-2, 3):
            moved = spots[:, max(-across, 0) : 30 - max(across, 0)]
            near[:, max(across, 0) : 30 + min(across, 0)] |= moved
        assert torch.equal(plane, near)
    assert float(corrupted.loss_weight.mean()) == pytest.approx(1)


def test_pairs_ask_for_the_second_image():
    first = row(torch.zeros(4, 4))
    corrupted = Pairs().corrupt(first, Layout((), (4, 4, 1)), torch.Generator())
    assert torch.equal(corrupted.target.numbers, torch.ones_like(first.numbers))
    clean = [shapes(seed=s) for s in range(2)]
    given = [noisy(c) for c in clean]
    found = quick(4).fit(given, clean)
    assert isinstance(found.model_.parts.corruption, Pairs)
    with pytest.raises(DataError, match="2 noisy images and 1 second images"):
        quick(2).fit(given, clean[:1])
    with pytest.raises(DataError, match="its second image"):
        quick(2).fit(given, [clean[0], clean[1][1:]])
    with pytest.raises(SettingError, match="no second images"):
        quick(2, corruption=Pairs()).fit(given)


def test_noise_on_clean_images_must_be_told():
    clean = [shapes()]
    with pytest.raises(SettingError, match="cannot be measured"):
        Denoiser(Synthetic(1.0), net=TINY, training=TrainingConfig(2)).fit(clean)
    assert quick(2, corruption=Synthetic(1.0)).fit(clean).noise_.sigma == SIGMA


def test_a_filter_answers_where_the_net_makes_larger_errors_and_may():
    given = [noisy(shapes((64, 64), s), seed=s) for s in range(2)]
    lost = quick(1).fit(given)
    assert lost.comparison_.method == lost.comparison_.rival != "net"
    assert lost.verdict_.startswith("look again: a filter does better")
    assert [f.code for f in lost.findings_][:1] == ["KH012"]
    assert quick(1, fallback=False).fit(given).comparison_.method == "net"
    scores = lost.comparison_.scores
    assert scores[lost.comparison_.best] < scores["net"]
    assert all(score > 4.5 for score in scores.values())  # the target's own noise: 1 + 1 / a^2


def test_held_out_pixels_are_the_share_asked_for_and_never_taught():
    images = open_images([noisy(shapes((64, 64))), noisy(shapes((33, 41)))]).images
    units = [NoiseScaler.of(NoiseModel(SIGMA), [p.whole()]) for p in images]
    shelf = ImageDataset(images, units, None, 0.1, 0)
    crops = Crops(shelf, 32, 0)
    planes = [shelf.window(i) for i in range(2)]
    held = np.concatenate([(~plane.train_mask).ravel() for plane in planes])
    assert held.mean() == pytest.approx(0.1, abs=0.03)
    part = shelf.window(0, 16, 24, 32)
    assert (part.train_mask == planes[0].train_mask[16:48, 24:56]).all()
    batch, _ = crops.batch(0, 8, 1)
    again, _ = crops.batch(0, 8, 1)
    assert torch.equal(batch.numbers, again.numbers)
    values = np.concatenate([p.numbers[~p.train_mask].ravel() for p in planes])
    assert not np.isin(batch.numbers[batch.observed].numpy(), values).any()
    assert np.isin(crops.stopping().numbers[crops.stopping().observed].numpy(), values).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (5, 64)])
def test_a_image_smaller_than_a_patch_is_denoised(fitted, size):
    small = np.full(size, 100, np.float32) + np.arange(size[1], dtype=np.float32)
    found = fitted.transform(small)
    assert found.shape == size
    assert np.isfinite(found).all()


def test_a_missing_pixel_stays_missing_and_spoils_no_other(fitted):
    image = noisy(shapes())
    holed = image.copy()
    holed[10:14, 20] = np.nan
    found = fitted.transform(holed)
    assert np.array_equal(np.isnan(found), np.isnan(holed))
    assert np.abs(found - fitted.transform(image))[20:40, 30:].max() < SIGMA
    x, observed = filled(holed[..., None])
    assert np.isfinite(x).all()
    assert (~observed).sum() == 4
    learned = quick(2).fit(holed)
    assert np.isnan(learned.transform(holed)).sum() == 4


def test_images_without_noise_are_refused_in_fit_and_left_alone_after_it(fitted):
    flat = np.full((32, 32), 7.0, np.float32)
    with pytest.raises(DataError, match="no noise was found in any of 2"):
        Denoiser(net=TINY, training=TrainingConfig(2)).fit([flat, flat])
    model = Denoiser(net=TINY, training=TrainingConfig(2, batch=4), random_state=0).fit(
        [noisy(shapes((110, 110))), flat]
    )
    flat = np.full((128, 128), 7.0, np.float32)
    assert np.array_equal(model.transform([flat])[0], flat)


def test_grey_and_colour_are_told_apart(fitted):
    colour = np.stack([noisy(shapes())] * 3, -1)
    with pytest.raises(DataError, match=r"of 3 channels, .* grey: one model accepts one kind"):
        fitted.transform(colour)
    with pytest.raises(DataError, match="image 1 is of 3 channels"):
        quick(2).fit([noisy(shapes()), colour])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"noise": -1}, "above zero"),
        ({"noise": "25"}, "above zero"),
        ({"net": 3}, "expected a UNet"),
        ({"corruption": 3}, "expected a Corruption"),
        ({"corruption": BlindSpot(0.9)}, "share"),
        ({"corruption": Recorrupted(-1)}, "above zero"),
        ({"net": UNet([])}, "channels"),
        ({"training": TrainingConfig(0)}, "whole number"),
        ({"axes": "QY"}, "axes"),
    ],
)
def test_a_setting_that_cannot_be_used_is_said(more, said):
    with pytest.raises((SettingError, DataError), match=said):
        clone(quick(2)).set_params(**more).fit(noisy(shapes()))


def test_a_denoiser_is_kept_and_found_again(fitted, tmp_path):
    fitted.save(tmp_path / "m.keyhole")
    again = Denoiser.load(tmp_path / "m.keyhole")
    given = noisy(shapes((70, 30)))
    np.testing.assert_array_equal(again.transform(given), fitted.transform(given))
    assert again.verdict_ == fitted.verdict_
    assert again.comparison_ == fitted.comparison_
    assert repr(again) == repr(fitted)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("evidence.scores", {"net": 1.0, "os.system": 2.0}, "scores of the net"),
        ("evidence.scores", {"net": 1.0}, "scores of the net"),
        ("modality.side", 0, "side"),
        ("modality.channels", 10**6, "channels"),
        ("modality.count", 0, "at least 1"),
        ("parts", {}, "parts"),
        ("modality.noise", NOISE | {"sigma": -1.0}, "sigma >= 0"),
        ("modality.noise", NOISE | {"impulses": 2.0}, "impulses from 0 to 1"),
    ],
)
def test_a_manifest_that_was_altered_is_refused(fitted, tmp_path, key, value, said):
    from keyhole.store import write_bundle

    fitted.save(tmp_path / "m.keyhole")
    section = manifest_of(tmp_path / "m.keyhole")["sections"]
    place, _, name = f"autoencoder.{key}".rpartition(".")
    part = section
    for step in place.split("."):
        part = part[step]
    part[name] = value
    write_bundle(str(tmp_path / "n.keyhole"), section, fitted.model_.network.state_dict())
    with pytest.raises(BundleError, match=said):
        Denoiser.load(tmp_path / "n.keyhole")


def test_a_fit_that_was_stopped_goes_on_to_the_same_bits(tmp_path):
    given = [noisy(shapes()), noisy(shapes((40, 40)))]
    unbroken = quick(10).fit(given)

    def stop(event):
        if event.step >= 5:
            raise KeyboardInterrupt

    path = str(tmp_path / "part")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keyhole.training.checkpoint.EVERY_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            quick(10).fit(given, checkpoint=path, on_evaluate=stop)
        steps = []
        resumed = quick(10).fit(given, checkpoint=path, on_evaluate=lambda e: steps.append(e.step))
    assert steps[0] > 0
    for name, weight in unbroken.model_.network.state_dict().items():
        assert torch.equal(weight, resumed.model_.network.state_dict()[name]), name


def test_a_result_is_judged_without_truth_and_with_it(fitted):
    clean = shapes()
    (alone,) = fitted.judge(noisy(clean))
    assert alone.psnr is None
    assert alone.before.sigma == SIGMA
    assert alone.residual.expected == pytest.approx(SIGMA, rel=0.01)
    assert alone.sentences()[0].startswith("Gaussian noise, standard deviation 20")
    (known,) = fitted.judge(noisy(clean), clean.astype(np.float32))
    before, after = known.psnr
    assert before == pytest.approx(20 * np.log10(np.ptp(clean) / SIGMA), abs=0.5)
    assert after > before
    with pytest.raises(DataError, match="its clean image"):
        fitted.judge(noisy(clean), clean[1:])


def test_whole_images_of_one_size_go_through_together(fitted):
    images = [noisy(shapes((28, 28), s), seed=s) for s in range(5)]
    together = fitted.transform(np.stack(images))
    for one, alone in zip(together, (fitted.transform(p) for p in images)):
        np.testing.assert_allclose(one, alone, atol=1e-3)
    assert whole(np.zeros((2, 5, 5, 1), np.float32), Denoise(fitted.model_.network,
        TINY)).shape == (
        2, 5, 5, 1,
    )  # fmt: skip


def test_nothing_is_warned_of_by_the_readers():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(2).fit_transform(noisy(shapes()))
