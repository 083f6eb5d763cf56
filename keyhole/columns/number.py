"""A continuous column: standardised, bent where its tails are long, with an atom where one
value holds a large share of the rows (a hurdle model: is it the atom, and if not, what?).
"""

from typing import Any, Self

import numpy as np

from keyhole.columns import arrowtype, cast, refuse
from keyhole.columns.base import Column
from keyhole.columns.profile import Profile
from keyhole.core.layout import Slot

LEAST_ATOM = 0.5  # share of rows that makes one value an atom
GUESSES_A_BIN = 250  # whose mean is taken, when guesses are compared with what was observed
FAR = 1e30  # cells end here: a float32 would be infinite a little further out
LONG_TAIL = 8.0  # outer 1 % this many times as far out as the quartiles: the column is bent


class Number(Column):
    """A number; its cell is (x - center) / scale, through asinh where `bent`.

    With an `atom` there is a Bernoulli cell «is the atom», and the number cell is observed only
    in other rows. `knots` map a guessed value to the mean of what was observed there: a mean
    through a bend is a median, and only the original scale knows the mean.
    """

    kind = "number"
    matrix = True

    def __init__(
        self,
        name: str,
        *,
        center: float,
        scale: float,
        bent: bool,
        atom: list[float] | None,
        range: list[float],
        type: str,
        knots: list[list[float]] | None = None,
    ) -> None:
        self.name = name
        self.center = center
        self.scale = scale
        self.bent = bent
        self.atom = atom
        self.range = range
        self.type = type
        self.knots = knots

    @classmethod
    def learn(cls, profile: Profile) -> Self:
        """Center and scale from the sample, robust ones where the tails are long."""
        numbers = profile.numbers()
        atom = _atom(numbers)
        rest = numbers if atom is None else numbers[numbers != atom[0]]
        bent = _long_tailed(rest)
        center, scale = _spread(rest, bent)
        kind = arrowtype.name(profile.arrow_type)
        if kind == "string":
            kind = "int64" if profile.whole and profile.most < 2**53 else "double"
        return cls(
            profile.name,
            center=center,
            scale=scale,
            bent=bent,
            atom=atom,
            range=[profile.least, profile.most],
            type=kind,
        )

    def slots(self) -> list[Slot]:
        """The number cell, and «atom» before it where there is one; a constant is all atom."""
        value = Slot(self.name, self.kind, "student_t")
        if self.atom is None:
            return [value]
        share = self.atom[1]
        spread, nats = float(np.sqrt(share * (1 - share))), -float(np.log1p(-share))
        atom = Slot(self.name, self.kind, "bernoulli", "atom", 0, share, spread, nats)
        return [atom] if self._constant else [atom, value]

    @property
    def _constant(self) -> bool:
        return self.range[0] == self.range[1]

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The cells of Arrow values; `encode_matrix` does it for many columns at once."""
        return self.encode_floats(refuse.numbers(self.name, values, start))

    def encode_floats(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cells of float values, NaN for missing."""
        seen = ~np.isnan(numbers)
        numbers = np.where(seen, numbers, self.center)
        cells = ((numbers - self.center) / self.scale).clip(-FAR, FAR)
        if self.bent:
            cells = np.arcsinh(cells)
        if self.atom is None:
            return cells.astype(np.float32)[:, None], seen[:, None]
        at_atom = (numbers == self.atom[0]) & seen
        pair = np.stack([at_atom, np.where(at_atom, 0.0, cells)], 1).astype(np.float32)
        pair_seen = np.stack([seen, seen & ~at_atom], 1)
        return pair[:, : len(self.slots())], pair_seen[:, : len(self.slots())]

    def decode(self, cells: np.ndarray) -> Any:
        """The mean on the original scale, within the range met in training."""
        mean = self._unbend(cells[:, -1].astype(np.float64))
        if self.atom is not None:
            share = cells[:, 0].astype(np.float64)
            rest = self.atom[0] if self._constant else mean
            mean = share * self.atom[0] + (1 - share) * rest
        return self._typed(mean)

    def guess(self, cells: np.ndarray) -> Any:
        """The mean of a gap: as `decode`, corrected by what such guesses were worth."""
        guessed, _ = cast.floats(self.decode(cells))
        return self._typed(
            guessed if self.knots is None else np.interp(guessed, self.knots[0], self.knots[1])
        )

    def _typed(self, mean: np.ndarray) -> Any:
        mean = np.clip(mean, self.range[0], self.range[1])
        if self.type.startswith(("int", "uint")):
            ends = np.iinfo(self.type)  # a float64 rounds the last int64 up, beyond its range
            most = np.nextafter(float(ends.max), 0) if ends.max > 2**53 else float(ends.max)
            mean = np.round(mean).clip(float(ends.min), most).astype(self.type)
        elif self.type.startswith("duration"):
            micros = arrowtype.array((mean * 1e6).round().astype(np.int64), "duration[us]")
            return micros.cast(arrowtype.named(self.type), safe=False)
        elif self.type == "float":
            mean = mean.astype(np.float32)
        return arrowtype.array(mean, self.type)

    def settle(self, expected: np.ndarray, observed: np.ndarray) -> None:
        """Learn `knots`: the least-squares rising map from what was expected to what was observed.

        `expected` are decoded means of hidden cells of rows that the net has not trained on.
        Source: isotonic regression; see scikit-learn's IsotonicRegression.
        """
        from sklearn.isotonic import IsotonicRegression

        kept = np.isfinite(expected) & np.isfinite(observed)
        expected, observed = expected[kept], observed[kept]
        if len(expected) < 4 * GUESSES_A_BIN or np.ptp(expected) == 0:
            return  # beyond its outermost bins a map is flat: of two it would clip half of all
        order = np.argsort(expected, kind="stable")
        # Few rows a bin would follow the noise of a long tail: a bin's mean needs hundreds.
        bins = np.array_split(order, int(min(len(order) // GUESSES_A_BIN, 32)))
        at = np.array([expected[b].mean() for b in bins])
        mean = np.array([observed[b].mean() for b in bins])
        rising = IsotonicRegression().fit_transform(at, mean)
        at, first = np.unique(at, return_index=True)
        self.knots = [at.tolist(), rising[first].tolist()]

    def text(self, values: Any) -> list[str]:
        """Numbers with four digits, whole ones in full."""
        return number_texts(cast.floats(values)[0])

    def expected(self, middle: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[str]:
        """The likely range, within the one met in training, or the atom where that is likelier."""
        ends = [self._unbend(end[:, -1].astype(np.float64)) for end in (low, high)]
        ends = [np.clip(end, self.range[0], self.range[1]) for end in ends]
        if self.type.startswith(("int", "uint")):
            ends = [np.round(end) for end in ends]
        ranges = range_texts(*ends)
        if self.atom is None:
            return ranges
        said = number_texts(np.array(self.atom[:1]))[0]
        share = middle[:, 0]
        return [
            f"{said} ({p:.0%})" if p >= 0.5 else text
            for p, text in zip(share, ranges, strict=True)
        ]

    def _unbend(self, cells: np.ndarray) -> np.ndarray:
        if self.bent:
            cells = np.sinh(np.clip(cells, -50, 50))
        return self.center + self.scale * cells


def encode_matrix(columns: list[Number], x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The cells of plain columns (no atom, no bend) from floats (rows, columns) in one stroke.

    None where a column needs `encode_floats`. Source of the speed: one pass over a matrix in
    place of five over each column.
    """
    import torch

    if any(column.bent or column.atom is not None for column in columns):
        return None
    fit = x.dtype in (np.float32, np.float64) and x.flags.writeable and min(x.strides) >= 0
    held = torch.from_numpy(x if fit else np.array(x, np.float64))  # torch takes no other array
    center = torch.tensor([column.center for column in columns], dtype=held.dtype)
    scale = torch.tensor([column.scale for column in columns], dtype=held.dtype)
    cells = ((held - center) / scale).to(torch.float32)
    seen = ~torch.isnan(cells)
    return cells.nan_to_num_(nan=0.0, posinf=FAR, neginf=-FAR).numpy(), seen.numpy()


def number_texts(numbers: np.ndarray) -> list[str]:
    """Numbers as a person would write them: four digits, whole ones in full."""
    texts = [f"{n:,.4g}" for n in numbers.tolist()]
    size = np.abs(numbers)
    for i in np.flatnonzero((size >= 1e4) & (size < 1e15) & (numbers == np.round(numbers))):
        texts[i] = f"{numbers[i]:,.0f}"
    for i in np.flatnonzero(np.isnan(numbers)):
        texts[i] = "missing"
    return texts


def range_texts(low: np.ndarray, high: np.ndarray) -> list[str]:
    """«12 to 15», or one number where both ends read the same."""
    ends = zip(number_texts(low), number_texts(high), strict=True)
    return [a if a == b else f"{a} to {b}" for a, b in ends]


def _atom(numbers: np.ndarray) -> list[float] | None:
    """The value that holds a large share of rows, and that share, short of all by half a row."""
    if not len(numbers):
        return None
    values, counts = np.unique(numbers, return_counts=True)
    share = counts.max() / len(numbers)
    # With few values each holds a large share; that is a small scale, not an atom.
    if share < LEAST_ATOM or (len(values) > 1 and share < 3 / len(values)):
        return None
    return [float(values[counts.argmax()]), float(min(share, 1 - 0.5 / len(numbers)))]


def _long_tailed(numbers: np.ndarray) -> bool:
    if len(numbers) < 20:
        return False
    low, first, middle, third, high = np.quantile(numbers, (0.01, 0.25, 0.5, 0.75, 0.99))
    near, far = max(third - middle, middle - first), max(high - middle, middle - low)
    return bool(far > LONG_TAIL * near)


def _spread(numbers: np.ndarray, robust: bool) -> tuple[float, float]:
    if not len(numbers):
        return 0.0, 1.0
    most = float(np.abs(numbers).max()) or 1.0  # squares of numbers as they are may overflow
    center, scale = float((numbers / most).mean()) * most, float((numbers / most).std()) * most
    if robust:
        first, middle, third = np.quantile(numbers, (0.25, 0.5, 0.75))
        center, scale = float(middle), float(third - first) / 1.349 or scale
    tiny = 1e-9 * max(abs(center), 1e-300)
    return center, scale if scale > tiny else max(abs(center), 1.0)
