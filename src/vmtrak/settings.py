"""What the person who runs VMTrak may set: read once at start, checked whole, then frozen."""

import base64
import binascii
import difflib
import io
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import time
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dotenv.parser import Original, parse_stream
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from redis import ConnectionPool
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

PREFIX = "VMTRAK_"
KEY_BYTES = 32
_SHORTEST_SIGNING_KEY = 24
_LARGEST_SECRET_FILE = 64 * 1024
_HIGHEST_PORT = 65535
_LONGEST_ISSUER = 512
_ENTRA = "https://login.microsoftonline.com"
_ENTRA_ISSUER = re.compile(
    r"https://login\.(?:microsoftonline\.com|microsoftonline\.us|partner\.microsoftonline\.cn)"
    r"/(?P<tenant>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/v2\.0"
)


class SettingsError(Exception):
    """A setting that stops the start. `str(error)` is one line; no value is ever part of it."""

    def __init__(self, name: str, reason: str) -> None:
        line = f"{name}: {reason}"
        super().__init__("".join(c if c.isprintable() else "?" for c in line))


# Rules. A plain ValueError means "not what the field's description says"; `_refusal` brings its
# own words.


def _refusal(reason: str) -> PydanticCustomError:
    return PydanticCustomError("refusal", "{reason}", {"reason": reason})


# A value made of nothing but these words was copied from an example, however long it is.
_PLACEHOLDER = re.compile(
    r"(?:change|replace|me|this|my|your|secret|password|passwd|passphrase|example|sample|"
    r"placeholder|default|insecure|dummy|key|token|here|with|please|now|in|production|todo|xxx)+"
    r"[0-9]*",
)


def _is_placeholder(text: str) -> bool:
    bare = re.sub(r"[\s._<>!-]", "", text.lower())
    return (
        len(set(text)) == 1
        or (text.startswith("<") and text.endswith(">"))
        or _PLACEHOLDER.fullmatch(bare) is not None
    )


def _refuse_placeholder(text: str | None) -> None:
    if text and _is_placeholder(text):
        raise _refusal("is a placeholder; set a value of your own")


def _genuine(value: SecretStr) -> SecretStr:
    value.get_secret_value().encode()  # bytes that are no UTF-8 arrive here as lone surrogates
    _refuse_placeholder(value.get_secret_value())
    return value


def _long_enough(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value().encode()) < KEY_BYTES:
        raise _refusal(f"must be at least {KEY_BYTES} bytes long")
    return value


def _signing_secret(value: SecretStr) -> SecretStr:
    """After `whsec_` stands the key in base64 (Standard Webhooks), else the text is the key."""
    text = value.get_secret_value()
    if not text.startswith("whsec_"):
        return _long_enough(value)
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if len(key) < _SHORTEST_SIGNING_KEY:
        raise _refusal(f"needs base64 of at least {_SHORTEST_SIGNING_KEY} bytes after whsec_")
    return value


def _key_ring(value: SecretStr) -> SecretStr:
    _key_pairs(value.get_secret_value())
    return value


def _key_pairs(text: str) -> tuple[tuple[str, bytes], ...]:
    pairs = tuple(_key_pair(part.strip()) for part in text.split(","))
    if len(dict(pairs)) < len(pairs):
        raise _refusal("uses one key id twice")
    return pairs


def _key_pair(part: str) -> tuple[str, bytes]:
    key_id, _, encoded = part.partition(":")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,32}", key_id) or len(key) != KEY_BYTES:
        raise ValueError
    if len(set(key)) == 1:
        raise _refusal("holds a placeholder; generate a random key")
    return key_id, key


