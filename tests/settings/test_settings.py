"""Settings: what is taken, what is refused and in which words, and what never shows."""

import base64
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import time
from ipaddress import ip_network
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy.engine import make_url

from vmtrak.settings import NAMES, SECRETS, Settings, SettingsError, load

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"
KEY = "q7Zr-0vT2mXw9LcD4nPbK8sYhE1uGfJa"
RING = f"k1:{base64.b64encode(bytes(range(32))).decode()}"
OTHER = base64.b64encode(bytes(range(1, 33))).decode()
TENANT = "0f9619ff-8b86-d011-b42d-00c04fc964ff"

GOOD = {
    "VMTRAK_DATA_DIR": "/srv/vmtrak",
    "VMTRAK_LOG_DIR": "/var/log/vmtrak",
    "VMTRAK_DATABASE_URL": "postgresql+psycopg://vmtrak:hunter2@db/vmtrak",
    "VMTRAK_QUEUE_URL": "redis://:hunter2@queue:6379/0",
    "VMTRAK_BASE_URL": "https://vm.example.org",
    "VMTRAK_HOST": "::",
    "VMTRAK_PORT": "8080",
    "VMTRAK_TRUSTED_PROXIES": "10.0.0.0/8, fd00::/8",
    "VMTRAK_SECRET_KEY": KEY,
    "VMTRAK_CREDENTIAL_KEYS": f"{RING},k2:{OTHER}",
    "VMTRAK_ACCESS_TOKEN_MINUTES": "5",
    "VMTRAK_REFRESH_TOKEN_DAYS": "30",
    "VMTRAK_OIDC_ISSUER": f"https://login.example.org/{TENANT}/v2.0",
    "VMTRAK_OIDC_CLIENT_ID": "vmtrak",
    "VMTRAK_OIDC_CLIENT_SECRET": "hunter2-oidc",
    "VMTRAK_OIDC_ROLE_CLAIM": "groups",
    "VMTRAK_OIDC_ROLE_MAP": "VMTrak.Admin=admin, a=b=read",
    "VMTRAK_OIDC_GUESTS_REVEAL": "on",
    "VMTRAK_SECOND_FACTOR": "admin",
    "VMTRAK_ENTRA_TENANT_ID": TENANT,
    "VMTRAK_SITE_ADMIN_EMAIL": "it@corp.local",
    "VMTRAK_SMTP_HOST": "mail.example.org",
    "VMTRAK_SMTP_PORT": "587",
    "VMTRAK_SMTP_USERNAME": "vmtrak",
    "VMTRAK_SMTP_PASSWORD": "hunter2-smtp",
    "VMTRAK_SMTP_FROM": "VMTrak <vmtrak@example.org>",
    "VMTRAK_SMTP_HELO": "vm.example.org",
    "VMTRAK_SMTP_SECURITY": "tls",
    "VMTRAK_REVEALS_PER_HOUR": "10",
    "VMTRAK_REVEAL_REASON": "production",
    "VMTRAK_REVEAL_STEP_UP": "all",
    "VMTRAK_CREDENTIAL_VERSIONS": "0",
    "VMTRAK_ROTATION_DAYS": "90",
    "VMTRAK_RDP_CERT": "/etc/vmtrak/rdp.pem",
    "VMTRAK_RDP_KEY": "/etc/vmtrak/rdp.key",
    "VMTRAK_RDP_CLIPBOARD": "on",
    "VMTRAK_RDP_GATEWAY": "gate.example.org:8443",
    "VMTRAK_SMTP_OAUTH_TOKEN_URL": "https://login.example.org/token",
    "VMTRAK_SMTP_OAUTH_CLIENT_ID": "vmtrak-mail",
    "VMTRAK_SMTP_OAUTH_CLIENT_SECRET": "hunter2-smtp-oauth",
    "VMTRAK_SMTP_OAUTH_SCOPE": "https://mail.example.org/.default",
    "VMTRAK_WEBHOOK_URL": "https://hooks.example.org/vmtrak?key=hunter2",
    "VMTRAK_WEBHOOK_SECRET": f"whsec_{OTHER}",
    "VMTRAK_TEAMS_URL": "https://flow.example.org:443/workflows/hunter2?sig=hunter2",
    "VMTRAK_SLACK_URL": "http://127.0.0.1:8080/services/hunter2",
    "VMTRAK_NOTICE_TIME": "17:45",
    "VMTRAK_NOTICE_DAYS": "30, 7,1,0",
    "VMTRAK_NOTICE_DOMAINS": "Example.org, corp.local",
    "TZ": "Europe/Berlin",
}

