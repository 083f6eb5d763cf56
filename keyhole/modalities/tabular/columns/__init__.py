"""Column kinds; `guess` chooses the kind."""

from keyhole.modalities.tabular.columns.base import Column, Ignored
from keyhole.modalities.tabular.columns.category import Boolean, Category
from keyhole.modalities.tabular.columns.count import Count
from keyhole.modalities.tabular.columns.datetime import Datetime
from keyhole.modalities.tabular.columns.number import Number

__all__ = ["Boolean", "Category", "Column", "Count", "Datetime", "Ignored", "Number"]
