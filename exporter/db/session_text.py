"""The v1 text of a session as SQL, for the importers that store it and the exports that may have
to render its usage again at other rates."""

from __future__ import annotations

from psycopg import sql

from exporter.db import queries

_QUERIES = queries.load(__file__)

HEAD = _QUERIES["head"]
TAIL = _QUERIES["tail"]
NO_USAGE = _QUERIES["no_usage"]
#: The rates that the stored prices give, kept up to date by the importers.
STORED_RATES = sql.SQL("model_rates")


def usage(keys: sql.Composable, rates: sql.Composable) -> sql.Composed:
    """A query of (session_key, usage) over the sessions that the subquery ``keys`` selects.

    ``rates`` is a relation with the columns of model_rates.
    """
    return _QUERIES["usage"].format(keys=keys, rates=rates)