BY_PASSWORD = {name: value for name, value in GOOD.items() if "_SMTP_OAUTH_" not in name}
BY_TOKEN = {name: value for name, value in GOOD.items() if name != "VMTRAK_SMTP_PASSWORD"}
"""Everything that can be set at the same time: a mail server takes either."""
WEBHOOK = ("VMTRAK_WEBHOOK_URL", "VMTRAK_WEBHOOK_SECRET")
"""Neither is taken without the other."""


def read(**given: str) -> Settings:
    return load(given, dotenv=None)


def refusal(**given: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(**given)
    return str(caught.value)


# Defaults and values


def test_without_any_variable_the_defaults_hold() -> None:
    settings = read()
    assert (settings.data_dir, settings.log_dir) == (Path("./data"), Path("./logs"))
    assert settings.database_url == "sqlite:///data/inventory.db"
    assert settings.queue_url == "sqlite:///data/queue.db"
    assert settings.base_url == "http://127.0.0.1:3000"
    assert (settings.host, settings.port) == ("127.0.0.1", 3000)
    assert settings.trusted_proxies == (ip_network("127.0.0.1"),)
    assert (settings.access_token_minutes, settings.refresh_token_days) == (15, 7)
    assert (settings.oidc_role_claim, settings.oidc_role_map) == ("roles", ())
    assert (settings.smtp_port, settings.smtp_security) == (25, None)
    assert (settings.reveals_per_hour, settings.reveal_reason) == (30, "optional")
    assert (settings.reveal_step_up, settings.notice_time) == ("off", time(8))
    assert (settings.notice_days, settings.notice_domains) == ((7, 1, 0), frozenset())
    assert settings.smtp_oauth_scope == "https://outlook.office365.com/.default"
    assert (settings.rdp_cert, settings.rdp_key, settings.rdp_gateway) == (None, None, None)
    assert settings.rdp_clipboard == "off"
    assert settings.timezone == ZoneInfo("Asia/Kolkata")


def test_no_secret_has_a_default() -> None:
    settings = read()
    plain = SECRETS - {"database_url", "queue_url"}
    assert {getattr(settings, field) for field in plain} == {None}


def test_every_setting_can_be_set() -> None:
    assert set(GOOD) == set(NAMES.values())
    for chosen in (BY_PASSWORD, BY_TOKEN):
        fields = load(chosen, dotenv=None).model_fields_set
        assert {NAMES[field] for field in fields} == set(chosen)


def test_every_setting_is_understood() -> None:
    settings = load(BY_TOKEN, dotenv=None)
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert settings.oidc_role_map == (("VMTrak.Admin", "admin"), ("a=b", "read"))
    assert settings.notice_time == time(17, 45)
    assert settings.notice_days == (30, 7, 1, 0)
    assert settings.notice_domains == {"example.org", "corp.local"}
    assert settings.smtp_token_url == "https://login.example.org/token"
    assert settings.timezone.key == "Europe/Berlin"
    assert settings.signing_key() == KEY.encode()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        setattr(read(), "port", 1)  # noqa: B010 - mypy knows that it is frozen


@pytest.mark.parametrize("name", sorted(NAMES.values()))
def test_empty_means_not_set(name: str) -> None:
    assert load({name: ""}, dotenv=None) == read()


@pytest.mark.parametrize("port", ["0", "65535"])
def test_the_whole_range_of_ports_is_taken(port: str) -> None:
    assert read(VMTRAK_PORT=port).port == int(port)


def test_no_proxy_need_be_trusted() -> None:
    assert read(VMTRAK_TRUSTED_PROXIES="none").trusted_proxies == ()


@given(st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/"), min_size=1))
def test_the_default_database_lies_in_the_data_folder_whatever_its_name(name: str) -> None:
    settings = read(VMTRAK_DATA_DIR=f"/srv/{name}")
    path = make_url(settings.database_url).database
    assert path == str(Path("/srv") / name / "inventory.db")


@pytest.mark.parametrize(
    ("given_url", "kept"),
    [
        ("http://vm.example.org/", "http://vm.example.org"),
        ("HTTPS://VM.Example.org:443", "https://vm.example.org"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("https://vm:8443/", "https://vm:8443"),
    ],
)
def test_the_base_url_is_kept_as_a_browser_writes_it(given_url: str, kept: str) -> None:
    assert read(VMTRAK_BASE_URL=given_url).base_url == kept


@pytest.mark.parametrize(("url", "secure"), [("https://vm", True), ("http://vm", False)])
def test_cookies_are_secure_under_https(url: str, secure: bool) -> None:  # noqa: FBT001 - a row
    assert read(VMTRAK_BASE_URL=url).secure_cookies is secure


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///inventory.db",
        "sqlite:////srv/a b/inventory.db",
        "postgresql://vmtrak@db/vmtrak",
        "postgresql+psycopg://u:p%40ss@db:5432/vmtrak?sslmode=require",
        "postgresql:///vmtrak?host=/run/postgresql",
    ],
)
def test_real_databases_are_taken(url: str) -> None:
    assert read(VMTRAK_DATABASE_URL=url).database_url == url


# Refusals

BAD = [
    ("VMTRAK_PORT", "65536"),
    ("VMTRAK_PORT", "-1"),
    ("VMTRAK_PORT", "3_000"),
    ("VMTRAK_PORT", "3000.0"),
    ("VMTRAK_PORT", "٣٠٠٠"),
    ("VMTRAK_PORT", "9" * 5000),
    ("VMTRAK_HOST", "a b"),
    ("VMTRAK_DATA_DIR", "/srv/\x07"),
    ("VMTRAK_DATABASE_URL", "sqlite://"),
    ("VMTRAK_DATABASE_URL", "sqlite:///:memory:"),
    ("VMTRAK_DATABASE_URL", "sqlite:///file:x?mode=memory&uri=true"),
    ("VMTRAK_DATABASE_URL", "sqlite:///file:x"),
    ("VMTRAK_DATABASE_URL", "sqlite://srv/inventory.db"),
    ("VMTRAK_DATABASE_URL", "sqlite+aiosqlite:///x.db"),
    ("VMTRAK_DATABASE_URL", "mysql://db/vmtrak"),
    ("VMTRAK_DATABASE_URL", "postgresql+psycopg2://db/vmtrak"),
    ("VMTRAK_DATABASE_URL", "postgresql://db"),
    ("VMTRAK_DATABASE_URL", "postgresql://db:port/vmtrak"),
    ("VMTRAK_DATABASE_URL", "sqlite:///x.db\n"),
    ("VMTRAK_DATABASE_URL", "nonsense"),
    ("VMTRAK_QUEUE_URL", "amqp://queue"),
    ("VMTRAK_QUEUE_URL", "redis://"),
    ("VMTRAK_QUEUE_URL", "redis://queue:port"),
    ("VMTRAK_QUEUE_URL", "redis://queue?magic=1"),
    ("VMTRAK_QUEUE_URL", "redis://queue?socket_timeout=long"),
    ("VMTRAK_QUEUE_URL", "sqlite://"),
    ("VMTRAK_BASE_URL", "vm.example.org"),
    ("VMTRAK_BASE_URL", "ftp://vm.example.org"),
    ("VMTRAK_BASE_URL", "https://"),
    ("VMTRAK_BASE_URL", "https://vm.example.org/vmtrak"),
    ("VMTRAK_BASE_URL", "https://vm.example.org/?a=1"),
    ("VMTRAK_BASE_URL", "https://vm.example.org#a"),
    ("VMTRAK_BASE_URL", "https://me@vm.example.org"),
    ("VMTRAK_BASE_URL", "https://vm:0"),
    ("VMTRAK_BASE_URL", "https://vm:65536"),
    ("VMTRAK_BASE_URL", "https://[::g]"),
    ("VMTRAK_BASE_URL", "https://[1:2]"),
    ("VMTRAK_TRUSTED_PROXIES", "proxy.example.org"),
    ("VMTRAK_TRUSTED_PROXIES", "10.0.0.5/8"),
    ("VMTRAK_TRUSTED_PROXIES", "10.0.0.1,"),
    ("VMTRAK_SECRET_KEY", KEY[:31]),
    ("VMTRAK_CREDENTIAL_KEYS", "k1"),
    ("VMTRAK_CREDENTIAL_KEYS", RING.removeprefix("k1")),
    ("VMTRAK_CREDENTIAL_KEYS", f"k 1:{OTHER}"),
    ("VMTRAK_CREDENTIAL_KEYS", f"k1:{OTHER[:-4]}"),
    ("VMTRAK_CREDENTIAL_KEYS", f"k1:!{OTHER[1:]}"),
    ("VMTRAK_CREDENTIAL_KEYS", f"{RING},"),
    ("VMTRAK_CREDENTIAL_KEYS", f"{RING},k1:{OTHER}"),
    ("VMTRAK_CREDENTIAL_KEYS", f"k1:{base64.b64encode(bytes(32)).decode()}"),
    ("VMTRAK_ACCESS_TOKEN_MINUTES", "0"),
    ("VMTRAK_REFRESH_TOKEN_DAYS", "a week"),
    ("VMTRAK_OIDC_ISSUER", "http://login.example.org"),
    ("VMTRAK_OIDC_ISSUER", "https://login.example.org?x=1"),
    ("VMTRAK_OIDC_ISSUER", "login.example.org"),
    ("VMTRAK_ENTRA_TENANT_ID", "common"),
    ("VMTRAK_OIDC_ROLE_MAP", "VMTrak.Admin"),
    ("VMTRAK_OIDC_ROLE_MAP", "VMTrak.Admin=root"),
    ("VMTRAK_OIDC_ROLE_MAP", "=admin"),
    ("VMTRAK_OIDC_ROLE_MAP", "a=admin,a=read"),
    ("VMTRAK_SITE_ADMIN_EMAIL", "somebody"),
    ("VMTRAK_SMTP_HOST", "mail example"),
    ("VMTRAK_SMTP_HOST", "mail.example.org:25"),
    ("VMTRAK_SMTP_PORT", "0"),
    ("VMTRAK_SMTP_FROM", "VMTrak"),
    ("VMTRAK_SMTP_HELO", "a b"),
    ("VMTRAK_SMTP_SECURITY", "ssl"),
    ("VMTRAK_REVEALS_PER_HOUR", "0"),
    ("VMTRAK_REVEALS_PER_HOUR", "1000001"),
    ("VMTRAK_REVEAL_REASON", "maybe"),
    ("VMTRAK_REVEAL_STEP_UP", "on"),
    ("VMTRAK_NOTICE_TIME", "24:00"),
    ("VMTRAK_NOTICE_TIME", "8"),
    ("VMTRAK_NOTICE_DAYS", "7,"),
    ("VMTRAK_NOTICE_DAYS", "-1"),
    ("VMTRAK_NOTICE_DAYS", "366"),
    ("VMTRAK_NOTICE_DAYS", "a week"),
    *(
        (name, url)
        for name in ("VMTRAK_WEBHOOK_URL", "VMTRAK_TEAMS_URL", "VMTRAK_SLACK_URL")
        for url in (
            "http://hooks.example.org/x",
            "http://127.0.0.1.example.org/x",
            "hooks.example.org/x",
            "https:///x",
            "https://vmtrak@hooks.example.org/x",
            "https://:hunter2@hooks.example.org/x",
            "https://hooks.example.org/x#y",
            "https://hooks.example.org:0/x",
            "https://hooks.example.org:65536/x",
            "https://hooks.example.org/x y",
            "https://hooks.example.org/x\n",
            "https://hooks.example.org/ü",
            "https://[::g]/x",
            "file:///etc/passwd",
        )
    ),
    ("VMTRAK_WEBHOOK_SECRET", KEY[:31]),
    ("VMTRAK_WEBHOOK_SECRET", f"whsec_{base64.b64encode(bytes(range(23))).decode()}"),
    ("VMTRAK_WEBHOOK_SECRET", f"whsec_{OTHER[:-1]}"),
    ("VMTRAK_WEBHOOK_SECRET", f"whsec_!{OTHER}"),
    ("VMTRAK_WEBHOOK_SECRET", f"whsec_{'ü' * 44}"),
    ("VMTRAK_NOTICE_DOMAINS", "example.org,"),
    ("VMTRAK_NOTICE_DOMAINS", "@example.org"),
    ("VMTRAK_NOTICE_DOMAINS", "-a.example.org"),
    ("VMTRAK_SMTP_OAUTH_TOKEN_URL", "http://login.example.org/token"),
    ("TZ", "Asia"),
    ("TZ", "Mars/Olympus"),
    ("TZ", "../../etc/passwd"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_malformed_value_stops_the_start_with_one_line(name: str, value: str) -> None:
    line = refusal(**{name: value})
    assert line.startswith(f"{name}: ")
    assert line.isprintable()


def test_the_line_says_what_is_expected() -> None:
    assert refusal(VMTRAK_PORT="http") == "VMTRAK_PORT: must be a number from 0 to 65535"


@pytest.mark.parametrize("name", ["VMTRAK_PROT", "vmtrak_port", "VMTRAK_PORT_FILE", "VMTRAK_"])
def test_an_unknown_name_stops_the_start(name: str) -> None:
    assert refusal(**{name: "1"}).startswith(f"{name}: there is no such setting")


def test_an_unknown_name_comes_with_the_nearest_known_one() -> None:
    assert refusal(VMTRAK_PROT="1").endswith("did you mean VMTRAK_PORT?")


def test_an_unknown_name_is_an_error_even_when_empty() -> None:
    assert refusal(VMTRAK_PROT="")


@given(st.text())
def test_whatever_the_unknown_name_the_refusal_is_one_line(name: str) -> None:
    assume(f"VMTRAK_{name}" not in NAMES.values())
    assume(f"VMTRAK_{name}".removesuffix("_FILE") not in NAMES.values())
    assert refusal(**{f"VMTRAK_{name}": "1"}).isprintable()


def test_names_of_other_programs_are_left_alone() -> None:
    assert read(PATH="/bin", MY_VMTRAK_PORT="x") == read()


@given(st.sampled_from(sorted(NAMES.values())), st.text(max_size=60))
def test_any_text_is_either_taken_or_refused_in_one_line(name: str, value: str) -> None:
    try:
        line = repr(load({name: value}, dotenv=None))
    except SettingsError as error:
        line = str(error)
    assert line.startswith((f"{name}: ", "Settings("))
    assert line.isprintable()


# Secrets

PLACEHOLDERS = [
    "changeme",
    "change-me",
    "CHANGE_ME",
    "Secret",
    "password123",
    "example",
    "your-secret-key",
    "xxxxxxxx",
    "xxx",
    "0000000000000000000000000000000000000000",
    "<your secret>",
    "change-me-change-me-change-me-change-me",
    "please-replace-this-secret-key-in-production",
]
TEXT_SECRETS = [
    "VMTRAK_SECRET_KEY",
    "VMTRAK_OIDC_CLIENT_SECRET",
    "VMTRAK_SMTP_PASSWORD",
    "VMTRAK_SMTP_OAUTH_CLIENT_SECRET",
]


@pytest.mark.parametrize("value", PLACEHOLDERS)
@pytest.mark.parametrize("name", TEXT_SECRETS)
def test_a_placeholder_is_refused(name: str, value: str) -> None:
    assert refusal(**{name: value}) == f"{name}: is a placeholder; set a value of your own"


@pytest.mark.parametrize("url", ["postgresql://vmtrak:{}@db/vmtrak", "redis://:{}@queue"])
def test_a_placeholder_inside_an_address_is_refused(url: str) -> None:
    name = "VMTRAK_DATABASE_URL" if url.startswith("p") else "VMTRAK_QUEUE_URL"
    assert refusal(**{name: url.format("changeme")}).endswith("set a value of your own")


@pytest.mark.parametrize("value", ["Secret-Garden-42!", "my dog's password", "keyring", "x1"])
def test_a_password_that_only_contains_such_a_word_is_taken(value: str) -> None:
    settings = read(VMTRAK_SMTP_PASSWORD=value)
    assert settings.smtp_password
    assert settings.smtp_password.get_secret_value() == value


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=80))
def test_a_secret_is_kept_to_the_letter_and_never_shown(value: str) -> None:
    marked = f"Hunter2{value}Hunter2"
    settings = read(VMTRAK_SMTP_PASSWORD=marked)
    assert settings.smtp_password
    assert settings.smtp_password.get_secret_value() == marked
    assert "Hunter2" not in repr(settings) + str(settings)


def test_nothing_secret_shows_in_the_repr() -> None:
    text = repr(load(BY_PASSWORD, dotenv=None)) + repr(load(BY_TOKEN, dotenv=None))
    assert "hunter2" not in text
    assert KEY not in text
    assert OTHER not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VMTRAK_SECRET_KEY", "hunter2"),
        ("VMTRAK_CREDENTIAL_KEYS", "k1:hunter2"),
        ("VMTRAK_DATABASE_URL", "mysql://u:hunter2@db/x"),
        ("VMTRAK_QUEUE_URL", "amqp://:hunter2@queue"),
        ("VMTRAK_OIDC_CLIENT_SECRET", "hunter2\ud800"),
        ("VMTRAK_SECRET_KEY_FILE", "hunter2"),
    ],
)
def test_a_refused_secret_is_not_repeated(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{name: value})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_secrets_are_those_the_contract_lists() -> None:
    assert {
        "secret_key",
        "credential_keys",
        "oidc_client_secret",
        "smtp_password",
        "smtp_oauth_client_secret",
        "webhook_url",
        "webhook_secret",
        "teams_url",
        "slack_url",
        "database_url",
        "queue_url",
    } == SECRETS


