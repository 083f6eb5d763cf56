"""What was not measured (padding, masks, infinity) is missing, and comes back as it was."""

import numpy as np
import pytest

from keyhole import Autoencoder, Denoiser, TrainingConfig
from keyhole.data.images import as_given, open_images
from keyhole.errors import KeyholeWarning
from keyhole.model.nets.unet import UNet

PAD = -2000


def scene(size=(48, 48), seed=0):
    rng = np.random.default_rng(seed)
    return 1000 + 200 * np.sin(np.arange(size[1]) / 7) + 20 * rng.standard_normal(size)


def rim(size=(48, 48)):
    """True for what lies outside a circle."""
    y, x = (np.arange(n) - n / 2 for n in size)
    return np.hypot(*np.meshgrid(y, x, indexing="ij")) > 0.4 * size[0]


def quick(**said):
    net = UNet([4, 8], precision="float32")
    return Denoiser(
        net=net, training=TrainingConfig(6, batch=4), random_state=0, fallback=False, **said
    )


def ct(path, *, value=PAD, limit=None, signed=True, bits=16):
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    kind = np.int16 if signed else np.uint16
    stored = np.where(rim(), value, scene().round()).astype(kind)
    if limit is not None:
        stored[0, :9] = limit
    dataset.Rows = dataset.Columns = 48
    dataset.PixelData = stored.tobytes()
    dataset.PixelRepresentation = int(signed)
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    vr = "SS" if signed else "US"
    dataset.add_new("PixelPaddingValue", vr, value)
    if limit is not None:
        dataset.add_new("PixelPaddingRangeLimit", vr, limit)
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
    dataset.save_as(path)
    return stored


@pytest.mark.parametrize(
    "said",
    [{}, {"limit": -1990}, {"limit": -2010}, {"signed": False, "value": 63536},
     {"signed": False, "value": 0}],
)  # fmt: skip
def test_padding_of_a_dicom_is_missing_and_is_written_back(said, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    stored = ct(tmp_path / "in.dcm", **said)
    file = open_images(tmp_path / "in.dcm").files[0]
    whole = file.images[0].whole()[..., 0]
    np.testing.assert_array_equal(np.isnan(whole), rim())
    np.testing.assert_array_equal(whole[~rim()], stored[~rim()] - 1024.0)
    with file.copy_to(tmp_path / "out.dcm") as out:
        out.write(0, 0, file.images[0].whole() + 1)
    assert out.clipped == 0
    after = pydicom.dcmread(tmp_path / "out.dcm")
    np.testing.assert_array_equal(after.pixel_array[rim()], stored[rim()])
    np.testing.assert_array_equal(after.pixel_array[~rim()], stored[~rim()] + 1)
    assert after.PixelPaddingValue == pydicom.dcmread(tmp_path / "in.dcm").PixelPaddingValue


def test_padding_does_not_change_what_is_measured_or_denoised(tmp_path):
    ct(tmp_path / "in.dcm")
    model = quick(noise=20.0).fit(tmp_path / "in.dcm")
    (before,) = (p.whole()[..., 0] for p in open_images(tmp_path / "in.dcm"))
    after = model.transform(tmp_path / "in.dcm")[0]
    np.testing.assert_array_equal(np.isnan(after), rim())
    assert np.abs(after - before)[~rim()].max() < 200  # the rim is 2,800 away


def test_pixels_that_gdal_marks_as_no_data_are_missing(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    stored = np.where(rim(), -9999, scene()).astype(np.float32)
    tags = [(42113, "s", 0, "-9999", True)]
    tifffile.imwrite(tmp_path / "in.tif", stored, extratags=tags, metadata=None)
    file = open_images(tmp_path / "in.tif").files[0]
    np.testing.assert_array_equal(np.isnan(file.images[0].whole()[..., 0]), rim())
    with file.copy_to(tmp_path / "out.tif") as out:
        out.write(0, 0, file.images[0].whole())
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), stored)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_a_masked_pixel_is_missing_and_the_mask_comes_back(dtype):
    data = scene().astype(dtype)
    data[rim()] = 60_000
    masked = np.ma.MaskedArray(data, rim())
    model = quick(noise=20.0).fit(masked)
    after = model.transform(masked)
    assert isinstance(after, np.ma.MaskedArray)
    assert after.dtype == dtype
    np.testing.assert_array_equal(after.mask, rim())
    np.testing.assert_array_equal(after.data[rim()], data[rim()])
    other = np.ma.MaskedArray(np.where(rim(), 0, data).astype(dtype), rim())
    np.testing.assert_array_equal(model.transform(other).compressed(), after.compressed())
    assert after.max() < 2_000
    back = model.transform([masked, data])
    assert [type(one) for one in back] == [np.ma.MaskedArray, np.ndarray]


def test_masked_images_and_tables_are_rows_with_gaps():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 9, (40, 8, 8)).astype(np.float32)
    hidden = rng.random(images.shape) < 0.1
    spoilt = np.where(hidden, 1e6, images).astype(np.float32)
    gaps = np.where(hidden, np.nan, images).astype(np.float32)
    model = Autoencoder(training=TrainingConfig(steps=2, members=1), random_state=0).fit(gaps)
    codes = model.transform(np.ma.MaskedArray(spoilt, hidden))
    np.testing.assert_array_equal(codes, model.transform(gaps))
    table, hidden = rng.integers(0, 99, (60, 4)), rng.random((60, 4)) < 0.1
    gaps = np.where(hidden, np.nan, table)
    masked = np.ma.MaskedArray(np.where(hidden, 10**6, table), hidden)
    model = Autoencoder(training=TrainingConfig(steps=2, members=1), random_state=0).fit(gaps)
    np.testing.assert_array_equal(model.transform(masked), model.transform(gaps))


def test_infinite_pixels_are_counted_taken_for_missing_and_given_back():
    image = scene().astype(np.float32)
    image[3, 4:7] = np.inf, -np.inf, np.nan
    model = quick(noise=20.0)
    with pytest.warns(KeyholeWarning, match="2 infinite pixels in 1 of 1 images"):
        model.fit(image)
    with pytest.warns(KeyholeWarning, match="treated as missing"):
        after = model.transform(image)
    np.testing.assert_array_equal(after[3, 4:7], [np.inf, -np.inf, np.nan])
    assert np.isfinite(after).sum() == image.size - 3


def test_a_gap_may_be_filled_by_who_writes_a_copy():
    image = np.array([[np.nan, np.inf, 1.0]], np.float32)
    images = open_images(image)
    back = as_given(images, [np.array([[[5.0], [np.nan], [2.0]]])])
    np.testing.assert_array_equal(back.images, [[5.0, np.inf, 2.0]])
