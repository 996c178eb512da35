"""The only package that opens PostgreSQL: connections, the embedded server, migrations, queries."""