@pytest.mark.parametrize("field", sorted(SECRETS))
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_may_stand_in_a_file(field: str, end: str, tmp_path: Path) -> None:
    name = NAMES[field]
    path = tmp_path / "secret"
    path.write_bytes((GOOD[name] + end).encode())
    beside = {other: GOOD[other] for other in WEBHOOK if other != name} if name in WEBHOOK else {}
    from_file = load({f"{name}_FILE": str(path), **beside}, dotenv=None)
    plain = load({name: GOOD[name], **beside}, dotenv=None)
    assert getattr(from_file, field) == getattr(plain, field)


def test_only_one_line_break_is_dropped_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(" Hunter2 \n\n")
    settings = read(VMTRAK_SMTP_PASSWORD_FILE=str(path))
    assert settings.smtp_password
    assert settings.smtp_password.get_secret_value() == " Hunter2 \n"


def test_both_forms_of_a_secret_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(KEY)
    line = refusal(VMTRAK_SECRET_KEY=KEY, VMTRAK_SECRET_KEY_FILE=str(path))
    assert line == "VMTRAK_SECRET_KEY: is set twice, here and as VMTRAK_SECRET_KEY_FILE"


def test_a_secret_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    line = refusal(VMTRAK_SECRET_KEY_FILE=str(tmp_path / "gone"))
    assert line == "VMTRAK_SECRET_KEY_FILE: cannot read this file (No such file or directory)"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_secret_file_without_text_is_an_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    assert refusal(VMTRAK_SMTP_PASSWORD_FILE=str(path)).startswith("VMTRAK_SMTP_PASSWORD_FILE: ")


