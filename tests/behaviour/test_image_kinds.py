"""Bits, palettes and orientation tags: what an image shows is what a model is given."""

import numpy as np
import pytest

from keyhole.data import open_source
from keyhole.data.image_rows import as_images
from keyhole.data.images import open_images
from keyhole.errors import KeyholeWarning

Image = pytest.importorskip("PIL.Image")
PIXELS = np.random.default_rng(0).integers(0, 255, (12, 16), np.uint8)
WAYS = {1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
        6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip


def copied(path, target):
    file = open_images(path).files[0]
    with file.copy_to(target) as out:
        out.write(0, 0, file.images[0].whole())


@pytest.mark.parametrize("ending", ["png", "bmp"])
def test_a_image_of_one_bit_comes_back_with_one_bit(ending, tmp_path):
    Image.fromarray(PIXELS > 99).save(tmp_path / f"in.{ending}")
    image = open_images(tmp_path / f"in.{ending}").images[0]
    assert (image.limits, set(np.unique(image.whole()))) == ((0.0, 1.0), {0.0, 1.0})
    copied(tmp_path / f"in.{ending}", tmp_path / f"out.{ending}")
    with Image.open(tmp_path / f"out.{ending}") as after:
        assert after.mode == "1"
        np.testing.assert_array_equal(np.array(after), PIXELS > 99)


def test_a_palette_of_greys_is_grey_whatever_its_order(tmp_path):
    image = Image.fromarray(PIXELS)
    image.putpalette([v for i in range(256) for v in [255 - i] * 3])
    assert image.mode == "P"
    image.save(tmp_path / "in.png")
    opened = open_images(tmp_path / "in.png").images[0]
    assert opened.channels == 1
    np.testing.assert_array_equal(opened.whole()[..., 0], 255.0 - PIXELS)
    image.putpalette([v for i in range(256) for v in (i, 0, 0)])
    image.save(tmp_path / "colour.png")
    assert open_images(tmp_path / "colour.png").images[0].channels == 3


@pytest.mark.parametrize("orientation", WAYS)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_image_and_its_twin_that_is_tagged_to_be_turned_are_the_same_row(
    orientation, ending, tmp_path
):
    upright = Image.fromarray(PIXELS)
    way = WAYS[orientation]
    stored = upright if way is None else upright.transpose(getattr(Image.Transpose, way))
    exif = upright.getexif()
    exif[0x0112] = orientation
    (tmp_path / "twins").mkdir()
    upright.save(tmp_path / "twins" / f"a.{ending}")
    if ending == "tif":
        options = {"extratags": [(274, "H", 1, orientation, True)]}
        pytest.importorskip("tifffile").imwrite(
            tmp_path / "twins" / "b.tif", np.asarray(stored), metadata=None, **options
        )
    else:
        stored.save(tmp_path / "twins" / "b.png", exif=exif)
    source = open_source(str(tmp_path / "twins")).sized(None)
    one, other = as_images(next(iter(source.blocks(9))).arrow())
    np.testing.assert_array_equal(one, PIXELS)
    np.testing.assert_array_equal(other, PIXELS)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_pyramid_is_copied_without_its_reduced_levels_and_it_is_said(compression, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    pixels = np.random.default_rng(1).integers(0, 4_000, (64, 96), np.uint16)
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        writer.write(pixels, subifds=1, tile=(16, 16), compression=compression)
        writer.write(pixels[::2, ::2], subfiletype=1, tile=(16, 16), compression=compression)
    file = open_images(tmp_path / "in.tif").files[0]
    assert (file.levels, len(file.images)) == (1, 1)
    with (
        pytest.warns(KeyholeWarning, match=r"no pyramid; its 1 reduced level\(s\) would still"),
        file.copy_to(tmp_path / "out.tif") as out,
    ):
        out.write(0, 0, pixels[..., None] // 2)
    with tifffile.TiffFile(tmp_path / "out.tif") as after:
        assert [len(series.levels) for series in after.series] == [1]
        assert after.pages[0].tilewidth == 16
        np.testing.assert_array_equal(after.asarray(), pixels // 2)