def _digits(value: object) -> object:
    """Keep pydantic from taking `3_000`, `+3` or `3000.0` for a number."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,9}", value):
        raise ValueError
    return value


def _sqlite_file(url: URL) -> bool:
    path = url.database or ""
    on_disk = path and ":memory:" not in path and not path.startswith("file:")
    return bool(on_disk) and url.host is None and not url.query


def _database_url(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        raise ValueError from None
    _refuse_placeholder(url.password)
    if url.drivername == "sqlite":
        known = _sqlite_file(url)
    else:
        known = url.drivername in {"postgresql", "postgresql+psycopg"} and bool(url.database)
    if not known:
        raise ValueError
    return value


def _queue_url(value: str, others: ValidationInfo) -> str:
    if value.startswith("sqlite:"):
        _refuse_the_database(make_url(_database_url(value)), others.data.get("database_url"))
        return value
    if not value.isprintable() or " " in value:
        raise ValueError
    parts = urlsplit(value)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or parts.port == 0:
        raise ValueError
    _refuse_placeholder(parts.password)
    _refuse_unknown_options(value)
    return value


def _refuse_the_database(queue: URL, database: str | None) -> None:
    """The queue locks its whole file, again and again."""
    other = make_url(database) if database else None
    if other is not None and _path(queue) == _path(other):
        raise _refusal("is the database's own file; the queue needs another one")


def _path(url: URL) -> Path | None:
    return Path(url.database or "").resolve() if url.drivername == "sqlite" else None


def _refuse_unknown_options(value: str) -> None:
    """What follows the `?` is the client's to understand."""
    try:
        ConnectionPool.from_url(value).make_connection()
    except TypeError:
        raise ValueError from None


def _file_url(data: dict[str, Any], name: str) -> str:
    return URL.create("sqlite", database=str(data["data_dir"] / name)).render_as_string()


_ORIGIN = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[(?P<v6>[0-9a-f:.]+)\])"
    r"(?::(?P<port>[0-9]{1,5}))?/?",
)
_USUAL_PORT = {"http": 80, "https": 443}


def _base_url(value: str) -> str:
    """Written as browsers write an origin, so that the two can be compared as text."""
    match = _ORIGIN.fullmatch(value.lower())
    if match is None:
        raise ValueError
    if match["v6"]:
        IPv6Address(match["v6"])
    port = int(match["port"] or _USUAL_PORT[match["scheme"]])
    if not 0 < port <= _HIGHEST_PORT:
        raise ValueError
    tail = "" if port == _USUAL_PORT[match["scheme"]] else f":{port}"
    return f"{match['scheme']}://{match['host']}{tail}"


def _issuer(value: str) -> str:
    parts = urlsplit(value)
    local = parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ValueError
    if not parts.hostname or parts.query or parts.fragment or parts.username is not None:
        raise ValueError
    if len(value) > _LONGEST_ISSUER:
        raise ValueError
    return value


def _gateway(value: str) -> str:
    _, colon, port = value.partition(":")
    if colon and not 0 < int(port) <= _HIGHEST_PORT:
        raise ValueError
    return value


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value == "none":
        return ()
    return tuple(ip_network(part) for part in re.split(r"[,\s]+", value))


_ROLES = frozenset({"read", "readwrite", "admin", "auditor"})


