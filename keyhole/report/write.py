"""Writes the page of a fitted model, on given rows or images."""

import os
from typing import Any

from sklearn.utils.validation import check_is_fitted

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.core.files import write_whole
from keyhole.errors import SettingError
from keyhole.report.denoising import write_denoising
from keyhole.report.page import render
from keyhole.report.rows import ScoredRows, score_rows
from keyhole.tasks.denoiser import Denoiser
from keyhole.tasks.detect.detector import AnomalyDetector


def write_report(path: str | os.PathLike[str], model: Any, data: Any = None) -> None:
    """Atomically write the page on a fitted model.

    `model`: an Autoencoder, AnomalyDetector, Generator or Denoiser. `data`: rows to score, or
    images to denoise, as a frame, an array or a path; or the result of `score_rows`.
    Raises: FileError, DataError, SettingError if `model` is something else.
    """
    if not isinstance(path, str | os.PathLike):
        raise SettingError(
            f"write_report takes the path of the page first, got {type(path).__name__:.40}: "
            "write_report('page.html', model, data)"
        )
    if isinstance(model, Denoiser):
        check_is_fitted(model, "model_")
        if data is None:
            raise SettingError("a denoiser's page shows images: write_report(path, model, data)")
        return write_denoising(path, model, model.open(data))
    fitted = getattr(model, "autoencoder_", model)
    if not isinstance(fitted, Autoencoder):
        raise SettingError(
            f"write_report takes a fitted Autoencoder, AnomalyDetector, Generator or Denoiser, "
            f"got {type(model).__name__:.40}"
        )
    check_is_fitted(fitted)
    if data is not None and not isinstance(data, ScoredRows):
        detector = (
            model if isinstance(model, AnomalyDetector) else AnomalyDetector.from_fitted(fitted)
        )
        data = score_rows(detector, data)
    return write_whole(path, render(fitted, data))
