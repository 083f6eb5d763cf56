"""Broken models: copies of a valid model with one change, most with a recomputed checksum.

`mutated(path, base, draw)` breaks what `draw` says, so a seed names a mutation.
"""

import copy
import hashlib
import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keyhole.core.parts import Described

DEEP: Any = 1
for _ in range(24):
    DEEP = [DEEP]

ODD: list[Any] = [
    None, True, False, 0, 1, 2, -1, -5, 63, 64, 65, 1_000, 65_536, 10**9, 2**31, 2**53, 2**62,
    2**63 - 1, -(2**63), 2**64, 10**30, 0.0, -0.0, 0.5, 1.0, -1.5, 1e-320, 1e-30, 1e30, 1e300,
    1.7e308, -1.7e308, "", "x", "../../etc/passwd", "/etc/passwd", "os.system", "__class__", "\0",
    "\x1b[2J", "é" * 500, "int64", "bool", "string", "double", "uint8", "date32[day]",
    "timestamp[ns]", "%Y", "%", "levels of string", "timestamp[us, tz=No/Where]", "cuda", [], {},
    [[]], [None], [1, 2, 3], ["a", "a"], {"a": {}}, {"kind": "plain"}, {"kind": "number"},
    [0] * 5_000, DEEP, [DEEP], list(range(100)),
]  # fmt: skip
PARTS: dict[str, tuple[str, str, list[Any]]] = {
    "hidden": ("net", "hidden", [[65_536, 65_536], [1] * 300_000, [2**40], []]),
    "width": ("bottleneck", "width", [65_536, 2**40, 0, -1]),
    "nu": ("head", "nu", [1e308, 1e-320, -1.0]),
    "floor": ("head", "floor", [1e308, 1e-320, 0.0]),
}
COLUMNS: dict[str, list[Any]] = {
    "rows": [2**62, -1, -2, 0],
    "levels": [4 * 10**9, [{}] * 3, [[1]] * 3, [1, "a", None], [1e300] * 3, ["a"] * 3, []],
    "counts": [[], [-1] * 3, [2**62] * 3, [0] * 3],
    "center": [1.7e308, -1.7e308],
    "scale": [0.0, -1.0, 1e-320, 1e308],
    "atom": [[], [1.0], [0.0, 0.0], [0.0, 1.0], [0.0, 2.0]],
    "range": [[], [1.0], [9.0, -9.0], [0.0, 0.0], [0.0] * 9, [-1e308, 1e308]],
    "knots": [[], [[]], [[], []], [[1.0], [1.0, 2.0]], [[1.0]] * 9],
    "share": [0.0, 1.0, -1.0, 1e300],
    "type": ["int8", "bool", "x", "timestamp[ns]", "uint64", "duration[s]"],
    "style": ["%", "", "%Y", "\0", "%n" * 9_999],
    "center_s": [1e308, -1e20, 0.0],
    "scale_s": [0.0, -1.0, 1e308, 1e-320],
    "range_s": [[], [1.0], [0.0] * 9, [-1e300, 1e300]],
    "step_s": [0.0, -1.0, 1e308, 1e-320],
    "parts": [["trend"] * 50_000, ["x"], [], ["trend", "day", "day"]],
    "most": [-1.0, 1e308, 0.0],
}
SHAPES: list[Any] = [
    [], [2**62], [-1], [0], [1, 2, 3], [2**31] * 4, "x", [1.5], [65_536, 65_536],
]  # fmt: skip
FLOATS = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-44]
HUGE = [1e10, -1e20, 1e30, 3e38]  # finite weights
LONG = 400_000  # numbers, texts or keys where a few belong
TYPES = [
    "int8", "bool", "string", "timestamp[ns]", "uint64", "duration[s]", "date32[day]", "double",
]  # fmt: skip
LITERALS = ["NaN", "Infinity", "-Infinity", "1e999", "[" * 5_000, "9" * 5_000, '"\\ud800"', "01"]
NAMES = ["../../x", "a/b", "", "x" * 300, "C:\\x", "a b", "__metadata__", "é", "\0"]


