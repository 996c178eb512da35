"""The environment of the commands that make golden documents again."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from exporter.cli import reproduce
from exporter.settings import Settings, libpq_variables_hidden

SETTINGS = Settings("postgresql://somebody@db.example/archive", schema="exporter_check")


class JustHidden(dict[str, str]):
    """As the environment is between the look at its names and at their values."""

    def __getitem__(self, name: str) -> str:
        if name.startswith("PG"):
            raise KeyError(name)
        return super().__getitem__(name)


def test_variables_that_another_thread_hides_just_now_are_not_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = {"PGHOST": "elsewhere", "PATH": "/bin", "EXPORTER_HOME": "/x", "DATABASE_URL": "y"}
    monkeypatch.setattr(os, "environ", JustHidden(there))
    assert reproduce._environment(SETTINGS) == {
        "PATH": "/bin",
        "EXPORTER_DATABASE_URL": SETTINGS.database_url,
        "EXPORTER_SCHEMA": "exporter_check",
    }


def test_threads_that_connect_meanwhile_are_in_nobodys_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for letter in "ABCDEFGHIJ":
        monkeypatch.setenv(f"PGX{letter}", "x")
    before = sys.getswitchinterval()
    is_over = threading.Event()

    def hide() -> None:
        while not is_over.is_set():
            with libpq_variables_hidden():
                pass

    other = threading.Thread(target=hide)
    sys.setswitchinterval(1e-6)
    try:
        other.start()
        made = [reproduce._environment(SETTINGS) for _ in range(1000)]
    finally:
        is_over.set()
        other.join()
        sys.setswitchinterval(before)
    assert all(found == made[0] for found in made)
