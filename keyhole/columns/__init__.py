"""One kind of column a file; `guess` says which, and why."""

from keyhole.columns.aside import Aside
from keyhole.columns.base import Column
from keyhole.columns.category import Category
from keyhole.columns.count import Count
from keyhole.columns.flag import Flag
from keyhole.columns.guess import Guess, guess
from keyhole.columns.moment import Moment
from keyhole.columns.number import Number
from keyhole.columns.profile import Profile

__all__ = [
    "Aside", "Category", "Column", "Count", "Flag", "Guess", "Moment", "Number", "Profile",
    "guess",
]  # fmt: skip
