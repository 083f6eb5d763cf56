"""What the user says of a table's columns: all else is guessed."""

import csv
from typing import Literal, Self

from keyhole.core.parts import Described, kinds
from keyhole.data import cast, dates, levels
from keyhole.data.lazy import pt
from keyhole.data.numerals import OPPOSITE
from keyhole.data.vectors import elements_among
from keyhole.errors import DataError, SettingError
from keyhole.modalities.profile import Profile
from keyhole.modalities.tabular.guess import Guess


class Schema(Described):
    """What the user says of the columns: all else is guessed.

    Parameters
    ----------
    kinds : dict of str to str, or "alike", default=None
        The kind of a column by its name: "number", "count", "category", "boolean", "datetime" or
        "ignored", with its format after a colon, such as "datetime:%d/%m/%Y". "alike": all
        numbers are of one measure, as pixels are, and share a scale.
    only : list of str, default=None
        Learn from these columns alone.
    exclude : list of str, default=None
        Do not learn from these columns.
    id : str, default=None
        The column that names the rows in answers.
    weight : str, default=None
        The column of row weights.
    validation : str, default="random"
        How rows are held out: "random", "group:COLUMN" (a group is never split) or "time:COLUMN"
        (the latest rows).
    time : str, default=None
        The column of time stamps: rows are readings of a sensor series.
    group : str, default=None
        The column that names the machine of each reading.

    Raises
    ------
    SettingError
        In `fit`, for unknown kinds or formats.
    DataError
        In `fit`, for columns that are absent, or cannot be of the kind.

    Examples
    --------
    >>> from keyhole import Autoencoder, Schema
    >>> schema = Schema(kinds={"zip": "category"}, exclude=["comment"], id="customer")
    >>> Autoencoder(schema=schema).schema.exclude
    ['comment']
    """

    family = "schema"
    kind = "table"

    def __init__(
        self,
        *,
        kinds: dict[str, str] | Literal["alike"] | None = None,
        only: list[str] | None = None,
        exclude: list[str] | None = None,
        id: str | None = None,
        weight: str | None = None,
        validation: str = "random",
        time: str | None = None,
        group: str | None = None,
    ) -> None:
        self.kinds = kinds
        self.only = only
        self.exclude = exclude
        self.id = id
        self.weight = weight
        self.validation = validation
        self.time = time
        self.group = group

    def check(self) -> None:
        """Raises: SettingError for kinds neither by column nor "alike", or a lone group."""
        if self.group is not None and self.time is None:
            raise SettingError(
                f"group={self.group!r:.40} is for the machines of a series and needs "
                "time=COLUMN; for groups of a table, use AnomalyDetector(group=...)"
            )
        if isinstance(self.kinds, str) and self.kinds != "alike":
            raise SettingError(
                f"kinds={self.kinds!r:.40}: expected a dict from column to kind, or 'alike'"
            )

    @property
    def kind_of(self) -> dict[str, str]:
        """The kinds that were told, by column."""
        kinds = self.kinds if isinstance(self.kinds, dict) else {}
        return {name: kind.partition(":")[0] for name, kind in kinds.items()}

    @property
    def format_of(self) -> dict[str, str]:
        """How columns write numbers or moments, as told: "number:," or "datetime:%d/%m/%Y"."""
        kinds = self.kinds if isinstance(self.kinds, dict) else {}
        return {name: kind.partition(":")[2] for name, kind in kinds.items() if ":" in kind}

    def matched(self, names: list[str]) -> Self:
        """These hints for a table with these columns: a text with commas may name several.

        A text that is a column's name means that column; else it is read as a line of CSV. The
        name of a list column means the columns of all its numbers.
        """
        same = type(self)(**self.get_params())
        same.only = None if self.only is None else _split(self.only, names)
        same.exclude = None if self.exclude is None else _split(self.exclude, names)
        if isinstance(self.kinds, dict):
            same.kinds = {
                element: kind
                for name, kind in self.kinds.items()
                for element in elements_among(name, names)
            }
        return same

    @property
    def holdout_column(self) -> str | None:
        """The column that decides which rows are held out, if one does."""
        how, _, column = self.validation.partition(":")
        if (how, bool(column)) not in {("random", False), ("group", True), ("time", True)}:
            raise SettingError(
                f"validation={self.validation!r}: write 'random', 'group:COLUMN' or 'time:COLUMN'"
            )
        return column or None

    def named(self) -> list[str]:
        """Every column that a hint names."""
        single = [self.id, self.weight, self.holdout_column, self.time, self.group]
        lists = [*self.kind_of, *(self.only or []), *(self.exclude or [])]
        return [name for name in [*single, *lists] if name is not None]

    def decide(self, profile: Profile, group: str | None = None) -> Guess | None:
        """What is said of a column, or None where that is left to the guess.

        `group` is the column that names groups of rows, where a task has one.

        Raises: SettingError for a kind that does not exist, DataError where the column is none.
        """
        name = profile.name
        if name == self.id:
            return Guess("ignored", "names the rows")
        if name == self.weight:
            return Guess("ignored", "holds the row weights")
        if name == group:
            return Guess("ignored", "names the group")
        if name in (self.exclude or []):
            return Guess("ignored", "excluded")
        if self.only is not None and name not in self.only:
            return Guess("ignored", "not among the chosen columns")
        told = self.kind_of.get(name)
        return None if told is None else _told(profile, told, self.format_of.get(name, ""))


