"""keyhole demo: the whole path on data of installed libraries, in about a minute."""

import time
from typing import Any

import click

from keyhole.cli.common import Say, kilobytes, spoken_warnings, weight_count

SIGMA = 25 / 255  # of the noise that is added to the camera image
IMAGE_STEPS, BATCH = 900, 8
WIDTH, STEPS, LEARNING_RATE = 5, 2_000, 1e-2
DIGIT_WIDTH = 16
FALSE_ALARM_RATE = 0.05  # on rows like the training rows
FALSE_SHARE = 0.1  # of alarms
EEG_STEPS, EEG_S = 200, 1 / 80  # of training; from a reading to the next
LEARNED, LOOSE = slice(0, 560), slice(660, 720)  # readings to learn from, and with the fault


def clean_images(page: str, seed: int, say: Say) -> None:
    """Fit a denoiser on a noisy image and a real MR slice, and write a page with both."""
    try:
        clean, scan = _camera(), _slice()
    except ImportError as missing:
        from keyhole.core.environment import install_command

        command = install_command("images", "medical")
        say("images", f"skipped: {missing}; {command} installs what this part needs")
        return
    import numpy as np

    from keyhole.data.images import open_images
    from keyhole.report.images import in_words, write_denoising
    from keyhole.tasks import Denoiser
    from keyhole.training import TrainingConfig

    noisy = clean + SIGMA * np.random.default_rng(seed).standard_normal(clean.shape)
    noisy, began = noisy.astype(np.float32), time.monotonic()
    training = TrainingConfig(IMAGE_STEPS, batch=BATCH, learning_rate=2e-3, patience=None)
    with spoken_warnings(say):
        denoiser = Denoiser(training=training, random_state=seed).fit([noisy, scan])
    say("denoise", f"{denoiser.verdict_}; {in_words(denoiser)} "
        f"({time.monotonic() - began:.0f} s)")  # fmt: skip
    (camera,) = denoiser.judge(noisy, clean.astype(np.float32))
    (mr,) = denoiser.judge(scan)
    say("noise", f"camera (ships with scikit-image): {camera.before}; {SIGMA:.3f} was added")
    if camera.psnr is not None and camera.ssim is not None:
        (before, after), (from_ssim, to_ssim) = camera.psnr, camera.ssim
        say("camera", f"{before:.2f} -> {after:.2f} dB, SSIM {from_ssim:.2f} -> {to_ssim:.2f}, "
            "learned without a clean image")  # fmt: skip
    noise, removed, *_ = mr.sentences()
    say("MR slice", f"MR_small.dcm (ships with pydicom): {noise}; "
        f"{removed[:1].lower()}{removed[1:]}")  # fmt: skip
    write_denoising(page, denoiser, open_images([noisy, scan]))
    say("wrote", f"{page} ({kilobytes(page)}): before, after, removed")


def _camera() -> Any:
    """The middle 256 x 256 pixels of the camera image, in [0, 1]."""
    from pathlib import Path

    import numpy as np
    import skimage
    from PIL import Image

    path = Path(skimage.__file__).parent / "data" / "camera.png"
    return np.asarray(Image.open(path))[128:384, 128:384] / 255.0


def _slice() -> Any:
    """The real MR slice that ships with pydicom, in the scanner's values."""
    from pydicom.data import get_testdata_file

    from keyhole.data.images import open_images

    return open_images(str(get_testdata_file("MR_small.dcm")))[0].whole()[..., 0]


@click.command(short_help="The whole path on data that ships with scikit-learn.")
@click.option("--out", default="demo.keyhole", show_default=True, type=click.Path())
@click.option("--report", default="report.html", show_default=True, type=click.Path())
@click.option("--digits", default="digits.html", show_default=True, type=click.Path(),
              help="Page with digits drawn and interpolated.")  # fmt: skip
@click.option("--denoised", default="denoised.html", show_default=True, type=click.Path(),
              help="Page with a denoised image and MR slice.")  # fmt: skip
@click.option("--sensors", default="sensors.html", show_default=True, type=click.Path(),
              help="Page with a timeline of electrodes.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of the split and the training.")
def demo(out: str, report: str, digits: str, denoised: str, sensors: str, seed: int) -> None:
    """Detect malignant biopsies after training on benign ones; draw new digits; denoise images;
    find an electrode that comes loose.

    Labels are used only to judge the results.
    """
    from keyhole.core.outputs import Output, check_outputs

    say = Say(False)
    pages = {"--report": report, "--digits": digits, "--denoised": denoised, "--sensors": sensors}
    outputs = [Output(option, path, "page") for option, path in pages.items()]
    check_outputs([Output("--out", out, "model"), *outputs], {}, force=True)
    _detect_biopsies(out, report, seed, say)
    _draw_digits(digits, seed, say)
    clean_images(denoised, seed, say)
    _watch_electrodes(sensors, seed, say)
    say("next", f"keyhole fit your.csv -o my.keyhole   ·   keyhole inspect {out}")


