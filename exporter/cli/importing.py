"""``exporter import``: bring an archive of another program into ours."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from exporter.cli import render
from exporter.cli.options import database_option, examples, json_option, quiet_option
from exporter.errors import ExitCode, SourceUnreadable
from exporter.settings import Settings, given_path, scheme_of

if TYPE_CHECKING:
    from exporter.importers.agentsview import Summary
    from exporter.importers.source import Source

#: A URL, or libpq's "key=value" text; neither is ever a path, and both may hold a password.
_LIKE_POSTGRES = re.compile(
    r"\s*(postgres(ql)?(\+[\w.-]*)?:|(host|hostaddr|port|user|dbname|password|service)\s*=)",
    re.ASCII | re.IGNORECASE,
)
_DRIVER = re.compile(r"\s*postgres(?:ql)?(?:\+[\w.-]*)?://", re.ASCII | re.IGNORECASE)


@click.group(
    "import",
    epilog=examples(
        "exporter import agentsview ~/.agentsview",
        "exporter import agentsview postgresql://reader@db.example/team",
    ),
)
def import_group() -> None:
    """Bring an archive of another program into ours.

    The source is only read, in short transactions, beside its owner.
    """


@import_group.command(
    epilog=examples(
        "exporter import agentsview ~/.agentsview",
        "exporter import agentsview sessions.db --full --json",
        "exporter import agentsview postgresql://reader@db.example/team --source-schema agentsview",
    )
)
@click.argument("source", metavar="SOURCE")
@click.option("--full", is_flag=True, help="Read every session again, not only those that differ.")
@click.option(
    "--source-schema",
    default="agentsview",
    show_default=True,
    metavar="NAME",
    help="Schema of a PostgreSQL source.",
)
@database_option
@json_option
@quiet_option
def agentsview(
    source: str, full: bool, source_schema: str, settings: Settings, as_json: bool, quiet: bool
) -> int:
    """Import an agentsview archive: SOURCE is its data folder, its sessions.db or a PostgreSQL URL.

    Only what is new or differs is read. Prompts, answers, titles and tool data never are; git
    remotes lose their credentials before they are stored.
    """
    from exporter.db.connect import connect, session
    from exporter.importers.agentsview import import_archive

    with session(settings, application_name="exporter import"):
        archive = _open_agentsview(source, source_schema)
    try:
        with render.progress(quiet=quiet) as progress, session(settings) as conn:
            summary = import_archive(
                conn,
                partial(connect, settings),
                archive,
                progress,
                full=full,
                open_source=partial(_open_agentsview, source, source_schema),
            )
    finally:
        archive.close()
    if as_json:
        render.print_json({**summary.counts(), "source": summary.source})
    else:
        _print_summary(summary)
    return ExitCode.FINDINGS if summary.refused else ExitCode.DONE


def _open_agentsview(source: str, schema: str) -> Source:
    """The archive that SOURCE names; raises SourceNotRecognised or SourceUnreadable."""
    if _LIKE_POSTGRES.match(source):
        from exporter.importers.agentsview_postgres import PostgresSource

        # Any driver, in any case: the server behind it is all that counts.
        return PostgresSource(_DRIVER.sub("postgresql://", source, count=1), schema)
    if "://" in source:
        raise SourceUnreadable(
            f"{scheme_of(source)}…",
            "this scheme is not known",
            hint="name a folder, a file or a postgresql:// URL",
        )
    from exporter.importers.agentsview_sqlite import SqliteSource

    return SqliteSource(given_path("SOURCE", source))


def _print_summary(summary: Summary) -> None:
    if summary.unchanged:
        render.print_facts([("source", summary.location), ("sessions", summary.same)])
        render.note("unchanged since the last import; nothing was written")
        return
    facts: list[tuple[str, Any]] = [
        ("source", summary.location),
        ("sessions new", summary.new),
        ("sessions changed", summary.changed),
        ("sessions same", summary.same),
        ("sessions removed", summary.removed),
        ("sessions refused", summary.refused),
        ("messages read", summary.messages),
        ("usage rows written", summary.usage_rows),
        ("activity points written", summary.activity_points),
        ("billing rows changed", summary.billing_rows_changed),
        ("price rows changed", summary.price_rows_changed),
        ("place rows changed", summary.place_rows_changed),
        ("seconds", f"{summary.seconds:.2f}"),
        ("messages per second", f"{summary.rows_per_second:,.0f}"),
    ]
    facts += [(f"refused: {reason}", count) for reason, count in summary.refusals.items()]
    facts += [(f"repaired: {kind}", count) for kind, count in sorted(summary.repairs.items())]
    render.print_facts(facts)
