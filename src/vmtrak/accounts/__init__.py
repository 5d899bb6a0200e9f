"""Users, their sessions and tokens: from proof of identity to an Actor."""

from vmtrak.accounts import passwords, sessions, users
from vmtrak.accounts.models import (
    FirstAdmin,
    NewPassword,
    NewUser,
    OneTimeLink,
    PasswordReset,
    RefreshToken,
    Setup,
    SignedIn,
    SignIn,
    User,
    UserPatch,
)

__all__ = [
    "FirstAdmin",
    "NewPassword",
    "NewUser",
    "OneTimeLink",
    "PasswordReset",
    "RefreshToken",
    "Setup",
    "SignIn",
    "SignedIn",
    "User",
    "UserPatch",
    "passwords",
    "sessions",
    "users",
]
