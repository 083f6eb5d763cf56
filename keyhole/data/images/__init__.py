"""Images in files and arrays; a new format is a subclass of `ImageFile`, imported below."""

from keyhole.data.images import dicom, pillow, tiff, volumes  # noqa: F401
from keyhole.data.images.image import Image, ImageFile, Skipped
from keyhole.data.images.opening import (
    Images,
    as_given,
    is_images,
    open_images,
    warn_infinite,
    warn_passed_over,
)

__all__ = [
    "Image", "ImageFile", "Images", "Skipped", "as_given", "is_images", "open_images",
    "warn_infinite", "warn_passed_over",
]  # fmt: skip
