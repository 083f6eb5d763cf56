"""Pictures in files and arrays: opened, read by window, and written back as they came.

A new format is one file with a subclass of `ImageFile`, and one line in the import below.
"""

from keyhole.images import dicom, nifti, npy, ome_zarr, pillow, tiff  # noqa: F401
from keyhole.images.arrays import Given
from keyhole.images.base import Copy, ImageFile, Picture, Skipped
from keyhole.images.opening import (
    Pictures,
    as_given,
    is_images,
    open_images,
    warn_infinite,
    warn_passed_over,
)

__all__ = [
    "Copy",
    "Given",
    "ImageFile",
    "Picture",
    "Pictures",
    "Skipped",
    "as_given",
    "is_images",
    "open_images",
    "warn_infinite",
    "warn_passed_over",
]
