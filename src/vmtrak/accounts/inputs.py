"""What people give to make and change users, and to sign in."""

import unicodedata
from enum import StrEnum
from ipaddress import IPv6Network, ip_network
from typing import Annotated

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from vmtrak.access import Role, Scope
from vmtrak.fields import (
    Input,
    Reference,
    Required,
    RequiredEmail,
    Text,
    blank_to_none,
    wrong,
)

PASSWORD_LEAST, PASSWORD_MOST = 12, 256


def _password(value: object) -> object:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if not isinstance(value, str):
        raise wrong("must be text")
    if not PASSWORD_LEAST <= len(value) <= PASSWORD_MOST:
        raise wrong(f"must have {PASSWORD_LEAST} to {PASSWORD_MOST} characters")
    if not value.isascii() and any(unicodedata.category(each) == "Cs" for each in value):
        raise wrong("contains a character that cannot be stored")
    return value


Password = Annotated[
    SecretStr,
    BeforeValidator(_password),
    WithJsonSchema(
        {
            "type": "string",
            "format": "password",
            "minLength": PASSWORD_LEAST,
            "maxLength": PASSWORD_MOST,
        }
    ),
]


def _username(value: object) -> object:
    if isinstance(value, str) and any(character.isspace() for character in value.strip()):
        raise wrong("must not contain spaces")
    return value


def _given(value: object) -> object:
    if blank_to_none(value) is None:
        raise wrong("must not be empty")
    return value


Username = Annotated[str, BeforeValidator(_username), Required(128)]
GivenRole = Annotated[Role, BeforeValidator(_given)]
GivenFlag = Annotated[bool, BeforeValidator(_given)]
Subject = Annotated[str | None, Text(256)]
"""What the provider calls a person for good: `oid` at Entra ID, `sub` elsewhere."""


class NewUser(Input):
    """A user to be added; who has no password gets a one-time set-up link.

    Who awaits the first sign-in over the provider needs neither.
    """

    username: Username
    email: RequiredEmail
    role: GivenRole
    department: Annotated[str | None, Text(128)] = None
    password: Password | None = None
    awaits_subject: Subject = None
    awaits_email: GivenFlag = False


class UserPatch(Input):
    """Changes to a user: only the fields set count."""

    email: RequiredEmail = ""
    role: GivenRole = Role.READ
    department: Annotated[str | None, Text(128)] = None
    is_active: GivenFlag = True
    notify_expiry: GivenFlag = False
    second_factor_required: GivenFlag = False
    awaits_subject: Subject = None
    awaits_email: GivenFlag = False


class FirstAdmin(Input):
    """What the first administrator gives over the set-up link."""

    username: Username
    email: RequiredEmail
    password: Password


class Setup(Input):
    """What a person gives to finish the set-up of their own account."""

    email: RequiredEmail
    password: Password


class Subscription(Input):
    """Whether one wants to be told by mail of VMs that expire."""

    notify_expiry: GivenFlag


class NewPassword(Input):
    password: Password


class PasswordReset(Input):
    new_password: Password


class PasswordChange(Input):
    """A change of one's own password, of which the present one has to be known."""

    current_password: Annotated[SecretStr, Field(max_length=1_000)]
    new_password: Password

    @field_validator("new_password")
    @classmethod
    def _another(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if value == info.data.get("current_password"):
            raise wrong("must differ from the present one")
        return value


Tried = Annotated[SecretStr, Field(max_length=1_000)]
"""A secret that somebody says is theirs. Any text may be tried."""

Untried = Annotated[Tried | None, BeforeValidator(lambda value: None if value == "" else value)]
"""The same where there may be none: a form sends its empty fields, too."""


class SignIn(Input):
    """A sign-in with name and password, and a code where the account has a second factor.

    The code is one of the authenticator app or a recovery code.
    """

    username: Annotated[str, Field(max_length=1_000)]
    password: Tried
    code: Untried = None


class Code(Input):
    """A code of the authenticator app."""

    code: Tried


class ProofOfIdentity(Input):
    """What somebody who has signed in shows again: a code if the account has a second factor.

    Else the password. The code may be a recovery code.
    """

    password: Untried = None
    code: Untried = None


TOKEN_DAYS, TOKEN_DAYS_MOST = 90, 365
NETWORKS_MOST = 20


def _scopes(value: object) -> object:
    """The scopes once each, in their own order, whatever order and number they were given in."""
    if not isinstance(value, (list, tuple)):
        raise wrong("must be a list of scopes")
    if not value:
        raise wrong("must be at least one")
    unknown = [each for each in value if not isinstance(each, str) or each not in list(Scope)]
    if unknown:
        raise wrong(f"must each be one of {', '.join(Scope)}")
    return [scope for scope in Scope if scope in value]


def _days(value: object) -> object:
    value = blank_to_none(value)
    if value is None:
        return TOKEN_DAYS
    if isinstance(value, bool):
        raise wrong("must be a whole number")
    return value


def _networks(value: object) -> object:
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise wrong("must be a list of networks")
    if len(value) > NETWORKS_MOST:
        raise wrong(f"must be at most {NETWORKS_MOST} networks")
    return list(dict.fromkeys(_network(each) for each in value))


def _network(value: object) -> str:
    """The network as ipaddress writes it; an address is a network of one."""
    if not isinstance(value, str) or "%" in value:
        raise wrong("must each be a network such as 192.0.2.0/24, or an address")
    try:
        network = ip_network(value.strip(), strict=False)
    except ValueError:
        raise wrong(f"{value[:64]!r} is no network such as 192.0.2.0/24, and no address") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= _MAPPED:
        return f"{mapped}/{network.prefixlen - _MAPPED}"
    return str(network)


_MAPPED = 96
"""Bits before the IPv4 address in ::ffff:192.0.2.1, which is nothing but 192.0.2.1."""


class NewToken(Input):
    """An API token to be made. No networks: it works from anywhere."""

    name: Annotated[str, Required(128)]
    scopes: Annotated[
        list[Scope],
        BeforeValidator(_scopes),
        WithJsonSchema(
            {
                "type": "array",
                "items": {"type": "string", "enum": [scope.value for scope in Scope]},
                "minItems": 1,
            }
        ),
    ]
    expires_in_days: Annotated[int, Field(ge=1, le=TOKEN_DAYS_MOST), BeforeValidator(_days)] = (
        TOKEN_DAYS
    )
    allowed_networks: Annotated[
        tuple[str, ...],
        BeforeValidator(_networks),
        WithJsonSchema(
            {
                "type": "array",
                "items": {"type": "string"},
                "maxItems": NETWORKS_MOST,
                "default": [],
            }
        ),
    ] = ()


class NewCalendar(Input):
    """A calendar address to be made: for the VMs that the person owns, or all that they see."""

    owned_only: GivenFlag = False


class TokenState(StrEnum):
    WORKING = "working"
    EXPIRED = "expired"
    REVOKED = "revoked"


class TokenQuery(Input):
    """Which tokens to list: one's own, unless an administrator asks for others."""

    user_id: Reference = None
    everyone: bool = False
    username: Annotated[str | None, Text(128)] = None
    state: TokenState | None = None
    page: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    limit: Annotated[int, Field(ge=1, le=200)] = 50
