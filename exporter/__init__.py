"""PostgreSQL-backed export and migration of coding-agent session archives."""

#: The one place the version is written; packaging and ``--version`` read it here.
__version__ = "0.1.0"
