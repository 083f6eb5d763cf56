"""Seeds, from what people hand over as `random_state`."""

from typing import Any

from sklearn.utils import check_random_state

from keyhole.errors import SettingError


def seed_from(random_state: Any) -> int:
    """A seed: equal for equal numbers, drawn anew for None, the next of a RandomState.

    Raises: SettingError for anything else.
    """
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as fault:
        raise SettingError(
            f"random_state={random_state!r:.60}: give a whole number, None, or a "
            "numpy.random.RandomState"
        ) from fault
