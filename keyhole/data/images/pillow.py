"""Everyday images by Pillow: PNG, JPEG, BMP, WebP, and the first frame of a GIF."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from keyhole.core.files import aside
from keyhole.data.images.arrays import held
from keyhole.data.images.image import Asked, ImageFile, Put, limits_of, needed, quiet
from keyhole.errors import DataError

ENDINGS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
}
LOADED_BYTES = 64 << 20  # files up to this size are decoded once when they are opened
ALPHA = {"LA", "RGBA"}
DTYPES = {"1": np.bool_, "I": np.int32, "I;16": np.uint16, "F": np.float32}  # others: uint8
KEPT = ("exif", "icc_profile", "dpi", "xmp", "comment")  # what `info` and `save` both call so


ORIENTATION = 0x0112  # the Exif tag


class PillowFile(ImageFile):
    """One image. It is decoded as a whole, and the last one that was stays in memory."""

    kind = "pillow"
    endings = tuple(end for ends in ENDINGS.values() for end in ends)

    @classmethod
    def opened(cls, path: str, asked: Asked) -> Self:
        """The image; decoded once, so that a truncated file is found now."""
        file = cls(path, asked)
        with _image(path) as image:
            file.format = "JPEG" if image.format == "MPO" else str(image.format)
            file.mode = mode = _mode(image)
            file.orientation = int(image.getexif().get(ORIENTATION, 1) or 1)
            _refuse_deep_colour(image)
            size = (image.height, image.width)
            if os.path.getsize(path) > LOADED_BYTES:
                image.verify()
        if os.path.getsize(path) <= LOADED_BYTES:
            file._decoded()
        channels = {"LA": 1, "RGB": 3, "RGBA": 3, "CMYK": 4}.get(mode, 1)
        dtype = np.dtype(DTYPES.get(mode, np.uint8))
        file.lossy = file.format == "JPEG" or (file.format == "GIF" and mode != "L")
        file.add((*size, channels), dtype, limits_of(dtype))
        return file

    def __init__(self, path: str, asked: Asked) -> None:
        super().__init__(path, asked)
        self.format = ""
        self.mode = ""

    def carries(self, plane: int) -> bool:
        """True where there is alpha."""
        return self.mode in ALPHA

    def own_endings(self) -> tuple[str, ...]:
        """Those of PNG for a PNG."""
        return ENDINGS[self.format]

    def stored(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window of the decoded image."""
        return held(self.path, "pixels", self._decoded)[y, x]

    @contextmanager
    def writing(self, path: str, note: str) -> Iterator[Put]:
        """Pixels are gathered, for the format encodes an image at once."""
        image = self.images[0]
        stored = image.channels + self.carries(0)
        pixels = np.zeros((image.height, image.width, stored), image.dtype)

        def put(plane: int, y: slice, rows: np.ndarray) -> None:
            pixels[y] = rows

        with aside(path) as temporary:
            yield put
            content = io.BytesIO()
            with quiet():
                image = _from_array(pixels, self.mode)
                image.save(content, format=self.format, **self._kept())
            with open(temporary, "wb") as file:
                file.write(content.getbuffer())

    def _decoded(self) -> np.ndarray:
        with _image(self.path) as image:
            array = np.array(image if image.mode == self.mode else image.convert(self.mode))
        return array if array.ndim == 3 else array[..., None]

    def _kept(self) -> dict[str, Any]:
        """What `save` needs to keep metadata and quality."""
        with _image(self.path) as image:
            kept = {name: image.info[name] for name in KEPT if name in image.info}
            if self.format == "PNG":
                kept["pnginfo"] = _texts(image)
            elif self.format == "JPEG":
                kept["quality"] = 95
                kept["subsampling"] = _subsampling(image)
                kept["progressive"] = bool(image.info.get("progressive"))
            elif self.format == "WEBP":
                kept["lossless"] = True
                kept["exact"] = True  # the colours of what is transparent too
            return kept


@contextmanager
def _image(path: str) -> Iterator[Any]:
    """The image, its header read.

    Raises: DataError for an image so large that it may be meant to harm.
    """
    try:
        from PIL import Image
    except ImportError as fault:
        raise needed("Pillow", "images") from fault
    with quiet():
        try:
            with Image.open(path, formats=[*ENDINGS, "MPO"]) as image:
                yield image
        except Image.UnidentifiedImageError as fault:
            raise DataError("it holds no PNG, JPEG, BMP, WebP or GIF") from fault
        except Image.DecompressionBombError as fault:
            raise DataError(
                "it has more pixels than Pillow will decode at once; save it as a TIFF, which is "
                "read in parts"
            ) from fault


def _mode(image: Any) -> str:
    """The mode in which its pixels are read: palettes become colours, or grey where all are."""
    if image.mode in {"P", "PA"}:
        clear = "transparency" in image.info or image.mode == "PA"
        grey = _grey_palette(image)
        return ("LA" if clear else "L") if grey else ("RGBA" if clear else "RGB")
    if image.mode in {"L", "RGB"} and "transparency" in image.info:
        return {"L": "LA", "RGB": "RGBA"}[image.mode]
    if image.mode.startswith("I;16"):
        return "I;16"
    known = {"1", "L", "LA", "RGB", "RGBA", "CMYK", "I", "F"}
    return image.mode if image.mode in known else "RGB"


def _grey_palette(image: Any) -> bool:
    """True where every colour that a pixel has is a grey."""
    colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    used = np.flatnonzero(image.histogram()[:256])
    used = used[used < len(colours)]
    return bool(len(used)) and bool((colours[used] == colours[used][:, :1]).all())


def _refuse_deep_colour(image: Any) -> None:
    """Raises: DataError for a PNG with 16 bits a colour, of which Pillow would drop half."""
    with open(image.filename, "rb") as file:
        start = file.read(26)  # signature, length and name of IHDR, width, height, bits, colour
    if image.format == "PNG" and start[24] == 16 and start[25] != 0:
        raise DataError("it has 16 bits a colour, of which only 8 can be read; save it as a TIFF")


def _from_array(pixels: np.ndarray, mode: str) -> Any:
    from PIL import Image

    flat = np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if mode == "1":
        return Image.fromarray(flat)
    return Image.frombytes(mode, flat.shape[1::-1], flat.astype(flat.dtype.newbyteorder("<")))


def _texts(image: Any) -> Any:
    """The texts of a PNG, as they are written again."""
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    for name, text in image.text.items():
        if name == "XML:com.adobe.xmp" and "xmp" in image.info:
            texts.add_itxt(name, text)
        else:
            texts.add_text(name, text)
    return texts


def _subsampling(image: Any) -> int:
    from PIL.JpegImagePlugin import get_sampling

    return max(get_sampling(image), 0)
