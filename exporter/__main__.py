"""The program's entry point: ``exporter``, and ``python -m exporter``.

A signal that comes before the program is loaded ends it at once and quietly.
"""

from __future__ import annotations

from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    try:
        import gc

        # Loading makes many objects that stay; looking through them for cycles again and again
        # takes a tenth of a short command's time. Later the search comes more seldom, not never.
        gc.set_threshold(50_000, 20, 20)
        from exporter.cli import signals

        signals.leave_at_once()
        from exporter.cli.main import main as run_and_exit
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    run_and_exit()


if __name__ == "__main__":
    main()
