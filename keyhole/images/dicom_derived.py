"""A DICOM instance derived from another: new identifiers, where it comes from, what was done."""

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from keyhole.images.dicom import DicomFile

SUFFIX = " (derived)"
DESCRIPTION_LETTERS = 64  # a LO holds no more
NOTE_LETTERS = 1024  # and a ST no more
# What described the old pixels: ranges, icons, checksums and signatures, how they were packed
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
    """Write the instance with the frames that stand in the file `pixels`."""
    import pydicom
    from pydicom.tag import Tag
    from pydicom.uid import ExplicitVRLittleEndian

    from keyhole.images.dicom import read_dataset
    from keyhole.images.faults import quiet

    with quiet(), open(pixels, "rb") as frames:
        dataset = read_dataset(file.path)
        _refer(dataset, file.call, note)
        _drop(dataset, STALE)
        _describe(dataset, file)
        keyword, vr = _element(file.pictures[0].dtype)
        dataset.add(pydicom.DataElement(Tag(keyword), vr, frames))
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        pydicom.dcmwrite(
            target, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True
        )


def _refer(dataset: Any, call: str, note: str) -> None:
    """New identifiers, and a reference to the instance that this one was derived from."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import generate_uid

    source = Dataset()
    source.ReferencedSOPClassUID = dataset.get("SOPClassUID", "")
    source.ReferencedSOPInstanceUID = dataset.get("SOPInstanceUID", "")
    purpose = Dataset()
    purpose.CodeValue = "121322"
    purpose.CodingSchemeDesignator = "DCM"
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
    kind = list(dataset.get("ImageType") or [])
    dataset.ImageType = ["DERIVED", "SECONDARY", *kind[2:]]
    before = str(dataset.get("DerivationDescription") or "")
    said = "; ".join(filter(None, [before, note]))
    if said:
        dataset.DerivationDescription = said[:NOTE_LETTERS]
    title = str(dataset.get("SeriesDescription") or "")
    dataset.SeriesDescription = title[: DESCRIPTION_LETTERS - len(SUFFIX)] + SUFFIX
    now = dt.datetime.now()
    dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = now.strftime("%H%M%S")


def _describe(dataset: Any, file: "DicomFile") -> None:
    """How the pixels are laid out now: not compressed, colours as RGB, pixel by pixel."""
    picture = file.pictures[0]
    bits = 8 * picture.dtype.itemsize
    colours = picture.channels > 1
    dataset.SamplesPerPixel = picture.channels
    if colours:
        dataset.PhotometricInterpretation = "RGB"
        dataset.PlanarConfiguration = 0
    else:
        _drop(dataset, ("PlanarConfiguration",))
    dataset.BitsAllocated = bits
    if file.colours:
        _drop(dataset, PALETTE)
        dataset.BitsStored = bits
    if picture.dtype.kind in "iu":
        stored = int(dataset.get("BitsStored") or bits)
        dataset.BitsStored = stored
        dataset.HighBit = stored - 1
        dataset.PixelRepresentation = int(picture.dtype.kind == "i")


def _element(dtype: np.dtype) -> tuple[str, str]:
    """The keyword and the representation of the pixels."""
    if dtype.kind == "f":
        wide = dtype.itemsize == 8
        return ("DoubleFloatPixelData", "OD") if wide else ("FloatPixelData", "OF")
    return "PixelData", "OB" if dtype.itemsize == 1 else "OW"


def _drop(dataset: Any, keywords: tuple[str, ...]) -> None:
    for keyword in keywords:
        if keyword in dataset:
            del dataset[keyword]
