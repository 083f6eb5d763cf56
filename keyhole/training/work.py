"""The size of a step: the multiply-adds of its matrix products and convolutions.

Torch's own counter (`FlopCounterMode`) gives the same for the nets of this package, but imports
torch's compiler first, which takes two seconds of CPU in every process that fits. Of functions
that are not named here, nothing is counted.
"""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

PRODUCTS = {"matmul", "__matmul__", "mm", "bmm", "linear"}
CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}
TRANSPOSED = {"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}


class MultiplyAdds(TorchFunctionMode):
    """Counts the multiply-adds of what runs inside it, in `total`."""

    total = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch, and count its products."""
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in PRODUCTS:
            self.total += output.numel() * args[0].shape[-1]
        elif name in CONVOLUTIONS:
            self.total += output.numel() * math.prod(_weight(args, kwargs).shape[1:])
        elif name in TRANSPOSED:
            self.total += args[0].numel() * math.prod(_weight(args, kwargs).shape[1:])
        elif name == "scaled_dot_product_attention":
            query, key = args[0], args[1]
            self.total += (query.numel() + output.numel()) * key.shape[-2]
        return output


def _weight(args: Any, kwargs: Any) -> Tensor:
    return args[1] if len(args) > 1 else kwargs["weight"]
