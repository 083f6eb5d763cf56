"""One kind of column a file; `guess` says which, and why."""

from keyhole.modalities.tabular.columns.base import Aside, Column
from keyhole.modalities.tabular.columns.category import Category, Flag
from keyhole.modalities.tabular.columns.count import Count
from keyhole.modalities.tabular.columns.datetime import Moment
from keyhole.modalities.tabular.columns.number import Number

__all__ = [
    "Aside", "Category", "Column", "Count", "Flag", "Moment", "Number",
]  # fmt: skip
