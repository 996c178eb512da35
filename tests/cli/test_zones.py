"""Zones: which names there are, whose rules they follow, and which is the system's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exporter.cli.zones import find_zone, system_zone


@pytest.fixture
def stale(tmp_path: Path) -> Iterator[Path]:
    """A folder of the system in which Vancouver keeps the rules of Tokyo."""
    import zoneinfo
    from importlib.resources import files

    folder = tmp_path / "zoneinfo"
    (folder / "America").mkdir(parents=True)
    rules = files("tzdata").joinpath("zoneinfo", "Asia", "Tokyo").read_bytes()
    for name in ("America/Vancouver", "localtime"):
        (folder / name).write_bytes(rules)
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([str(folder)])
    zoneinfo.ZoneInfo.clear_cache()
    yield folder
    zoneinfo.reset_tzpath(before)
    zoneinfo.ZoneInfo.clear_cache()


def test_old_rules_of_the_system_do_not_count(stale: Path) -> None:
    noon = datetime(2020, 1, 15, 20, tzinfo=UTC)
    assert noon.astimezone(find_zone("America/Vancouver")).hour == 12


@pytest.mark.parametrize(
    "name", ["localtime", "posixrules", "right/Europe/Berlin", "posix/UTC", "Factory.tab", "UTC/"]
)
def test_files_of_a_system_are_no_names_of_zones(stale: Path, name: str) -> None:
    with pytest.raises(ValueError, match="unknown time zone"):
        find_zone(name)


def test_a_zone_knows_its_name() -> None:
    assert find_zone("Europe/Lisbon").key == "Europe/Lisbon"
    assert find_zone("Europe/Lisbon") is find_zone("Europe/Lisbon")


@pytest.mark.parametrize("value", ["{link}", ":{link}"])
def test_tz_may_name_a_link_to_a_zone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    link = tmp_path / "localtime"
    link.symlink_to("/usr/share/zoneinfo/Asia/Tokyo")
    monkeypatch.setenv("TZ", value.format(link=link))
    assert system_zone(tmp_path / "missing").key == "Asia/Tokyo"
