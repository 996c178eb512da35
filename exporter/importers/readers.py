"""Processes that read a large source and work out its rows while another merges them.

Python uses one core a process, and reading costs more than merging. Each reader has connections of
its own to source and archive, is sent ids, and answers with COPY text; it merges nothing, so that
killing one loses nothing. It ends when its parent does, whatever way that goes.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Final

import psycopg

from exporter.db.connect import translate
from exporter.db.prices import price_table
from exporter.errors import ExporterError
from exporter.importers.places import Places
from exporter.importers.prepare import Models, Prepared, Preparer
from exporter.importers.source import Listed, Source, SourceReplaced

Connection = psycopg.Connection[Any]

#: Batches that a reader has before it, so that it never waits for the next one.
_AHEAD: Final = 2


@dataclass(frozen=True, slots=True)
class Task:
    """What a reader is to read; picklable, as another process must understand it."""

    open_source: Callable[[], Source]
    connect: Callable[[], Connection]
    source_id: int


def read_by(
    count: int, task: Task, batches: Iterator[Sequence[Listed]]
) -> Generator[Prepared, None, None]:
    """Prepare the batches in ``count`` processes; they come back in any order.

    Raises what the readers met: `SourceReplaced`, errors of the source or of the archive.
    """
    # Not fork: a child would inherit our connections.
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pipes: deque[Pipe] = deque()
        for _ in range(count):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(target=_read, args=(task, theirs), daemon=True)
            process.start()
            stack.callback(_end, process)
            stack.enter_context(closing(ours))
            theirs.close()
            pipes.append(ours)
        yield from _exchange(pipes, batches)


def _end(process: BaseProcess) -> None:
    """A reader whose pipe is closed ends by itself, unless it waits for a server or a disk."""
    process.join(timeout=1)
    if process.is_alive():
        process.terminate()
        process.join()


def _exchange(
    pipes: Sequence[Pipe], batches: Iterator[Sequence[Listed]]
) -> Generator[Prepared, None, None]:
    open_batches = dict.fromkeys(pipes, 0)

    def send(pipe: Pipe) -> None:
        batch = next(batches, None)
        if batch is not None:
            pipe.send(batch)
            open_batches[pipe] += 1

    try:
        for _ in range(_AHEAD):
            for pipe in pipes:
                send(pipe)
        while any(open_batches.values()):
            for ready in wait([pipe for pipe, count in open_batches.items() if count]):
                assert isinstance(ready, Pipe)
                found = ready.recv()
                if not isinstance(found, Prepared):
                    raise _failure(found)
                open_batches[ready] -= 1
                send(ready)
                yield found
    except (EOFError, ConnectionError):
        raise ExporterError(
            "a reading process of the import died", hint="run the same command again"
        ) from None


def _failure(told: tuple[str, str] | None) -> Exception:
    return SourceReplaced() if told is None else ExporterError(told[0], hint=told[1])


def _read(task: Task, pipe: Pipe) -> None:
    """A reader: batches in, prepared ones out, until the parent hangs up.

    The parent decides what a signal to all of us means.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    try:
        with closing(task.connect()) as conn, closing(task.open_source()) as source:
            places = Places.load(conn, task.source_id)
            models = Models(conn, price_table(conn))
            preparer = Preparer(conn, source, task.source_id, places, models)
            while True:
                pipe.send(preparer.prepare(pipe.recv()))
    except (EOFError, ConnectionError):
        return
    except SourceReplaced:
        _tell(pipe, None)
    except psycopg.Error as error:
        failure = translate(error, "the archive")
        _tell(pipe, (failure.message, failure.hint))
    except ExporterError as error:
        _tell(pipe, (error.message, error.hint))


def _tell(pipe: Pipe, failure: tuple[str, str] | None) -> None:
    try:
        pipe.send(failure)
    except OSError:
        # The parent is gone, and so is whoever would have listened.
        return
