"""keyhole fit --for denoise and keyhole denoise: noisy images in, clean ones out."""

import os
from collections.abc import Sequence
from typing import Any

import click

from keyhole.cli.common import (
    Say,
    machine_options,
    model_argument,
    rows_progress,
    spoken_warnings,
    time_to_write,
)
from keyhole.core.progress import stage

VERB = "denoise"
TABLE_OPTIONS = ("id_column", "exclude", "columns", "kind", "weight", "group", "bottleneck",
                 "prior")  # fmt: skip
bad_option = click.option(
    "--bad",
    type=click.Choice(["refuse", "skip"]),
    default="refuse",
    show_default=True,
    help="What to do with files that cannot be read.",
)
noise_option = click.option(
    "--noise", type=float, metavar="SD",
    help="The noise's standard deviation.  [default: measured]",
)  # fmt: skip


def image_options(command: Any) -> Any:
    """--noise, --clean, --axes, --bad, --no-fallback: what a denoiser is told."""
    for option in (
        click.option("--no-fallback", is_flag=True,
                     help="Images: let the net answer though a filter does better."),
        bad_option,
        click.option("--axes", metavar="LETTERS", help="Axes of stacks, such as ZYX or TYXC."),
        click.option("--clean", type=click.Path(),
                     help="Images: clean or second ones, one for each."),
        noise_option,
    ):  # fmt: skip
        command = option(command)
    return command


def fit_denoiser(data: str, out: str, page: str, options: dict[str, Any], say: Say) -> None:
    """Fit a denoiser to the images of DATA, keep it, and write its page."""
    from keyhole.core.progress import progress
    from keyhole.data.images import open_images
    from keyhole.tasks.denoise.denoiser import Denoiser

    for name in TABLE_OPTIONS:
        if options[name]:
            said = name.removesuffix("_column")
            raise click.UsageError(f"--{said} is for tables; images to denoise have none")
    denoiser = Denoiser(**_arguments(options), random_state=options["seed"])
    with spoken_warnings(say), time_to_write(page=not options["no_report"]):
        stage("opening the images")
        images = open_images(data, axes=options["axes"], bad=options["bad"])
        _say_skipped(images, say)
        truth = options["clean"] and open_images(options["clean"], axes=options["axes"])
        _say_pairs(images, truth, say)
        checkpoint = f"{out.rstrip('/')}.part"
        try:
            denoiser.fit(images, truth, checkpoint=checkpoint,
                         on_evaluate=None if options["quiet"] else progress(),
                         on_data_ready=lambda held, noise: _say_noise(held, noise,
                         say))  # fmt: skip
        except KeyboardInterrupt:
            kept = f"kept in {checkpoint}: the same command goes on from there"
            say.warn(kept if os.path.exists(checkpoint) else "stopped before anything was learned")
            raise
    _say_verdict(denoiser, say)
    denoiser.save(out)
    say("wrote", out)
    if not options["no_report"]:
        from keyhole.report.denoising import write_denoising

        known = truth if denoiser._fitted.clean == "partners" else None
        write_denoising(page, denoiser, images, known)
        say("wrote", f"{page} ({os.path.getsize(page) / 1000:,.0f} kB, opens offline)")


@click.command(short_help="Images without their noise, in the formats they came in.")
@model_argument
@click.argument("data", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(),
              help="A file for one file, else a folder.")  # fmt: skip
@noise_option
@click.option("--axes", metavar="LETTERS", help="Axes of stacks, such as ZYX or TYXC.")
@bad_option
@click.option("--force", is_flag=True, help="Replace files in OUT where they exist.")
@click.option("--report", type=click.Path(), help="Write a page about these images.")
@machine_options
def denoise(model: str, data: str, out: str, **options: Any) -> None:
    """The images of DATA without their noise, in the formats and types they came in.

    Memory is that of a tile for files that can be read by window (TIFF, DICOM frames, NIfTI, Zarr,
    npy); others are decoded whole. Killed at any moment, the same command goes on
    where it was. Not a medical device.
    """
    from keyhole.core.environment import tell_threads
    from keyhole.core.outputs import Output, check_outputs
    from keyhole.data.images import open_images
    from keyhole.denoising.fitted import with_device
    from keyhole.jobs.images import denoise_files
    from keyhole.tasks.denoise.denoiser import Denoiser

    say = Say(options["quiet"])
    outputs = [Output("-o", out, "images", joins=True)]
    if options["report"]:
        outputs.append(Output("--report", options["report"], "page"))
    check_outputs(outputs, {"DATA": data}, model=model, force=options["force"])
    tell_threads(options["threads"])
    with spoken_warnings(say):
        denoiser = Denoiser.load(model)
        _told(denoiser, options)
        denoiser._take(with_device(denoiser._fitted, options["device"]))
        images = open_images(data, axes=denoiser.axes, bad=options["bad"])
        _say_skipped(images, say)
        with rows_progress(VERB, len(images), options["quiet"], "images") as heard:
            done = denoise_files(denoiser, images, out, force=options["force"], heard=heard)
    who = denoiser._fitted.used
    kept = f", {done.kept:,} of them by an earlier run" if done.kept else ""
    say(VERB, f"{done.images:,} images in {done.files:,} files{kept}, by the {who}")
    _say_rest(done, say)
    say("wrote", out)
    if options["report"]:
        from keyhole.report.denoising import write_denoising

        write_denoising(options["report"], denoiser, images)
        say("wrote", options["report"])


