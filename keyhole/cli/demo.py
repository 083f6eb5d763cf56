"""keyhole demo: the main jobs on data of installed libraries, in less than a minute."""

from typing import Any

import click

from keyhole.cli import demo_images
from keyhole.cli.common import Say, kilobytes, spoken_warnings

WIDTH, STEPS, LEARNING_RATE = 5, 2_000, 1e-2
FALSE_ALARM_RATE = 0.05  # on rows like the training rows
MAX_PATTERNS = 2  # that are printed
EEG_STEPS, EEG_S = 200, 1 / 80  # of training; from a reading to the next
TRAINING, LOOSE = slice(0, 560), slice(660, 720)  # readings to learn from, and with the fault
FALSE_EVENTS = "180/hour"  # of a series of ten seconds; a longer one allows fewer


@click.command(short_help="The main jobs on data that ships with scikit-learn.")
@click.argument("part", type=click.Choice(["tables", "images"]), default="tables")
@click.option("--out", default="demo.keyhole", show_default=True, type=click.Path(),
              help="tables: where to save the model.")  # fmt: skip
@click.option("--report", default="report.html", show_default=True, type=click.Path(),
              help="tables: page about the biopsies.")  # fmt: skip
@click.option("--sensors", default="sensors.html", show_default=True, type=click.Path(),
              help="tables: page with a timeline of electrodes.")  # fmt: skip
@click.option("--digits", default="digits.html", show_default=True, type=click.Path(),
              help="images: page with new digits.")  # fmt: skip
@click.option("--denoised", default="denoised.html", show_default=True, type=click.Path(),
              help="images: page with a denoised photograph and MR slice.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of the split and the training.")
def demo(part: str, seed: int, **options: str) -> None:
    """PART tables: find malignant biopsies after training on benign ones, and an electrode that
    comes loose. PART images: denoise images, and draw new digits.

    Labels are used only to judge the results.
    """
    from keyhole.core.outputs import Output, check_outputs

    say = Say(False)
    pages = ("report", "sensors") if part == "tables" else ("denoised", "digits")
    outputs = [Output(f"--{name}", options[name], "page") for name in pages]
    if part == "tables":
        outputs.insert(0, Output("--out", options["out"], "model"))
    check_outputs(outputs, {}, force=True)
    if part == "images":
        demo_images.denoise_images(options["denoised"], seed, say)
        demo_images.draw_digits(options["digits"], seed, say)
        return
    _detect_biopsies(options["out"], options["report"], seed, say)
    _watch_electrodes(options["sensors"], seed, say)
    say("next", "keyhole fit your.csv -o my.keyhole   (then open my.report.html)")


def _detect_biopsies(out: str, report: str, seed: int, say: Say) -> None:
    """Train on benign biopsies, find the malignant ones, and write the page and the model."""
    from keyhole.report import score_rows, write_report

    train, test, malignant = _biopsies(seed)
    say("data", f"{len(train) + len(test)} biopsies x {train.shape[1]} measurements (ships with "
        f"scikit-learn): train on {len(train)} benign ones, test on the {len(test)} "
        "others")  # fmt: skip
    with spoken_warnings(say):
        detector = _fit(train, seed)
    model = detector.autoencoder_
    say("model", f"{train.shape[1]} measurements -> code of {WIDTH} numbers -> {train.shape[1]} "
        "measurements")  # fmt: skip
    say.verdict(model)
    answer = detector.answer(test)
    _say_alarms(answer, malignant, detector, say)
    _say_ranking(train, test, malignant, answer, say)
    _say_reasons(answer, say)
    detector.save(out)
    write_report(report, model, score_rows(detector, test, name="held-out biopsies"))
    say("wrote", f"{report} ({kilobytes(report)}): open it in a browser; model in {out}")


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


def _say_alarms(answer: Any, malignant: Any, detector: Any, say: Say) -> None:
    """The alarms at the false alarm rate, and how many were expected."""
    benign, false = int((~malignant).sum()), int((answer.alarm & ~malignant).sum())
    say("detect", f"{int(answer.alarm.sum())} alarms in {len(malignant)} biopsies: "
        f"{int((answer.alarm & malignant).sum())} of {int(malignant.sum())} malignant, {false} of "
        f"{benign} benign (at a false alarm rate of {detector.false_alarm_rate:.0%}, about "
        f"{detector.false_alarm_rate * benign:.0f} benign ones are expected)")  # fmt: skip


def _say_ranking(train: Any, test: Any, malignant: Any, answer: Any, say: Say) -> None:
    """Compare with PCA's reconstruction error and an isolation forest on the same split."""
    import numpy as np
    from sklearn.decomposition import PCA
    from sklearn.ensemble import IsolationForest
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import StandardScaler

    x_train, x_test = (np.stack([c.to_numpy() for c in t.columns], 1) for t in (train, test))
    scaler = StandardScaler().fit(x_train)
    x_train, x_test = scaler.transform(x_train), scaler.transform(x_test)
    pca = PCA(WIDTH).fit(x_train)
    anomaly_scores = {
        "keyhole": answer.anomaly_score,
        f"PCA of width {WIDTH}": (
            (x_test - pca.inverse_transform(pca.transform(x_test))) ** 2
        ).sum(1),
        "IsolationForest": -IsolationForest(random_state=0).fit(x_train).score_samples(x_test),
    }
    text = ", ".join(f"{n} {roc_auc_score(malignant, s):.3f}" for n, s in anomaly_scores.items())
    say("AUROC", f"{text} (1 = all malignant ones rank first; labels are used only here)")


def _say_reasons(answer: Any, say: Say) -> None:
    """The reasons of the most anomalous row, and the patterns of the alarms."""
    from keyhole.tasks.detect.answer import in_words

    row = int(answer.strongest(1)[0])
    say("example", f"{answer.name(row)}: {in_words(answer.reasons.get(row, []))}")
    for pattern in answer.patterns()[:MAX_PATTERNS]:
        say("pattern", str(pattern))


def _watch_electrodes(page: str, seed: int, say: Say) -> None:
    """Fit on seven seconds of an EEG, and find the electrode that comes loose in the rest."""
    from keyhole.autoencoder.estimator import Autoencoder
    from keyhole.modalities import Schema
    from keyhole.report import write_report
    from keyhole.report.rows import score_rows
    from keyhole.tasks import AnomalyDetector
    from keyhole.tasks.detect.events import in_words
    from keyhole.training import TrainingConfig

    readings = _eeg(seed)
    past, today = readings[TRAINING], readings[TRAINING.stop :]
    say("sensors", f"{len(readings)} readings of 4 EEG electrodes in 10 s (ships with "
        f"matplotlib): train on the first {len(past) * EEG_S:g} s; later, electrode EEG 2 comes "
        f"loose for {(LOOSE.stop - LOOSE.start) * EEG_S:g} s (added noise)")  # fmt: skip
    model = Autoencoder(training=TrainingConfig(EEG_STEPS), random_state=seed)
    with spoken_warnings(say):
        detector = AnomalyDetector(model, schema=Schema(time="time")).fit(past)
        scored: Any = score_rows(detector, today, name="EEG", false_events=FALSE_EVENTS)
    for event in scored.timeline.machines[0].events:
        say("event", in_words(event))
    write_report(page, detector.autoencoder_, scored)
    say("wrote", f"{page} ({kilobytes(page)}): timeline with the event")


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
