"""Who knows which passwords, as files: the same ones at both doors."""

from starlette.responses import Response

from vmtrak import credentials
from vmtrak.access import Actor
from vmtrak.accounts import users
from vmtrak.credentials import Which
from vmtrak.web.spreadsheets import download
from vmtrak.web.state import State

_SEEN = (
    "vm_name",
    "username",
    "account_type",
    "how",
    "first_at",
    "last_at",
    "times",
    "password_changed_at",
    "rotation_marked",
    "rotation_due",
    "trashed",
    "vm_id",
    "credential_id",
)
_VIEWERS = ("username", "is_active", "how", "first_at", "last_at", "times", "user_id")


def seen_file(state: State, actor: Actor, user_id: int, *, for_people: bool) -> Response:
    """Every credential whose present password the person knows; raises `NotFound`."""
    with state.database.read() as session:
        rows = credentials.seen_by(session, actor, state.vault.rules, user_id)
        name = users.get(session, actor, user_id)["username"]
    return download(f"passwords-known-by-{name}.csv", _SEEN, rows, for_people=for_people)


def viewers_file(state: State, actor: Actor, which: Which, *, for_people: bool) -> Response:
    """Everybody who knows the credential's present password; raises `NotFound`."""
    with state.database.read() as session:
        rows = credentials.viewers(session, actor, which)
        row = credentials.find(session, actor, state.vault.rules, which)
    name = f"who-knows-{row['vm_name']}-{which.number}.csv"
    return download(name, _VIEWERS, rows, for_people=for_people)
