"""Runs migrations for the ``alembic`` program, for ``exporter db``, and for a host program.

A caller that has a connection gives it as ``config.attributes["connection"]`` (SQLAlchemy) and
owns its transaction. Otherwise the database is chosen as for every command: ``--database-url``,
the environment, the embedded server. The version table lives in the toolkit's own schema, so a
host program's alembic is never touched.
"""

from __future__ import annotations

import logging

from alembic import context

from exporter.db import migrate
from exporter.settings import load

config = context.config
settings = config.attributes.get("settings") or load()

if config.cmd_opts is not None:
    # Run by the alembic program itself, which shows nothing unless somebody asks for its log.
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("alembic.runtime.migration").setLevel(logging.INFO)

connection = config.attributes.get("connection")
if context.is_offline_mode():
    migrate.write_sql(settings)
elif connection is not None:
    migrate.run_on(connection, settings)
else:
    migrate.run(settings)
