"""What comes in about credentials."""

from typing import Annotated, NoReturn

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema

from vmtrak.credentials.models import AccountType
from vmtrak.fields import Input, Required, Text, blank_to_none, wrong

MASK = "••••••••"
"""Stands for a password wherever one is listed."""

LONGEST_PASSWORD = 512


def _password(value: object) -> object:
    """Kept to the letter: blanks around it are part of it."""
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str):
        raise wrong("must be text")
    if not value:
        raise wrong("is required")
    if len(value) > LONGEST_PASSWORD:
        raise wrong(f"must be at most {LONGEST_PASSWORD} characters")
    return value


def _new_password(value: object) -> object:
    """A row without a password has null there, and comes back so."""
    return None if value is None else _password(value)


def _no_mask(value: SecretStr) -> SecretStr:
    if value.get_secret_value() == MASK:
        raise wrong("is the mask that stands for a password, not one")
    return value


_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": LONGEST_PASSWORD,
    "format": "password",
    "writeOnly": True,
}
Password = Annotated[
    SecretStr | None,
    BeforeValidator(_new_password),
    WithJsonSchema({**_SCHEMA, "type": ["string", "null"]}),
]
NewPassword = Annotated[
    SecretStr, AfterValidator(_no_mask), BeforeValidator(_password), WithJsonSchema(_SCHEMA)
]


class _WithPassword(Input):
    """Masks its password wherever it is printed, and refuses to be written out as it is."""

    def __reduce__(self) -> NoReturn:
        message = f"{type(self).__name__} holds a password: it is not pickled"
        raise TypeError(message)


class NewCredential(_WithPassword):
    """A credential to be added. Without a type the first one of a VM is its primary account."""

    username: Annotated[str, Required(256)]
    password: NewPassword
    account_type: Annotated[AccountType | None, BeforeValidator(blank_to_none)] = None
    notes: Annotated[str | None, Text(4096, lines=True)] = None


class CredentialPatch(_WithPassword):
    """Changes to a credential: only the fields set count; the mask and null are no new password.

    `rotation_marked` says that the password is to be changed whatever its age; a new one ends it.
    """

    username: Annotated[str, Required(256)] = ""
    password: Password = SecretStr("")
    account_type: AccountType = AccountType.OTHERS
    notes: Annotated[str | None, Text(4096, lines=True)] = None
    rotation_marked: bool = False


class RevealRequest(Input):
    """Why somebody wants to see a password; kept in the audit trail."""

    reason: Annotated[str | None, Text(512), Field(description="kept in the audit trail")] = None
