"""DICOM: frames read in rescaled units, and copies written as derived instances."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from keyhole.core.files import atomic_write, scratch_file
from keyhole.data.images.arrays import MappedArray, cached, reserve
from keyhole.data.images.image import (
    ImageFile,
    Limits,
    NoImageError,
    OpenOptions,
    WriteRows,
    check_dtype,
    limits_of,
    optional,
    quiet,
)
from keyhole.errors import DataError

SUFFIX = " (derived)"
DESCRIPTION_LETTERS = 64  # the limit of value representation LO
NOTE_LETTERS = 1024  # the limit of value representation ST
# Elements that describe the old pixels: ranges, icons, checksums, signatures, encapsulation
STALE = (
    "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries", "IconImageSequence", "DigitalSignaturesSequence",
    "MACParametersSequence", "PixelData", "FloatPixelData", "DoubleFloatPixelData",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "EncapsulatedPixelDataValueTotalLength",
)  # fmt: skip
PALETTE = tuple(
    f"{colour}PaletteColorLookupTable{what}"
    for colour in ("Red", "Green", "Blue", "Alpha")
    for what in ("Descriptor", "Data")
) + tuple(f"Segmented{c}PaletteColorLookupTableData" for c in ("Red", "Green", "Blue"))


def derived(file: "DicomFile", pixels: str, target: str, note: str) -> None:
    """Write the derived instance with the frames of the file `pixels`."""
    import pydicom
    from pydicom.tag import Tag
    from pydicom.uid import ExplicitVRLittleEndian

    with quiet(), open(pixels, "rb") as frames:
        dataset = read_dataset(file.path)
        _refer(dataset, file.call, note)
        _drop(dataset, STALE)
        _describe(dataset, file)
        dtype = file.images[0].dtype
        keyword, vr = "PixelData", "OB" if dtype.itemsize == 1 else "OW"
        if dtype.kind == "f":
            double = dtype.itemsize == 8
            keyword, vr = ("DoubleFloatPixelData", "OD") if double else ("FloatPixelData", "OF")
        dataset.add(pydicom.DataElement(Tag(keyword), vr, frames))
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        pydicom.dcmwrite(
            target, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True
        )


def _refer(dataset: Any, call: str, note: str) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import generate_uid

    source = Dataset()
    source.ReferencedSOPClassUID = dataset.get("SOPClassUID", "")
    source.ReferencedSOPInstanceUID = dataset.get("SOPInstanceUID", "")
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    source.PurposeOfReferenceCodeSequence = [purpose]
    dataset.SourceImageSequence = [source]
    series = str(dataset.get("SeriesInstanceUID", ""))
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["keyhole", call, series])
    dataset.SOPInstanceUID = generate_uid()
    if not getattr(dataset, "file_meta", None):
        dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "")
    dataset.ImageType = ["DERIVED", "SECONDARY", *list(dataset.get("ImageType") or [])[2:]]
    description = "; ".join(filter(None, [str(dataset.get("DerivationDescription") or ""), note]))
    if description:
        dataset.DerivationDescription = description[:NOTE_LETTERS]
    title = str(dataset.get("SeriesDescription") or "")
    dataset.SeriesDescription = title[: DESCRIPTION_LETTERS - len(SUFFIX)] + SUFFIX
    time = dt.datetime.now()
    dataset.InstanceCreationDate = time.strftime("%Y%m%d")
    dataset.InstanceCreationTime = time.strftime("%H%M%S")


def _describe(dataset: Any, file: "DicomFile") -> None:
    """Set the tags of the new pixels: not compressed, colours as RGB, interleaved."""
    image = file.images[0]
    bits = 8 * image.dtype.itemsize
    dataset.SamplesPerPixel = image.channels
    _drop(dataset, ("PlanarConfiguration",))
    if image.channels > 1:
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.BitsAllocated = bits
    if file.colours:
        _drop(dataset, PALETTE)
        dataset.BitsStored = bits
    if image.dtype.kind in "iu":
        dataset.BitsStored = int(dataset.get("BitsStored") or bits)
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(image.dtype.kind == "i")


def _drop(dataset: Any, keywords: tuple[str, ...]) -> None:
    for keyword in keywords:
        if keyword in dataset:
            del dataset[keyword]


PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
LARGE_BYTES = 4096  # larger elements are read from the file on access
DEFLATED = "1.2.840.10008.1.2.1.99"
MAGIC = 128  # the offset of "DICM"
# Value representations and longest value of the first element, in a file without a preamble.
FIRST_VRS = (b"UL", b"CS", b"UI", b"DA", b"LO", b"SH")
MAX_FIRST_BYTES = 64  # of the first element of a DICOM file without a preamble


class DicomFile(ImageFile):
    """The frames of one instance. Copies are derived instances; one call makes one series."""

    kind = "dicom"
    endings = (".dcm", ".dicom", ".ima")

    by_frame: bool  # True if a frame can be decoded without the rest of the file
    colours: bool  # True for palette indices, read as colours
    padding: Limits | None = None  # raw values of pixels outside the measured area

    @classmethod
    def opened(cls, path: str, options: OpenOptions) -> Self:
        """The instance; its last frame is decoded to detect a truncated file."""
        file = cls(path, options)
        dataset = read_dataset(path)
        if not any(keyword in dataset for keyword in PIXELS):
            modality = str(dataset.get("Modality") or "no modality")
            message = f"the DICOM file has no pixels ({modality})"
            raise NoImageError(message, f"DICOM without pixels: {modality}")
        frames = int(dataset.get("NumberOfFrames") or 1)
        file.colours = dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
        syntax = dataset.file_meta.get("TransferSyntaxUID") if dataset.file_meta else None
        file.by_frame = not file.colours and syntax not in {None, "", DEFLATED}
        last = file._frame(frames - 1)
        dtype = last.dtype.newbyteorder("=")
        check_dtype(last.dtype)
        limits = _bit_limits(dataset, dtype, colours=file.colours)
        if last.shape[2] == 1 and not file.colours:
            file.padding = _padding(dataset, dtype, limits)
        for frame, name in enumerate(file.plane_names(frames)):
            file.add(last.shape, dtype, name, limits=limits, scale=_scale(dataset, frame))
        return file

    def raw_window(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window of the frame, which is decoded as a whole and cached."""
        return self._frame(plane)[y, x]

    def padded(self, plane: int, y: slice, x: slice, raw: np.ndarray) -> np.ndarray | None:
        """Pixels with the padding value."""
        if self.padding is None:
            return None
        return (raw >= self.padding[0]) & (raw <= self.padding[1])

    @contextmanager
    def writing(self, path: str, note: str) -> Iterator[WriteRows]:
        """Frames go to a scratch file, from which the derived instance is written."""
        shape = (len(self.images), *self.images[0].size)
        dtype = self.images[0].dtype.newbyteorder("<")
        with atomic_write(path) as temporary, scratch_file(path) as pixels:
            mapped = MappedArray(pixels, 0, dtype, shape)
            reserve(pixels, b"", mapped.end + mapped.end % 2)  # values have an even length

            def write_rows(plane: int, y: slice, rows: np.ndarray) -> None:
                mapped.array(write=True)[plane, y] = rows

            yield write_rows
            derived(self, pixels, temporary, note)

    def _frame(self, frame: int) -> np.ndarray:
        return cached(self.path, frame, lambda: self._decoded(frame))

    def _decoded(self, frame: int) -> np.ndarray:
        from pydicom.pixels import apply_color_lut, pixel_array

        try:
            if self.by_frame:
                array = pixel_array(self.path, index=frame)
            else:
                dataset = read_dataset(self.path)
                array = pixel_array(dataset, index=frame)
                array = apply_color_lut(array, dataset) if self.colours else array
        except (RuntimeError, NotImplementedError) as fault:
            message = " ".join(str(fault).split())
            raise DataError(
                f"its pixels cannot be decoded; try pip install pylibjpeg[all] ({message:.120})"
            ) from fault
        except ValueError as fault:
            if "reshape" in str(fault) or "less than expected" in str(fault):
                raise DataError("it is truncated: pixels are missing at its end") from fault
            raise
        return np.array(array if array.ndim == 3 else array[..., None])


