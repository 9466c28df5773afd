"""`gatepost migrate`: bring the database to this release, make keys and folders, publish a starter policy."""

from datetime import UTC, datetime

import click

from gateway.commands.output import emit_json, fail, json_option, operator
from gateway.mail.errors import Conflict, Malformed, NotAllowed, NotFound
from gateway.masterkey import create_master_key, load_master_key
from gateway.policy import starter
from gateway.settings import Settings, SettingsError, load_settings, split_address
from gateway.store import policies, revisions, schema
from gateway.store.database import Database, DatabaseAway


@click.command(
    epilog="""\b
Examples:
  gatepost migrate                 to the newest revision
  gatepost migrate --to 0003       up or down to one revision
"""
)
@click.option(
    "--to",
    "revision",
    default="head",
    show_default=True,
    help="Revision to go to, up or down; `base` removes all tables.",
)
@json_option
def migrate(revision: str, as_json: bool) -> None:
    """Bring the database to this release.

    Safe to repeat. Mail may flow meanwhile: the relay goes on with the policy that it has.
    """
    settings = load_settings()
    try:
        done = prepare(settings, revision)
    except DatabaseAway as error:
        fail(f"the database cannot be used: {error}")
    except NotFound as error:
        fail(f"--to {revision}: {error}")
    if as_json:
        emit_json(done)
    else:
        click.echo(f"Database at revision {done['revision'] or 'base'}; policy version {done['policy_version']}.")


def prepare(settings: Settings, revision: str = "head") -> dict[str, object]:
    """Do what `migrate` does; return the schema's revision and the policy's version.

    Raises SettingsError when data directory or master key cannot be used, DatabaseAway, NotFound for the revision.
    """
    _make_files(settings)
    database = Database(settings.url, data_dir=settings.data_dir)
    try:
        _go_to(database, revision)
        at = schema.current(database)
        version = publish_starter(settings, database) if schema.is_current(database) else 0
    finally:
        database.close()
    return {"revision": at, "policy_version": version}


def _make_files(settings: Settings) -> None:
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"GATEPOST_DATA_DIR: {settings.data_dir} cannot be made: {error.strerror}") from None
    try:
        if not settings.master_key.exists():
            create_master_key(settings.master_key)
        load_master_key(settings.master_key)
    except OSError as error:
        raise SettingsError(f"GATEPOST_MASTER_KEY_FILE: {settings.master_key}: {error.strerror}") from None
    except (Conflict, Malformed, NotAllowed, NotFound) as error:
        raise SettingsError(f"GATEPOST_MASTER_KEY_FILE: {error}") from None


def _go_to(database: Database, revision: str) -> None:
    """Go up to a revision, or down to one that has been passed."""
    at = schema.current(database)
    if revision != "base" and (revision == "head" or not at or revision > at):
        schema.upgrade(database, revision)
    elif at:
        schema.downgrade(database, revision)


def publish_starter(settings: Settings, database: Database) -> int:
    """Publish the starter policy where there is none; return the version in force."""
    version = revisions.current(database).policy_version
    if version:
        return version
    document = starter.starter(*split_address(settings.drop_bind))
    return policies.publish(database, document, by=operator(), comment=starter.COMMENT, now=datetime.now(UTC))
