"""${message}: what it is for, in one sentence.

Locks: which lock on which existing table, and for how long ("none" when only new objects appear).
Undo: what ``alembic downgrade ${down_revision | comma,n}`` does, and what it cannot bring back.
"""

from __future__ import annotations

from alembic import op

revision = "${up_revision}"
down_revision = "${down_revision}"
branch_labels = None
depends_on = None

# The search path begins with the toolkit's schema: name its tables without one. Where the name
# itself is needed it is op.get_context().version_table_schema. Never import exporter here.


def upgrade() -> None:
    ${upgrades if upgrades else "op.execute()"}


def downgrade() -> None:
    ${downgrades if downgrades else "op.execute()"}
