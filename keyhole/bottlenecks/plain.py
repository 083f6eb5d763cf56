"""The plain bottleneck: a linear map to a narrow code, and nothing else."""

from typing import Literal

from keyhole.bottlenecks.base import Bottleneck


class Plain(Bottleneck):
    """A deterministic code without a price: what it costs is only its width."""

    kind = "plain"
    purpose = "anomalies, gaps, embeddings: the default, and the one to beat"
    formula = "z = W h + b"
    source = "Hinton and Salakhutdinov 2006"

    def __init__(self, width: int | Literal["auto"] | None = None) -> None:
        super().__init__()
        self.width = width