def _say_rest(done: Any, say: Say) -> None:
    """What did not fit, what was left as it was, and what stays."""
    if done.clipped:
        say("clipped", f"{done.clipped:,} pixels did not fit the files' type")
    if done.noiseless:
        some = ", ".join(done.noiseless[:5])
        say("as it is", f"no noise was found in {len(done.noiseless):,} images: {some}")
    if done.striped:
        some = ", ".join(done.striped[:5])
        say.warn(f"rows or columns share noise, which is not removed, in {len(done.striped):,} "
                 f"images: {some}")  # fmt: skip
    if done.lossy:
        say.warn(f"{len(done.lossy):,} files were written in a lossy format: {done.lossy[0]}")


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    """The denoiser's arguments that the options of fit describe."""
    from keyhole.core.parts import parse
    from keyhole.denoising.fitted import own_training

    import keyhole.model.nets.unet  # noqa: F401, isort: skip  (registers its kind)

    parts = {n: parse(n, options[n]) for n in ("net", "head", "corruption") if options[n]}
    training = own_training()
    training.steps, training.batch, training.device = (
        options["steps"],
        options["batch"],
        options["device"],
    )
    training.time_budget_s = options["time_budget"]
    if options["learning_rate"] is not None:
        training.learning_rate = options["learning_rate"]
    told = {"noise": options["noise"], "axes": options["axes"]}
    return {**parts, "training": training, **told, "fallback": not options["no_fallback"]}


def _told(denoiser: Any, options: dict[str, Any]) -> None:
    """Have the denoiser take what the command line says in place of what fit was told."""
    for name in ("noise", "axes"):
        if options[name] is not None:
            denoiser.set_params(**{name: options[name]})
    denoiser.parts()  # says what cannot be used


def _say_noise(images: Sequence[Any], noise: Any, say: Say) -> None:
    sizes = sorted({(p.height, p.width, p.channels) for p in images})
    first, last = sizes[0], sizes[-1]
    size = " x ".join(map(str, first[:2]))
    if len(sizes) > 1:
        size += f" to {' x '.join(map(str, last[:2]))}"
    colour = "grey" if first[2] == 1 else f"{first[2]} channels"
    say("data", f"{len(images):,} images, {size} pixels, {colour}")
    say("noise", noise.describe(None))


def _say_pairs(images: Any, others: Any, say: Say) -> None:
    """Pairs go by the order of their names; where those differ, say how the first one goes."""
    for one, other in zip(images, others or [], strict=False):
        if one.name != other.name:
            say.warn(f"pairs go by order: {one.name} with {other.name}, and so on")
            return


def _say_skipped(images: Any, say: Say) -> None:
    passed_over = images.passed_over_in_words()
    if images.ignored:
        say.warn(passed_over)
    elif passed_over:
        say("data", passed_over)
    for file in images.skipped[:20]:
        say.warn(f"left out: {file.name}: {file.why}")
    if images.skipped:
        say("data", f"{len(images.skipped):,} files were left out, {len(images.files):,} read")


def _say_verdict(denoiser: Any, say: Say) -> None:
    from keyhole.report.denoising import in_words

    size = sum(weight.numel() for weight in denoiser.network_.parameters())
    asked = denoiser._fitted.corruption
    say("model", f"{size:,} weights, asked by {asked.kind.replace('_', ' ')}")
    say("scores", in_words(denoiser))
    say("verdict", denoiser.verdict_)
    for finding in denoiser.findings_:
        say.warn(f"{finding.code} {finding.title}: {finding.text}")
