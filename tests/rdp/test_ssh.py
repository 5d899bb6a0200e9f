"""SSH links and sections, the latter as OpenSSH itself reads them."""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmtrak import ssh
from vmtrak.errors import Invalid

visible = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), min_size=1)
tricky = st.text("aZ0 _.@+-\\\"'#%$!*?=,;:/é日", min_size=1, max_size=12)


def understood(folder: Path, section: str, alias: str) -> dict[str, str]:
    """What `ssh` would connect to, by the name of each option."""
    (folder / "config").write_text(section)
    done = subprocess.run(
        ["ssh", "-G", "-F", "config", alias], cwd=folder, capture_output=True, text=True, check=True
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(user=tricky.map(str.strip).filter(bool))
def test_openssh_reads_every_user_name_that_a_section_holds(user: str, tmp_path: Path) -> None:
    if not ssh.can_hold(user):
        with pytest.raises(Invalid):
            ssh.section("desk", "192.0.2.1", user)
        return
    found = understood(tmp_path, ssh.section("desk", "192.0.2.1", user), "desk")
    assert (found["user"], found["hostname"], found["port"]) == (user, "192.0.2.1", "22")


@pytest.mark.parametrize(
    "user",
    ["otto", "DOMAIN\\otto", "otto@example.org", "Otto Hahn", "o'tto", "#1", "юрий", "a\\.b"],
)
def test_usual_user_names_can_be_held(user: str, tmp_path: Path) -> None:
    found = understood(tmp_path, ssh.section("desk", "2001:db8::1", user), "desk")
    assert (found["user"], found["hostname"]) == (user, "2001:db8::1")


@pytest.mark.parametrize("user", ['o"tto', "-oProxyCommand=x", "%h", "${HOME}", "a\\", "a\\\\b"])
def test_user_names_that_versions_of_openssh_read_differently_are_refused(user: str) -> None:
    assert not ssh.can_hold(user)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=visible, number=st.integers(1, 2**63 - 1))
def test_any_vm_name_becomes_an_alias_that_openssh_finds(
    name: str, number: int, tmp_path: Path
) -> None:
    alias = ssh.alias_of(name, number)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", alias)
    found = understood(tmp_path, ssh.section(alias, "192.0.2.1", None), alias)
    assert found["hostname"] == "192.0.2.1"


def test_a_name_without_a_single_latin_letter_becomes_the_number() -> None:
    assert ssh.alias_of("数据库", 7) == "vm-7"
    assert ssh.alias_of("  * ! ?", 7) == "vm-7"
    assert ssh.alias_of("web 01 *", 7) == "web-01"


@given(visible)
def test_a_link_says_nothing_but_its_user_and_its_host(user: str) -> None:
    link = ssh.link("192.0.2.1", user)
    if link is not None:
        parts = urlsplit(link)
        assert (parts.scheme, parts.hostname, parts.port) == ("ssh", "192.0.2.1", None)
        assert unquote(parts.username or "") == user
        assert not parts.path + parts.query + parts.fragment
        assert re.fullmatch(r"ssh://[A-Za-z0-9_.%+~-]+@192\.0\.2\.1", link)


@pytest.mark.parametrize(
    ("host", "user", "link"),
    [
        ("192.0.2.1", "otto", "ssh://otto@192.0.2.1"),
        ("192.0.2.1", None, "ssh://192.0.2.1"),
        ("2001:db8::1", "otto", "ssh://otto@[2001:db8::1]"),
        ("desk.example.org", "otto@corp", "ssh://otto%40corp@desk.example.org"),
        ("desk", "-oProxyCommand=id", None),
        ("desk", "otto;id", None),
        ("desk", "otto hahn", None),
        ("desk", "otto:secret", None),
        ("desk", "$(id)", None),
        ("desk", "DOMAIN\\otto", None),
    ],
)
def test_a_user_name_that_a_program_could_misread_is_in_no_link(
    host: str, user: str | None, link: str | None
) -> None:
    assert ssh.link(host, user) == link
