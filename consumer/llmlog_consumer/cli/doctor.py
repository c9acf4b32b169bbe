"""The command `pipeline doctor`."""

from __future__ import annotations

import sys
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from llmlog_common.errors import ConfigurationError, DeploymentError
from llmlog_consumer.cli.options import ConfigOption, JsonOption, load_settings
from llmlog_consumer.cli.output import complain, paint, say, write_json
from llmlog_consumer.provision.rights import User

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmlog_common.settings import Settings
    from llmlog_consumer.checks.doctor.findings import Finding

_COLOURS = {"green": "green", "yellow": "yellow", "red": "red", "skipped": "dim"}


def doctor(
    user: Annotated[
        User, typer.Option("--as", help="Whose rights are looked at: this user's, as that one.")
    ] = User.WORKER,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only what is yellow or red.")] = False,
    end_to_end: Annotated[
        bool,
        typer.Option(
            "--end-to-end", help="Send a marked event, find its document, delete it; time each hop."
        ),
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Check the deployment, and say what mends each thing that is wrong.

    Asks Kafka, Elasticsearch and the Schema Registry, and writes nothing without --end-to-end.
    Green is right, yellow works now and may not in a fault, red does not work; the exit code is 8
    where anything is red.

    Example: pipeline doctor --quiet
    """
    from llmlog_consumer.checks.doctor.examination import examine_deployment
    from llmlog_consumer.checks.doctor.findings import Verdict
    from llmlog_consumer.checks.doctor.findings import as_json as to_json

    settings = load_settings(config)
    findings = []
    for finding in chain(
        examine_deployment(settings, user), send_canary(settings) if end_to_end else ()
    ):
        findings.append(finding)
        if not as_json and not (quiet and finding.seen.verdict in {"green", "skipped"}):
            _print(finding)
            sys.stdout.flush()  # some questions take seconds; a person reads along
    if as_json:
        write_json(to_json(findings))
    wrong = [f.check.name for f in findings if f.seen.verdict is Verdict.RED]
    counts = [
        f"{sum(f.seen.verdict is verdict for f in findings)} {verdict}" for verdict in Verdict
    ]
    if wrong:
        raise DeploymentError(f"{', '.join(counts)}; red: {', '.join(wrong)}")
    complain(", ".join(counts))


def send_canary(settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each hop of a marked event.

    Raises:
        ConfigurationError: a setting cannot be used.
    """
    from llmlog_common.errors import Unreachable
    from llmlog_consumer.checks.doctor.canary import Canary
    from llmlog_consumer.checks.doctor.examination import REQUEST_SECONDS
    from llmlog_consumer.elasticsearch.connection import Elastic
    from llmlog_consumer.kafka.producer import KafkaProducer
    from llmlog_schemas.codec import Encoder
    from llmlog_schemas.registry import Registry

    registry = Registry.from_settings(settings)
    try:
        encoder = Encoder(registry.register(settings.topic) if registry else None)
    except Unreachable as error:
        raise ConfigurationError(f"--end-to-end: {error}") from None
    elastic = Elastic(settings, timeout=REQUEST_SECONDS)
    return Canary(settings, encoder, KafkaProducer(settings), elastic).run()


def _print(finding: Finding) -> None:
    seen, check = finding.seen, finding.check
    sign = paint(f"{seen.verdict:<7}", _COLOURS[seen.verdict])
    say(f"{sign} {check.name}: {seen.text}")
    if seen.mend:
        say(f"        {seen.mend}")
