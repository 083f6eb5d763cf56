"""Images in files and arrays are read by window, and written back as they came."""

import contextlib
import glob
import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.data.images import Skipped, as_given, is_images, open_images
from keyhole.errors import DataError, FileError, KeyholeWarning, MissingExtraError, SettingError

RNG = np.random.default_rng(0)
ALL = slice(None)
INTEGERS = ["u1", "i1", "<u2", ">u2", "i2", "i4", "u4"]


def pixels(shape, dtype="u1"):
    """Values of the type that single precision holds exactly."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return RNG.integers(0, 2, shape).astype(dtype)
    if dtype.kind == "f":
        return RNG.normal(size=shape).astype("f2").astype(dtype)
    info = np.iinfo(dtype)
    low, high = max(info.min, -(1 << 23)), min(info.max, 1 << 23)
    return RNG.integers(low, high, shape, endpoint=True).astype(dtype)


def copied(source, target, change=lambda values: values, **options):
    """A copy, written in bands of a few rows; what the copy said."""
    file = open_images(source, options.pop("axes", None)).files[0]
    with file.copy_to(target, **options) as out:
        for image in file.images:
            for y in range(0, image.height, 7):
                out.write(image.plane, y, change(image.window(slice(y, y + 7), ALL)))
    return out


def same_images(one, other, axes=None):
    one, other = open_images(one, axes), open_images(other, axes)
    assert len(one) == len(other) > 0
    for a, b in zip(one, other):
        np.testing.assert_array_equal(a.whole(), b.whole())
        assert (a.dtype, a.limits, a.channels) == (b.dtype, b.limits, b.channels)


def refused(ask, *said, error=DataError):
    """The one line that a fault is told in, in which all of these stand."""
    with pytest.raises(error) as caught:
        ask()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    for part in said:
        assert part in text, (part, text)


def saved(image, path, **options):
    image.save(path, **options)
    return str(path)


def shipped(library, *parts):
    """The path of a file that ships in a library's wheel."""
    module = pytest.importorskip(library)
    return os.path.join(os.path.dirname(module.__file__), *parts)


# Arrays


@given(
    st.sampled_from(["YX", "ZYX", "TZYX", "YXC", "CYX", "NYXC", "XYZ", "XCYT", "ZYXCT"]),
    st.lists(st.integers(1, 4), min_size=5, max_size=5),
    st.sampled_from([*INTEGERS, "f2", "f4", ">f8", "?"]),
)
def test_an_array_comes_back_in_its_shape_axes_and_type(axes, sizes, dtype):
    array = pixels(sizes[: len(axes)], dtype)
    images = open_images(array, axes)
    back = as_given(images, [image.whole() for image in images])
    assert back.clipped == 0
    assert back.images.dtype == array.dtype
    np.testing.assert_array_equal(back.images, array)


@pytest.mark.parametrize(
    ("shape", "count", "size"),
    [
        ((5, 6), 1, (5, 6, 1)),
        ((5, 6, 3), 1, (5, 6, 3)),
        ((5, 6, 4), 1, (5, 6, 4)),
        ((2, 6, 3), 2, (6, 3, 1)),
        ((7, 5, 6), 7, (5, 6, 1)),
        ((2, 5, 6, 3), 2, (5, 6, 3)),
        ((2, 5, 6, 1), 2, (5, 6, 1)),
        ((2, 3, 5, 6), 6, (5, 6, 1)),
        ((1, 1), 1, (1, 1, 1)),
    ],
)
def test_axes_are_guessed_by_shape(shape, count, size):
    images = open_images(np.zeros(shape))
    assert len(images) == count
    first = images.images[0]
    assert (first.height, first.width, first.channels) == size


def test_axes_say_which_letter_is_what():
    array = pixels((3, 4, 5))
    images = open_images(array, "CYX")
    np.testing.assert_array_equal(images.images[0].whole(), np.moveaxis(array, 0, -1))
    images = open_images(array, "xyz")
    np.testing.assert_array_equal(images.images[2].whole()[..., 0], array[:, :, 2].T)
    assert images.images[2].name == "image 2"


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((0, 5, 5)), "empty"),
        (np.zeros((5, 0)), "empty"),
        (np.zeros(5), "(5,)"),
        (np.zeros((2, 2, 2, 2, 2)), "axes="),
        (np.zeros((4, 4), complex), "magnitude"),
        (np.array([["a", "b"]], object), "object"),
        ([], "empty"),
    ],
)
def test_an_array_that_is_no_image_is_refused(array, said):
    refused(lambda: open_images(array), said)


