"""`gatepost policy`: export, import, publish, list, roll back, observe."""

from datetime import UTC, datetime

import click
import yaml

from gateway.commands.output import (
    emit_json,
    fail,
    json_option,
    limit_option,
    operator,
    read_text,
    table,
    with_database,
)
from gateway.filters import registry
from gateway.policy import document as documents
from gateway.policy.compile import Policy, PolicyError, compile, rule_source
from gateway.policy.document import Document
from gateway.policy.rules import examples
from gateway.store import policies
from gateway.store.database import Database


@click.group()
def policy() -> None:
    """The policy document: what is in force, and how it is changed.

    \b
    Examples:
      gatepost policy export > policy.yaml
      gatepost policy check policy.yaml
      gatepost policy publish policy.yaml --comment "refuse unknown domains"
      gatepost policy rollback 3
    """


def read_document(file: str) -> Document:
    """Read and check a document from YAML (JSON is YAML, too); end the command naming every wrong field."""
    text = read_text(file)
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        fail(f"{file}: not YAML: {' '.join(str(error).split())}")
    if not isinstance(raw, dict):
        fail(f"{file}: should be a mapping of sections (see `gatepost policy export`)")
    try:
        document = documents.read_document(raw)
    except PolicyError as error:
        fail(f"{file} is not a policy:\n{_problems(error)}")
    check_document(document)
    return document


def _problems(error: PolicyError) -> str:
    return "\n".join(f"  {path}: {message}" for path, message in error.problems)


def check_document(document: Document) -> None:
    """End the command with every problem that `compile` finds, or every example that a rule does not do right by."""
    try:
        compiled = compile(document, registry())
        wrong = list(examples.problems(document.rules, rule_source(document), Policy.of(compiled, 0, 0)))
        if wrong:
            raise PolicyError(wrong)
    except PolicyError as error:
        fail(f"the policy does not compile:\n{_problems(error)}")


@policy.command()
@click.option("--version", type=int, help="A version other than the one in force.")
@json_option
@with_database
def export(database: Database, version: int | None, as_json: bool) -> None:
    """Print the policy as YAML (or JSON)."""
    _number, document = policies.load(database, version)
    values = document.model_dump(mode="json")
    if as_json:
        emit_json(values)
    else:
        click.echo(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), nl=False)


@policy.command()
@click.argument("file")
def check(file: str) -> None:
    """Say whether FILE would be published; needs no database."""
    read_document(file)
    click.echo(f"{file}: fine")


@policy.command()
@click.argument("file")
@click.option("--comment", "-m", default="", help="Why, for the history.")
@json_option
@with_database
def publish(database: Database, file: str, comment: str, as_json: bool) -> None:
    """Check FILE (YAML or JSON, - for standard input) and put it in force, in every worker within two seconds."""
    document = read_document(file)
    version = policies.publish(
        database,
        document,
        by=operator(),
        comment=comment or f"from {file}",
        now=datetime.now(UTC),
        check=check_document,
    )
    _say_published(version, document, as_json)


@policy.command(name="import")
@click.argument("file")
@click.option("--comment", "-m", default="")
@json_option
@click.pass_context
def import_(ctx: click.Context, file: str, comment: str, as_json: bool) -> None:
    """The same as publish."""
    ctx.invoke(publish, file=file, comment=comment, as_json=as_json)


def _say_published(version: int, document: Document, as_json: bool) -> None:
    if as_json:
        emit_json({"version": version, "observe": document.observe})
        return
    click.echo(f"Version {version} is published{' in observe mode' if document.observe else ''}.")


@policy.command(name="list")
@limit_option(20)
@json_option
@with_database
def list_(database: Database, limit: int, as_json: bool) -> None:
    """Show versions, newest first."""
    rows = policies.versions(database, limit=limit)
    if as_json:
        emit_json(rows)
        return
    table(
        ("version", "published", "by", "state", "comment"),
        [(row.version, row.published_at, row.published_by, row.state, row.comment) for row in rows],
        empty="Nothing was published yet.",
    )


@policy.command()
@click.argument("version", type=int)
@click.option("--comment", "-m", default="")
@json_option
@with_database
def rollback(database: Database, version: int, comment: str, as_json: bool) -> None:
    """Publish an old VERSION again, as a new one."""
    new = policies.rollback(database, version, operator(), now=datetime.now(UTC), comment=comment, check=check_document)
    _say_published(new, policies.load(database, new)[1], as_json)


@policy.command()
@click.option("--off", is_flag=True, help="Leave observe mode: enforce.")
@json_option
@with_database
def observe(database: Database, off: bool, as_json: bool) -> None:
    """Put the whole gateway into observe mode (or, with --off, out of it): it judges everything and blocks nothing but
    relaying, unknown recipients, protocol errors and limits."""
    _number, document = policies.load(database)
    changed = document.model_copy(update={"observe": not off})
    comment = "Observe mode off" if off else "Observe mode on"
    version = policies.publish(
        database, changed, by=operator(), comment=comment, now=datetime.now(UTC), check=check_document
    )
    _say_published(version, changed, as_json)
