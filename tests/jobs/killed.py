"""A backfill that kills itself: ``python -m tests.jobs.killed URL N`` dies at its Nth statement.

Odd N die before the statement, even ones right after it. Leases are short, so that the next one
need not wait long.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import psycopg

from exporter.jobs import ledger
from tests.jobs.plans import Plans
from tests.postgres import settings_for

SHORT_LEASE = 0.6


def main(url: str, fatal: int) -> None:
    ledger.LEASE_SECONDS, ledger.HEARTBEAT_SECONDS = SHORT_LEASE, 0.15
    plans = Plans(settings_for(url))
    execute = psycopg.Cursor.execute
    count = 0

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == fatal and fatal % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = execute(self, *args, **kwargs)
        if count == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    psycopg.Cursor.execute = counted  # type: ignore[method-assign]
    plans.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
