"""Bring the toolkit's schema to a revision: upgrade, downgrade, status, printed SQL.

One upgrade is one transaction: it is applied whole or not at all. Upgrades that race queue up on
a table lock inside it; the one that comes second finds nothing to do. A lock that does not come
within two seconds is given back and asked for again, so a migration never makes the whole
server's queue wait behind it.

``alembic/env.py`` calls :func:`run`, :func:`run_on` or :func:`write_sql`, so the ``alembic``
program and ``exporter db`` go the same way. The only module that imports alembic and sqlalchemy;
both are slow to import, which is why the check at the start of a command is not here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, TextIO

import psycopg
import sqlalchemy
from alembic import command, context
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from exporter import errors
from exporter.db import connect
from exporter.db.connect import SchemaStatus
from exporter.paths import known_revisions, migrations_folder
from exporter.settings import Settings

#: Wait for one lock; then everything is rolled back and tried again.
LOCK_TIMEOUT_MS = 2_000
#: Longest single statement of a migration, unless EXPORTER_STATEMENT_TIMEOUT_MS says otherwise.
STATEMENT_TIMEOUT_MS = 15 * 60 * 1000
#: Give up after this long.
PATIENCE_SECONDS = 60.0

#: Worth another try as they are: lock timeout, deadlock, serialization failure.
_BUSY = frozenset({"55P03", "40P01", "40001"})
#: Two first upgrades made the schema or the version table at the same moment.
_RACED = frozenset({"23505", "42P06", "42P07", "42710", "XX000"})


def upgrade(settings: Settings, revision: str = "head") -> SchemaStatus:
    """Upgrade to a revision (default: the newest) and say where the schema stands.

    Creates the schema when it is absent. Raises DatabaseNewer, BadInput for an unknown revision,
    and connection errors; then nothing has changed.
    """
    return _move(settings, revision, command.upgrade)


def downgrade(settings: Settings, revision: str) -> SchemaStatus:
    """Go back to an older revision, or to ``base``; what its tables held is lost.

    The empty schema and its version table stay.
    """
    return _move(settings, revision, command.downgrade)


def status(settings: Settings) -> SchemaStatus:
    """Look, change nothing."""
    with connect.session(settings, at_head=False) as conn:
        return connect.schema_status(conn, settings.schema)


def print_sql(settings: Settings, revision: str, out: TextIO, *, undo: bool = False) -> None:
    """Write the statements of an upgrade to ``out`` instead of running them.

    ``revision`` is a target, or FROM:TO (needed for ``undo``, which prints a downgrade). The
    script is for psql and holds no secret. No database is opened.
    """
    for end in revision.split(":", 1):
        _check_revision(end)
    config = _config(settings)
    config.output_buffer = out
    _run_alembic(command.downgrade if undo else command.upgrade, config, revision, sql=True)


# --- Called by alembic/env.py ---------------------------------------------------------------


def run(settings: Settings) -> None:
    """Run what alembic was asked for on a connection of our own, in one transaction."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    attempt = 0
    while True:
        attempt += 1
        try:
            with _transaction(settings) as connection:
                run_on(connection, settings)
            return
        except DBAPIError as error:
            if not _worth_another_try(error) or time.monotonic() > give_up_at:
                raise _translate(error, settings) from error
        time.sleep(min(2.0, 0.05 * 2**attempt) * random.uniform(0.5, 1.0))


def run_on(connection: sqlalchemy.Connection, settings: Settings) -> None:
    """Run what alembic was asked for on a given connection, inside its transaction.

    A connection without a transaction gets one, committed at the end.
    """
    with nullcontext() if connection.in_transaction() else connection.begin():
        context.configure(connection=connection, version_table_schema=settings.schema)
        migration = context.get_context()
        # Commands that only look ("alembic current") must not create or lock anything.
        if not migration.opts.get("dont_mutate"):
            _take_turn(connection, settings.schema)
        _set_search_path(connection, settings.schema)
        _refuse_newer(set(migration.get_current_heads()))
        context.run_migrations()


def write_sql(settings: Settings) -> None:
    """Print instead of run (``--sql``): the same statements, for psql."""
    context.configure(
        dialect_name="postgresql",
        literal_binds=True,
        version_table_schema=settings.schema,
    )
    with context.begin_transaction():
        context.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        context.execute(f'CREATE SCHEMA IF NOT EXISTS "{settings.schema}"')
        context.execute(f'SET LOCAL search_path = "{settings.schema}", pg_catalog')
        context.run_migrations()