def mutated(path: Path, base: Path, draw: random.Random) -> str:
    """A copy of a model with something broken; returns what."""
    clear(path)
    shutil.copyfile(base, path)
    kinds: list[tuple[Callable[[Path, random.Random], str], int]] = [
        (_values, 12), (_tensors, 4), (_both, 2), (_bytes_changed, 3), (_text, 2), (_files, 1),
        (_hostile, 2), (_huge, 2), (_type, 2), (_long, 1), (_foreign, 1),
    ]  # fmt: skip
    return draw.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0](
        path, draw
    )


def split(path: Path) -> tuple[dict[str, Any], bytearray]:
    """The header of a safetensors file, and the bytes of its tensors."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])


def join(path: Path, header: dict[str, Any], data: bytes | bytearray) -> None:
    """Write a file with its checksum as an attacker would count it."""
    metadata = header.get("__metadata__")
    if isinstance(metadata, dict) and isinstance(metadata.get("keyhole"), str):
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        text = (metadata["keyhole"] + json.dumps(entries, sort_keys=True)).encode(
            "utf8", "surrogatepass"
        )
        metadata["sha256"] = hashlib.sha256(text + data).hexdigest()
    write_raw(path, json.dumps(header), data)


def write_raw(path: Path, header: str, data: bytes | bytearray, length: int | None = None) -> None:
    """Write a file with this text as its header, whatever it says."""
    text = header.encode("utf8", "surrogatepass")
    size = len(text) if length is None else length
    path.write_bytes(struct.pack("<Q", size) + text + data)


def seal(path: Path, manifest: Any) -> None:
    """Give a file another manifest, an object or a text, and count its checksum again."""
    header, data = split(path)
    if not isinstance(manifest, str):
        try:
            manifest = json.dumps(manifest, ensure_ascii=False)
        except (RecursionError, ValueError, TypeError):
            manifest = "{}"
    header["__metadata__"]["keyhole"] = manifest
    join(path, header, data)


def manifest_of(path: Path) -> dict[str, Any]:
    """The manifest of a model."""
    return json.loads(split(path)[0]["__metadata__"]["keyhole"])


def _values(path: Path, draw: random.Random) -> str:
    manifest = manifest_of(path)
    said = [_change(manifest, draw) for _ in range(draw.choice([1, 1, 1, 2, 3]))]
    seal(path, manifest)
    return "values " + ", ".join(said)


def _change(manifest: dict[str, Any], draw: random.Random) -> str:
    nodes = list(_nodes(manifest))
    holder, key, path = draw.choice(nodes)
    value = holder[key]
    how = draw.choice(["odd", "odd", "other", "drop", "add", "rename", "scale", "list", "kind"])
    if how == "other":
        there, name, _ = draw.choice(nodes)
        holder[key] = copy.deepcopy(there[name])
    elif how == "drop":
        del holder[key]
    elif how == "add" and isinstance(value, dict):
        value[draw.choice(["extra", "kind", "width", "__class__"])] = draw.choice(ODD)
    elif how == "rename" and isinstance(holder, dict):
        holder[draw.choice(["renamed", *holder])] = holder.pop(key)
    elif how == "scale" and isinstance(value, int | float):
        holder[key] = value * draw.choice([-1, 0, 2, 10**6, 1e-300, 1e300]) + draw.choice([0, 1])
    elif how == "list" and isinstance(value, list):
        holder[key] = draw.choice([value[:-1], value * 2, value[::-1], [], [value], value * 500])
    elif how == "kind":
        every = [kind for kinds in Described.registry.values() for kind in kinds]
        for there, name, _ in nodes if draw.random() < 0.1 else [(holder, key, path)]:
            if name == "kind" or there is holder:
                there[name] = draw.choice(every)
    else:
        holder[key] = copy.deepcopy(draw.choice(ODD))
    return f"{how} {path}"


def _nodes(value: Any, path: str = "") -> Iterator[tuple[Any, Any, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key, f"{path}/{key}"
        if isinstance(item, dict | list):
            yield from _nodes(item, f"{path}/{key}")


def _tensors(path: Path, draw: random.Random) -> str:
    header, data = split(path)
    names = [name for name in header if name != "__metadata__"]
    name, text, length = draw.choice(names), None, None
    how = draw.choice(
        ["name", "dtype", "shape", "offsets", "data", "nan", "many", "drop", "twice", "length",
         "swap", "hole", "metadata"]
    )  # fmt: skip
    if how == "name":
        header[draw.choice(NAMES)] = header.pop(name)
    elif how == "dtype":
        header[name]["dtype"] = draw.choice(["F64", "I64", "F16", "BF16", "U8", "x", 3, None])
    elif how == "shape":
        header[name]["shape"] = draw.choice(SHAPES)
    elif how == "offsets":
        odd = [[0, 0], [-1, 4], [8, 4], [0, 2**62], [0, len(data)], "x", None]
        header[name]["data_offsets"] = draw.choice(odd)
    elif how == "data":
        for _ in range(draw.choice([1, 8, 64])):
            data[draw.randrange(len(data))] = draw.randrange(256)
    elif how == "nan":
        at = 4 * draw.randrange(len(data) // 4)
        data[at : at + 4] = struct.pack("<f", draw.choice(FLOATS))
    elif how == "many":
        empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        header |= {f"t{i}": empty for i in range(draw.choice([1, 5_000, 100_000]))}
    elif how == "drop":
        del header[name]
    elif how == "twice":
        text = json.dumps(header)[:-1] + f", {json.dumps(name)}: {json.dumps(header[name])}}}"
    elif how == "swap":
        other = draw.choice(names)
        header[name], header[other] = header[other], header[name]
    elif how == "hole":
        header[name]["data_offsets"] = [len(data) + 4 + n - header[name]["data_offsets"][0]
                                        for n in header[name]["data_offsets"]]  # fmt: skip
    elif how == "metadata":
        header["__metadata__"] = draw.choice(
            [None, [], {}, {"keyhole": 3}, {"keyhole": "{}"}, {"keyhole": "[]", "x": "y"}]
        )
    elif how == "length":
        text, length = json.dumps(header), draw.choice([2**63, 2**40, 101_000_000, 0, 1])
    if text is None:
        join(path, header, data)
    else:
        write_raw(path, text, data, length)
    return f"tensors {how} {name}"


def _both(path: Path, draw: random.Random) -> str:
    said = _values(path, draw)
    return f"{said}; {_tensors(path, draw)}"


def _bytes_changed(path: Path, draw: random.Random) -> str:
    content = bytearray(path.read_bytes())
    how = draw.choice(["flip", "cut", "more", "zero", "cross"])
    header_end = 8 + struct.unpack("<Q", content[:8])[0]
    at = draw.randrange(draw.choice([header_end, len(content)]))
    if how == "flip":
        content[at] ^= 1 << draw.randrange(8)
    elif how == "cut":
        del content[at:]
    elif how == "more":
        content += draw.randbytes(draw.choice([1, 1_000]))
    elif how == "zero":
        content[at : at + 64] = bytes(len(content[at : at + 64]))
    else:
        content[at:] = draw.randbytes(len(content) - at)
    path.write_bytes(content)
    return f"bytes {how} {at}"


def _text(path: Path, draw: random.Random) -> str:
    """JSON that the standard reader lets pass, in the manifest or in the header itself."""
    header, data = split(path)
    inner = draw.random() < 0.7
    record = manifest_of(path) if inner else header
    holder, key, place = draw.choice(list(_nodes(record)))
    literal, mark = draw.choice([*LITERALS, "twice"]), '"@@@"'
    value, holder[key] = holder[key], "@@@"
    text = json.dumps(record, ensure_ascii=False)
    if literal == "twice":
        literal = f"{json.dumps(value)}, {json.dumps(str(key))}: {json.dumps(value)}"
    text = text.replace(mark, literal)
    if inner:
        seal(path, text)
    else:
        write_raw(path, text, data)
    return f"text {literal[:12]} {place}"


def _files(path: Path, draw: random.Random) -> str:
    path.unlink()
    how = draw.choice(["absent", "folder", "pipe", "zeros", "self", "empty", "hole"])
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "zeros":
        path.symlink_to("/dev/zero")
    elif how == "self":
        path.symlink_to(path)
    elif how == "empty":
        path.touch()
    elif how == "hole":
        with open(path, "wb") as file:
            file.truncate(1 << 40)
    return f"files {how}"


def _hostile(path: Path, draw: random.Random) -> str:
    """What an attacker would ask for first."""
    manifest = manifest_of(path)
    kept = manifest["sections"]["autoencoder"]
    columns = kept["modality"]["columns"]
    how = draw.choice([*PARTS, *COLUMNS, "members", "format", "same", "columns"])
    if how in PARTS:
        family, name, values = PARTS[how]
        kept["parts"][family][name] = draw.choice(values)
    elif how in COLUMNS:
        value = draw.choice(COLUMNS[how])
        for column in columns:
            if how in column:
                column[how] = value
    elif how == "members":
        kept["members"] = draw.choice([0, 2, 64, 65, 2**62])
    elif how == "format":
        manifest["format"] = draw.choice([0, 2, 10**9, True, "1"])
    elif how == "same":
        for column in columns:
            column["name"] = "x"
    else:
        columns.extend([columns[-1]] * 5_000)
    seal(path, manifest)
    return f"hostile {how}"


def _huge(path: Path, draw: random.Random) -> str:
    """Finite weights beyond what any sum can hold."""
    header, data = split(path)
    name = draw.choice([name for name in header if name != "__metadata__"])
    value = draw.choice(HUGE)
    first, last = header[name]["data_offsets"]
    data[first:last] = struct.pack("<f", value) * ((last - first) // 4)
    join(path, header, data)
    return f"huge {value} {name}"


def _type(path: Path, draw: random.Random) -> str:
    """A column of another type than the one that was learned."""
    manifest = manifest_of(path)
    columns = manifest["sections"]["autoencoder"]["modality"]["columns"]
    column = draw.choice([column for column in columns if "type" in column])
    column["type"] = draw.choice(TYPES)
    seal(path, manifest)
    return f"type {column['type']} of {column['name']}"


def _long(path: Path, draw: random.Random) -> str:
    """A list or an object with far more entries than any fit makes."""
    manifest = manifest_of(path)
    nodes = [node for node in _nodes(manifest) if isinstance(node[0][node[1]], list | dict)]
    holder, key, place = draw.choice(nodes)
    entry: Any = draw.choice([0.5, 7, "x", [1.0], {}])
    as_list = isinstance(holder[key], list)
    holder[key] = [entry] * LONG if as_list else {f"k{i}": entry for i in range(LONG)}
    seal(path, manifest)
    return f"long {entry!r} {place}"


def _foreign(path: Path, draw: random.Random) -> str:
    """A file that is no model of ours."""
    how = draw.choice(["csv", "json", "zip", "pickle", "tensors", "noise"])
    header, data = split(path)
    header.pop("__metadata__")
    if how == "tensors":
        write_raw(path, json.dumps(header), data)
    else:
        content = {"csv": b"a,b\n1,2\n" * 100, "json": b'{"a": 1}' * 100, "zip": b"PK\3\4" * 99,
                   "pickle": b"\x80\4cos\nsystem\n.", "noise": draw.randbytes(999)}  # fmt: skip
        path.write_bytes(content[how])
    return f"foreign {how}"


def clear(path: Path) -> None:
    """Remove what stands at a path, whatever it is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