def read_dataset(path: str) -> Any:
    """All elements; large ones are read on access."""
    with optional("pydicom", "medical"):
        import pydicom
    with open(path, "rb") as file:
        known = file.read(MAGIC + 4).endswith(b"DICM")
    return pydicom.dcmread(path, force=not known, defer_size=LARGE_BYTES)


def looks_like_dicom(start: bytes, *, bare: bool) -> bool:
    """True for the first bytes of a DICOM file: DICM after its preamble.

    Old archives have no preamble: a `bare` file begins with a short element of group 2 or 8.
    """
    if start[MAGIC : MAGIC + 4] == b"DICM":
        return True
    if not bare or len(start) < MAGIC:
        return False
    group, element = (int.from_bytes(start[i : i + 2], "little") for i in (0, 2))
    if group not in (2, 8) or element > 0x20:
        return False
    explicit = start[4:6] in FIRST_VRS
    length = int.from_bytes(start[6:8] if explicit else start[4:8], "little")
    return 0 < length <= MAX_FIRST_BYTES and length % 2 == 0


def _bit_limits(dataset: Any, dtype: np.dtype, *, colours: bool) -> Limits | None:
    if dtype.kind == "f" or colours:
        return limits_of(dtype)
    bits = int(dataset.get("BitsStored") or 8 * dtype.itemsize)
    low = -(1 << bits - 1) if dtype.kind == "i" else 0
    return float(low), float(low + (1 << bits) - 1)


