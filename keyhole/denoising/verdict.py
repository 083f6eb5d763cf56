"""How far to trust a denoiser: one line, and what to know."""

from keyhole.checks import Finding
from keyhole.denoising.choice import NET, Choice
from keyhole.noise import Noise
from keyhole.training.corruptions import BlindSpot, Corruption, Pairs
from keyhole.training.corruptions import Noise as Synthetic

FEW_CELLS = 20_000


def judge(
    choice: Choice,
    noise: Noise,
    corruption: Corruption,
    cells: int,
    fallback: bool,
    *,
    left_out: int = 0,
) -> tuple[list[Finding], str, str]:
    """Findings, a verdict, and who answers: the net, or the filter that made smaller errors.

    `left_out` pictures were not looked at for want of time.
    """
    rival, ahead = choice.rival, choice.ahead
    used = NET if ahead > 0 or not fallback else rival
    findings = _findings(choice, noise, corruption, cells, fallback, left_out)
    titles = "; ".join(finding.title for finding in findings)
    if ahead <= 0:
        return findings, f"look again: {titles}", used
    sure = ahead > choice.doubt.get(rival, 0)
    clearly = "smaller errors than" if sure else "about the errors of"
    clean = isinstance(corruption, Pairs | Synthetic)
    said = f"learnt: {clearly} {rival}, the best filter"
    said += "" if clean else ", without any clean picture"
    return findings, f"{said} ({titles})" if titles else said, used


def _findings(
    choice: Choice, noise: Noise, corruption: Corruption, cells: int, fallback: bool, left_out: int
) -> list[Finding]:
    """What to know before the denoiser is used."""
    findings, rival = [], choice.rival
    if choice.ahead <= 0:
        then = "the filter answers" if fallback else "fallback is off, so the net answers"
        findings.append(Finding("KH012", "a filter does better", (
            f"{rival} has smaller errors on pixels that the net did not train on "
            f"({choice.scores[rival]:.4f} against {choice.scores[NET]:.4f} noise variances); "
            f"{then}. More pictures of the same kind, or more steps, help the net"
        )))  # fmt: skip
    if noise.correlated and isinstance(corruption, BlindSpot) and not corruption.reach:
        findings.append(Finding("KH013", "neighbours share noise", (
            "a blind spot sees the noise of a pixel in its neighbours; leave the corruption to "
            "the data, or hide neighbours too: BlindSpot(reach=[1, 1])"
        )))  # fmt: skip
    if cells < FEW_CELLS or not choice.held_out:
        findings.append(Finding("KH014", "few pixels", (
            f"{cells:,} pixels are little to learn from"
            + ("" if choice.held_out else ", and pixels of training had to tell who does better")
            + "; more pictures of the same kind help"
        )))  # fmt: skip
    if left_out:
        findings.append(Finding("KH016", "pictures were left out", (
            f"the time budget was too short to look at {left_out:,} more pictures, so nothing was "
            "learnt from them: give more time, or fewer or smaller pictures"
        )))  # fmt: skip
    return findings
