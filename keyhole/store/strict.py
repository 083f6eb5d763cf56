"""Strict JSON: no NaN, infinities, duplicate keys or deep nesting; records; format numbers.

A record is a dataclass whose fields say which keys a JSON object must have, and of which types.
"""

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

MOST_DEPTH = 32
MOST_ENTRIES = 1 << 17  # of an object, or objects and lists of a list; no fit makes so many
MOST_ITEMS = 1 << 20  # of a list of numbers or texts: an image's pixels are the most there are
# in a text, of objects, lists, keys and items or inside texts: each takes half a second to parse
MOST_MARKS = {b"{": 1 << 18, b"[": 1 << 18, b'":': 1 << 19, b",": 1 << 21}
NESTS = {dict, list}
MOST_WHOLE = 1 << 63  # a whole number of ours fits 64 bits
PLAIN = bytes.maketrans(b"123456789E", b"000000000e")
LARGE = (b"e000", b"e+000", b"0" * 200)  # in every number that is too large for a float, PLAIN
# in every whole number of more than 63 bits, PLAIN, and not in a long fraction
LONG = tuple(start + b"0" * 19 for start in (b"[", b",", b":", b"-", b" ", b"\n", b"\t", b"\r"))
LONE = re.compile(rb"\\u[dD][89a-fA-F]")  # half of a pair, which is no character by itself

Record = TypeVar("Record")


def strict_json(text: bytes, where: str) -> Any:
    """The value of a JSON text.

    Raises: BundleError that names the file and what is wrong with it.
    """
    plain = text.translate(PLAIN)
    try:
        _check_marks(text)
        value = json.loads(
            text.decode("utf8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            # Asked of each number these cost a second for 400,000, and hardly any text needs it.
            parse_float=_finite if any(digits in plain for digits in LARGE) else None,
            parse_int=_whole if any(digits in plain for digits in LONG) else None,
        )
        _check_nesting(value)
        if LONE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf8")
    except RecursionError as fault:
        raise BundleError(f"{where} is nested too deeply") from fault
    except ValueError as fault:  # bad UTF-8, bad JSON, and what the hooks refuse
        raise BundleError(f"{where} is damaged or cut short: {fault!s:.160}") from fault
    return value


def record(cls: type[Record], value: Any, where: str) -> Record:
    """The dataclass that a JSON object describes: its keys and no others, of its types.

    A field with a default may be absent, so older files can be read. Raises: BundleError.
    """
    schema = get_type_hints(cls)
    if not isinstance(value, dict):
        raise BundleError(f"{where} must be an object, got {value!r:.80}")
    known = {field.name: field for field in fields(cls)}  # pyright: ignore
    odd = sorted(set(value) - set(known))
    if odd:
        raise BundleError(f"{where} has a key that this version does not know: {odd[0]!r:.80}")
    for name, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and name not in value:
            raise BundleError(f"{where} has no {name!r}")
    return cls(**{n: _typed(item, schema[n], f"{where}.{n}") for n, item in value.items()})


@contextmanager
def wrap_errors(where: str) -> Iterator[None]:
    """Whatever fails while values from a file are put to use, is said to be the file's fault.

    Raises: BundleError.
    """
    try:
        yield
    except BundleError:
        raise
    except Exception as fault:
        said = str(fault) or type(fault).__name__
        raise BundleError(f"{where} cannot be used: {said:.200}") from fault


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
    if len(pairs) > MOST_ENTRIES:
        raise ValueError(f"it holds an object of {len(pairs):,} keys")
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"key {counts.most_common(1)[0][0]!r:.80} stands twice")
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value


def _whole(text: str) -> int:
    if len(text) > 20 or not -MOST_WHOLE <= int(text) < MOST_WHOLE:
        raise ValueError(f"{text[:20]} is too large for a whole number")
    return int(text)


def _check_marks(text: bytes) -> None:
    """Refuse what would take seconds to parse."""
    for mark, most in MOST_MARKS.items():
        if text.count(mark) > most:
            raise ValueError(
                f"it holds {text.count(mark):,} {mark.decode()!r}, more than {most:,}"
            )


def _check_nesting(value: Any) -> None:
    """Refuse what is nested deeper, or holds longer lists, than anything of ours."""
    layer = [value] if type(value) in NESTS else []
    for _ in range(MOST_DEPTH + 1):
        inner: list[Any] = []
        for items in layer:
            if len(items) > MOST_ITEMS:
                raise ValueError(f"it holds a list of {len(items):,} items")
            values = items.values() if isinstance(items, dict) else items
            nested = [item for item in values if type(item) in NESTS]
            if len(nested) > MOST_ENTRIES:
                raise ValueError(f"it holds a list of {len(nested):,} lists or objects")
            inner += nested
        layer = inner
    if layer:
        raise ValueError("it is nested too deeply")


FORMAT = 1  # raised by one with every change that an older version could misread


def check_format(manifest: Any, where: str) -> None:
    """Raises: BundleError for a newer format, or for what is no format at all."""
    number = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise BundleError(f"{where} is not a keyhole model: its format is {number!r:.40}")
    if number > FORMAT:
        raise BundleError(
            f"{where} has format {number}, this version of keyhole reads up to {FORMAT}: "
            f"{install_command(upgrade=True)}"
        )
