"""The commands that the documents tell are the commands that exist."""

import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import click
import nox
import pytest

import noxfile
from vmtrak import schema
from vmtrak.cli import main
from vmtrak.cli.serving import GRACE_SECONDS
from vmtrak.db import Database
from vmtrak.settings import NAMES, SECRETS

ROOT = Path(__file__).parents[2]
# A decision record may speak of what was or will be; these pages tell what is.
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
OPERATIONS = ROOT / "docs" / "operations.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return re.findall(
        r"^```sh\n(.+?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )


def test_the_readme_has_one_command_to_try_and_one_to_test() -> None:
    demo, test = commands()
    assert demo.endswith(".venv/bin/vmtrak demo\n")
    assert test.endswith(".venv/bin/nox\n")


def test_continuous_integration_runs_the_readmes_test_command_and_no_other() -> None:
    _, after = (ROOT / ".ci" / "run").read_text().split('cd "$(dirname "$0")/.."\n')
    assert after.strip() == commands()[1].strip()


def test_sessions_named_in_the_contributors_page_exist() -> None:
    named = re.findall(r"nox -s (\w+)", (ROOT / "CONTRIBUTING.md").read_text())
    assert named
    assert [session for session in named if not hasattr(noxfile, session)] == []


def test_the_tests_are_the_last_session_so_that_their_summary_ends_a_run() -> None:
    sessions = nox.options.sessions
    assert list(sessions or [])[-1] == "tests"


def test_pins_name_no_host() -> None:
    for file in ("requirements.txt", "requirements-dev.txt"):
        assert not re.search(r"://|--(extra-)?index|--find-links", (ROOT / file).read_text())


def test_what_is_served_is_pinned_like_what_is_tested() -> None:
    def pins(file: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (ROOT / file).read_text(), re.MULTILINE))

    assert pins("requirements.txt") < pins("requirements-dev.txt")


def told(page: Path) -> list[list[str]]:
    """Every call of `vmtrak` in a page's blocks and in its running text."""
    text = page.read_text()
    blocks = "\n".join(block for kind, block in BLOCK.findall(text) if kind in {"sh", "bash"})
    lines = re.findall(r"^(?:/\S+/)?vmtrak (.+)$", blocks, re.MULTILINE)
    inline = re.findall(r"`vmtrak( [^`\n]+)`", BLOCK.sub("", text))
    return [shlex.split(line.partition("<")[0]) for line in (*lines, *inline)]


def understood(words: list[str]) -> bool:
    """Whether the words begin with a command that exists and name only options that it has."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.commands.get(words[0])
        if found is None:
            return False
        command, words = found, words[1:]
    # A command keeps the help option of the first context that asks it.
    context = click.Context(command, **main.context_settings)
    known = {name for option in command.get_params(context) for name in option.opts}
    return {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_tells_only_of_commands_and_options_that_exist(page: Path) -> None:
    assert [words for words in told(page) if not understood(words)] == []


def test_the_pages_for_operators_tell_of_every_command() -> None:
    words = {" ".join(call[:2] if call[0] == "user" else call[:1]) for call in told(OPERATIONS)}
    single = set(main.commands) - {"user"}
    assert words == single | {"user add", "user reset"}


def test_a_command_that_does_not_exist_would_be_noticed() -> None:
    assert understood(["user", "reset", "otto"])
    assert not understood(["conjure", "FILE"])
    assert not understood(["serve", "--magic"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_settings_that_exist(page: Path) -> None:
    known = {*NAMES.values(), *(f"{NAMES[field]}_FILE" for field in SECRETS)}
    named = set(re.findall(r"\bVMTRAK_[A-Z]\w*", page.read_text()))
    assert named - known == set()


def test_the_backup_that_operators_are_told_to_make_is_whole(tmp_path: Path) -> None:
    [statement] = re.findall(r'inventory\.db "(VACUUM INTO \S+)"', OPERATIONS.read_text())
    database = Database(f"sqlite:///{tmp_path / 'inventory.db'}")
    schema.migrate(database)
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(tmp_path / "inventory.db")) as running:
        running.execute(re.sub(r"'.+'", f"'{copy}'", statement))
    database.close()
    restored = Database(f"sqlite:///{copy}")
    assert schema.current(restored) == schema.head()
    assert not schema.migrate(restored)
    restored.close()


def test_a_service_is_given_more_time_to_stop_than_it_takes() -> None:
    page = OPERATIONS.read_text()
    [stop] = re.findall(r"^TimeoutStopSec=(\d+)$", page, re.MULTILINE)
    assert int(stop) > GRACE_SECONDS
    assert f"for at most {GRACE_SECONDS} seconds" in page
