"""What can go wrong for a person, as few kinds as the doors need to tell apart.

`str(error)` is safe to show to anyone: the panel prints it into pages.
"""

from collections.abc import Mapping
from enum import StrEnum


class VmtrakError(Exception):
    """Base of every refusal that a person may read."""

    default = "That did not work."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.default)


class NotAuthenticated(VmtrakError):
    default = "Sign in first."


class CodeRequired(NotAuthenticated):
    """The password was right, and the account's second factor is still owed.

    `ticket` stands for the password where the code is asked for on a page of its own.
    """

    default = "second_factor_required"

    def __init__(self, ticket: str) -> None:
        super().__init__()
        self.ticket = ticket


class Forbidden(VmtrakError):
    default = "Your role does not allow this."


class SetupRequired(Forbidden):
    """The account must finish its set-up before anything else works."""

    default = "setup_required"


class SecondFactorRequired(Forbidden):
    """The account must set up its second factor before anything else works."""

    default = "second_factor_required"


class StepUpRequired(Forbidden):
    """The session must show again who is there before this is done."""

    default = "step_up_required"


class NotFound(VmtrakError):
    default = "There is no such entry."


class Conflict(VmtrakError):
    """The request is fine by itself but collides with what is there.

    `field` names the input to which a form should pin the message, if there is one.
    """

    default = "This collides with an existing entry."

    def __init__(self, message: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Stale(VmtrakError):
    default = "Somebody else changed this in the meantime."


class Invalid(VmtrakError):
    """Bad input; `fields` maps each field's name to what is wrong with it."""

    default = "Some fields need another look."

    def __init__(self, fields: dict[str, list[str]]) -> None:
        reasons = "; ".join(f"{name}: {', '.join(why)}" for name, why in fields.items())
        super().__init__(reasons or None)
        self.fields = fields


class Malformed(VmtrakError):
    """The request itself cannot be read: no JSON, wrong encoding."""

    default = "The request could not be read."


class TooMany(VmtrakError):
    default = "Too many attempts. Try again later."

    def __init__(self, retry_after: int, message: str | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(VmtrakError):
    default = "The database is busy. Try again in a moment."


class Refusal(StrEnum):
    """Why a sign-in over the OIDC provider came to nothing, as the trail tells it."""

    NO_FLOW = "no_flow"
    FLOW_EXPIRED = "flow_expired"
    CANCELLED = "cancelled"
    MALFORMED = "malformed_answer"
    OTHER_PROVIDER = "other_provider"
    CODE = "code_refused"
    CLIENT = "client_refused"
    PROVIDER_ERROR = "provider_error"
    UNREACHABLE = "provider_unreachable"
    UNREADABLE = "provider_unreadable"
    SIGNATURE = "wrong_signature"
    ISSUER = "wrong_issuer"
    AUDIENCE = "wrong_audience"
    TENANT = "wrong_tenant"
    NONCE = "wrong_nonce"
    CLOCKS = "clocks_differ"
    TOKEN = "token_incomplete"  # noqa: S105 - no secret
    NO_ROLE = "no_role"
    CLOSED = "account_closed"
    TAKEN = "email_taken"
    LAST_ADMIN = "last_admin"
    SESSION_ENDED = "session_ended"
    SOMEBODY_ELSE = "somebody_else"
    NOT_FRESH = "not_proved_again"


class SignInRefused(VmtrakError):
    """Somebody who comes from the OIDC provider does not get in.

    `cause` is for the log, in words of our own. `about` goes into the trail beside the reason;
    `user_id` and `username` are the account's, where it is known.
    """

    default = "The sign-in did not work."

    def __init__(
        self,
        reason: Refusal,
        cause: str = "",
        *,
        user_id: int | None = None,
        username: str | None = None,
        about: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.reason = reason
        self.cause = cause
        self.user_id = user_id
        self.username = username
        self.about = about or {}
