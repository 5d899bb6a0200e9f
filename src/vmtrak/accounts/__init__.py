"""Users, their sessions and tokens: from proof of identity to an Actor."""

from vmtrak.accounts import links, passwords, sessions, users
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.accounts.inputs import (
    FirstAdmin,
    NewPassword,
    NewUser,
    PasswordReset,
    Setup,
    SignIn,
    UserPatch,
)
from vmtrak.accounts.models import (
    ApiToken,
    Identity,
    OneTimeLink,
    RecoveryCode,
    RefreshToken,
    SecondFactor,
    SignedIn,
    SignInLimit,
    User,
)

__all__ = [
    "ApiToken",
    "FirstAdmin",
    "Identity",
    "NewPassword",
    "NewUser",
    "OneTimeLink",
    "PasswordReset",
    "RecoveryCode",
    "RefreshToken",
    "SecondFactor",
    "SessionRules",
    "Setup",
    "SignIn",
    "SignInLimit",
    "SignedIn",
    "User",
    "UserPatch",
    "links",
    "passwords",
    "sessions",
    "users",
]
