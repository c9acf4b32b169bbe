"""The command `pipeline setup`."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmlog_consumer.cli.options import ConfigOption, JsonOption, load_settings
from llmlog_consumer.cli.output import complain, say, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmlog_common.settings import Settings
    from llmlog_consumer.provision.steps import Step

_SIGNS = {"created": "+", "updated": "~", "unchanged": "=", "differs": "!"}
_CHANGES = ("created", "updated")
_REQUEST_SECONDS = 30.0


def setup(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, change nothing.")
    ] = False,
    print_to: Annotated[
        str | None,
        typer.Option(
            "--print",
            metavar="WHAT",
            help="Ask no server: print acls, role, template, policy or topics; or write everything "
            "as files into this folder.",
        ),
    ] = None,
    kafka_only: Annotated[bool, typer.Option("--kafka-only", help="Only the topics.")] = False,
    elasticsearch_only: Annotated[
        bool, typer.Option("--elasticsearch-only", help="All but the topics.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Install topics, index template, lifecycle policy and today's index.

    Idempotent, and safe to run many times at once. What users have added stays; each difference is
    printed before it is written; nothing is ever deleted.

    Example: pipeline setup --dry-run
    """
    if kafka_only and elasticsearch_only:
        raise typer.BadParameter("--kafka-only and --elasticsearch-only leave nothing to do")
    if print_to is not None and dry_run:
        raise typer.BadParameter("--print changes nothing on any server: leave --dry-run out")
    settings = load_settings(config)
    parts = (not elasticsearch_only, not kafka_only)
    if print_to is not None:
        _print(settings, print_to, parts, as_json=as_json)
        return
    for step in _steps(settings, kafka=parts[0], elasticsearch=parts[1]):
        if as_json:
            write_json(_as_json(step if dry_run else step.carry_out(), is_done=not dry_run))
            sys.stdout.flush()
            continue
        if step.differences:
            say(f"{_SIGNS[step.change]} {step.what} differs:")
            for line in step.differences:
                say(f"    {line}")
        sys.stdout.flush()  # before it is written: a person may read along, and stop it
        done = step if dry_run else step.carry_out()
        is_pending = dry_run and done.change in _CHANGES
        change = f"would be {done.change}" if is_pending else done.change
        detail = f" ({done.detail})" if done.detail else ""
        say(f"{_SIGNS[done.change]} {done.what}: {change}{detail}")


def _print(settings: Settings, what: str, parts: tuple[bool, bool], *, as_json: bool) -> None:
    from llmlog_consumer.provision.files import Part, describe_part, part_as_json, write_files

    if what in set(Part):
        if not all(parts):
            raise typer.BadParameter(f"--print {what} is of one server: leave the other option out")
        if as_json:
            write_json(part_as_json(settings, Part(what)))
        else:
            typer.echo(describe_part(settings, Part(what)), nl=False)
        return
    paths = write_files(settings, Path(what), kafka=parts[0], elasticsearch=parts[1])
    if as_json:
        write_json({"files": [str(path) for path in paths]})
    else:
        say("\n".join(map(str, paths)))


def _as_json(step: Step, *, is_done: bool) -> dict[str, Any]:
    return {
        "what": step.what,
        "change": step.change,
        "done": is_done and step.change in _CHANGES,
        "detail": step.detail or None,
        "differences": list(step.differences),
    }


def _steps(settings: Settings, *, kafka: bool, elasticsearch: bool) -> Iterator[Step]:
    """Yield the steps of both servers; each is looked at when the step before it is done."""
    from llmlog_consumer.elasticsearch.patience import PatientElastic
    from llmlog_consumer.kafka.admin import KafkaAdmin
    from llmlog_consumer.provision.indices import index_steps
    from llmlog_consumer.provision.topics import topic_steps

    steps: Iterator[Step] = iter(())
    if elasticsearch:
        # Made first: a URL that cannot be used ends the command before anything is created.
        elastic = PatientElastic(settings, timeout=_REQUEST_SECONDS, announce=complain)
        steps = index_steps(settings, elastic)
    if kafka:
        steps = chain(topic_steps(settings, KafkaAdmin(settings)), steps)
    return steps