def test_a_placeholder_in_a_file_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("changeme\n")
    assert "placeholder" in refusal(VMTRAK_SMTP_PASSWORD_FILE=str(path))


# The .env file


@pytest.fixture
def dotenv(tmp_path: Path) -> Callable[[str], Path]:
    def written(text: str) -> Path:
        path = tmp_path / ".env"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def test_the_dotenv_file_is_read_below_the_environment(dotenv: Callable[[str], Path]) -> None:
    path = dotenv("VMTRAK_PORT=4000\nexport VMTRAK_HOST='::1'\nTZ=UTC\nOTHER=x\n")
    settings = load({"VMTRAK_PORT": "5000"}, dotenv=path)
    assert (settings.port, settings.host, settings.timezone.key) == (5000, "::1", "UTC")


def test_an_empty_variable_switches_off_what_the_dotenv_file_says(
    dotenv: Callable[[str], Path],
) -> None:
    path = dotenv("VMTRAK_SMTP_HOST=mail\n")
    assert load({}, dotenv=path).smtp_host == "mail"
    assert load({"VMTRAK_SMTP_HOST": ""}, dotenv=path).smtp_host is None


def test_the_dotenv_file_and_the_environment_are_the_usual_sources(
    dotenv: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dotenv("VMTRAK_PORT=4000\n").parent)
    monkeypatch.setenv("VMTRAK_REFRESH_TOKEN_DAYS", "9")
    settings = load()
    assert (settings.port, settings.refresh_token_days) == (4000, 9)