def _detect_biopsies(out: str, report: str, seed: int, say: Say) -> None:
    from keyhole.report import score_rows, write_report

    train, test, truth = _biopsies(seed)
    say("data", f"{len(train) + len(test)} biopsies x {train.shape[1]} measurements (ships with "
        f"scikit-learn); trained on {len(train)} benign, scored {len(test)}")  # fmt: skip
    began = time.monotonic()
    with spoken_warnings(say):
        detector = _fit(train, seed)
    model = detector.autoencoder_
    evidence = model.model_.evidence
    say("model", f"{len(model.model_.modality.layout)} features -> {evidence['width']} codes, "
        f"Student-t head, {model.model_.network.shape.members} ensemble members, "
        f"{weight_count(model):,} weights")  # fmt: skip
    say("train",
        f"{model.model_.history.steps[-1]:,} steps in {time.monotonic() - began:.0f} s; masked "
        f"values cost {evidence['masked_nats']:.1f} nats a row (PCA-{WIDTH} "
        f"{evidence['pca_masked_nats']:.1f}, mean {evidence['mean_nats']:.1f})")  # fmt: skip
    say.verdict(model)
    answer = detector.answer(test)
    _say_alarms(answer, truth, detector, say)
    discoveries = detector.answer(test, explain_rows="none", fdr=FALSE_SHARE)
    alarms, false = int(discoveries.alarm.sum()), int((discoveries.alarm & ~truth).sum())
    say("detect", f"at most {FALSE_SHARE:.0%} of alarms false (Benjamini-Hochberg): "
        f"{alarms} alarms, {false} of them benign: {false / max(alarms, 1):.1%}")  # fmt: skip
    _say_peers(train, test, truth, answer, say)
    _say_reasons(answer, detector, say)
    detector.save(out)
    write_report(report, model, score_rows(detector, test, name="held-out biopsies"))
    say("wrote", f"{report} ({kilobytes(report)}, opens offline)   {out}")


def _draw_digits(page: str, seed: int, say: Say) -> None:
    """Fit a variational code and a prior on scikit-learn's digits, and draw new digits."""
    from sklearn.datasets import load_digits

    from keyhole.autoencoder.estimator import Autoencoder
    from keyhole.model.bottlenecks import Variational
    from keyhole.model.priors import Mixture
    from keyhole.report import write_report
    from keyhole.tasks import Generator

    digits: Any = load_digits()
    pixels, began = digits.data, time.monotonic()
    model = Autoencoder(bottleneck=Variational(width=DIGIT_WIDTH))
    with spoken_warnings(say):
        generator = Generator(model, prior=Mixture(), random_state=seed).fit(pixels)
    fitted = generator.autoencoder_
    rebuilt = fitted.inverse_transform(fitted.transform(pixels))
    explained = 1 - ((rebuilt - pixels) ** 2).sum() / ((pixels - pixels.mean(0)) ** 2).sum()
    nats = fitted.model_.evidence["code_nats"]
    say("digits", f"{len(pixels):,} images of 8 x 8 -> {DIGIT_WIDTH} stochastic codes in "
        f"{time.monotonic() - began:.0f} s; {sum(nats):.0f} nats an image explain "
        f"{explained:.0%} of the variance; a mixture over the codes draws new digits")  # fmt: skip
    write_report(page, fitted, None)
    say("wrote", f"{page} ({kilobytes(page)}): drawn, interpolated, judged")


def _watch_electrodes(page: str, seed: int, say: Say) -> None:
    """Fit on seven seconds of an EEG, and find the electrode that comes loose in the rest."""
    from keyhole.autoencoder.estimator import Autoencoder
    from keyhole.modalities import Schema
    from keyhole.report import score_rows, write_report
    from keyhole.tasks import AnomalyDetector
    from keyhole.tasks.detect.events import in_words
    from keyhole.training import TrainingConfig

    readings = _eeg(seed)
    past, today = readings[LEARNED], readings[LEARNED.stop :]
    say("EEG", f"{len(readings)} readings of 4 electrodes in 10 s (ships with matplotlib); "
        f"trained on the first {len(past)}; in the rest, noise of twice its spread was added to "
        f"EEG 2 for {(LOOSE.stop - LOOSE.start) * EEG_S:g} s")  # fmt: skip
    model = Autoencoder(training=TrainingConfig(EEG_STEPS), random_state=seed)
    with spoken_warnings(say):
        detector = AnomalyDetector(model, schema=Schema(time="time")).fit(past)
        scored: Any = score_rows(detector, today, name="EEG")
    for event in scored.timeline.machines[0].events:
        say("event", in_words(event))
    write_report(page, detector.autoencoder_, scored)
    say("wrote", f"{page} ({kilobytes(page)}): a timeline with the event")


