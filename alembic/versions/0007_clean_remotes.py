r"""Remotes that may hold a credential can no longer be written to the archive's own table.

The condition is that of the job ``remotes`` as it was when this revision was made: a URL has no
more than scheme, host, port and path, nothing else has a user, and no part looks like a secret.

Locks: ACCESS EXCLUSIVE on project_observations, the toolkit's own, for a change of the catalogue.
The constraint is NOT VALID: rows that are there already are not looked at. The job scrubs them and
validates the constraint once a pass over the table leaves nothing dirty.
Undo: ``alembic downgrade 0006`` drops the constraint; no row changes.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# \u0025 is the per cent sign, which alembic would double in a printed script.
GUARD = r"""
ALTER TABLE project_observations ADD CONSTRAINT project_observations_clean CHECK (
    git_remote = '' OR NOT (
        (strpos(git_remote, '://') > 0 AND git_remote COLLATE "C" !~
            '^(https?|ssh|git)://[]A-Za-z0-9!"$&''()*+,.;<=>[_~:\u0025-]+/[]A-Za-z0-9!$&''()*+,./:;=@[_~\u0025-]*$')
        OR (strpos(git_remote, '://') = 0 AND strpos(git_remote, '@') > 0)
        OR (strpos(git_remote, '://') > 0 AND
            regexp_replace(git_remote COLLATE "C", '^[^:]*://[^/]*', '') COLLATE "C"
                ~* '[^/]@|[:&=;]|\u0025(40|3a|26|3d|3b|3f|23)')
        OR (strpos(git_remote, '://') = 0 AND strpos(git_remote, ':') > 0 AND
            substr(git_remote, strpos(git_remote, ':') + 1) COLLATE "C" ~ '[?#&:=;]')
        OR git_remote COLLATE "C" ~ 'gh[pousr]_[A-Za-z0-9]{20}|github_pat_[A-Za-z0-9_]{20}'
        OR git_remote COLLATE "C" ~ 'gl(pat|rt|dt|ptt|ft|soat|cbt|imt|agent)-[A-Za-z0-9_-]{16}'
        OR git_remote COLLATE "C" ~ 'AT(ATT|BB|CTT)[A-Za-z0-9_=-]{16}|AKIA[0-9A-Z]{16}'
        OR git_remote COLLATE "C" ~ 'xox[abprs]-[A-Za-z0-9-]{10}|npm_[A-Za-z0-9]{30}'
        OR git_remote COLLATE "C" ~ 'hf_[A-Za-z0-9]{30}|eyJ[A-Za-z0-9_-]{10,}\.eyJ'
    )
) NOT VALID
"""


def upgrade() -> None:
    op.execute(GUARD)


def downgrade() -> None:
    op.execute("ALTER TABLE project_observations DROP CONSTRAINT project_observations_clean")
