"""keyhole evaluate: alarms against labels, which are used here and nowhere else."""

from dataclasses import asdict
from typing import Any

import click

from keyhole.cli.common import (
    Say,
    data_argument,
    json_option,
    load_detector,
    machine_options,
    match_columns,
    model_argument,
    show,
    show_json,
    use_machine,
)


@click.command()
@model_argument
@data_argument
@click.option("--label", required=True, help="Column that says which rows are anomalies.")
@click.option("--alarm-rate", type=float, help="Another rate than the model's.")
@json_option
@machine_options
def evaluate(model: str, data: str, **options: Any) -> None:
    """AUROC, average precision, precision at k, and the confusion at the threshold."""
    from keyhole.sources import open_source
    from keyhole.tasks import evaluate as compare

    say = Say(options["quiet"])
    detector = load_detector(model, say, options["alarm_rate"])
    use_machine(detector.autoencoder_, options["threads"], options["device"])
    source = open_source(data)
    match_columns(detector.autoencoder_, source.names, say)
    found = compare(detector, source, options["label"])
    show_json(asdict(found)) if options["as_json"] else show(_as_text(found, detector))


def _as_text(found: Any, detector: Any) -> list[str]:
    from keyhole.tasks.excess import expected_alarms

    at = "   ".join(f"at {k}: {share:.3f}" for k, share in found.precision_at.items())
    calm = found.false_alarms + found.true_calm
    return [
        f"rows      {found.rows:,}, {found.anomalies:,} anomalies (label {found.positive!r})",
        f"ranking   AUROC {found.auroc:.4f}   average precision {found.average_precision:.4f}",
        f"precision {at}",
        f"alarms    {found.true_alarms:,} right, {found.false_alarms:,} false "
        f"({found.false_alarms / calm:.2%} of {calm:,} normal rows; at "
        f"{detector.alarm_rate:.2%} about {expected_alarms(calm, detector.alarm_rate)} would "
        f"be expected), {found.missed:,} missed",
    ]
