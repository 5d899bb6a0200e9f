"""What is installed holds everything that runs."""

from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "vmtrak"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    [file] = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with ZipFile(file) as opened:
        yield opened


def files(folder: Path) -> set[str]:
    every = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix() for file in every if "__pycache__" not in str(file)}


def test_migrations_ship_with_the_package(wheel: ZipFile) -> None:
    expected = {f"vmtrak/migrations/{file}" for file in files(ROOT / "alembic")}
    assert "vmtrak/migrations/env.py" in expected
    assert expected <= set(wheel.namelist())


def test_modules_templates_and_static_files_ship(wheel: ZipFile) -> None:
    expected = {f"vmtrak/{file}" for file in files(PACKAGE)}
    assert any(file.startswith("vmtrak/admin/templates/") for file in expected)
    assert any(file.startswith("vmtrak/admin/static/") for file in expected)
    assert expected <= set(wheel.namelist())


def test_nothing_else_ships(wheel: ZipFile) -> None:
    assert {entry.split("/")[0].split("-")[0] for entry in wheel.namelist()} == {"vmtrak"}
    assert not [entry for entry in wheel.namelist() if "__pycache__" in entry]