def test_axes_that_do_not_fit_are_refused_with_an_example():
    refused(lambda: open_images(np.zeros((4, 4, 9)), "YX"), "(4, 4, 9)", "'ZYX'")
    refused(lambda: open_images(np.zeros((4, 4)), "YY"), "'ZYX'", error=SettingError)
    refused(lambda: open_images(np.zeros((4, 4)), bad="drop"), "skip", error=SettingError)


def test_a_list_of_arrays_of_different_sizes_comes_back_as_a_list():
    arrays = [pixels((4, 5)), pixels((7, 3), "u2"), pixels((8, 9, 3), "f4")]
    images = open_images(arrays)
    assert [image.name for image in images] == ["image 0", "image 1", "image 2"]
    back = as_given(images, [image.whole() for image in images]).images
    assert isinstance(back, list)
    for one, other in zip(back, arrays):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_a_nested_list_of_numbers_is_one_array():
    assert open_images([[1.0, 2.0], [3.0, 4.0]]).images[0].whole().shape == (2, 2, 1)


def test_what_does_not_fit_the_type_is_clipped_and_counted_and_the_rest_is_rounded():
    images = open_images(np.zeros((1, 6), "u1"))
    values = np.array([-3.0, -0.4, 1.6, 255.4, 256.0, np.nan])[None, :, None]
    back = as_given(images, [values])
    assert back.images.tolist() == [[0, 0, 2, 255, 255, 0]]
    assert back.clipped == 3


def test_a_colour_pixel_is_clipped_once_and_floats_keep_nan():
    images = open_images(np.zeros((1, 2, 3), "u1"), "YXC")
    back = as_given(images, [np.full((1, 2, 3), 300.0)])
    assert back.clipped == 2
    images = open_images(np.array([[np.nan, 1.0]], "f4"))
    back = as_given(images, [images.images[0].whole()])
    assert back.clipped == 0
    assert np.isnan(back.images[0, 0])


def test_wide_integers_and_half_precision_are_clipped_at_their_ends():
    for dtype in ("i8", "u8", "u4"):
        info = np.iinfo(dtype)
        back = as_given(open_images(np.zeros((1, 2), dtype)), [np.array([[[-1e30], [1e30]]])])
        assert back.images.tolist() == [[info.min, info.max]]
        assert back.clipped == 2
    back = as_given(open_images(np.zeros((1, 2), "f2")), [np.array([[[1e6], [np.inf]]])])
    assert back.images.tolist() == [[65504.0, np.inf]]
    assert back.clipped == 1


def test_planes_that_do_not_fit_the_given_arrays_are_refused(tmp_path):
    images = open_images(np.zeros((4, 5)))
    refused(lambda: as_given(images, []), "1 images")
    refused(lambda: as_given(images, [np.zeros((5, 4, 1))]), "(4, 5, 1)")
    out = images.files[0].copy_to(tmp_path / "never.npy")
    refused(out.__enter__, "as_given", error=SettingError)


def test_a_window_is_cut_at_the_edges_and_is_no_view():
    array = pixels((9, 8), "f4")
    image = open_images(array).images[0]
    window = image.window(slice(5, 50), slice(2, 6))
    np.testing.assert_array_equal(window[..., 0], array[5:, 2:6])
    window[:] = 0
    assert array.any()


# Everyday images


@pytest.mark.parametrize("name", ["camera", "astronaut", "horse", "phantom", "logo", "color"])
def test_a_png_comes_back_pixel_by_pixel(name, tmp_path):
    path = shipped("skimage", "data", f"{name}.png")
    out = copied(path, tmp_path / "out.png")
    assert (out.clipped, out.lossy) == (0, False)
    same_images(path, tmp_path / "out.png")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "I;16"])
def test_every_kind_of_png_is_read(mode, tmp_path):
    image = pytest.importorskip("PIL.Image")
    if mode == "I;16":
        made = image.fromarray(pixels((9, 8), "u2"))
    else:
        made = image.fromarray(pixels((9, 8, 4 if "A" in mode else 3))).convert(mode)
    path = saved(made, tmp_path / "in.png")
    copied(path, tmp_path / "out.png")
    same_images(path, tmp_path / "out.png")
    wanted = {"P": "RGB"}.get(mode, mode)
    with image.open(path) as before, image.open(tmp_path / "out.png") as after:
        assert after.mode == wanted
        np.testing.assert_array_equal(np.array(after), np.array(before.convert(wanted)))