def _role_map(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = tuple(_role_pair(part) for part in value.split(","))
    if len(dict(pairs)) < len(pairs):
        raise _refusal("maps one claim value twice")
    return pairs


def _role_pair(part: str) -> tuple[str, str]:
    claim, _, role = (side.strip() for side in part.rpartition("="))
    if not claim or role not in _ROLES:
        raise ValueError
    return claim, role


def _clock_time(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"[0-9]{2}:[0-9]{2}", value):
        raise ValueError
    return time.fromisoformat(value)


def _zone(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, OSError):  # "Asia" is a folder of the zone files: OSError
        raise ValueError from None


def _days(value: object) -> object:
    if not isinstance(value, str):
        return value
    days = {int(_digits(part.strip())) for part in value.split(",")}  # type: ignore[call-overload]
    if max(days) > _FURTHEST_NOTICE:
        raise ValueError
    return tuple(sorted(days, reverse=True))


def _domains(value: object) -> object:
    if not isinstance(value, str):
        return value
    domains = frozenset(part.strip().lower() for part in value.split(","))
    if not all(_DOMAIN.fullmatch(domain) for domain in domains):
        raise ValueError
    return domains


def _mail_host(value: str) -> str:
    if ":" in value:
        return str(IPv6Address(value))
    if not re.fullmatch(r"[A-Za-z0-9._-]+", value):
        raise ValueError
    return value


def _web_address(value: SecretStr) -> SecretStr:
    """Over TLS, but for this machine itself. Such addresses hold the key to what they open."""
    parts = urlsplit(value.get_secret_value())
    local = parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ValueError
    if not parts.hostname or parts.port == 0 or parts.fragment or parts.username is not None:
        raise ValueError
    if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
        raise ValueError
    return value


Secret = Annotated[SecretStr, AfterValidator(_genuine)]
Number = Annotated[int, BeforeValidator(_digits)]
WebAddress = Annotated[SecretStr, AfterValidator(_web_address)]
_ADDRESS = r"[^\s<>@,;]+@[^\s<>@,;]+"
_WEB = "an https:// address, or http:// on this machine, without a user name"
_DOMAIN = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
_FURTHEST_NOTICE = 365
_FILE_OR_SERVER = "sqlite:///path/of/a/file or"


class Settings(BaseSettings):
    """Every setting; the environment's name for a field stands in `NAMES`. Made by `load`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    data_dir: Path = Field(Path("data"), description="a path")
    log_dir: Path = Field(Path("logs"), description="a path")
    database_url: Annotated[str, AfterValidator(_database_url)] = Field(
        default_factory=lambda data: _file_url(data, "inventory.db"),
        repr=False,
        description=f"{_FILE_OR_SERVER} postgresql+psycopg://user:password@host/name",
    )
    queue_url: Annotated[str, AfterValidator(_queue_url)] = Field(
        default_factory=lambda data: _file_url(data, "queue.db"),
        repr=False,
        description=f"{_FILE_OR_SERVER} redis://host",
    )
    base_url: Annotated[str, AfterValidator(_base_url)] = Field(
        "http://127.0.0.1:3000",
        description="http:// or https:// with a host and no path, such as https://vm.example.org",
    )
    host: str = Field("127.0.0.1", pattern=r"^[A-Za-z0-9._:-]+$", description="an address")
    port: Number = Field(3000, ge=0, le=_HIGHEST_PORT, description="a number from 0 to 65535")
    trusted_proxies: Annotated[
        tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_networks)
    ] = Field(
        (IPv4Network("127.0.0.1/32"),),
        description="addresses or networks such as 10.0.0.0/8, separated by commas, or none",
    )
    secret_key: Annotated[Secret, AfterValidator(_long_enough)] | None = Field(
        None, description="text in UTF-8"
    )
    credential_keys: Annotated[Secret, AfterValidator(_key_ring)] | None = Field(
        None, description="id:key pairs separated by commas, each key 32 bytes in base64"
    )
    access_token_minutes: Number = Field(
        15, ge=1, le=1440, description="a number of minutes from 1 to 1440"
    )
    refresh_token_days: Number = Field(
        7, ge=1, le=365, description="a number of days from 1 to 365"
    )
    oidc_issuer: Annotated[str, AfterValidator(_issuer)] | None = Field(
        None, description="an https:// address"
    )
    entra_tenant_id: str | None = Field(
        None,
        pattern=r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$",
        description="a tenant's id, a UUID",
    )
    oidc_client_id: str | None = Field(None, description="text in UTF-8")
    oidc_client_secret: Secret | None = Field(None, description="text in UTF-8")
    oidc_role_claim: str = Field("roles", description="text in UTF-8")
    oidc_role_map: Annotated[tuple[tuple[str, str], ...], BeforeValidator(_role_map)] = Field(
        (), description="claim=role pairs, roles being read, readwrite, admin and auditor"
    )
    second_factor: Literal["optional", "admin", "all"] = Field(
        "optional", description="optional, admin or all"
    )
    oidc_guests_reveal: Literal["off", "on"] = Field("off", description="off or on")
    site_admin_email: str | None = Field(
        None, pattern=f"^{_ADDRESS}$", description="an e-mail address"
    )
    smtp_host: Annotated[str, AfterValidator(_mail_host)] | None = Field(
        None, description="a host name or address, without a port"
    )
    smtp_port: Number = Field(25, ge=1, le=_HIGHEST_PORT, description="a number from 1 to 65535")
    smtp_username: str | None = Field(None, description="text in UTF-8")
    smtp_password: Secret | None = Field(None, description="text in UTF-8")
    smtp_from: str | None = Field(
        None,
        pattern=f"^(?:[^<>@]+ <{_ADDRESS}>|{_ADDRESS})$",
        description="an e-mail address, or Name <address>",
    )
    smtp_helo: str | None = Field(None, pattern=r"^[A-Za-z0-9.:\[\]-]+$", description="a host name")
    smtp_security: Literal["none", "starttls", "tls"] | None = Field(
        None, description="none, starttls or tls"
    )
    smtp_oauth_token_url: Annotated[str, AfterValidator(_issuer)] | None = Field(
        None, description="an https:// address"
    )
    smtp_oauth_client_id: str | None = Field(None, description="text in UTF-8")
    smtp_oauth_client_secret: Secret | None = Field(None, description="text in UTF-8")
    smtp_oauth_scope: str = Field(
        "https://outlook.office365.com/.default", description="text in UTF-8"
    )
    webhook_url: WebAddress | None = Field(None, description=_WEB)
    webhook_secret: Annotated[Secret, AfterValidator(_signing_secret)] | None = Field(
        None, description="text in UTF-8"
    )
    teams_url: WebAddress | None = Field(None, description=_WEB)
    slack_url: WebAddress | None = Field(None, description=_WEB)
    reveals_per_hour: Number = Field(
        30, ge=1, le=1_000_000, description="a number from 1 to 1000000"
    )
    reveal_reason: Literal["optional", "required", "production"] = Field(
        "optional", description="optional, required or production"
    )
    reveal_step_up: Literal["off", "all", "production"] = Field(
        "off", description="off, all or production"
    )
    credential_versions: Number = Field(5, ge=0, le=100, description="a number from 0 to 100")
    rotation_days: Number = Field(
        0, ge=0, le=3650, description="a number of days from 0 (never) to 3650"
    )
    rdp_cert: Path | None = Field(None, description="the path of a PEM file")
    rdp_key: Path | None = Field(None, description="the path of a PEM file")
    rdp_clipboard: Literal["off", "on"] = Field("off", description="off or on")
    rdp_gateway: Annotated[str, AfterValidator(_gateway)] | None = Field(
        None,
        pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::[0-9]{1,5})?$",
        description="a host name, perhaps with a port",
    )
    notice_time: Annotated[time, BeforeValidator(_clock_time)] = Field(
        time(8), description="a time of day such as 08:00"
    )
    notice_days: Annotated[tuple[int, ...], BeforeValidator(_days)] = Field(
        (7, 1, 0), description="numbers of days from 0 to 365, separated by commas"
    )
    notice_domains: Annotated[frozenset[str], BeforeValidator(_domains)] = Field(
        frozenset(), description="domains such as example.org, separated by commas"
    )
    timezone: Annotated[ZoneInfo, BeforeValidator(_zone)] = Field(
        ZoneInfo("Asia/Kolkata"), description="an IANA time zone such as Asia/Kolkata"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the base class gives the signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave the reading to `load`: the usual sources pass over unknown and broken names."""
        return (init_settings,)

    @property
    def secure_cookies(self) -> bool:
        return self.base_url.startswith("https://")

    @property
    def tenant(self) -> str | None:
        """The Entra tenant, named by itself or by its issuer; None for any other provider."""
        if self.entra_tenant_id:
            return self.entra_tenant_id.lower()
        match = _ENTRA_ISSUER.fullmatch(self.oidc_issuer or "")
        return match["tenant"] if match else None

    @property
    def issuer(self) -> str | None:
        """The OIDC provider's issuer: the one that is set, or the tenant's."""
        return self.oidc_issuer or (f"{_ENTRA}/{self.tenant}/v2.0" if self.tenant else None)

    def signing_key(self) -> bytes:
        """Give the secret key; the first call on a new installation makes and keeps one."""
        if self.secret_key is not None:
            return self.secret_key.get_secret_value().encode()
        return _kept_key(self.data_dir / "secret-key")

    def sealing_keys(self) -> tuple[tuple[str, bytes], ...]:
        """Give the key ring, the sealing key first; a new installation makes and keeps a key."""
        if self.credential_keys is not None:
            return _key_pairs(self.credential_keys.get_secret_value())
        return _kept_ring(self._ring_file)

    @property
    def ring_name(self) -> str:
        """Where the key ring is, or will be once `sealing_keys` has made it."""
        return NAMES["credential_keys"] if self.credential_keys else str(self._ring_file)

    @property
    def has_ring(self) -> bool:
        return self.credential_keys is not None or self._ring_file.exists()

    @property
    def _ring_file(self) -> Path:
        return self.data_dir / "credential-keys"

    @property
    def smtp_token_url(self) -> str | None:
        """Where the OAuth 2 token for the mail server comes from: what is set, or the tenant's."""
        if self.smtp_oauth_token_url or not self.tenant:
            return self.smtp_oauth_token_url
        return f"{_ENTRA}/{self.tenant}/oauth2/v2.0/token"


NAMES: Mapping[str, str] = MappingProxyType(
    {
        field: "TZ" if field == "timezone" else PREFIX + field.upper()
        for field in Settings.model_fields
    }
)
SECRETS = frozenset(
    {
        "database_url",
        "queue_url",
        "secret_key",
        "credential_keys",
        "oidc_client_secret",
        "smtp_password",
        "smtp_oauth_client_secret",
        "webhook_url",
        "webhook_secret",
        "teams_url",
        "slack_url",
    }
)


def load(environ: Mapping[str, str] | None = None, dotenv: Path | None = Path(".env")) -> Settings:
    """Read the environment and, below it, the `.env` file. Raises `SettingsError`."""
    given = _ours(_read_dotenv(dotenv)) if dotenv else {}
    given |= _ours(os.environ if environ is None else environ)
    _refuse_unknown(given)
    values = {field: _value(field, given) for field in NAMES}
    try:
        settings = Settings.model_validate({f: value for f, value in values.items() if value})
    except ValidationError as error:
        raise _explained(error) from None  # the original error could show what was typed
    _refuse_half_a_provider(settings)
    _refuse_half_a_signer(settings)
    _refuse_half_a_mailer(settings)
    return settings


def _refuse_half_a_provider(settings: Settings) -> None:
    """What each setting of the provider means depends on the others."""
    tenant, issuer = settings.entra_tenant_id, settings.oidc_issuer
    # The host may be that of a national cloud.
    if tenant and issuer and not issuer.lower().endswith(f"/{tenant.lower()}/v2.0"):
        reason = f"is not the issuer of {NAMES['entra_tenant_id']}; set one of the two"
        raise SettingsError(NAMES["oidc_issuer"], reason)
    if not settings.oidc_client_id:
        return
    if not settings.issuer:
        reason = f"needs {NAMES['entra_tenant_id']} or {NAMES['oidc_issuer']} beside it"
        raise SettingsError(NAMES["oidc_client_id"], reason)
    if not settings.oidc_role_map:
        reason = "must map at least one role, or nobody could sign in over the provider"
        raise SettingsError(NAMES["oidc_role_map"], reason)


def _refuse_half_a_signer(settings: Settings) -> None:
    """A certificate or a key alone would leave RDP files unsigned without anybody noticing."""
    pair = {field: getattr(settings, field) for field in ("rdp_cert", "rdp_key")}
    missing = [NAMES[field] for field, path in pair.items() if path is None]
    if len(missing) == 1:
        there = next(NAMES[field] for field, path in pair.items() if path is not None)
        raise SettingsError(there, f"needs {missing[0]} beside it")


def _refuse_half_a_mailer(settings: Settings) -> None:
    """What the settings of mail and of the webhook need of each other, and what excludes another.

    While mail is off, nothing is asked of its other settings.
    """
    _refuse_alone(settings, "webhook_url", "webhook_secret")
    _refuse_alone(settings, "webhook_secret", "webhook_url")
    if settings.smtp_host is None:
        return
    _refuse_alone(settings, "smtp_username", "smtp_password", "smtp_oauth_client_id")
    _refuse_alone(settings, "smtp_password", "smtp_username")
    _refuse_alone(settings, "smtp_oauth_client_id", "smtp_username")
    _refuse_alone(settings, "smtp_oauth_client_id", "smtp_oauth_client_secret")
    _refuse_alone(settings, "smtp_oauth_client_secret", "smtp_oauth_client_id")
    if settings.smtp_token_url is None:
        _refuse_alone(settings, "smtp_oauth_client_id", "smtp_oauth_token_url")
    if settings.smtp_oauth_client_id and settings.smtp_password:
        reason = f"is set beside {NAMES['smtp_password']}; set one of the two"
        raise SettingsError(NAMES["smtp_oauth_client_id"], reason)


def _refuse_alone(settings: Settings, field: str, *others: str) -> None:
    """Refuse the field unless it stands beside one of the others."""
    if getattr(settings, field) is not None and not any(getattr(settings, o) for o in others):
        needed = " or ".join(NAMES[other] for other in others)
        raise SettingsError(NAMES[field], f"needs {needed} beside it")


def _ours(source: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in source.items()
        if name == NAMES["timezone"] or name.upper().startswith(PREFIX)
    }


def _refuse_unknown(given: Mapping[str, str]) -> None:
    known = {*NAMES.values(), *(f"{NAMES[field]}_FILE" for field in SECRETS)}
    for name in sorted(given.keys() - known):
        near = difflib.get_close_matches(name.upper(), sorted(known), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingsError(name, f"there is no such setting{hint}")


def _value(field: str, given: Mapping[str, str]) -> str:
    """Empty stands for "not set", as it comes from compose files."""
    name = NAMES[field]
    if field in SECRETS:
        return _secret_value(name, given)
    value = given.get(name, "").strip()
    if not value.isprintable():
        raise SettingsError(name, "must not hold control characters")
    return value


def _secret_value(name: str, given: Mapping[str, str]) -> str:
    plain, path = given.get(name, ""), given.get(f"{name}_FILE", "")
    if plain and path:
        raise SettingsError(name, f"is set twice, here and as {name}_FILE")
    return _secret_file(f"{name}_FILE", path) if path else plain


def _secret_file(name: str, path: str) -> str:
    """Without one trailing newline. The path stays unsaid: people paste the secret there."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(_LARGEST_SECRET_FILE).decode()
    except OSError as error:
        raise SettingsError(name, f"cannot read this file ({error.strerror})") from None
    except ValueError:
        raise SettingsError(name, "this file is not text in UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SettingsError(name, "this file is empty")
    return text


def _read_dotenv(path: Path) -> dict[str, str]:
    """Take values as they stand: a `${` in a password is part of the password."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise SettingsError(path.name, "cannot be read as text in UTF-8") from None
    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            raise SettingsError(path.name, f"line {_line(binding.original)} cannot be understood")
        if binding.key is not None:
            values[binding.key] = binding.value or ""
    return values


def _line(original: Original) -> int:
    """Count from the text itself; the parser counts from the blank lines above it."""
    text = original.string
    return original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _explained(error: ValidationError) -> SettingsError:
    first = error.errors(include_url=False, include_input=False)[0]
    field = str(first["loc"][0])
    if first["type"] == "refusal":
        return SettingsError(NAMES[field], first["msg"])
    expected = Settings.model_fields[field].description
    return SettingsError(NAMES[field], f"must be {expected}")


def _kept_key(path: Path) -> bytes:
    key = _kept(path, lambda: secrets.token_urlsafe(48))
    if len(key) < KEY_BYTES:
        reason = f"the file secret-key in the data directory is shorter than {KEY_BYTES} bytes"
        raise SettingsError(NAMES["secret_key"], reason)
    return key


def _kept_ring(path: Path) -> tuple[tuple[str, bytes], ...]:
    """The ids are random: what another installation's key sealed is told from what is damaged."""
    text = _kept(path, _new_ring)
    try:
        return _key_pairs(text.decode("ascii"))
    except (PydanticCustomError, ValueError):
        reason = "the file credential-keys in the data directory does not hold a key ring"
        raise SettingsError(NAMES["credential_keys"], reason) from None


def _new_ring() -> str:
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")
    return f"k-{secrets.token_hex(4)}:{key}"


def _kept(path: Path, new: Callable[[], str]) -> bytes:
    """The content of the file, which is made if it is not there."""
    try:
        if not path.exists():
            _make_key(path, new())
        return path.read_bytes().strip()
    except OSError as error:
        reason = f"cannot keep the file {path.name} there ({error.strerror})"
        raise SettingsError(NAMES["data_dir"], reason) from error


def _make_key(path: Path, content: str) -> None:
    """Give the file its name only once it is whole: of two processes one wins, both read it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    if os.name != "posix":  # elsewhere a directory cannot be opened, nor needs to be
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
