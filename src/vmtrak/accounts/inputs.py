"""What people give to make and change users, and to sign in."""

import unicodedata
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, WithJsonSchema

from vmtrak.access import Role
from vmtrak.fields import Input, Required, RequiredEmail, Text, blank_to_none, wrong

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


class NewPassword(Input):
    password: Password


class PasswordReset(Input):
    new_password: Password


class SignIn(Input):
    """A sign-in with name and password. Any text may be tried."""

    username: Annotated[str, Field(max_length=1_000)]
    password: Annotated[SecretStr, Field(max_length=1_000)]
