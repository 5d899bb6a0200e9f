"""The commands that the documents tell are the commands that exist."""

import re
from pathlib import Path

import nox

import noxfile

ROOT = Path(__file__).parents[2]


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