# --- Inside ---------------------------------------------------------------------------------


def _move(settings: Settings, revision: str, how: Any) -> SchemaStatus:
    _check_revision(revision)
    # Known before alembic is asked, which would complain about the revision it cannot find.
    with connect.session(settings, at_head=False) as conn:
        _refuse_newer(connect.current_revisions(conn))
    _run_alembic(how, _config(settings), revision)
    return status(settings)


def _run_alembic(how: Any, config: Config, revision: str, **options: Any) -> None:
    try:
        how(config, revision, **options)
    except CommandError as error:
        message = f"alembic refused the move to {revision} ({error})"
        raise errors.DatabaseError(message, hint="see 'exporter db status'") from error


def _refuse_newer(found: set[str]) -> None:
    unknown = found - set(known_revisions())
    if unknown:
        raise errors.DatabaseNewer(max(unknown), known_revisions()[-1])


def _config(settings: Settings) -> Config:
    config = Config(attributes={"settings": settings})
    # ConfigParser would expand a percent sign in the path.
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _transaction(settings: Settings) -> Iterator[sqlalchemy.Connection]:
    """One SQLAlchemy transaction on one connection of connect.py, with a migration's timeouts."""
    careful = replace(
        settings,
        lock_timeout_ms=LOCK_TIMEOUT_MS,
        statement_timeout_ms=settings.statement_timeout_ms or STATEMENT_TIMEOUT_MS,
    )

    def open_connection() -> psycopg.Connection[Any]:
        return connect.connect(careful, autocommit=False, application_name="exporter migrate")

    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=open_connection,
        poolclass=NullPool,
        use_native_hstore=False,
    )
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    finally:
        engine.dispose()


def _create_schema(connection: sqlalchemy.Connection, schema: str) -> None:
    """Create the schema when absent; a role that found it made for it needs no right to create."""
    absent = connection.execute(
        sqlalchemy.text("SELECT to_regnamespace(quote_ident(:schema)) IS NULL"), {"schema": schema}
    ).scalar_one()
    if absent:
        connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')


def _take_turn(connection: sqlalchemy.Connection, schema: str) -> None:
    """Wait until no other upgrade runs: the version table, made now if absent, is locked.

    The lock ends with the transaction. Readers, such as the check at the start of a command, are
    not held up.
    """
    _create_schema(connection, schema)
    table = f'"{schema}".alembic_version'
    connection.exec_driver_sql(
        f"CREATE TABLE IF NOT EXISTS {table} ("
        " version_num varchar(32) NOT NULL CONSTRAINT alembic_version_pkc PRIMARY KEY)"
    )
    connection.exec_driver_sql(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")


def _set_search_path(connection: sqlalchemy.Connection, schema: str) -> None:
    """Migrations name their tables without a schema; the setting ends with the transaction."""
    connection.execute(
        sqlalchemy.text(
            "SELECT set_config('search_path', quote_ident(:schema) || ', pg_catalog', true)"
        ),
        {"schema": schema},
    )


def _sqlstate(error: DBAPIError) -> str | None:
    return error.orig.sqlstate if isinstance(error.orig, psycopg.Error) else None


def _worth_another_try(error: DBAPIError) -> bool:
    state = _sqlstate(error)
    if state in _BUSY:
        return True
    statement = (error.statement or "").lstrip()
    first = statement.startswith(("CREATE SCHEMA", "CREATE TABLE IF NOT EXISTS"))
    return first and state in _RACED


def _translate(error: DBAPIError, settings: Settings) -> errors.ExporterError:
    if isinstance(error.orig, psycopg.Error):
        return connect.translate(error.orig, settings.place)
    return errors.DatabaseError(f"the migration failed ({type(error).__name__})")


def _check_revision(revision: str) -> None:
    """Alembic also takes prefixes and relative steps, and fails in many ways on what is neither."""
    accepted = [*known_revisions(), "head", "base"]
    if revision not in accepted:
        raise errors.BadInput("REVISION", f"{revision!r} is unknown", accepted=", ".join(accepted))