def _padding(dataset: Any, dtype: np.dtype, bits: Limits | None) -> Limits | None:
    """The range of raw values that pad an image, by the tags for its type of pixels.

    A value with the wrong sign, or with more bits than BitsStored, is wrapped into the range.
    """
    prefix = {"f4": "Float", "f8": "DoubleFloat"}.get(dtype.str[1:], "") + "PixelPadding"
    tags = (dataset.get(prefix + name) for name in ("Value", "RangeLimit"))
    ends = [end for end in (_number(tag, dtype) for tag in tags) if end is not None]
    if not ends or dataset.get(prefix + "Value") is None:
        return None
    if bits is not None and dtype.kind in "iu":
        width = int(bits[1] - bits[0]) + 1
        ends = [(end - bits[0]) % width + bits[0] for end in ends]
    return min(ends), max(ends)


def _number(value: Any, dtype: np.dtype) -> float | None:
    """The value of a tag; bytes have the sign of the pixels."""
    if isinstance(value, bytes):
        value = np.frombuffer(value[:2], dtype.newbyteorder("<"))[0] if len(value) >= 2 else None
    return None if value is None else float(value)


def _scale(dataset: Any, frame: int) -> tuple[float, float]:
    """Slope and intercept of a frame: its own, else the shared ones, else the instance's."""
    datasets = [dataset]
    for name, number in (
        ("SharedFunctionalGroupsSequence", 0),
        ("PerFrameFunctionalGroupsSequence", frame),
    ):
        groups = dataset.get(name) or []
        if number < len(groups):
            datasets.extend(groups[number].get("PixelValueTransformationSequence") or [])
    rescaled = [d for d in datasets if d.get("RescaleSlope") is not None]
    if not rescaled:
        return 1.0, 0.0
    last = rescaled[-1]
    return float(last.RescaleSlope) or 1.0, float(last.get("RescaleIntercept") or 0.0)
