"""KH003: does the net rebuild what is no data as well as data?"""

from keyhole.checks.base import Check
from keyhole.checks.evidence import Evidence

LEAST_SHARE = 0.1


class Copies(Check):
    """Rows dealt out column by column, and noise, must cost more than rows do."""

    kind = "KH003"
    title = "copies its input"

    def ask(self, evidence: Evidence) -> str | None:
        """How much of the gain over the mean is lost where columns do not belong together."""
        gain = evidence.mean_nats - evidence.rebuilt_nats
        lost = min(evidence.shuffled_nats, evidence.noise_nats) - evidence.rebuilt_nats
        if gain <= 0 or lost > LEAST_SHARE * gain:
            return None
        return (
            f"shuffled columns cost {evidence.shuffled_nats:.2f} nats and noise "
            f"{evidence.noise_nats:.2f}, rows {evidence.rebuilt_nats:.2f}: the net rebuilds "
            f"anything, so a strange row will look normal. Use a narrower code than "
            f"{evidence.width} or hide more cells in training"
        )
