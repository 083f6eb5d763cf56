"""Images by Pillow: PNG, JPEG, BMP, WebP, and the first frame of a GIF."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from keyhole.core.files import atomic_write
from keyhole.data.images.arrays import cached
from keyhole.data.images.image import ImageFile, OpenOptions, WriteRows, optional, quiet
from keyhole.errors import DataError

ENDINGS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
}
CHECKED_BYTES = 64 << 20  # files up to this size are decoded when opened, to check them
DTYPES = {"1": np.bool_, "I": np.int32, "I;16": np.uint16, "F": np.float32}  # others: uint8
METADATA = ("exif", "icc_profile", "dpi", "xmp", "comment")  # same names in `info` and `save`
ORIENTATION = 0x0112  # the Exif tag


class PillowFile(ImageFile):
    """One image, decoded as a whole and cached."""

    kind = "pillow"
    endings = tuple(end for ends in ENDINGS.values() for end in ends)

    format = ""
    mode = ""

    @classmethod
    def opened(cls, path: str, options: OpenOptions) -> Self:
        """The image; it is decoded once to detect a truncated file."""
        file = cls(path, options)
        with _image(path) as image:
            file.format = "JPEG" if image.format == "MPO" else str(image.format)
            file.mode = mode = _mode(image)
            file.orientation = int(image.getexif().get(ORIENTATION, 1) or 1)
            _refuse_deep_colour(image)
            size = (image.height, image.width)
            if os.path.getsize(path) > CHECKED_BYTES:
                image.verify()
        if os.path.getsize(path) <= CHECKED_BYTES:
            file._decoded()
        channels = {"LA": 1, "RGB": 3, "RGBA": 3, "CMYK": 4}.get(mode, 1)
        file.lossy = file.format == "JPEG" or (file.format == "GIF" and mode != "L")
        file.endings = ENDINGS[file.format]
        dtype = np.dtype(DTYPES.get(mode, np.uint8))
        file.add((*size, channels), dtype, alpha=mode in {"LA", "RGBA"})
        return file

    def raw_window(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window of the decoded image."""
        return cached(self.path, "pixels", self._decoded)[y, x]

    @contextmanager
    def writing(self, path: str, note: str) -> Iterator[WriteRows]:
        """Collect all pixels, then encode the image."""
        image = self.images[0]
        shape = image.height, image.width, image.channels + image.alpha
        pixels = np.zeros(shape, image.dtype)

        def write_rows(plane: int, y: slice, rows: np.ndarray) -> None:
            pixels[y] = rows

        with atomic_write(path) as temporary:
            yield write_rows
            content = io.BytesIO()
            with quiet():
                image = _from_array(pixels, self.mode)
                image.save(content, format=self.format, **self._save_options())
            with open(temporary, "wb") as file:
                file.write(content.getbuffer())

    def _decoded(self) -> np.ndarray:
        with _image(self.path) as image:
            array = np.array(image if image.mode == self.mode else image.convert(self.mode))
        return array if array.ndim == 3 else array[..., None]

    def _save_options(self) -> dict[str, Any]:
        from PIL.JpegImagePlugin import get_sampling

        with _image(self.path) as image:
            options = {name: image.info[name] for name in METADATA if name in image.info}
            if self.format == "PNG":
                options["pnginfo"] = _texts(image)
            elif self.format == "JPEG":
                progressive, sampling = bool(image.info.get("progressive")), get_sampling(image)
                options |= {
                    "quality": 95,
                    "subsampling": max(sampling, 0),
                    "progressive": progressive,
                }
            elif self.format == "WEBP":
                options |= {"lossless": True, "exact": True}  # exact: transparent pixels too
            return options


@contextmanager
def _image(path: str) -> Iterator[Any]:
    """Raises: DataError for another format, or for more pixels than Pillow decodes safely."""
    with optional("Pillow", "images"):
        from PIL import Image
    with quiet():
        try:
            with Image.open(path, formats=[*ENDINGS, "MPO"]) as image:
                yield image
        except Image.UnidentifiedImageError as fault:
            raise DataError("it is not a PNG, JPEG, BMP, WebP or GIF") from fault
        except Image.DecompressionBombError as fault:
            raise DataError(
                "it has more pixels than Pillow decodes at once; save it as a TIFF, which is "
                "read in parts"
            ) from fault


def _mode(image: Any) -> str:
    """The mode in which pixels are read: palettes become colours, or grey if all are grey."""
    if image.mode in {"P", "PA"}:
        clear = "transparency" in image.info or image.mode == "PA"
        grey = _grey_palette(image)
        return ("LA" if clear else "L") if grey else ("RGBA" if clear else "RGB")
    if image.mode in {"L", "RGB"} and "transparency" in image.info:
        return {"L": "LA", "RGB": "RGBA"}[image.mode]
    if image.mode.startswith("I;16"):
        return "I;16"
    return image.mode if image.mode in {"1", "L", "LA", "RGBA", "CMYK", "I", "F"} else "RGB"


def _grey_palette(image: Any) -> bool:
    colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    used = np.flatnonzero(image.histogram()[:256])
    used = used[used < len(colours)]
    return bool(len(used)) and bool((colours[used] == colours[used][:, :1]).all())


def _refuse_deep_colour(image: Any) -> None:
    """Raises: DataError for a PNG with 16 bits per colour; Pillow would read only 8."""
    with open(image.filename, "rb") as file:
        start = file.read(26)  # signature, length and name of IHDR, width, height, bits, colour
    if image.format == "PNG" and start[24] == 16 and start[25] != 0:
        raise DataError("it has 16 bits per colour, and only 8 can be read; save it as a TIFF")


def _from_array(pixels: np.ndarray, mode: str) -> Any:
    from PIL import Image

    flat = np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if mode == "1":
        return Image.fromarray(flat)
    return Image.frombytes(mode, flat.shape[1::-1], flat.astype(flat.dtype.newbyteorder("<")))


def _texts(image: Any) -> Any:
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    for name, text in image.text.items():
        if name == "XML:com.adobe.xmp" and "xmp" in image.info:
            texts.add_itxt(name, text)
        else:
            texts.add_text(name, text)
    return texts
