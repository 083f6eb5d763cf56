"""KH001, KH002, KH007 and KH015: is the net better than the mean and than PCA of its width?"""

from keyhole.checks.base import Check
from keyhole.checks.evidence import Evidence

LEAST_GAIN = 0.02  # of the mean's nats, or nats a row, whichever is more


class NoBetterThanMean(Check):
    """The columns tell nothing of each other, or the net did not find it."""

    kind = "KH001"
    title = "no better than the mean"

    def ask(self, evidence: Evidence) -> str | None:
        """Nats of the values that the net predicts, against those of the mean."""
        nats, _ = evidence.asked_nats
        gain = evidence.mean_nats - nats
        if gain > LEAST_GAIN * max(1.0, abs(evidence.mean_nats)):
            return None
        return (
            f"{'masked values' if evidence.masks else 'values'} cost {nats:.2f} nats a row by the "
            f"net, and {evidence.mean_nats:.2f} from each column alone: the columns tell nothing "
            "of each other, or training was too short. Look for columns that belong together, or "
            "give more steps"
        )


class WorseThanPCA(Check):
    """A net that loses to PCA at its own width costs more and tells less."""

    kind = "KH002"
    title = "worse than PCA at equal width"

    def ask(self, evidence: Evidence) -> str | None:
        """Nats of the values that the net predicts, against probabilistic PCA's."""
        nats, baseline = evidence.asked_nats
        if nats <= baseline:
            return None
        values = "masked values" if evidence.masks else "visible values"
        return (
            f"{values} cost {nats:.2f} nats a row, and {baseline:.2f} by PCA with "
            f"{evidence.width} components: give more steps, or use PCA"
        )


class RebuildsLessClosely(Check):
    """A note, not a fault: a net trained to predict masked values gives up some copying."""

    kind = "KH007"
    title = "rebuilds visible values less closely than PCA"

    def ask(self, evidence: Evidence) -> str | None:
        """Rebuilt nats against those of PCA, under the same likelihood."""
        if not evidence.masks or evidence.rebuilt_nats <= evidence.pca_rebuilt_nats:
            return None
        return (
            f"visible values cost {evidence.rebuilt_nats:.2f} nats a row, and "
            f"{evidence.pca_rebuilt_nats:.2f} by PCA with {evidence.width} components: where "
            "codes only store and restore rows, use PCA, a wider code, or mask fewer values"
        )


MOST_NAMES = 5


class WorseThanMean(Check):
    """The model as a whole may be good and mislead in one column."""

    kind = "KH015"
    title = "columns predicted worse than by their mean"

    def ask(self, evidence: Evidence) -> str | None:
        """The columns whose explained variance is clearly below 0."""
        if not evidence.worse:
            return None
        names = sorted(evidence.worse, key=lambda name: evidence.worse[name])
        texts = [f"{name!r} ({evidence.worse[name]:.0%})" for name in names[:MOST_NAMES]]
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        return (
            f"{', '.join(texts)}{more}: the error is larger than that of the column's mean, by "
            "the share given. Do not trust expected values and filled gaps of these columns. Look "
            "at them for rare extreme values, exclude them, or give more steps"
        )
