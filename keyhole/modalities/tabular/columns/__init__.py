"""Column kinds; `guess` chooses the kind."""

from keyhole.modalities.tabular.columns.base import Column, Ignored
from keyhole.modalities.tabular.columns.datetime import Datetime
from keyhole.modalities.tabular.columns.discrete import Boolean, Category, Count
from keyhole.modalities.tabular.columns.number import Number

__all__ = ["Boolean", "Category", "Column", "Count", "Datetime", "Ignored", "Number"]
