"""Interactions, a row for each time a user touched an item, as one sparse matrix of users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy import sparse

from keyhole.data import cast, dates
from keyhole.data.identifiers import UNKNOWN, Identifiers, identifier_texts
from keyhole.data.lazy import pa, pc
from keyhole.data.source import ArrayRows, Rows, Source, check_columns
from keyhole.errors import DataError

BLOCK_ROWS = 262_144
Lists = Any  # a scipy.sparse.csr_array (user, item) of ones: SciPy has no types for it
NAMES = {  # of columns, without signs between letters; the first that a table has
    "user": ("user", "userid", "uid", "customer", "customerid", "visitor", "visitorid", "member",
             "memberid", "account", "accountid", "session", "sessionid", "reviewerid", "person"),
    "item": ("item", "itemid", "iid", "product", "productid", "movie", "movieid", "article",
             "articleid", "artist", "artistid", "song", "songid", "track", "trackid", "book",
             "bookid", "isbn", "sku", "asin", "stockcode", "video", "videoid", "game", "gameid"),
    "value": ("value", "rating", "stars", "count", "plays", "playcount", "weight", "quantity",
              "score", "amount"),
    "time": ("time", "timestamp", "date", "datetime", "ts", "unixtime", "createdat", "eventtime"),
}  # fmt: skip


@dataclass(frozen=True)
class InteractionColumns:
    """The columns of a table of interactions, and which values count: those above `above`."""

    user: str
    item: str
    value: str | None = None
    time: str | None = None
    above: float = 0.0

    @classmethod
    def guess(
        cls, names: list[str], given: dict[str, str | None], above: float = 0.0,
        guessed: Sequence[str] = tuple(NAMES),
    ) -> Self:  # fmt: skip
        """By the names of columns; `given` ones are as they are. Raises: DataError."""
        chosen = {role: name for role, name in given.items() if name is not None}
        check_columns(list(chosen.values()), names, "a table of interactions")
        plain = {}
        for name in names:
            word = name.partition(":")[0].lower()  # RecBole writes user_id:token
            plain.setdefault("".join(c for c in word if c.isalnum()), name)
        for role, known in NAMES.items():
            taken = set(chosen.values())
            fitting = (plain[n] for n in known if n in plain and plain[n] not in taken)
            name = next(fitting, None)
            if role not in chosen and role in guessed and name is not None:
                chosen[role] = name
        for role in ("user", "item"):
            if role not in chosen:
                raise DataError(
                    f"no column name looks like {role}s; name the column: {role}=COLUMN (--{role} "
                    f"COLUMN); given columns: {names[:20]}"
                )
        return cls(chosen["user"], chosen["item"], chosen.get("value"), chosen.get("time"), above)

    def in_table(self, names: list[str]) -> Self:
        """These columns of another table; users and items alone are guessed there."""
        roles = {role: getattr(self, role) for role in NAMES}
        given = {role: name if name in names else None for role, name in roles.items()}
        return self.guess(names, given, self.above, ("user", "item"))

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [n for n in (self.user, self.item, self.value, self.time) if n is not None]


@dataclass
class ReadCounts:
    """How many rows were read, and how many were not used, by reason."""

    rows: int = 0
    gaps: int = 0
    not_above: int = 0
    repeated: int = 0
    unknown_items: int = 0

    def sentences(self, columns: InteractionColumns) -> list[str]:
        """What was not used, a sentence each."""
        texts = {
            f"without a {columns.user} or a {columns.item} left out": self.gaps,
            f"with {columns.value} missing or not above {columns.above:g} left out":
                self.not_above,
            "repeat a user and an item: each pair counts once, with its latest time":
                self.repeated,
            "with items that training did not have left out": self.unknown_items,
        }  # fmt: skip
        return [f"{count:,} rows {text}" for text, count in texts.items() if count]


@dataclass(frozen=True)
class Interactions:
    """Who touched what: `history` (user, item) holds 1 for each pair.

    `times` are seconds since 1970 of each entry of `history` in its order, NaN where unknown.
    """

    users: Identifiers
    items: Identifiers
    history: Lists
    times: Float[np.ndarray, " entry"] | None = None
    counts: ReadCounts = field(default_factory=ReadCounts)

    @property
    def item_counts(self) -> Int64[np.ndarray, " item"]:
        """The number of users of each item."""
        return np.bincount(self.history.indices, minlength=len(self.items))

    def take_users(self, users: Int64[np.ndarray, " user"]) -> Interactions:
        """The users at these positions, in rising order."""
        texts = [self.users.texts[i] for i in users.tolist()]
        times = None
        if self.times is not None:
            entries = sparse.csr_array(
                (np.arange(1, len(self.times) + 1), self.history.indices, self.history.indptr),
                self.history.shape,
            )
            times = self.times[entries[users].data - 1]
        same = Identifiers(tuple(texts), self.users.numeric)
        return replace(self, users=same, history=self.history[users], times=times)


def merged(first: Interactions, second: Interactions) -> Interactions:
    """The interactions of both, each pair once, with its latest time."""
    users, items = (_union(*pair) for pair in ((first.users, second.users),
                                               (first.items, second.items)))  # fmt: skip
    parts = []
    for some in (first, second):
        user = users.positions(some.users.as_texts)
        item = items.positions(some.items.as_texts)
        entries, times = some.history.tocoo(), some.times
        times = np.full(some.history.nnz, np.nan) if times is None else times
        parts.append((user[entries.coords[0]], item[entries.coords[1]], times))
    row, column, times = (np.concatenate(part) for part in zip(*parts, strict=True))
    counts = ReadCounts()
    history, latest = _matrix(row, column, times, (len(users), len(items)), counts)
    known = first.times is not None or second.times is not None
    return Interactions(users, items, history, latest if known else None, counts)


def _union(first: Identifiers, second: Identifiers) -> Identifiers:
    texts = dict.fromkeys([*first.texts, *second.texts])
    return Identifiers.of(list(texts), numeric=first.numeric and second.numeric)


@dataclass
class _Encoder:
    """Gives each different text a number, in the order in which they come."""

    codes: dict[str, int] = field(default_factory=dict)
    numeric: bool = True

    def encode(self, texts: Any) -> Int64[np.ndarray, " row"]:
        """The number of each text."""
        encoded = texts.dictionary_encode()
        own = [self.codes.setdefault(t, len(self.codes)) for t in encoded.dictionary.to_pylist()]
        return np.array(own, np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]

    def sorted(self) -> tuple[Identifiers, Int64[np.ndarray, " code"]]:
        """The identifiers in order, and the position of each number among them."""
        identifiers = Identifiers.of(list(self.codes), numeric=self.numeric)
        place = np.empty(len(self.codes), np.int64)
        place[[self.codes[text] for text in identifiers.texts]] = np.arange(len(self.codes))
        return identifiers, place


def read_interactions(
    source: Source, columns: InteractionColumns, items: Identifiers | None = None
) -> Interactions:
    """All interactions of a source, block by block.

    With `items`, positions are theirs, and rows of others are counted and left out. The order of
    rows does not matter. Raises: DataError for times that cannot be read, or identifiers that
    have lost digits.
    """
    counts, users, own_items = ReadCounts(), _Encoder(), _Encoder()
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for block in source.blocks(BLOCK_ROWS):
        user, user_numeric = identifier_texts(block.column(columns.user), columns.user)
        item, item_numeric = identifier_texts(block.column(columns.item), columns.item)
        used = _used(block, columns, user, item, counts)
        from_text = getattr(block, "dialect", None) is not None
        users.numeric &= user_numeric or from_text
        own_items.numeric &= item_numeric or from_text
        mask = pa.array(used)
        user, item = user.filter(mask), item.filter(mask)
        times = _times(block, columns)[used]
        if items is None:
            parts.append((users.encode(user), own_items.encode(item), times))
            continue
        places = items.positions(item)
        known = places != UNKNOWN
        counts.unknown_items += int((~known).sum())
        parts.append((users.encode(user)[known], places[known], times[known]))
    user_ids, user_place = users.sorted()
    item_ids, item_place = own_items.sorted() if items is None else (items, np.arange(len(items)))
    codes = [np.concatenate([np.zeros(0, int), *part]) for part in zip(*parts, strict=True)]
    user, item, times = codes if codes else (np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    shape = len(user_ids), len(item_ids)
    pairs = user_place[user.astype(int)], item_place[item.astype(int)]
    history, latest = _matrix(*pairs, times, shape, counts)
    return Interactions(user_ids, item_ids, history, latest if columns.time else None, counts)


def of_matrix(matrix: Any, above: float = 0.0, items: Identifiers | None = None) -> Interactions:
    """The interactions of a sparse matrix (user, item); identifiers are the positions.

    With `items`, its columns are these. Raises: DataError for another number of columns.
    """
    matrix = sparse.csr_array(matrix)
    if items is not None and matrix.shape[1] != len(items):
        raise DataError(
            f"the matrix has {matrix.shape[1]:,} columns, but training had {len(items):,} items"
        )
    entries = matrix.tocoo()
    used = np.nan_to_num(entries.data, nan=-np.inf) > above
    counts = ReadCounts(rows=len(used), not_above=int((~used).sum()))
    user, item = (np.asarray(part)[used].astype(np.int64) for part in entries.coords)
    history, _ = _matrix(user, item, np.full(len(user), np.nan), matrix.shape, counts)
    users, columns = (Identifiers(tuple(map(str, range(n))), True) for n in matrix.shape)
    return Interactions(users, columns if items is None else items, history, None, counts)


def _used(
    block: Rows, columns: InteractionColumns, user: Any, item: Any, counts: ReadCounts
) -> Bool[np.ndarray, " row"]:
    """Which rows name a user and an item and have a value that counts; others are counted."""
    named = pc.and_(user.is_valid(), item.is_valid()).to_numpy(zero_copy_only=False)
    counts.rows += len(block)
    counts.gaps += int((~named).sum())
    if columns.value is None:
        return named
    values, _ = cast.floats(block.column(columns.value))
    above = np.nan_to_num(values, nan=-np.inf) > columns.above
    counts.not_above += int((named & ~above).sum())
    return named & above


def _times(block: Rows, columns: InteractionColumns) -> Float[np.ndarray, " row"]:
    """Seconds since 1970, NaN where unknown. Raises: DataError for a column of no times."""
    if columns.time is None:
        return np.full(len(block), np.nan)
    values = cast.plain(block.column(columns.time))
    if isinstance(block, ArrayRows) or cast.is_numeric(values.type):
        return cast.floats(values)[0]  # any unit: only their order counts
    if cast.is_text(values.type):
        numbers, bad = cast.floats(values)
        if not len(bad):
            return numbers
    seconds, bad = cast.seconds(values, dates.ISO)
    if len(bad) and len(bad) == len(values) - values.null_count:
        raise DataError(
            f"column {columns.time!r} holds an invalid time: "
            f"{values[int(bad[0])].as_py()!r:.40}; expected ISO 8601 or seconds since 1970"
        )
    return seconds


def _matrix(
    user: Int64[np.ndarray, " row"],
    item: Int64[np.ndarray, " row"],
    times: Float[np.ndarray, " row"],
    shape: tuple[int, int],
    counts: ReadCounts,
) -> tuple[Lists, Float[np.ndarray, " entry"]]:
    """The pairs, each once, by user and item, and the latest time of each."""
    order = np.lexsort((np.nan_to_num(times, nan=-np.inf), item, user))
    user, item, times = user[order], item[order], times[order]
    last = np.ones(len(user), bool)  # of its pair: the latest time
    last[:-1] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    counts.repeated += int((~last).sum())
    user, item = user[last], item[last]
    starts = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=shape[0]))])
    ones = np.ones(len(item), np.float32)
    return sparse.csr_array((ones, item, starts), shape), times[last]