def _split(texts: list[str], names: list[str]) -> list[str]:
    """Column names, texts that name none divided at commas outside of quotes."""
    held, columns = set(names), []
    for text in texts:
        if text in held or not isinstance(text, str):
            columns.append(text)
        else:
            features = next(csv.reader([text], skipinitialspace=True), [])
            columns += [name for name in features if name]
    return [element for name in columns for element in elements_among(name, names)]


def _told(profile: Profile, kind: str, form: str) -> Guess:
    """The kind that was told, where it exists and the column can be of it."""
    name = profile.name
    if kind not in kinds("column"):
        raise SettingError(f"{name}={kind!r}: unknown kind; choose from {sorted(kinds('column'))}")
    if profile.observed <= 0 and kind != "ignored":
        raise DataError(f"column {name!r} cannot be a {kind}: all its values are missing")
    if kind == "datetime":
        profile.style = style_of(profile, form)
    elif form and not (kind == "number" and form in OPPOSITE):
        raise SettingError(
            f"{name}='{kind}:{form}': write 'number:.' or 'number:,' for the decimal sign, "
            "'datetime:FORMAT' for dates"
        )
    if not _can_be(profile, kind):
        values = profile.sample.drop_null()
        example = levels.cell_text(values, 0) if len(values) else "texts that need too much memory"
        raise DataError(
            f"column {name!r} cannot be a {kind}: it holds {profile.arrow_type}, such as "
            f"{example}; choose another kind, or exclude it"
        )
    return Guess(kind, "as given")


def style_of(profile: Profile, form: str) -> str | None:
    """How the column writes moments: as told, as its texts show, or by the size of its numbers.

    Raises: SettingError for an unknown format, DataError where day or month may come first.
    """
    if form:
        if not dates.check(form):
            raise SettingError(
                f"{profile.name}='datetime:{form}': unsupported format; write one such as "
                f"%d/%m/%Y, or one of {list(dates.EPOCHS)}"
            )
        return form
    if profile.ambiguous is not None:
        first, second = profile.ambiguous
        text = levels.cell_text(profile.sample.drop_null(), 0)
        raise DataError(
            f"column {profile.name!r}: in {text} the day or the month may come first; write "
            f"kind 'datetime:{first}' or 'datetime:{second}'"
        )
    if profile.style is not None or not profile.readable:
        return profile.style
    texts = cast.texts(profile.sample.drop_null())
    styles = dates.styles(texts)
    return styles[0] if len(styles) == 1 else dates.epoch_style(profile.numbers())


def _can_be(profile: Profile, kind: str) -> bool:
    if kind in {"number", "count"}:
        return profile.readable and not pt.is_boolean(profile.arrow_type)
    if kind in {"category", "boolean"}:
        return bool(profile.levels)
    if kind == "datetime":
        typed = pt.is_timestamp(profile.arrow_type) or pt.is_date(profile.arrow_type)
        return typed or profile.style is not None
    return True