def test_alpha_is_carried_along_and_is_no_channel(tmp_path):
    image = pytest.importorskip("PIL.Image")
    array = pixels((9, 8, 4))
    path = saved(image.fromarray(array), tmp_path / "in.png")
    assert open_images(path).images[0].channels == 3
    copied(path, tmp_path / "out.png", lambda values: values * 0)
    with image.open(tmp_path / "out.png") as after:
        np.testing.assert_array_equal(np.array(after)[..., 3], array[..., 3])
        assert not np.array(after)[..., :3].any()


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_exif_profile_and_resolution_survive(ending, tmp_path):
    image = pytest.importorskip("PIL.Image")
    from PIL import ImageCms

    made = image.fromarray(pixels((16, 12, 3)))
    exif = made.getexif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = saved(made, tmp_path / f"in.{ending}", exif=exif, icc_profile=profile, dpi=(300, 300))
    copied(path, tmp_path / f"out.{ending}")
    with image.open(path) as before, image.open(tmp_path / f"out.{ending}") as after:
        assert after.size == (12, 16)  # turned for display alone
        assert dict(after.getexif()) == dict(before.getexif()) != {}
        assert after.info["icc_profile"] == profile
        assert after.info.get("dpi") == before.info.get("dpi")


def test_texts_of_a_png_survive(tmp_path):
    image = pytest.importorskip("PIL.Image")
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("Title", "a moon")
    texts.add_itxt("Author", "Åse")
    path = saved(image.new("L", (3, 3)), tmp_path / "in.png", pnginfo=texts)
    copied(path, tmp_path / "out.png")
    with image.open(tmp_path / "out.png") as after:
        assert after.text == {"Title": "a moon", "Author": "Åse"}


def test_a_jpeg_is_written_again_closely_and_says_that_it_loses(tmp_path):
    path = shipped("skimage", "data", "rocket.jpg")
    out = copied(path, tmp_path / "out.jpg")
    assert out.lossy
    before, after = (open_images(p).images[0].whole() for p in (path, tmp_path / "out.jpg"))
    assert np.abs(before - after).mean() < 1


@pytest.mark.parametrize("ending", ["bmp", "gif", "webp"])
def test_grey_images_of_other_formats_come_back(ending, tmp_path):
    image = pytest.importorskip("PIL.Image")
    path = saved(image.fromarray(pixels((9, 8))), tmp_path / f"in.{ending}")
    copied(path, tmp_path / f"out.{ending}")
    same_images(path, tmp_path / f"out.{ending}")


def test_the_first_frame_of_a_gif_is_read():
    images = open_images(shipped("skimage", "data", "no_time_for_that_tiny.gif"))
    assert len(images) == 1


def test_sixteen_bits_a_colour_are_refused_not_halved(tmp_path):
    path = shipped("skimage", "data", "chessboard_RGB.png")
    refused(lambda: open_images(path), "16 bits", "TIFF")


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    path = saved(image.new("L", (64, 64)), tmp_path / "bomb.png")
    monkeypatch.setattr(image, "MAX_IMAGE_PIXELS", 100)
    refused(lambda: open_images(path), "bomb.png", "TIFF")


# TIFF

