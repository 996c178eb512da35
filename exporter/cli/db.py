"""``exporter db``: make, check and run the database."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from exporter.cli import render
from exporter.cli.options import Text, database_option, examples, json_option, quiet_option
from exporter.errors import BadInput, ExporterError
from exporter.settings import Settings

if TYPE_CHECKING:
    import psycopg

    from exporter.db.connect import SchemaStatus


@click.group(epilog=examples("exporter db upgrade", "exporter db status"))
def db() -> None:
    """Make, check and run the database."""


@db.command(epilog=examples("exporter db upgrade", "exporter db upgrade 0001"))
@click.argument("revision", default="head")
@database_option
@json_option
def upgrade(revision: str, settings: Settings, as_json: bool) -> None:
    """Bring the schema to REVISION (default: the newest).

    Creates the schema when it is absent. Runs that race apply everything once; a run that fails
    changes nothing.
    """
    from exporter.db import grants, migrate
    from exporter.db.connect import session

    _print_schema(migrate.upgrade(settings, revision), as_json)
    with session(settings, at_head=False) as conn:
        new = grants.ungranted(conn, settings.schema)
    if new:
        render.note(f"no role was granted anything on {', '.join(new)}: run 'exporter db grants'")


@db.command(epilog=examples("exporter db downgrade 0001 --yes", "exporter db downgrade base --yes"))
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Do not ask.")
@database_option
@json_option
def downgrade(revision: str, yes: bool, settings: Settings, as_json: bool) -> None:
    """Take the schema back to REVISION, or to "base": what the dropped tables held is lost."""
    if not yes:
        if not sys.stdin.isatty():
            raise BadInput("--yes", "nobody is there to ask", accepted="--yes, to drop the data")
        question = f"Drop what came after {revision} from {settings.place}, with its data?"
        click.confirm(question, err=True, abort=True)
    from exporter.db import migrate

    _print_schema(migrate.downgrade(settings, revision), as_json)


@db.command(epilog=examples("exporter db sql > upgrade.sql", "exporter db sql 0002:0001 --undo"))
@click.argument("revisions", default="head")
@click.option("--undo", is_flag=True, help="Print a downgrade; REVISIONS must be FROM:TO.")
@database_option
def sql(revisions: str, undo: bool, settings: Settings) -> None:
    """Print the statements of an upgrade for psql and change nothing.

    REVISIONS is a target (default: head) or FROM:TO. No database is opened.
    """
    if undo and ":" not in revisions:
        raise BadInput("REVISIONS", "an undo needs both ends", accepted="0002:0001 or 0002:base")
    from exporter.db import migrate

    migrate.print_sql(settings, revisions, sys.stdout, undo=undo)


@db.command(epilog=examples("exporter db status", "exporter db status --json"))
@database_option
@json_option
def status(settings: Settings, as_json: bool) -> None:
    """Show server, schema and revision, the adopted table, the jobs and remotes to clean.

    Starts the embedded server for the look, if its data exists; makes nothing.
    """
    from exporter.db import server

    facts: dict[str, render.Cell] = {"database": settings.place}
    if settings.database_url is None:
        absent = server.status(settings.home).state == "absent"
        facts |= {"home": str(settings.home), "embedded_server": "absent" if absent else "running"}
    if facts.get("embedded_server") != "absent":
        facts |= _database_facts(settings)
    if as_json:
        render.print_json(facts)
    else:
        render.print_facts([(name.replace("_", " "), value) for name, value in facts.items()])


@db.command(epilog=examples("exporter db start"))
@json_option
@database_option
def start(settings: Settings, as_json: bool) -> None:
    """Start the embedded server, making its data folder if absent, and print its URL.

    Other commands do this by themselves when no database URL is given.
    """
    from exporter.db import server

    _refuse_url(settings)
    url = server.start(settings.home)
    render.print_json({"url": url}) if as_json else click.echo(url)


@db.command(epilog=examples("exporter db stop"))
@json_option
@database_option
def stop(settings: Settings, as_json: bool) -> None:
    """Stop the embedded server; commands that are using it fail.

    It runs from the first command that needs it until this one.
    """
    from exporter.db import server

    _refuse_url(settings)
    stopped = server.stop(settings.home)
    if as_json:
        render.print_json({"stopped": stopped})
    else:
        render.note("the embedded server is stopped" if stopped else "no embedded server runs")


@db.command(epilog=examples('psql "$(exporter db url)"'))
@json_option
@database_option
def url(settings: Settings, as_json: bool) -> None:
    """Print the URL of the embedded server, for psql and other programs; starts it if needed."""
    from exporter.db import server

    _refuse_url(settings)
    found = server.start(settings.home)
    render.print_json({"url": found}) if as_json else click.echo(found)


def _refuse_url(settings: Settings) -> None:
    """These commands are about the embedded server; a URL means another one."""
    if settings.database_url:
        raise BadInput(
            "database URL",
            f"{settings.place} is not the embedded server",
            accepted="none: unset EXPORTER_DATABASE_URL and DATABASE_URL",
        )


def _database_facts(settings: Settings) -> dict[str, render.Cell]:
    from exporter.db import connect, grants

    with connect.session(settings, at_head=False) as conn:
        version = str(connect.server_version(conn))
        found = connect.schema_status(conn, settings.schema)
        facts: dict[str, render.Cell] = {
            "server_version": version,
            "schema": found.schema,
            "revision": found.revision,
            "head": found.head,
            "state": found.state,
        }
        if found.state == "at head":
            facts |= _adopted_facts(conn)
            new = grants.ungranted(conn, settings.schema)
            facts |= {"without_grants": ", ".join(new)} if new else {}
    return facts


def _adopted_facts(conn: psycopg.Connection[Any]) -> dict[str, render.Cell]:
    """The adopted plan table, and each job with what of it is pending or in quarantine."""
    from exporter.artifacts import plans
    from exporter.jobs import ledger

    try:
        table = plans.find(conn)
        facts: dict[str, render.Cell] = {"adopted_table": f"{table.schema}.{table.name}"}
    except ExporterError as error:
        facts = {"adopted_table": f"none ({error.message})"}
    for job in ledger.status(conn):
        items = ", ".join(f"{count:,} {name}" for name, count in job["items"].items())
        facts[f"job_{job['job']}"] = ", ".join(filter(None, (job["state"], items)))
    return facts | _remote_facts(conn)


def _remote_facts(conn: psycopg.Connection[Any]) -> dict[str, render.Cell]:
    """Remotes that are dirty now, which other programs may have written after a finished job."""
    from exporter.jobs.remote_scrub import RemoteScrub

    job = RemoteScrub()
    if withheld := job.unreadable(conn):
        # A count of the others alone would read as if it were the whole.
        return {"remotes_dirty": None, "remotes_withheld": ", ".join(withheld)}
    return {"remotes_dirty": job.remaining(conn)}


def _print_schema(found: SchemaStatus, as_json: bool) -> None:
    if as_json:
        facts = ("schema", "revision", "head", "state")
        render.print_json({name: getattr(found, name) for name in facts})
    else:
        click.echo(f"schema {found.schema}: revision {found.revision or 'none'} ({found.state})")


@db.command(epilog=examples("exporter db rebuild", "exporter db rebuild --json"))
@database_option
@json_option
@quiet_option
def rebuild(settings: Settings, as_json: bool, quiet: bool) -> None:
    """Make everything derived anew: roll-ups, rates, places, copies, text and report sums.

    Imports keep all this right; this is for after a restore or a repair by hand. Exports may run
    meanwhile. Says how many of each, but for rates, had been wrong.
    """
    from exporter.db.connect import session
    from exporter.importers.rebuild import rebuild as rebuild_archive

    with session(settings) as conn, render.progress(quiet=quiet) as progress:
        wrong = rebuild_archive(conn, progress)
    if as_json:
        render.print_json(wrong)
    else:
        render.print_facts([(f"{kind.replace('_', '-')} mended", n) for kind, n in wrong.items()])


@db.command(
    epilog=examples(
        "exporter db grants --reader report --operator import --admin audit > grants.sql",
        "exporter db grants --reader report --operator import --admin audit --apply",
    )
)
@click.option("--reader", type=Text(), metavar="ROLE", help="Exports: sessions, usage, activity.")
@click.option("--operator", type=Text(), metavar="ROLE", help="Imports, prices, backfills.")
@click.option("--admin", type=Text(), metavar="ROLE", help="Reads raw logs and kept originals.")
@click.option("--apply", "is_applied", is_flag=True, help="Run them, in one transaction.")
@database_option
@json_option
def grants(
    reader: str | None, operator: str | None, admin: str | None, is_applied: bool,
    settings: Settings, as_json: bool,
) -> None:  # fmt: skip
    """Print for psql, or apply, what three database roles may do, column by column.

    The roles must exist; name one, two or three of them. One role for two purposes has the rights
    of both. What else they were granted on these tables is taken back. Run by the owner of the
    tables.
    """
    from exporter.db import grants as making
    from exporter.db.connect import session

    named = {"reader": reader, "operator": operator, "admin": admin}
    roles = {making.Purpose(purpose): role for purpose, role in named.items() if role}
    if not roles:
        raise BadInput("roles", "none is named", accepted="--reader, --operator, --admin")
    with session(settings) as conn:
        facts = making.read_facts(conn, settings.schema, _plan_table(conn), roles)
        text = making.script(facts)
        count = making.apply(conn, facts) if is_applied else 0
    for name in facts.unknown_tables:
        render.note(f"{name} has no rule in this release: only the admin may use it")
    for table in facts.left_out if is_applied else ():
        render.note(f"nothing granted on {table.schema}.{table.name}: {table.owner} owns it")
    if as_json:
        lines = text.splitlines()
        render.print_json({"applied": is_applied, "roles": named, "script": lines})
    elif is_applied:
        render.print_facts([("statements", count), *((k, v) for k, v in named.items() if v)])
    else:
        click.echo(text, nl=False)


def _plan_table(conn: psycopg.Connection[Any]) -> tuple[str, str] | None:
    """The adopted table, None where there is none now."""
    from exporter.artifacts import plans

    try:
        table = plans.find(conn)
    except ExporterError as error:
        render.note(f"no grants on a plan table: {error.message}")
        return None
    return table.schema, table.name