def _eeg(seed: int) -> Any:
    """The readings of four electrodes; one of them becomes loose."""
    import numpy as np
    import pyarrow as pa
    from matplotlib.cbook import get_sample_data

    path: Any = get_sample_data("eeg.dat", asfileobj=False)
    readings = np.fromfile(path).reshape(-1, 4)
    noise = np.random.default_rng(seed).normal(size=LOOSE.stop - LOOSE.start)
    readings[LOOSE, 1] += 2 * readings[:, 1].std() * noise
    micros = (1e6 * EEG_S * np.arange(len(readings))).astype("timedelta64[us]")
    time_column = np.datetime64("2000-01-01T00:00:00", "us") + micros
    return pa.table({"time": time_column} | {f"EEG {i + 1}": x for i, x in enumerate(readings.T)})


def _biopsies(seed: int) -> tuple[Any, Any, Any]:
    """Half of the benign rows for training; the other half and the malignant ones for the test."""
    import numpy as np
    import pyarrow as pa
    from sklearn.datasets import load_breast_cancer

    data: Any = load_breast_cancer()
    names = [str(name) for name in data.feature_names]
    benign = np.random.default_rng(seed).permutation(np.flatnonzero(data.target == 1))
    half = len(benign) // 2
    rest = np.sort(np.concatenate([benign[half:], np.flatnonzero(data.target == 0)]))

    def table(rows: Any) -> Any:
        return pa.table(dict(zip(names, data.data[rows].T, strict=True)))

    return table(np.sort(benign[:half])), table(rest), data.target[rest] == 0


def _fit(train: Any, seed: int) -> Any:
    from keyhole.autoencoder.estimator import Autoencoder
    from keyhole.core.progress import progress
    from keyhole.model.bottlenecks import Plain
    from keyhole.tasks import AnomalyDetector
    from keyhole.training import TrainingConfig

    training = TrainingConfig(STEPS, learning_rate=LEARNING_RATE)
    model = Autoencoder(Plain(WIDTH), training=training, random_state=seed)
    # Training has only benign rows, and a user who knows that should say so.
    detector = AnomalyDetector(model, false_alarm_rate=FALSE_ALARM_RATE, contamination="none")
    return detector.fit(train, on_evaluate=progress())


def _say_alarms(answer: Any, truth: Any, detector: Any, say: Say) -> None:
    """The alarms at the false alarm rate, and how many were expected."""
    benign, false = int((~truth).sum()), int((answer.alarm & ~truth).sum())
    say("detect", f"{int(answer.alarm.sum())} alarms: {int((answer.alarm & truth).sum())} of "
        f"{int(truth.sum())} malignant, {false} of {benign} benign ({false / benign:.1%}; at "
        f"{detector.false_alarm_rate:.0%}, about "
        f"{detector.false_alarm_rate * benign:.0f} would be expected)")  # fmt: skip


def _say_reasons(answer: Any, detector: Any, say: Say) -> None:
    """The reasons of the most anomalous row, and the patterns of the alarms."""
    from keyhole.tasks.detect.answer import in_words

    row = int(answer.strongest(1)[0])
    name = answer.name(row)
    say(name,
        f"anomaly score {answer.anomaly_score[row]:.2f} ± {answer.score_std[row]:.2f} "
        f"times the usual (± between members), alarm above {-detector.offset_:.1f}")  # fmt: skip
    say(name, in_words(answer.reasons.get(row, [])))
    for pattern in answer.patterns():
        say("pattern", str(pattern))


def _say_peers(train: Any, test: Any, truth: Any, answer: Any, say: Say) -> None:
    """Compare with PCA's reconstruction error and an isolation forest on the same split."""
    import numpy as np
    from sklearn.decomposition import PCA
    from sklearn.ensemble import IsolationForest
    from sklearn.metrics import average_precision_score, roc_auc_score
    from sklearn.preprocessing import StandardScaler

    x_train, x_test = (np.stack([c.to_numpy() for c in t.columns], 1) for t in (train, test))
    scaler = StandardScaler().fit(x_train)
    x_train, x_test = scaler.transform(x_train), scaler.transform(x_test)
    pca = PCA(WIDTH).fit(x_train)
    anomaly_scores = {
        "keyhole": answer.anomaly_score,
        f"PCA-{WIDTH}": ((x_test - pca.inverse_transform(pca.transform(x_test))) ** 2).sum(1),
        "IsolationForest": -IsolationForest(random_state=0).fit(x_train).score_samples(x_test),
    }
    for label, metric in (("AUROC", roc_auc_score), ("AP", average_precision_score)):
        text = "   ".join(f"{name} {metric(truth, s):.3f}" for name, s in anomaly_scores.items())
        say(label, f"{text}   (same split; labels used only here)")
