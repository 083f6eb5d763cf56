"""What the user says of images."""

from typing import Any

from keyhole.errors import SettingError
from keyhole.modalities.schema import Schema


class ImageSchema(Schema):
    """What the user says of images: all are resized to `size` (height, width).

    Without it, all must have one size, and are reduced to at most 64 pixels a side.
    """

    kind = "images"

    def __init__(self, size: list[int] | None = None) -> None:
        super().__init__()
        self.size = size

    def check(self) -> None:
        """Raises: SettingError for an invalid size."""
        super().check()
        size: Any = self.size
        if size is not None and not (
            isinstance(size, list | tuple)
            and len(size) == 2
            and all(isinstance(side, int) and 4 <= side <= 4_096 for side in size)
        ):
            raise SettingError(f"size={size!r:.40}: give (height, width) in pixels, from 4 up")
