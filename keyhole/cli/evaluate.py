"""keyhole evaluate: alarms against labels, which are used here and nowhere else."""

import json
from dataclasses import asdict
from typing import Any

import click

from keyhole.cli.common import Say, data_argument, json_option, machine_options, model_argument


@click.command()
@model_argument
@data_argument
@click.option("--label", required=True, help="Column that says which rows are anomalies.")
@click.option("--alarm-rate", type=float, help="Another rate than the model's.")
@json_option
@machine_options
def evaluate(model: str, data: str, **options: Any) -> None:
    """AUROC, average precision, precision at k, and the confusion at the threshold."""
    from keyhole.cli.common import match_columns, use_machine
    from keyhole.sources import open_source
    from keyhole.tasks import AnomalyDetector
    from keyhole.tasks import evaluate as compare

    detector = AnomalyDetector.load(model)
    if options["alarm_rate"] is not None:
        detector = AnomalyDetector.of(detector.autoencoder_, alarm_rate=options["alarm_rate"])
    use_machine(detector.autoencoder_, options["threads"], options["device"])
    source = open_source(data)
    match_columns(detector.autoencoder_, source.names, Say(options["quiet"]))
    found = compare(detector, source, options["label"])
    click.echo(json.dumps(asdict(found)) if options["as_json"] else _as_text(found, detector))


def _as_text(found: Any, detector: Any) -> str:
    at = "   ".join(f"at {k}: {share:.3f}" for k, share in found.precision_at.items())
    calm = found.false_alarms + found.true_calm
    return "\n".join(
        [
            f"rows      {found.rows:,}, {found.anomalies:,} anomalies (label {found.positive!r})",
            f"ranking   AUROC {found.auroc:.4f}   average precision {found.average_precision:.4f}",
            f"precision {at}",
            f"alarms    {found.true_alarms:,} right, {found.false_alarms:,} false "
            f"({found.false_alarms / calm:.2%} of normal rows; {detector.alarm_rate:.2%} "
            f"promised), {found.missed:,} missed",
        ]
    )
