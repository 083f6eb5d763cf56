"""keyhole denoise, and the part of keyhole fit that trains a denoiser."""

from collections.abc import Sequence
from typing import Any

import click

from keyhole.cli.common import (
    OnlyFor,
    Say,
    kilobytes,
    machine_options,
    model_argument,
    resumable,
    rows_progress,
    spoken_warnings,
    time_to_write,
    use_machine,
    weight_count,
    with_options,
)
from keyhole.core.progress import stage

VERB = "denoise"
bad_option = click.option(
    "--bad", type=click.Choice(["refuse", "skip"]), default="refuse", show_default=True,
    help="Refuse or skip files that cannot be read.",
)  # fmt: skip
noise_help = "Standard deviation of the noise.  [default: measured]"
noise_settings: dict[str, Any] = {"type": float, "metavar": "SD", "help": noise_help}
axes_help = "Axes of stacks, such as ZYX or TYXC."
axes_settings: dict[str, Any] = {"metavar": "LETTERS", "help": axes_help}
DENOISE_ONLY: dict[str, Any] = {"cls": OnlyFor, "only": VERB}
image_options = with_options(
    click.option("--noise", **DENOISE_ONLY, **noise_settings),
    click.option("--clean", type=click.Path(), **DENOISE_ONLY,
                 help="Clean or second images, one for each noisy image."),
    click.option("--axes", **DENOISE_ONLY, **axes_settings),
    bad_option,
    click.option("--no-fallback", is_flag=True, **DENOISE_ONLY,
                 help="Use the network even if a filter has smaller errors."),
)  # fmt: skip


def fit_denoiser(data: str, out: str, page: str, options: dict[str, Any], say: Say) -> None:
    """Fit a denoiser to the images of DATA, save it, and write its page."""
    from keyhole.core.progress import progress
    from keyhole.data.images import open_images
    from keyhole.report.images import in_words, write_denoising
    from keyhole.tasks.denoiser import Denoiser

    denoiser = Denoiser(**_arguments(options), random_state=options["seed"])
    with spoken_warnings(say), time_to_write(page=not options["no_report"]):
        stage("opening the images")
        images = open_images(data, axes=options["axes"], bad=options["bad"])
        _say_skipped(images, say)
        truth = options["clean"] and open_images(options["clean"], axes=options["axes"])
        _say_pairs(images, truth, say)
        checkpoint = f"{out.rstrip('/')}.part"
        with resumable(checkpoint, say):
            denoiser.fit(images, truth, checkpoint=checkpoint,
                         on_evaluate=None if options["quiet"] else progress(),
                         on_data_ready=lambda x, noise: _say_noise(x, noise, say))  # fmt: skip
    kind = denoiser.model_.parts.corruption.kind.replace("_", " ")
    say("model", f"{weight_count(denoiser):,} weights, trained with the corruption {kind}")
    say("scores", in_words(denoiser))
    say.verdict(denoiser)
    denoiser.save(out)
    say("wrote", out)
    if not options["no_report"]:
        known = truth if denoiser.comparison_.clean == "partners" else None
        write_denoising(page, denoiser, images, known)
        say("wrote", f"{page} ({kilobytes(page)}, open it in a browser)")


@click.command(short_help="Remove the noise from images; keep their formats.")
@model_argument
@click.argument("data", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(),
              help="A file for one file, else a folder.")  # fmt: skip
