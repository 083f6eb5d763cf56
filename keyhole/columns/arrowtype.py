"""Arrow types as names in a manifest, and arrays of a named type."""

import re
from typing import Any

from keyhole.columns import cast

PLAIN = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float",
    "double", "string", "date32[day]", "timestamp[s]", "timestamp[ms]", "timestamp[us]",
    "timestamp[ns]", "duration[s]", "duration[ms]", "duration[us]", "duration[ns]",
}  # fmt: skip
ZONED = re.compile(r"timestamp\[(s|ms|us|ns), tz=([A-Za-z0-9_+:/-]{1,64})\]")
LEVELS = "levels of "  # before the name of the values' type: an Arrow dictionary


def name(arrow_type: Any, *, levels: bool = False) -> str:
    """The nearest type with a name: what values of the column come back as."""
    import pyarrow.types as pt

    if pt.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    found = _plain_name(arrow_type)
    return LEVELS + found if levels else found


def _plain_name(arrow_type: Any) -> str:
    import pyarrow.types as pt

    if pt.is_decimal(arrow_type) or pt.is_float16(arrow_type):
        return "double"
    if pt.is_date(arrow_type):
        return "date32[day]"
    said = str(arrow_type)
    return said if said in PLAIN or ZONED.fullmatch(said) else "string"


def named(type_name: str) -> Any:
    """The Arrow type of this name, of the values where it names levels; else text."""
    import pyarrow as pa

    type_name = type_name.removeprefix(LEVELS)
    zoned = ZONED.fullmatch(type_name)
    if zoned:
        return pa.timestamp(zoned[1], tz=zoned[2])
    if type_name not in PLAIN:
        return pa.string()
    if type_name == "date32[day]":
        return pa.date32()
    return pa.type_for_alias(type_name)


def array(values: Any, type_name: str) -> Any:
    """An Arrow array of these values in the named type."""
    import pyarrow as pa

    return pa.array(values, named(type_name))


def picked(values: list[Any], place: Any, type_name: str) -> Any:
    """The values at these places (an Arrow array, null for none), as the named type says."""
    import pyarrow as pa

    if type_name.startswith(LEVELS):
        return pa.DictionaryArray.from_arrays(place.cast(pa.int32()), array(values, type_name))
    return array(values, type_name).take(place)


def like(values: Any, type_name: str) -> Any:
    """The array cast to the named type; a value that does not fit becomes text nobody knows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values, wanted = cast.plain(values), named(type_name)
    if values.type == wanted:
        return values
    if wanted == pa.string():
        return cast.texts(values)
    if wanted == pa.bool_() and cast.is_text(values.type):
        values = pc.utf8_lower(values)  # pyright: ignore
    try:
        return values.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return cast.texts(values)
