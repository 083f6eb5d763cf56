"""The noise of many pictures, and what white noise goes through to be like it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keyhole.denoising.units import Unit, windows_of
from keyhole.images import Picture
from keyhole.noise import Noise, estimate, estimate_many

SMALL = 100 * 100  # pixels; smaller pictures are measured together with others
LEAST = 50 * 50  # pixels of small pictures that tell their noise better than training does
MOST_SMALL = 500  # that are looked at together
SIZE = 64  # of the square in which a filter is found


@dataclass
class Measured:
    """The units of pictures of one call: small ones are measured together, in whatever order.

    `told` is the noise of all where it is known; `learnt`, that of small ones too few to tell.
    """

    pictures: Sequence[Picture]
    told: Noise | None
    learnt: Noise | None = None

    @cached_property
    def of_small(self) -> Noise | None:
        """The one noise of all small pictures; None where each must tell its own."""
        small = [p for p in self.pictures if is_small(p)]
        if sum(p.height * p.width for p in small) < LEAST and self.learnt is not None:
            return self.learnt
        some = np.linspace(0, len(small) - 1, min(len(small), MOST_SMALL)).astype(int)
        return estimate_many([small[int(place)].whole() for place in some])

    def unit(self, picture: Picture) -> Unit:
        """The unit of one of the pictures, by the noise that is told or found in it."""
        windows, noise = windows_of(picture), self.told
        if noise is None and is_small(picture):
            noise = self.of_small
        return Unit.of(estimate(windows) if noise is None else noise, windows)


def is_small(picture: Picture) -> bool:
    """True for a picture that tells little of its noise by itself."""
    return picture.height * picture.width < SMALL


def filter_of(noise: Noise) -> list[list[float]] | None:
    """A filter that gives white noise this autocorrelation; None for white noise.

    The root of the noise's spectrum (Wiener-Khinchin); what is negative in it by error is none.
    """
    if not noise.correlated:
        return None
    kernel = np.array(noise.kernel)
    reach = len(kernel) // 2
    wide = np.zeros((SIZE, SIZE))
    wide[: len(kernel), : len(kernel)] = kernel
    wide = np.roll(wide, (-reach, -reach), (0, 1))
    spectrum = np.fft.fft2(wide).real.clip(0)
    found = np.fft.ifft2(np.sqrt(spectrum)).real
    found = np.roll(found, (2 * reach, 2 * reach), (0, 1))[: 4 * reach + 1, : 4 * reach + 1]
    return found.tolist()