def test_dollar_signs_in_the_dotenv_file_stay(dotenv: Callable[[str], Path]) -> None:
    settings = load({}, dotenv=dotenv("VMTRAK_SMTP_PASSWORD='a${HOME}b'\n"))
    assert settings.smtp_password
    assert settings.smtp_password.get_secret_value() == "a${HOME}b"


def test_a_byte_order_mark_is_no_part_of_the_first_name(dotenv: Callable[[str], Path]) -> None:
    assert load({}, dotenv=dotenv("\ufeffVMTRAK_PORT=4000\n")).port == 4000


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("VMTRAK_PROT=1\n", "VMTRAK_PROT: there is no such setting; did you mean VMTRAK_PORT?"),
        ("\nVMTRAK_SECRET_KEY='open\n", ".env: line 2 cannot be understood"),
        ("VMTRAK_PORT=many\n", "VMTRAK_PORT: must be a number from 0 to 65535"),
    ],
)
def test_a_mistake_in_the_dotenv_file_stops_the_start(
    text: str, line: str, dotenv: Callable[[str], Path]
) -> None:
    with pytest.raises(SettingsError) as caught:
        load({}, dotenv=dotenv(text))
    assert str(caught.value).startswith(line[:30])
    assert "open" not in str(caught.value)


def test_a_dotenv_file_that_is_not_text_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"\xff\xff")
    with pytest.raises(SettingsError, match=r"\.env: cannot be read"):
        load({}, dotenv=path)


