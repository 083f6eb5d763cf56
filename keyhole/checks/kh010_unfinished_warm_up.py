"""KH010: was the kept model trained at the code's full price?"""

from keyhole.checks.base import Check
from keyhole.checks.evidence import Evidence


class UnfinishedWarmUp(Check):
    """While the price rises, the net learns to answer another question than it is judged by."""

    kind = "KH010"
    title = "warm-up was not finished"

    def ask(self, evidence: Evidence) -> str | None:
        """The step that was kept against the last one of the warm-up."""
        best, warm = evidence.history.best_step, evidence.warm_steps
        if not evidence.code_nats or best >= warm:
            return None
        return (
            f"the best step was {best:,}, and the code's price rose until step {warm:,}: the "
            "model never paid in full. Give more steps, or a smaller net"
        )
