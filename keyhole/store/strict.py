"""Strict JSON: no NaN, infinities, duplicate keys or deep nesting; records; format numbers."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from keyhole.core.environment import install_command
from keyhole.core.parts import fits
from keyhole.errors import BundleError

MAX_DEPTH = 32  # of objects and lists inside each other
MAX_ENTRIES = 1 << 17  # keys of an object, or objects and lists in a list: no fit makes so many
MAX_ITEMS = 1 << 20  # numbers or texts in a list: an image's pixels are the most there are
# Counts of these characters, inside texts too: more would take half a second each to parse.
MAX_COUNTS = {b"{": 1 << 18, b"[": 1 << 18, b'":': 1 << 19, b",": 1 << 21}  # of a character
CONTAINERS = {dict, list}
INT64_END = 1 << 63
PLAIN = bytes.maketrans(b"123456789E", b"000000000e")
LARGE = (b"e000", b"e+000", b"0" * 200)  # in every number that is too large for a float, PLAIN
# in every whole number of more than 63 bits, PLAIN, and not in a long fraction
LONG = tuple(start + b"0" * 19 for start in (b"[", b",", b":", b"-", b" ", b"\n", b"\t", b"\r"))
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # half of a pair: no character by itself

Record = TypeVar("Record")


def strict_json(text: bytes, where: str) -> Any:
    """The value of a JSON text. Raises: BundleError that names the file and the fault."""
    plain = text.translate(PLAIN)
    try:
        for characters, most in MAX_COUNTS.items():
            count = text.count(characters)
            if count > most:
                raise ValueError(f"it holds {count:,} {characters.decode()!r}, more than {most:,}")
        value = json.loads(
            text.decode("utf8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            # These take a second for 400,000 numbers, and hardly any text needs them.
            parse_float=_finite if any(digits in plain for digits in LARGE) else None,
            parse_int=_whole if any(digits in plain for digits in LONG) else None,
        )
        _check_nesting(value)
        if SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf8")
    except RecursionError as fault:
        raise BundleError(f"{where} is nested too deeply") from fault
    except ValueError as fault:  # bad UTF-8, bad JSON, and what the hooks refuse
        raise BundleError(f"{where} is damaged or cut short: {fault!s:.160}") from fault
    return value


def record(cls: type[Record], value: Any, where: str) -> Record:
    """The dataclass of a JSON object with exactly its keys and types. Raises: BundleError."""
    schema = get_type_hints(cls)
    if not isinstance(value, dict):
        raise BundleError(f"{where} must be an object, got {value!r:.80}")
    known = {field.name: field for field in fields(cls)}  # pyright: ignore
    if unknown := sorted(set(value) - set(known)):
        raise BundleError(f"{where} has a key that this version does not know: {unknown[0]!r:.80}")
    for name, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and name not in value:
            raise BundleError(f"{where} has no {name!r}")
    return cls(**{n: _typed(item, schema[n], f"{where}.{n}") for n, item in value.items()})


@contextmanager
def wrap_errors(where: str) -> Iterator[None]:
    """Raises: BundleError for whatever fails while values from a file are put to use."""
    try:
        yield
    except BundleError:
        raise
    except Exception as fault:
        message = str(fault) or type(fault).__name__
        raise BundleError(f"{where} cannot be used: {message:.200}") from fault


def _typed(value: Any, hint: Any, where: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        return record(hint, value, where)
    inner = get_args(hint)
    if value is not None and len(inner) == 2 and inner[1] is type(None):
        return _typed(value, inner[0], where)
    if get_origin(hint) is list and is_dataclass(inner[0]):
        if not isinstance(value, list):
            raise BundleError(f"{where} must be a list, got {value!r:.80}")
        return [_typed(item, inner[0], f"{where}[{i}]") for i, item in enumerate(value)]
    if not fits(value, hint):
        raise BundleError(f"{where}={value!r:.80} is not {getattr(hint, '__name__', hint)}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_ENTRIES:
        raise ValueError(f"it holds an object of {len(pairs):,} keys")
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"key {counts.most_common(1)[0][0]!r:.80} appears twice")
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value


def _whole(text: str) -> int:
    if len(text) > 20 or not -INT64_END <= int(text) < INT64_END:
        raise ValueError(f"{text[:20]} is too large for a whole number")
    return int(text)


def _check_nesting(value: Any) -> None:
    layer = [value] if type(value) in CONTAINERS else []
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for items in layer:
            if len(items) > MAX_ITEMS:
                raise ValueError(f"it holds a list of {len(items):,} items")
            values = items.values() if isinstance(items, dict) else items
            nested = [item for item in values if type(item) in CONTAINERS]
            if len(nested) > MAX_ENTRIES:
                raise ValueError(f"it holds a list of {len(nested):,} lists or objects")
            inner += nested
        layer = inner
    if layer:
        raise ValueError("it is nested too deeply")


FORMAT = 1  # raised by one with every change that an older version could misread


def check_format(manifest: Any, where: str) -> None:
    """Raises: BundleError for a newer or invalid format."""
    number = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise BundleError(f"{where} is not a keyhole model: its format is {number!r:.40}")
    if number > FORMAT:
        raise BundleError(
            f"{where} has format {number}, this version of keyhole reads up to {FORMAT}: "
            f"{install_command(upgrade=True)}"
        )