# The signing key


def test_the_first_start_makes_a_key_and_later_ones_keep_it(tmp_path: Path) -> None:
    settings = read(VMTRAK_DATA_DIR=str(tmp_path / "data"))
    key = settings.signing_key()
    path = tmp_path / "data" / "secret-key"
    assert len(key) >= 32
    assert settings.signing_key() == key == path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["secret-key"]


def test_two_installations_get_different_keys(tmp_path: Path) -> None:
    keys = {read(VMTRAK_DATA_DIR=str(tmp_path / name)).signing_key() for name in "ab"}
    assert len(keys) == 2


def test_a_set_key_is_used_and_no_file_is_made(tmp_path: Path) -> None:
    settings = read(VMTRAK_DATA_DIR=str(tmp_path / "data"), VMTRAK_SECRET_KEY=KEY)
    assert settings.signing_key() == KEY.encode()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", ["", "short", "x" * 31 + "\n"])
def test_a_kept_key_that_is_too_short_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "secret-key").write_text(content)
    with pytest.raises(SettingsError, match=r"^VMTRAK_SECRET_KEY: .* shorter than 32 bytes$"):
        read(VMTRAK_DATA_DIR=str(tmp_path)).signing_key()
    assert (tmp_path / "secret-key").read_text() == content


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"^VMTRAK_DATA_DIR: "):
        read(VMTRAK_DATA_DIR=str(tmp_path / "file" / "data")).signing_key()


