"""What goes wrong while a picture file is read, as one line for people."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from keyhole.core.package import missing_extra
from keyhole.errors import DataError, FileError, KeyholeError, MissingExtraError


class NoPictureError(DataError):
    """A sound file without pixels, such as a report in DICOM; `reason` is for counts."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


def told(name: str, fault: Exception) -> KeyholeError:
    """The error, in one line, for what came up while a file was read."""
    if isinstance(fault, MissingExtraError):
        return fault
    if isinstance(fault, PermissionError):
        return FileError(f"{name} cannot be read: permission is denied")
    said = " ".join(str(fault).split()) or type(fault).__name__
    if isinstance(fault, OSError) and fault.strerror:
        return FileError(f"{name} cannot be read: {fault.strerror}")
    if isinstance(fault, NoPictureError):
        return NoPictureError(f"{name}: {said}", fault.reason)
    if isinstance(fault, KeyholeError):
        return type(fault)(f"{name}: {said}")
    return DataError(f"{name} is damaged, or not what its ending says: {said:.160}")


def needed(library: str, extra: str) -> MissingExtraError:
    """The error for an optional library that is not installed."""
    return missing_extra(library, "read such files", extra)


@contextmanager
def quiet() -> Iterator[None]:
    """Readers warn of what a user cannot change: a date in a header, an odd tag."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
