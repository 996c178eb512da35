"""The command-line reference, made from the program's own help.

python -m tests.reference FILE
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from exporter.cli.main import cli
from exporter.settings import VARIABLES

_WIDTH = 100


def reference() -> str:
    """The whole page, as Markdown."""
    parts = [
        "# Command line\n\nMade from `--help` by `script/cli-reference`; a test keeps it fresh.\n",
        *(f"## {path}\n\n```text\n{text}\n```\n" for path, text in helps(cli, "exporter")),
        "## Variables\n\n| variable | what it does |\n|---|---|",
        *(f"| `{name}` | {what} |" for name, what in VARIABLES.items()),
    ]
    return "\n".join(parts) + "\n"


def helps(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    """(command path, help text) of a command and all below it."""
    # A command remembers the names of its help option from whoever asks first.
    context = click.Context(
        command,
        info_name=path,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        help_option_names=cli.context_settings["help_option_names"],
    )
    yield path, command.get_help(context).rstrip()
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from helps(below, f"{path} {name}")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference())