def test_whoever_comes_second_takes_the_key_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def overtaken(draft: str, path: Path) -> None:
        path.write_text(KEY)
        link(draft, path)

    monkeypatch.setattr(os, "link", overtaken)
    assert read(VMTRAK_DATA_DIR=str(tmp_path)).signing_key() == KEY.encode()
    assert [file.name for file in tmp_path.iterdir()] == ["secret-key"]


def test_processes_that_start_at_once_end_up_with_one_key(tmp_path: Path) -> None:
    program = (
        "import sys; from vmtrak.settings import load; print(flush=True); sys.stdin.read();"
        "sys.stdout.write(load({'VMTRAK_DATA_DIR': sys.argv[1]}, None).signing_key().decode())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "data")]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe) for _ in range(4)]
    for process in processes:
        assert process.stdout
        process.stdout.readline()  # ready: all of them wait at the line before the key
    for process in processes:
        assert process.stdin
        process.stdin.close()
        process.stdin = None
    keys = {process.communicate(timeout=60)[0] for process in processes}
    assert keys == {(tmp_path / "data" / "secret-key").read_bytes()}


# The provider: settings that mean something together


ENTRA = "https://login.microsoftonline.com"
PROVIDER = {"VMTRAK_OIDC_CLIENT_ID": "vmtrak", "VMTRAK_OIDC_ROLE_MAP": "a=admin"}


def test_the_issuer_follows_from_the_tenant_and_the_tenant_from_its_issuer() -> None:
    by_tenant = read(VMTRAK_ENTRA_TENANT_ID=TENANT.upper(), **PROVIDER)
    assert (by_tenant.tenant, by_tenant.issuer) == (TENANT, f"{ENTRA}/{TENANT}/v2.0")
    by_issuer = read(VMTRAK_OIDC_ISSUER=f"{ENTRA}/{TENANT}/v2.0", **PROVIDER)
    assert (by_issuer.tenant, by_issuer.issuer) == (TENANT, f"{ENTRA}/{TENANT}/v2.0")
    other = read(VMTRAK_OIDC_ISSUER=f"https://login.example.org/{TENANT}/v2.0", **PROVIDER)
    assert other.tenant is None


def test_a_tenant_in_another_cloud_is_named_with_its_issuer() -> None:
    issuer = f"https://login.microsoftonline.us/{TENANT}/v2.0"
    settings = read(VMTRAK_ENTRA_TENANT_ID=TENANT, VMTRAK_OIDC_ISSUER=issuer, **PROVIDER)
    assert (settings.tenant, settings.issuer) == (TENANT, issuer)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (PROVIDER, "VMTRAK_OIDC_CLIENT_ID: needs VMTRAK_ENTRA_TENANT_ID or VMTRAK_OIDC_ISSUER"),
        (
            {"VMTRAK_OIDC_CLIENT_ID": "vmtrak", "VMTRAK_ENTRA_TENANT_ID": TENANT},
            "VMTRAK_OIDC_ROLE_MAP: must map at least one role",
        ),
        (
            {"VMTRAK_OIDC_ISSUER": f"{ENTRA}/common/v2.0", "VMTRAK_ENTRA_TENANT_ID": TENANT},
            "VMTRAK_OIDC_ISSUER: is not the issuer of VMTRAK_ENTRA_TENANT_ID",
        ),
    ],
)
def test_half_a_provider_stops_the_start(given: dict[str, str], line: str) -> None:
    assert refusal(**given).startswith(line)


def test_guests_reveal_nothing_unless_a_setting_says_so() -> None:
    assert read().oidc_guests_reveal == "off"
    assert refusal(VMTRAK_OIDC_GUESTS_REVEAL="yes") == (
        "VMTRAK_OIDC_GUESTS_REVEAL: must be off or on"
    )


# Mail: the same


