"""What a person reads whose sign-in over the provider came to nothing, by the reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vmtrak.errors import Refusal


@dataclass(frozen=True, slots=True)
class Told:
    """`ask` says whether the page names the person to ask."""

    status: int
    heading: str
    words: str
    ask: bool = False


_CONFUSED = "Ask for help if this happens again: nobody was signed in, and nothing was changed."
_WRONG_TOKEN = "The provider's proof of who you are is not right. " + _CONFUSED

TOLD: Mapping[Refusal, Told] = MappingProxyType(
    {
        Refusal.NO_FLOW: Told(
            400,
            "Start again",
            "This sign-in was begun in another browser, took too long, or is over already.",
        ),
        Refusal.FLOW_EXPIRED: Told(400, "Start again", "This sign-in took too long."),
        Refusal.CANCELLED: Told(403, "Cancelled", "You cancelled the sign-in at the provider."),
        Refusal.MALFORMED: Told(
            400, "Start again", "The provider's answer is not complete. " + _CONFUSED
        ),
        Refusal.OTHER_PROVIDER: Told(
            400, "Start again", "The answer came from another provider. " + _CONFUSED
        ),
        Refusal.CODE: Told(
            400,
            "Start again",
            "The provider does not take this sign-in any more: it was used before or took too"
            " long.",
        ),
        Refusal.CLIENT: Told(
            502,
            "Not set up right",
            "The provider does not accept VMTrak. An administrator can tell why from the log.",
            ask=True,
        ),
        Refusal.PROVIDER_ERROR: Told(
            502, "Refused by the provider", "The provider did not finish the sign-in.", ask=True
        ),
        Refusal.UNREACHABLE: Told(
            503,
            "The provider does not answer",
            "The provider cannot be reached at the moment. Try again in a minute; who has a"
            " password can sign in with it.",
        ),
        Refusal.UNREADABLE: Told(
            502,
            "The provider is in trouble",
            "The provider's answer cannot be understood. Try again in a minute; who has a"
            " password can sign in with it.",
        ),
        Refusal.SIGNATURE: Told(400, "Not signed in", _WRONG_TOKEN, ask=True),
        Refusal.ISSUER: Told(400, "Not signed in", _WRONG_TOKEN, ask=True),
        Refusal.AUDIENCE: Told(400, "Not signed in", _WRONG_TOKEN, ask=True),
        Refusal.TENANT: Told(
            400, "Not signed in", "Your account belongs to another organisation.", ask=True
        ),
        Refusal.NONCE: Told(400, "Not signed in", _WRONG_TOKEN, ask=True),
        Refusal.CLOCKS: Told(
            400,
            "The clocks differ",
            "The provider's clock and this server's clock differ too much to trust the sign-in."
            " An administrator has to set this server's clock.",
            ask=True,
        ),
        Refusal.TOKEN: Told(400, "Not signed in", _WRONG_TOKEN, ask=True),
        Refusal.NO_ROLE: Told(
            403,
            "No access yet",
            "The provider knows you, but nobody has given you a role in VMTrak.",
            ask=True,
        ),
        Refusal.CLOSED: Told(403, "Account closed", "Your VMTrak account is closed.", ask=True),
        Refusal.TAKEN: Told(
            403,
            "Your e-mail address is taken",
            "Another VMTrak account has your e-mail address. If it is yours, an administrator can"
            " let you take it over.",
            ask=True,
        ),
        Refusal.LAST_ADMIN: Told(
            403,
            "You are the last administrator",
            "The provider gives you another role now, and VMTrak would be left without anybody to"
            " administer it. Somebody else has to become an administrator first.",
            ask=True,
        ),
        Refusal.SESSION_ENDED: Told(401, "Sign in first", "Your session has ended meanwhile."),
        Refusal.SOMEBODY_ELSE: Told(
            403, "Somebody else", "You signed in at the provider as somebody else."
        ),
        Refusal.NOT_FRESH: Told(
            403,
            "Not proved again",
            "The provider does not say that you signed in just now, so this proves nothing.",
            ask=True,
        ),
    }
)
