"""Whole images as rows: what a user who holds an array of them, or a folder, is promised."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_digits

from keyhole import AnomalyDetector, Autoencoder, TrainingConfig
from keyhole.autoencoder.input_validation import blocks_of
from keyhole.cli import run
from keyhole.data import open_source
from keyhole.data.image_rows import resized
from keyhole.errors import DataError, KeyholeWarning, SettingError
from keyhole.modalities import ImageSchema
from keyhole.model.bottlenecks import Plain
from keyhole.model.heads import Mixed
from keyhole.model.nets import MLP, Conv, Patches
from keyhole.tasks import Embed
from keyhole.training.corruptions import NoCorruption

DIGITS = load_digits().images.astype(np.uint8)


def model(bottleneck=None, **parts):
    held = {"training": TrainingConfig(steps=30, members=1), "random_state": 0}
    return Autoencoder(bottleneck, **(held | parts))


@pytest.fixture(scope="module")
def fitted():
    return model(training=TrainingConfig(steps=150, members=1)).fit(DIGITS[:1_200])


@pytest.fixture(scope="module")
def detector():
    made = AnomalyDetector(model(training=TrainingConfig(steps=100, members=1)))
    return made.fit(DIGITS[:1_200])


def test_an_array_of_images_becomes_codes_and_comes_back_as_images(fitted):
    codes = fitted.transform(DIGITS[1_200:])
    assert codes.shape == (597, 32)
    images = fitted.inverse_transform(codes)
    assert images.shape == (597, 8, 8)
    error = ((images - DIGITS[1_200:]) ** 2).mean()
    assert error < 0.4 * DIGITS.var(0).mean()  # grey levels squared: more than half is rebuilt
    assert fitted.model_.modality.reasons["image"].startswith(
        "8x8 pixels, grey, stored as uint8, patches"
    )


def test_a_net_for_images_guesses_hidden_patches_better_than_pca_does(fitted):
    assert fitted.model_.evidence["masked_nats"] < fitted.model_.evidence["pca_masked_nats"]


def test_colour_images_of_odd_sizes_keep_their_shape(rng):
    light = rng.random((40, 1, 1, 3))
    images = (light + 0.1 * rng.random((40, 9, 7, 3))).astype(np.float32)
    for net in (Conv(), Patches(16), MLP()):
        made = model(net=net, training=TrainingConfig(steps=5, members=1)).fit(images)
        assert made.inverse_transform(made.transform(images[:4])).shape == (4, 9, 7, 3)


def test_drawn_images_are_of_the_type_and_the_range_that_training_had(fitted):
    drawn = fitted.sample(5)
    assert drawn.shape == (5, 8, 8)
    assert drawn.dtype == np.uint8
    assert drawn.max() <= 16


def test_a_kept_model_gives_the_same_codes(fitted, tmp_path):
    fitted.save(tmp_path / "m.keyhole")
    again = Autoencoder.load(tmp_path / "m.keyhole")
    np.testing.assert_array_equal(again.transform(DIGITS[:9]), fitted.transform(DIGITS[:9]))
    assert again.inverse_transform(again.transform(DIGITS[:2])).shape == (2, 8, 8)


def test_zeros_and_ones_are_flags():
    made = model(training=TrainingConfig(steps=20, members=1)).fit(
        (DIGITS[:1_200] > 7).astype(np.uint8)
    )
    assert {slot.head for slot in made.model_.modality.layout.slots} == {"bernoulli"}
    assert set(np.unique(made.sample(3))) <= {0, 1}
    assert -64 * np.log(2) < made.score((DIGITS[1_200:] > 7).astype(np.uint8)) < 0


@pytest.mark.parametrize("continuous", ["logistic", "poisson_gaussian", "student_t"])
def test_pixels_may_have_another_likelihood(continuous):
    made = model(head=Mixed(continuous=continuous), training=TrainingConfig(steps=20, members=1))
    made.fit(DIGITS[:1_200])
    assert np.isfinite(made.score_samples(DIGITS[1_200:])).all()


def test_a_logistic_tells_the_probability_of_grey_levels():
    made = model(
        Plain(16), head=Mixed(continuous="logistic"), corruption=NoCorruption(),
        training=TrainingConfig(steps=150, members=1),
    ).fit(DIGITS[:1_200])  # fmt: skip
    bits = -made.score(DIGITS[1_200:]) / 64 / np.log(2)
    assert 0 < bits < np.log2(17)  # less than a level drawn blindly


def test_a_spoilt_patch_is_named_and_glows_in_the_heat_map(detector):
    images = DIGITS[1_200:1_260].copy()
    images[0, 4:6, 0:2] = 16
    anomaly_map = detector.anomaly_map(images)
    assert anomaly_map.shape == (60, 8, 8)
    assert anomaly_map[0, 4:6, 0:2].mean() > 10 * np.median(anomaly_map[0])
    assert 0.5 < np.median(anomaly_map[1:].mean((1, 2))) < 1.5
    cell = detector.answer(images, explain_rows="all").reasons[0][0]
    assert (cell.column, cell.value) == ("patch 4,0", "mean 16")
    assert detector.score_samples(images)[0] < np.quantile(detector.score_samples(images), 0.05)


def test_alarms_on_good_images_keep_the_promised_rate(detector):
    p_value = detector.p_value(DIGITS[1_200:])
    assert (p_value <= 0.1).mean() < 0.2


def test_a_dim_image_is_not_odd_for_the_shapes_in_it(detector):
    """Its light is one thing of many: half as bright, an image is odder, and not by factors."""
    usual = -detector.score_samples(DIGITS[1_200:1_300])
    dim = -detector.score_samples(DIGITS[1_200:1_300] // 2)
    assert np.median(dim) < 2 * np.median(usual)


def test_a_kept_detector_says_the_same_down_to_the_heat(detector, tmp_path):
    detector.save(tmp_path / "d.keyhole")
    again = AnomalyDetector.load(tmp_path / "d.keyhole")
    some = DIGITS[1_300:1_310]
    np.testing.assert_array_equal(again.score_samples(some), detector.score_samples(some))
    np.testing.assert_array_equal(again.anomaly_map(some), detector.anomaly_map(some))


@pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")
def test_a_table_has_no_heat_map(rng):
    made = AnomalyDetector(Autoencoder(training=TrainingConfig(steps=2))).fit(
        rng.normal(size=(40, 3))
    )
    with pytest.raises(SettingError, match="anomaly maps are for images"):
        made.anomaly_map(rng.normal(size=(3, 3)))


def test_a_pixel_that_is_not_a_number_was_not_seen(fitted):
    image = DIGITS[1_200:1_202].astype(np.float64)
    image[0, 2:4, 2:4] = np.nan
    batch = fitted.model_.modality.encode(next(blocks_of(fitted, image))[1])
    assert (~batch.observed[0]).sum() == 4
    assert batch.observed[1].all()
    assert np.isfinite(fitted.score_samples(image)).all()
    image[:] = np.nan
    assert np.isnan(fitted.score_samples(image)).all()


def test_a_pixel_that_is_infinite_is_refused_by_the_place_of_its_image(fitted):
    image = DIGITS[:3].astype(np.float64)
    image[1, 0, 0] = np.inf
    with pytest.raises(DataError, match="image 2 holds infinity"):
        fitted.transform(image)


def test_constant_images_can_be_learnt():
    made = model().fit(np.full((40, 8, 8), 7, np.uint8))
    rebuilt = made.inverse_transform(made.transform(np.full((2, 8, 8), 7, np.uint8)))
    np.testing.assert_allclose(rebuilt, 7, atol=2)


def test_one_image_is_too_few():
    with pytest.raises(DataError, match="1 sample"):
        model().fit(DIGITS[:1])
    with pytest.raises(DataError, match=r"0 sample\(s\)"):
        model().fit(DIGITS[:0])


def test_a_image_of_one_pixel_is_none():
    with pytest.raises(DataError, match="from 4 pixels a side"):
        model().fit(np.zeros((10, 1, 1)))


def test_a_table_model_given_images_and_the_reverse_are_told_apart(fitted, rng):
    with pytest.raises(DataError, match="holds a table, but this model was fitted on images"):
        fitted.transform(rng.normal(size=(4, 64)))
    table = Autoencoder(training=TrainingConfig(steps=2)).fit(rng.normal(size=(40, 8)))
    with pytest.raises(DataError, match="holds images, but this model was fitted on a table"):
        table.transform(DIGITS)


def test_grey_images_for_a_colour_model_and_other_sizes_are_refused(fitted):
    with pytest.raises(DataError, match="of 3 channels, but this model was fitted on images that"):
        fitted.transform(np.zeros((3, 8, 8, 3)))
    with pytest.raises(DataError, match="of 9x8; this model was fitted on images of 8x8"):
        fitted.transform(np.zeros((3, 9, 8)))


def test_large_images_are_worked_on_at_64_pixels_and_heat_has_their_own_size(rng):
    images = np.repeat(np.repeat(rng.random((12, 8, 16)), 16, 1), 8, 2)  # 128x128
    made = model(training=TrainingConfig(steps=2, members=1), net=Conv([4, 4, 4, 4])).fit(images)
    assert made.model_.modality.layout.grid == (64, 64, 1)
    assert "resized from 128x128" in made.model_.modality.reasons["image"]
    assert made.inverse_transform(made.transform(images[:2])).shape == (2, 64, 64)


def test_size_brings_images_of_any_size_to_one():
    made = model(schema=ImageSchema(size=(4, 6))).fit(DIGITS[:60])
    assert made.model_.modality.layout.grid == (4, 6, 1)
    assert made.transform(np.zeros((2, 12, 12))).shape == (2, 12)
    with pytest.raises(SettingError, match=r"give \(height, width\) in pixels"):
        model(schema=ImageSchema(size=(4,))).fit(DIGITS[:60])


def test_resizing_keeps_the_mean_and_halves_by_the_mean_of_blocks(rng):
    x = rng.random((2, 8, 6, 1)).astype(np.float32)
    half = resized(x, (4, 3))
    wanted = x.reshape(2, 4, 2, 3, 2, 1).mean((2, 4))
    np.testing.assert_allclose(half, wanted, rtol=1e-6)
    np.testing.assert_allclose(resized(np.ones((1, 9, 7, 2)), (5, 16)), 1, rtol=1e-6)
    ramp = np.arange(64, dtype=np.float32).reshape(1, 64, 1, 1)
    np.testing.assert_allclose(resized(ramp, (96, 1))[0, 10:-10, 0, 0],
                               ((np.arange(96) + 0.5) / 1.5 - 0.5)[10:-10], rtol=1e-5)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    for i, image in enumerate(DIGITS[:40]):
        pil.fromarray(image * 15).save(tmp_path / f"{i:02}.png")
    return tmp_path


def test_a_folder_of_files_gives_codes_with_the_files_names(folder):
    made = model(training=TrainingConfig(steps=5, members=1)).fit(str(folder))
    codes = Embed(made).answer(str(folder))
    assert isinstance(codes, pa.Table)
    assert codes.column("file").to_pylist()[:2] == ["00.png", "01.png"]
    assert codes.num_columns == 33
    array = made.transform(DIGITS[:40] * 15)
    np.testing.assert_allclose(
        codes.column("code_0").to_numpy(), array[:, 0], rtol=1e-5, atol=1e-5
    )
    assert open_source(str(folder)).names == ["file", "image"]


def test_a_file_of_another_size_is_named_and_size_resizes_it(folder):
    pil = pytest.importorskip("PIL.Image")
    pil.fromarray(np.zeros((5, 9), np.uint8)).save(folder / "zz.png")
    with pytest.raises(DataError, match=r"zz.png is 5x9.*ImageSchema\(size=.*resizes them"):
        model().fit(str(folder))
    made = model(schema=ImageSchema(size=[8, 8]), training=TrainingConfig(steps=2, members=1))
    assert made.fit(str(folder)).model_.rows == 41


@pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")
def test_a_detectors_lines_of_a_folder_carry_the_file(folder):
    made = AnomalyDetector(model(training=TrainingConfig(steps=2, members=1))).fit(str(folder))
    table = made.answer(str(folder)).to_frame()
    assert table.column("file").to_pylist()[-1] == "39.png"
    assert issubclass(KeyholeWarning, UserWarning)


def test_a_folder_of_images_is_fitted_asked_embedded_and_drawn_from_on_the_command_line(
    tmp_path, capsys
):
    """Takes 3 s: a fit, and four commands."""
    pil = pytest.importorskip("PIL.Image")
    folder = tmp_path / "digits"
    folder.mkdir()
    for i, digit in enumerate(load_digits().images[:60]):
        pil.fromarray((16 * digit).clip(0, 255).astype(np.uint8)).save(folder / f"{i:02d}.png")
    model, anomaly_map = str(tmp_path / "d.keyhole"), tmp_path / "maps"
    said = ["--for", "detect", "--for", "sample", "--prior", "normal", "--steps", "3", "--quiet"]
    assert run(["fit", str(folder), "-o", model, *said]) == 0
    page = (tmp_path / "d.report.html").read_text()
    assert page.count('src="data:image/png') == 25
    out = ["-o", str(tmp_path / "a.csv"), "--anomaly-map", str(anomaly_map)]
    assert run(["detect", model, str(folder), *out]) == 0
    assert "60 anomaly maps" in capsys.readouterr().err
    assert (tmp_path / "a.csv").read_text().splitlines()[1].startswith('"00.png",')
    maps = sorted(anomaly_map.iterdir())
    assert len(maps) == 60
    assert np.asarray(pil.open(maps[0])).shape == (8, 16, 3)
    assert run(["embed", model, str(folder), "-o", str(tmp_path / "c.csv")]) == 0
    assert run(["sample", model, "-n", "3", "-o", f"{tmp_path}/made/", "--quiet"]) == 0
    made = sorted(p.name for p in (tmp_path / "made").iterdir())
    assert made == ["00001.png", "00002.png", "00003.png"]
    assert np.asarray(pil.open(tmp_path / "made" / made[0])).shape == (8, 8)
    again = ["sample", model, "-n", "1", "-o", f"{tmp_path}/made/", "--force", "--quiet"]
    assert run(again) == 2
    assert "holds files that would be lost; write elsewhere" in capsys.readouterr().err
    assert len(list((tmp_path / "made").iterdir())) == 3
    assert run(["sample", model, "-n", "3", "--judge", "-o", str(tmp_path / "s.csv")]) == 2
    assert "look at the images" in capsys.readouterr().err