MAIL = {"VMTRAK_SMTP_HOST": "mail.example.org"}
TOKEN = {
    "VMTRAK_SMTP_USERNAME": "vmtrak@example.org",
    "VMTRAK_SMTP_OAUTH_CLIENT_ID": "vmtrak-mail",
    "VMTRAK_SMTP_OAUTH_CLIENT_SECRET": "hunter2-smtp-oauth",
}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"VMTRAK_SMTP_USERNAME": "vmtrak"},
            "VMTRAK_SMTP_USERNAME: needs VMTRAK_SMTP_PASSWORD or VMTRAK_SMTP_OAUTH_CLIENT_ID",
        ),
        (
            {"VMTRAK_SMTP_PASSWORD": "hunter2"},
            "VMTRAK_SMTP_PASSWORD: needs VMTRAK_SMTP_USERNAME beside it",
        ),
        (
            TOKEN | {"VMTRAK_SMTP_USERNAME": ""},
            "VMTRAK_SMTP_OAUTH_CLIENT_ID: needs VMTRAK_SMTP_USERNAME beside it",
        ),
        (
            TOKEN | {"VMTRAK_SMTP_OAUTH_CLIENT_SECRET": ""},
            "VMTRAK_SMTP_OAUTH_CLIENT_ID: needs VMTRAK_SMTP_OAUTH_CLIENT_SECRET beside it",
        ),
        (
            {"VMTRAK_SMTP_OAUTH_CLIENT_SECRET": "hunter2"},
            "VMTRAK_SMTP_OAUTH_CLIENT_SECRET: needs VMTRAK_SMTP_OAUTH_CLIENT_ID beside it",
        ),
        (TOKEN, "VMTRAK_SMTP_OAUTH_CLIENT_ID: needs VMTRAK_SMTP_OAUTH_TOKEN_URL beside it"),
        (
            TOKEN | {"VMTRAK_ENTRA_TENANT_ID": TENANT, "VMTRAK_SMTP_PASSWORD": "hunter2"},
            "VMTRAK_SMTP_OAUTH_CLIENT_ID: is set beside VMTRAK_SMTP_PASSWORD; set one of the two",
        ),
    ],
)
def test_half_a_mail_server_stops_the_start(given: dict[str, str], line: str) -> None:
    assert refusal(**MAIL, **given).startswith(line)
    with_mail_off = {name: value for name, value in given.items() if value}
    assert read(**with_mail_off).smtp_host is None


def test_the_tokens_for_mail_come_from_the_tenant_unless_said_otherwise() -> None:
    tenant = read(VMTRAK_ENTRA_TENANT_ID=TENANT, **MAIL, **TOKEN)
    assert tenant.smtp_token_url == f"{ENTRA}/{TENANT}/oauth2/v2.0/token"
    url = "https://login.example.org/token"
    other = read(VMTRAK_ENTRA_TENANT_ID=TENANT, VMTRAK_SMTP_OAUTH_TOKEN_URL=url, **MAIL, **TOKEN)
    assert other.smtp_token_url == url


# Webhooks, Teams and Slack


@pytest.mark.parametrize("name", WEBHOOK)
def test_the_webhook_has_an_address_and_a_secret_or_neither(name: str) -> None:
    [other] = [each for each in WEBHOOK if each != name]
    assert refusal(**{name: GOOD[name]}) == f"{name}: needs {other} beside it"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_only_on_this_machine_may_a_webhook_be_without_tls(host: str) -> None:
    url = f"http://{host}:8080/x"
    found = read(VMTRAK_SLACK_URL=url).slack_url
    assert found
    assert found.get_secret_value() == url
    assert refusal(VMTRAK_SLACK_URL="http://192.0.2.1/x") == (
        "VMTRAK_SLACK_URL: must be an https:// address, or http:// on this machine, "
        "without a user name"
    )


def test_a_signing_secret_is_32_bytes_of_text_or_24_in_base64() -> None:
    short = base64.b64encode(bytes(range(24))).decode()
    for secret in (KEY, "pä" * 11, f"whsec_{short}"):
        given = dict(zip(WEBHOOK, (GOOD["VMTRAK_WEBHOOK_URL"], secret), strict=True))
        assert read(**given).webhook_secret
    line = refusal(VMTRAK_WEBHOOK_SECRET=f"whsec_{short[:-4]}")
    assert line == "VMTRAK_WEBHOOK_SECRET: needs base64 of at least 24 bytes after whsec_"


# The documentation


def documented() -> dict[str, bool]:
    """Each name in the table, with whether it is marked as a secret."""
    rows = re.findall(r"^\| `(\w+)`( \*)? \|[^\n]* \|$", DOCS.read_text(), re.MULTILINE)
    return {name: bool(mark) for name, mark in rows}


def test_the_documentation_lists_exactly_the_settings_there_are() -> None:
    assert list(documented()) != []
    assert set(documented()) == set(NAMES.values())


def test_the_documentation_marks_the_secrets() -> None:
    assert documented() == {name: field in SECRETS for field, name in NAMES.items()}


def test_the_documented_example_is_accepted(tmp_path: Path) -> None:
    example = re.search(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert example
    secret = tmp_path / "secret"
    secret.write_text(GOOD["VMTRAK_DATABASE_URL"])
    path = tmp_path / ".env"
    path.write_text(example[1].replace("/run/secrets/vmtrak-database", str(secret)))
    settings = load({}, dotenv=path)
    assert settings.secure_cookies


def test_every_name_in_the_documentation_is_known() -> None:
    names = set(re.findall(r"VMTRAK_[A-Z_]*[A-Z]", DOCS.read_text()))
    files = {f"{NAMES[field]}_FILE" for field in SECRETS}
    assert names <= set(NAMES.values()) | files
