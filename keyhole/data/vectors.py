"""List columns of one length, such as embeddings, as numeric columns `name[0]`, `name[1]`, ...

Images and windows are lists too: the metadata of their fields or of their table starts with
`keyhole`, and they stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keyhole.data import cast
from keyhole.data.lazy import pa, pc, pt
from keyhole.errors import DataError

ELEMENT = re.compile(r"(.+)\[(\d+)\]", re.DOTALL)
MIN_LENGTH = 16  # of a list whose numbers are of one measure; `x[0]`, `x[1]` may be sensors
OWN = b"keyhole"  # how the keys of the package's metadata start


def is_vector(arrow_type: Any) -> bool:
    """True for lists of numbers, of one length or not."""
    lists = (pt.is_fixed_size_list, pt.is_list, pt.is_large_list)
    return any(test(arrow_type) for test in lists) and _is_number(arrow_type.value_type)


def _is_number(arrow_type: Any) -> bool:
    return pt.is_integer(arrow_type) or pt.is_floating(arrow_type)


def vector_columns(schema: pa.Schema) -> list[str]:
    """The columns of a table that hold lists of numbers."""
    if _is_own(schema.metadata):
        return []
    return [f.name for f in schema if is_vector(f.type) and not _is_own(f.metadata)]


def _is_own(metadata: Mapping[bytes, bytes] | None) -> bool:
    return any(key.startswith(OWN) for key in metadata or {})


def length_of(blocks: Iterable[Any]) -> int | None:
    """The length of the lists in the first block with any; None if there is none, or several."""
    for lists in blocks:
        if pt.is_fixed_size_list(lists.type):
            return lists.type.list_size or None
        ends = pc.min_max(pc.list_value_length(lists)).as_py()
        if ends["max"] is not None:
            return ends["max"] if ends["min"] == ends["max"] > 0 else None
    return None


def spread(table: pa.Table, lengths: Mapping[str, int] | None = None) -> pa.Table:
    """The table with a column for each number of its lists, in the place of the list column.

    `lengths` are those of the list columns; None: the columns whose lists have one length. A null
    list is null in all its columns. Raises: DataError for a list of another length.
    """
    if lengths is None:
        names = vector_columns(table.schema)
        lengths = {n: size for n in names if (size := length_of([table.column(n)])) is not None}
    if not lengths:
        return table
    columns: dict[str, Any] = {}
    for name in table.column_names:
        size = lengths.get(name)
        column = table.column(name)
        elements = {name: column} if size is None else _elements(name, column, size)
        if twice := sorted(columns.keys() & elements.keys()):
            raise DataError(
                f"column {twice[0]!r} is there twice: by itself and as part of a "
                "list column; rename one"
            )
        columns |= elements
    return pa.table(columns).replace_schema_metadata(table.schema.metadata)


def spread_names(names: Sequence[str], lengths: Mapping[str, int]) -> list[str]:
    """The names of the columns of a spread table."""
    return [n for name in names for n in element_names(name, lengths.get(name))]


def element_names(name: str, size: int | None) -> list[str]:
    """The names of the columns that hold a list column's numbers; None: no list column."""
    return [name] if size is None else [f"{name}[{i}]" for i in range(size)]


def list_column(name: str) -> str | None:
    """The list column that a column of its numbers comes from; None for another name."""
    match = ELEMENT.fullmatch(name)
    return match[1] if match else None


def vectors_among(names: Iterable[str]) -> dict[str, list[str]]:
    """The columns that hold the numbers of each list column, of `MIN_LENGTH` or more."""
    groups: dict[str, list[str]] = {}
    for name in names:
        if (lists := list_column(name)) is not None:
            groups.setdefault(lists, []).append(name)
    return {
        lists: elements
        for lists, elements in groups.items()
        if len(elements) >= MIN_LENGTH and elements == element_names(lists, len(elements))
    }


def elements_among(name: str, names: Sequence[str]) -> list[str]:
    """The column itself, or those among `names` that hold the numbers of its lists."""
    return [name] if name in names else [n for n in names if list_column(n) == name] or [name]


def unequal(name: str) -> str:
    """What to do with lists of unequal length."""
    return (
        f"column {name!r} holds lists of unequal length, or empty lists: give all the same "
        "length (null for none), or leave the column out"
    )


def _elements(name: str, column: Any, size: int) -> dict[str, Any]:
    """The numbers of lists by their place, each as an Arrow array."""
    lists = cast.plain(column)
    present = lists.drop_null()
    if not pt.is_fixed_size_list(lists.type):
        lengths = pc.list_value_length(present)
        if len(present) and pc.any(pc.not_equal(lengths, size)).as_py():
            raise DataError(unequal(name))
    elif lists.type.list_size != size:
        raise DataError(unequal(name))
    values = present.flatten()
    if pt.is_float16(values.type):  # few functions take them
        values = values.cast(pa.float32())
    numbers = values.to_numpy(zero_copy_only=False).reshape(len(present), size).T
    if lists.null_count:
        rows = np.flatnonzero(lists.is_valid().to_numpy(zero_copy_only=False))
        whole = np.full((size, len(lists)), np.nan, np.result_type(numbers.dtype, np.float32))
        whole[:, rows] = numbers
        numbers = whole
    gaps = bool(lists.null_count or values.null_count)
    kind = values.type if not gaps or pt.is_floating(values.type) else pa.float64()
    arrays = (pa.array(row, kind, from_pandas=True) for row in np.ascontiguousarray(numbers))
    return dict(zip(element_names(name, size), arrays, strict=True))