GREY = (20, 24)
TIFFS = {
    "plain": ((*GREY,), "u2", {}),
    "bytes": ((*GREY,), "u1", {}),
    "floats": ((*GREY,), "f4", {}),
    "doubles": ((*GREY,), "f8", {}),
    "signed": ((*GREY,), "i2", {}),
    "big endian": ((5, *GREY), "u2", {"byteorder": ">"}),
    "BigTIFF": ((5, *GREY), "u2", {"bigtiff": True}),
    "stack": ((5, *GREY), "u2", {}),
    "deflated": ((5, *GREY), "u2", {"compression": "zlib", "predictor": True}),
    "strips": ((*GREY,), "u2", {"compression": "zlib", "rowsperstrip": 3}),
    "tiled": ((*GREY,), "u2", {"tile": (16, 16)}),
    "tiled and deflated": ((2, *GREY), "u1", {"tile": (16, 16), "compression": "zlib"}),
    "colours": ((*GREY, 3), "u1", {"photometric": "rgb"}),
    "colours of 16 bits": ((2, *GREY, 3), "u2", {"photometric": "rgb", "compression": "zlib"}),
    "colours in planes": ((3, *GREY), "u1", {"photometric": "rgb", "planarconfig": "separate"}),
    "alpha": ((*GREY, 4), "u1", {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "alpha, deflated": (
        (*GREY, 4), "u1",
        {"photometric": "rgb", "extrasamples": ["unassalpha"], "compression": "zlib"},
    ),
    "planes, tiled and deflated": (
        (3, *GREY), "u2",
        {"photometric": "rgb", "planarconfig": "separate", "tile": (16, 16),
         "compression": "zlib", "predictor": True},
    ),
    "blocks": ((8, *GREY), "u1", {"tile": (16, 16, 16), "volumetric": True}),
    "bits": ((*GREY,), "?", {"photometric": "minisblack"}),
    "bits, deflated": ((*GREY,), "?", {"photometric": "minisblack", "compression": "zlib"}),
    "noted axes": (
        (2, 5, *GREY), "u2",
        {"compression": "zlib", "metadata": {"axes": "ZCYX", "dose": 3}, "byteorder": ">"},
    ),
    "ImageJ, deflated": (
        (2, 3, *GREY), "u2",
        {"imagej": True, "compression": "zlib", "metadata": {"axes": "TCYX", "Info": "a cell"}},
    ),
    "ImageJ": ((2, 3, *GREY), "u2", {"imagej": True, "metadata": {"axes": "TCYX", "unit": "um"}}),
    "OME": ((2, 3, *GREY), "u2", {"ome": True, "metadata": {"axes": "CZYX"}}),
    "OME, deflated": ((2, 3, *GREY), "u2", {"ome": True, "compression": "zlib"}),
}  # fmt: skip


@pytest.mark.parametrize("case", TIFFS)
def test_a_tiff_comes_back_with_its_pixels_tags_and_shape(case, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    shape, dtype, options = TIFFS[case]
    array = pixels(shape, dtype)
    top = {"resolution": (300, 300), "software": "a scope", "datetime": "2024:01:02 03:04:05"}
    writes_text = not {"imagej", "ome"} & set(options)
    path, out = tmp_path / "in.tif", tmp_path / "out.tif"
    top |= {"description": "a note"} if writes_text else {}
    tifffile.imwrite(path, array, **options, **top)
    copy = copied(path, out)
    assert copy.clipped == 0
    same_images(path, out)
    kept = (270, 282, 283, 296, 305, 306, 259, 322, 323, 258, 338)
    with tifffile.TiffFile(path) as before, tifffile.TiffFile(out) as after:
        np.testing.assert_array_equal(after.asarray(), array)
        assert (after.series[0].axes, after.series[0].shape) == (
            before.series[0].axes, before.series[0].shape,
        )  # fmt: skip
        assert (after.is_bigtiff, after.byteorder) == (before.is_bigtiff, before.byteorder)
        assert len(after.pages) == len(before.pages)
        assert after.imagej_metadata == before.imagej_metadata
        assert after.shaped_metadata == before.shaped_metadata
        for one, other in zip(before.pages, after.pages):
            old, new = one.aspage().tags, other.aspage().tags
            for tag in kept:
                assert old.valueof(tag) == new.valueof(tag), tag


def test_channels_of_a_microscope_are_planes_unless_axes_say_otherwise(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, pixels((2, 4, 9, 8), "u2"), imagej=True, metadata={"axes": "ZCYX"})
    assert [p.name for p in open_images(path)][-1] == "cells.tif[7]"
    asked = open_images(path, "ZCYX")
    assert (len(asked), asked.images[0].channels) == (2, 4)
    refused(lambda: open_images(path, "ZYX"), "cells.tif", "(2, 4, 9, 8)")


@pytest.mark.parametrize("options", [{}, {"tile": (16, 32), "compression": "zlib"}])
@pytest.mark.parametrize("large", [True, False])
def test_windows_of_a_tiff_are_parts_of_the_whole(options, large, tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    array = pixels((2, 50, 70), "u2")
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, array, **options)
    if large:
        monkeypatch.setattr("keyhole.data.images.tiff.PLANE_BYTES", 0)
    image = open_images(path).images[1]
    window = image.window(slice(13, 41), slice(29, 67))
    np.testing.assert_array_equal(window[..., 0], array[1, 13:41, 29:67])


def test_a_palette_is_refused_unless_it_is_a_ramp(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    ramp = np.repeat(np.linspace(0, 65535, 256).astype("u2")[None], 3, 0)
    for name, colours in (("ramp.tif", ramp), ("any.tif", RNG.permuted(ramp, axis=1))):
        tifffile.imwrite(tmp_path / name, pixels(GREY), photometric="palette", colormap=colours)
    copied(tmp_path / "ramp.tif", tmp_path / "out.tif")
    same_images(tmp_path / "ramp.tif", tmp_path / "out.tif")
    refused(lambda: open_images(tmp_path / "any.tif"), "any.tif", "palette")


def test_tags_of_others_survive_where_pages_are_encoded_again(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tags = [(65000, "s", 0, "a tag", True), (65001, "d", 2, (1.5, 2.5), True)]
    path, out = tmp_path / "in.tif", tmp_path / "out.tif"
    tifffile.imwrite(path, pixels(GREY), compression="zlib", metadata=None, extratags=tags)
    copied(path, out)
    with tifffile.TiffFile(out) as after:
        assert after.pages[0].tags.valueof(65000) == "a tag"
        assert after.pages[0].tags.valueof(65001) == (1.5, 2.5)


def test_pages_of_different_sizes_are_all_images(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        for size in ((9, 8), (5, 6), (9, 8)):
            writer.write(pixels(size), metadata=None, contiguous=False)
    sizes = sorted((p.height, p.width) for p in open_images(tmp_path / "in.tif"))
    assert sizes == [(5, 6), (9, 8), (9, 8)]
    copied(tmp_path / "in.tif", tmp_path / "out.tif")
    same_images(tmp_path / "in.tif", tmp_path / "out.tif")


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 3)])
def test_a_compression_without_a_codec_is_left_to_pillow(shape, tmp_path):
    image = pytest.importorskip("PIL.Image")
    array = pixels(shape)
    path = saved(image.fromarray(array), tmp_path / "lzw.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(open_images(path).images[0].whole().squeeze(), array)
    copied(path, tmp_path / "out.tif")
    same_images(path, tmp_path / "out.tif")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"metadata": None}])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_tiff_is_found_when_it_is_opened(options, share, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        for _ in range(3):
            writer.write(pixels((50, 40), "u2"), contiguous=False, **options)
    content = (tmp_path / "in.tif").read_bytes()
    (tmp_path / "in.tif").write_bytes(content[: int(share * len(content))])
    refused(lambda: open_images(tmp_path / "in.tif"), "in.tif", 'bad="skip"')


MEMORY = """
import sys
import numpy as np, tifffile
from keyhole.data.images import open_images, tiff
tiff.PLANE_BYTES = 0
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) >> 10
import zarr
small, large, out = sys.argv[1:]
def copy(path, out):
    file = open_images(path).files[0]
    image = file.images[0]
    with file.copy_to(out) as copy:
        for y in range(0, image.height, 128):
            rows = np.concatenate([
                image.window(slice(y, y + 128), slice(x, x + 512))
                for x in range(0, image.width, 512)
            ], 1)
            copy.write(0, y, rows)
copy(small, out + "small.tif")
before = peak()
copy(large, out)
print(peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's own count")
@pytest.mark.parametrize("options", [{}, {"tile": (256, 256), "compression": "zlib"}])
def test_a_large_tiff_is_copied_in_the_memory_of_a_band(options, tmp_path):
    """A process of its own, for the peak never falls: over a second."""
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("zarr")
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((256, 4096), "u2"), **options)
    tifffile.imwrite(tmp_path / "large.tif", np.zeros((8192, 4096), "u2"), **options)  # 64 MB
    names = [str(tmp_path / name) for name in ("small.tif", "large.tif", "out.tif")]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, *names], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 30


# DICOM


def medical(name):
    return shipped("pydicom", "data", "test_files", name)


@pytest.mark.parametrize(
    "name",
    ["CT_small", "MR_small", "MR_small_bigendian", "MR_small_implicit", "MR_small_RLE",
     "JPEG2000", "SC_rgb_rle_2frame", "SC_ybr_full_422_uncompressed", "examples_palette",
     "SC_rgb_small_odd", "rtdose", "image_dfl"],
)  # fmt: skip
def test_a_dicom_comes_back_with_the_same_values(name, tmp_path):
    path = medical(f"{name}.dcm")
    out = copied(path, tmp_path / "out.dcm", note="what was done")
    assert out.clipped == 0
    same_images(path, tmp_path / "out.dcm")


def test_rescale_tags_make_real_values_and_bits_make_limits():
    import pydicom

    image = open_images(medical("CT_small.dcm")).images[0]
    dataset = pydicom.dcmread(medical("CT_small.dcm"))
    real = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    np.testing.assert_array_equal(image.whole()[..., 0], real)
    assert image.limits == (-32768.0 - 1024, 32767.0 - 1024)
    assert image.name == "CT_small.dcm"


def test_bits_stored_are_the_limit_and_what_is_beyond_is_counted(tmp_path):
    import pydicom

    dataset = pydicom.dcmread(medical("MR_small.dcm"))
    stored = pixels((64, 64), "u1").astype("u2") * 16
    dataset.PixelData = stored.tobytes()
    dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 0, 12, 11
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.RescaleSlope, dataset.RescaleIntercept = "-0.5", "7"
    dataset.save_as(tmp_path / "in.dcm")
    image = open_images(tmp_path / "in.dcm").images[0]
    assert image.limits == (-4095 / 2 + 7, 7.0)
    out = copied(tmp_path / "in.dcm", tmp_path / "same.dcm")
    assert out.clipped == 0
    same_images(tmp_path / "in.dcm", tmp_path / "same.dcm")
    out = copied(tmp_path / "in.dcm", tmp_path / "out.dcm", lambda values: values * 0 + 8)
    assert out.clipped == 64 * 64
    after = pydicom.dcmread(tmp_path / "out.dcm")
    assert not after.pixel_array.any()
    assert (after.BitsStored, after.PhotometricInterpretation) == (12, "MONOCHROME1")


def test_a_dicom_copy_is_a_derived_instance(tmp_path):
    import pydicom

    path = medical("CT_small.dcm")
    before = pydicom.dcmread(path)
    images = open_images([path, medical("MR_small.dcm"), path])
    for number, file in enumerate(images.files):
        with file.copy_to(tmp_path / f"{number}.dcm", note="denoised") as out:
            out.write(0, 0, file.images[0].whole())
    after, other, again = (pydicom.dcmread(tmp_path / f"{n}.dcm") for n in range(3))
    assert after.SOPInstanceUID == after.file_meta.MediaStorageSOPInstanceUID
    assert len({str(d.SOPInstanceUID) for d in (before, after, again)}) == 3
    assert after.SeriesInstanceUID == again.SeriesInstanceUID != before.SeriesInstanceUID
    assert other.SeriesInstanceUID != after.SeriesInstanceUID
    assert after.StudyInstanceUID == before.StudyInstanceUID
    assert after.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert after.DerivationDescription == "denoised"
    assert after.SeriesDescription.endswith("(derived)")
    assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert after.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    for kept in ("PatientID", "RescaleIntercept", "PixelSpacing", "ImagePositionPatient"):
        assert after[kept].value == before[kept].value


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MR_truncated", "truncated"),
        ("JPEGLSNearLossless_16", "pip install"),
        ("rtplan", "RTPLAN"),
    ],
)
def test_a_dicom_that_cannot_be_read_is_refused(name, said):
    refused(lambda: open_images(medical(f"{name}.dcm")), name, said)


def test_a_dicom_without_an_ending_is_found_in_a_folder(tmp_path):
    with open(medical("CT_small.dcm"), "rb") as file:
        (tmp_path / "IM000001").write_bytes(file.read())
    (tmp_path / "README").write_text("no image")
    images = open_images(tmp_path)
    assert [image.name for image in images] == ["IM000001"]
    assert images.ignored == 1
    assert is_images(tmp_path / "IM000001")


# NIfTI


def volumes():
    return shipped("nibabel", "tests", "data")


@pytest.mark.parametrize("name", ["anatomical.nii", "functional.nii", "standard.nii.gz"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_nifti_comes_back_with_header_affine_and_scale(name, ending, tmp_path):
    import nibabel as nib

    path, out = os.path.join(volumes(), name), tmp_path / f"out{ending}"
    assert copied(path, out).clipped == 0
    before, after = nib.load(path), nib.load(out)
    assert before.header.binaryblock == after.header.binaryblock
    np.testing.assert_array_equal(before.affine, after.affine)
    np.testing.assert_array_equal(before.get_fdata(), after.get_fdata())


def test_slices_lie_along_the_third_axis_and_times_follow():
    import nibabel as nib

    path = os.path.join(volumes(), "functional.nii")
    volume = nib.load(path).get_fdata()
    images = open_images(path)
    assert len(images) == volume.shape[2] * volume.shape[3]
    np.testing.assert_allclose(images.images[0].whole()[..., 0], volume[:, :, 0, 0].T, 1e-6)
    assert len(open_images(path, "YZXT")) == volume.shape[1] * volume.shape[3]


@pytest.mark.parametrize("name", ["anatomical.nii", "standard.nii.gz"])
def test_a_truncated_nifti_is_refused(name, tmp_path):
    with open(os.path.join(volumes(), name), "rb") as file:
        content = file.read()
    (tmp_path / name).write_bytes(content[: len(content) * 4 // 5])
    refused(lambda: open_images(tmp_path / name), name)


# NumPy and zarr


@pytest.mark.parametrize("dtype", [*INTEGERS, "f2", ">f4", "f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_npy_file_comes_back_byte_by_byte(dtype, order, tmp_path):
    np.save(tmp_path / "in.npy", np.asarray(pixels((2, 9, 8), dtype), order=order))
    assert copied(tmp_path / "in.npy", tmp_path / "out.npy").clipped == 0
    assert (tmp_path / "in.npy").read_bytes() == (tmp_path / "out.npy").read_bytes()


def test_npy_files_that_hold_no_image_are_refused(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([["a", None]], object))
    refused(lambda: open_images(tmp_path / "objects.npy"), "objects.npy", "object")
    np.save(tmp_path / "short.npy", np.zeros((9, 8)))
    content = (tmp_path / "short.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(content[:-1])
    refused(lambda: open_images(tmp_path / "short.npy"), "short.npy", "truncated")


@pytest.mark.parametrize("version", [2, 3])
def test_a_plain_zarr_array_comes_back_with_its_chunks(version, tmp_path):
    zarr = pytest.importorskip("zarr")
    array = pixels((3, 20, 30), "u2")
    made = zarr.create_array(
        tmp_path / "in.zarr", shape=array.shape, dtype="u2", chunks=(1, 8, 16),
        zarr_format=version, attributes={"unit": "counts"},
    )  # fmt: skip
    made[:] = array
    copied(tmp_path / "in.zarr", tmp_path / "out.zarr")
    after = zarr.open_array(tmp_path / "out.zarr", mode="r")
    np.testing.assert_array_equal(after[:], array)
    assert (after.chunks, dict(after.attrs)) == ((1, 8, 16), {"unit": "counts"})
    window = open_images(tmp_path / "in.zarr").images[2].window(slice(5, 19), slice(3, 20))
    np.testing.assert_array_equal(window[..., 0], array[2, 5:19, 3:20])


@pytest.mark.parametrize("version", [2, 3])
def test_an_ome_zarr_is_read_at_its_full_level(version, tmp_path):
    zarr = pytest.importorskip("zarr")
    array = pixels((2, 3, 20, 30), "u2")
    axes = [{"name": name} for name in "czyx"]
    scales = [{"axes": axes, "datasets": [{"path": "0"}, {"path": "1"}]}]
    attributes = {"multiscales": scales} if version == 2 else {"ome": {"multiscales": scales}}
    group = zarr.create_group(tmp_path / "in.zarr", zarr_format=version, attributes=attributes)
    for level in (0, 1):
        part = array[..., :: level + 1, :: level + 1]
        group.create_array(str(level), shape=part.shape, dtype="u2", chunks=(1, 1, 8, 8))[:] = part
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(tmp_path / "in.zarr")
    images = open_images(tmp_path / "in.zarr")
    assert (len(images), images.images[0].channels) == (6, 1)
    assert (len(open_images(tmp_path / "in.zarr", "CZYX"))) == 3
    with pytest.warns(KeyholeWarning, match="no pyramid"):
        copied(tmp_path / "in.zarr", tmp_path / "out.zarr", lambda values: values + 0.2)
    same_images(tmp_path / "in.zarr", tmp_path / "out.zarr")
    after = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert list(after.array_keys()) == ["0"]


# Folders, bad files, and copies that fail


@pytest.fixture
def folder(tmp_path):
    """Two good images, one of them a folder deeper, a truncated one and a text."""
    image = pytest.importorskip("PIL.Image")
    top = tmp_path / "scans"
    (top / "more").mkdir(parents=True)
    saved(image.fromarray(pixels((9, 8))), top / "b.png")
    saved(image.fromarray(pixels((5, 6, 3))), top / "more" / "a.PNG")
    content = (top / "b.png").read_bytes()
    (top / "cut.png").write_bytes(content[: len(content) // 2])
    (top / "notes.txt").write_text("none of these")
    (top / ".hidden.png").write_text("no")
    return top


def test_a_bad_file_in_a_folder_is_named_and_refused_or_skipped(folder):
    refused(lambda: open_images(folder), "cut.png", 'bad="skip"')
    images = open_images(folder, bad="skip")
    assert [image.name for image in images] == ["b.png", os.path.join("more", "a.PNG")]
    assert images.ignored == 1
    assert [type(one) for one in images.skipped] == [Skipped]
    assert images.skipped[0].name == "cut.png"
    assert "cut.png" not in images.skipped[0].why
    assert [p.channels for p in images] == [1, 3]


def test_a_glob_and_a_list_of_paths_name_files(folder):
    assert len(open_images(f"{folder}/b*")) == 1
    assert len(open_images([folder / "b.png", str(folder / "more" / "a.PNG")])) == 2


def test_where_nothing_is_left_or_found_that_is_said(folder, tmp_path):
    refused(lambda: open_images(folder / "cut.png", bad="skip"), "cut.png", "no image is left")
    refused(lambda: open_images(folder / "notes.txt"), "notes.txt", ".png")
    refused(lambda: open_images(folder / "c.png"), "did you mean", error=FileError)
    (tmp_path / "empty").mkdir()
    refused(lambda: open_images(tmp_path / "empty"), "no images")
    (tmp_path / "zero.png").touch()
    refused(lambda: open_images(tmp_path / "zero.png"), "zero.png", "empty")
    for ending in ("png", "tif", "dcm", "nii", "npy", "nii.gz"):
        (tmp_path / f"text.{ending}").write_text("no image at all, whatever it is called" * 9)
        refused(lambda e=ending: open_images(tmp_path / f"text.{e}"), f"text.{ending}")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read_is_refused(folder):
    (folder / "b.png").chmod(0)
    refused(lambda: open_images(folder / "b.png"), "permission", error=FileError)


def test_what_names_images_is_known_without_reading_them(folder, tmp_path):
    assert is_images(folder)
    assert is_images(str(folder / "cut.png"))
    assert is_images(f"{folder}/*.png")
    assert is_images("not/there.tif")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "part.parquet").touch()
    (tmp_path / "tables" / "plot.png").touch()
    tables = tmp_path / "tables"
    for other in ("table.csv", f"{folder}/*.txt", tables, np.zeros((3, 3)), None, "-"):
        assert not is_images(other)


@pytest.mark.parametrize(("library", "name"), [("PIL", "a.png"), ("pydicom", "a.dcm")])
def test_a_missing_library_is_named_with_its_extra(library, name, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(b"x" * 200)
    monkeypatch.setitem(sys.modules, library, None)
    extra = {"PIL": "images", "pydicom": "medical"}[library]
    ask = lambda: open_images(tmp_path, bad="skip")  # noqa: E731
    refused(ask, name, f'pip install "keyhole-ae[{extra}]"', error=MissingExtraError)


def test_a_copy_that_fails_leaves_nothing_behind(folder, tmp_path):
    path = folder / "b.png"
    out = tmp_path / "out.png"
    with pytest.raises(ZeroDivisionError), open_images(path).files[0].copy_to(out):
        raise ZeroDivisionError
    refused(
        lambda: copied(path, out, lambda values: values[:, :3]), "(7, 3, 1)", error=SettingError
    )

    def unfinished():
        with open_images(path).files[0].copy_to(out):
            pass

    refused(unfinished, "is incomplete")
    assert sorted(os.listdir(tmp_path)) == ["scans"]


@pytest.mark.parametrize("name", ["in.npy", "in.tif", "in.dcm", "in.nii.gz", "in.zarr"])
def test_a_failed_copy_of_any_format_leaves_nothing_behind(name, tmp_path):
    array = pixels((2, 20, 30), "i2")
    path = tmp_path / name
    if name.endswith("npy"):
        np.save(path, array)
    elif name.endswith("tif"):
        pytest.importorskip("tifffile").imwrite(path, array, compression="zlib")
    elif name.endswith("dcm"):
        path.write_bytes(open_bytes(medical("CT_small.dcm")))
    elif name.endswith("gz"):
        nib = pytest.importorskip("nibabel")
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    else:
        pytest.importorskip("zarr").save_array(str(path), array)
    target = tmp_path / f"out{name[2:]}"
    with contextlib.suppress(ZeroDivisionError), open_images(path).files[0].copy_to(target):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == [name]
    copied(path, target)
    assert sorted(os.listdir(tmp_path)) == sorted([name, target.name])


def open_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def test_an_existing_file_is_replaced_only_by_force_and_may_be_the_source(folder):
    path = folder / "b.png"
    before = open_images(path).images[0].whole()
    refused(lambda: copied(path, path), "exists already", error=FileError)
    copied(path, path, lambda values: 255 - values, force=True)
    np.testing.assert_array_equal(open_images(path).images[0].whole(), 255 - before)


def test_a_copy_does_not_get_the_ending_of_another_format(folder, tmp_path):
    refused(lambda: copied(folder / "b.png", tmp_path / "o.tif"), ".png", error=SettingError)
    copied(folder / "b.png", tmp_path / "no_ending")


def test_rows_must_come_in_order(folder, tmp_path):
    file = open_images(folder / "b.png").files[0]

    def jump():
        with file.copy_to(tmp_path / "o.png") as out:
            out.write(0, 3, np.zeros((2, 8, 1)))

    refused(jump, "expected plane 0, row 0", error=SettingError)


def test_opened_images_can_be_sent_to_another_process(folder):
    images = open_images([folder / "b.png", medical("CT_small.dcm")])
    again = pickle.loads(pickle.dumps(images))
    for one, other in zip(images, again):
        np.testing.assert_array_equal(one.whole(), other.whole())


def test_one_pixel_is_a_image_in_every_format(tmp_path):
    tifffile, image = pytest.importorskip("tifffile"), pytest.importorskip("PIL.Image")
    one = np.array([[7]], "u1")
    tifffile.imwrite(tmp_path / "one.tif", one)
    saved(image.fromarray(one), tmp_path / "one.png")
    np.save(tmp_path / "one.npy", one)
    for path in sorted(glob.glob(f"{tmp_path}/one.*")):
        target = path.replace("one.", "out.")
        copied(path, target)
        assert open_images(target).images[0].whole().tolist() == [[[7.0]]]
