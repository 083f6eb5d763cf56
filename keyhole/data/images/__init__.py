"""Images in files and arrays: opened, read by window, and written back as they came.

A new format is one file with a subclass of `ImageFile`, and one line in the import below.
"""

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
