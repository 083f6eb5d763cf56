"""Arrow types as names in a manifest, and arrays of a named type."""

from typing import Any

from keyhole.columns import cast

PLAIN = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float",
    "double", "string", "date32[day]", "timestamp[s]", "timestamp[ms]", "timestamp[us]",
    "timestamp[ns]",
}  # fmt: skip


def name(arrow_type: Any) -> str:
    """The plain type nearest to an Arrow type: what values of the column come back as."""
    import pyarrow as pa
    import pyarrow.types as pt

    if pt.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    if pt.is_timestamp(arrow_type):
        arrow_type = pa.timestamp(arrow_type.unit)
    if pt.is_decimal(arrow_type) or pt.is_float16(arrow_type) or pt.is_duration(arrow_type):
        return "double"
    if cast.is_text(arrow_type):
        return "string"
    said = str(arrow_type)
    return said if said in PLAIN else "string"


def named(type_name: str) -> Any:
    """The Arrow type of this name; text for a name that is not one of ours."""
    import pyarrow as pa

    if type_name not in PLAIN:
        return pa.string()
    if type_name == "date32[day]":
        return pa.date32()
    return pa.type_for_alias(type_name)


def array(values: Any, type_name: str) -> Any:
    """An Arrow array of these values in the named type."""
    import pyarrow as pa

    return pa.array(values, named(type_name))


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
