"""Every command explains itself; what it is asked wrongly it refuses with status 2."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

import vmtrak
from vmtrak.cli import main


def every(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every(command, (*path, name))
        else:
            yield (*path, name)


def test_the_commands_are_those_of_the_manual() -> None:
    assert {" ".join(path) for path in every(main)} == {
        "",
        "serve",
        "worker",
        "migrate",
        "notify",
        "rekey",
        "demo",
        "doctor",
        "user",
        "user add",
        "user reset",
        "token",
        "token add",
    }


@pytest.mark.parametrize("path", [*every(main)], ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_explains_itself(path: tuple[str, ...], option: str) -> None:
    said = CliRunner().invoke(main, [*path, option])
    assert said.exit_code == 0
    assert "Usage:" in said.output
    assert said.output.splitlines()[2].strip()


def test_it_tells_its_version() -> None:
    said = CliRunner().invoke(main, ["--version"])
    assert (said.exit_code, said.output) == (0, f"{vmtrak.__version__}\n")


@pytest.mark.parametrize(
    "words",
    [
        "fly",
        "serve now",
        "serve --port many",
        "serve --port 65536",
        "worker --port 1",
        "migrate --fast",
        "notify now",
        "notify --date tomorrow",
        "notify --date 2026-02-30",
        "notify --date 23.11.2026",
        "rekey k2",
        "rekey --force",
        "rekey --yes",
        "demo --port -1",
        "user",
        "user add",
        "user add bob --role read",
        "user add bob --email b@vmtrak.example",
        "user add bob --email b@vmtrak.example --role king",
        "user reset",
        "doctor who",
    ],
)
def test_wrong_usage_is_refused_with_status_2(words: str) -> None:
    said = CliRunner().invoke(main, words.split())
    assert said.exit_code == 2
    assert "Usage:" in said.output