@click.option("--noise", **noise_settings)
@click.option("--axes", **axes_settings)
@bad_option
@click.option("--force", is_flag=True, help="Replace files in OUT if they exist.")
@click.option("--report", type=click.Path(), help="Write a page about these images.")
@machine_options
def denoise(model: str, data: str, out: str, **options: Any) -> None:
    """Remove noise from the images of DATA; formats and types stay the same.

    Files that can be read in parts (TIFF, DICOM frames, NIfTI, Zarr, npy) need only the memory of
    a tile; others are decoded completely. If the command is killed, run it again to continue.
    Not a medical device.
    """
    from keyhole.core.outputs import Output, check_outputs
    from keyhole.data.images import open_images
    from keyhole.jobs.images import denoise_files
    from keyhole.tasks.denoiser import Denoiser

    say = Say(options["quiet"])
    outputs = [Output("-o", out, "images", joins=True)]
    if options["report"]:
        outputs.append(Output("--report", options["report"], "page"))
    check_outputs(outputs, {"DATA": data}, model=model, force=options["force"])
    with spoken_warnings(say):
        denoiser = Denoiser.load(model)
        use_machine(denoiser, options["threads"], options["device"])
        given = {name: options[name] for name in ("noise", "axes") if options[name] is not None}
        denoiser.set_params(**given).parts()  # raises for invalid settings
        images = open_images(data, axes=denoiser.axes, bad=options["bad"])
        _say_skipped(images, say)
        with rows_progress(VERB, len(images), options["quiet"], "images") as on_progress:
            copies = denoise_files(
                denoiser, images, out, force=options["force"], on_progress=on_progress
            )
    method = denoiser.comparison_.method
    earlier = f", {copies.reused:,} of them by an earlier run" if copies.reused else ""
    say(VERB, f"{copies.images:,} images in {copies.files:,} files{earlier}, by the {method}")
    _say_rest(copies, say)
    say("wrote", out)
    if options["report"]:
        from keyhole.report.images import write_denoising

        write_denoising(options["report"], denoiser, images)
        say("wrote", options["report"])


def _say_rest(copies: Any, say: Say) -> None:
    """Print which pixels were clipped, which images were unchanged, and which noise remains."""
    if copies.clipped:
        say("clipped", f"{copies.clipped:,} pixels are outside the range of the files' type")
    if copies.noiseless:
        some = ", ".join(copies.noiseless[:5])
        say("unchanged", f"no noise was found in {len(copies.noiseless):,} images: {some}")
    if copies.striped:
        some = ", ".join(copies.striped[:5])
        say.warn("stripes (noise shared by rows or columns) are not removed in "
                 f"{len(copies.striped):,} images: {some}")  # fmt: skip
    if copies.lossy:
        say.warn(f"{len(copies.lossy):,} files were written in a lossy format: {copies.lossy[0]}")


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    from keyhole.core.parts import parse
    from keyhole.tasks.denoiser import own_training

    import keyhole.model.nets.unet  # noqa: F401, isort: skip  (registers its kind)

    parts = {n: parse(n, options[n]) for n in ("net", "head", "corruption") if options[n]}
    training = own_training()
    training.set_params(
        steps=options["steps"], batch=options["batch"], device=options["device"],
        time_budget_s=options["time_budget"],
    )  # fmt: skip
    if options["learning_rate"] is not None:
        training.learning_rate = options["learning_rate"]
    return {
        **parts, "training": training, "noise": options["noise"], "axes": options["axes"],
        "fallback": not options["no_fallback"],
    }  # fmt: skip


def _say_noise(images: Sequence[Any], noise: Any, say: Say) -> None:
    sizes = sorted({(p.height, p.width, p.channels) for p in images})
    ends = [f"{height} x {width}" for height, width, _ in (sizes[0], sizes[-1])]
    size = " to ".join(ends if len(sizes) > 1 else ends[:1])
    colour = "grey" if sizes[0][2] == 1 else f"{sizes[0][2]} channels"
    say("data", f"{len(images):,} images, {size} pixels, {colour}")
    say("noise", noise.describe(None))


def _say_pairs(images: Any, others: Any, say: Say) -> None:
    """Warn if the names of a pair differ: pairs are matched by the order of their names."""
    for one, other in zip(images, others or [], strict=False):
        if one.name != other.name:
            say.warn(f"pairs are matched by order: {one.name} with {other.name}, and so on")
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
