"""SSH connections as text: `ssh://` links and sections of an OpenSSH configuration."""

import re
from urllib.parse import quote

from vmtrak.errors import Invalid
from vmtrak.hosts import in_brackets

PORT = 22

_LINKED = re.compile(r"\w[\w.@+-]*", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
_QUOTABLE = re.compile(r'[^\0-\x1f\x7f"\\%$-][^\0-\x1f\x7f"%$]*')
_ALIAS_BREAK = re.compile(r"[^A-Za-z0-9._-]+")


def link(host: str, user: str | None) -> str | None:
    """The `ssh://` link; None for a user name that is not to be put in one.

    Programs that open such links hand the name to `ssh` as they find it, some through a shell:
    it must not begin like an option, and quotes, blanks, `;`, `:` and the like mean something.
    """
    if user is None:
        return f"ssh://{in_brackets(host)}"
    if not _LINKED.fullmatch(user):
        return None
    return f"ssh://{quote(user, safe='')}@{in_brackets(host)}"


def section(alias: str, host: str, user: str | None) -> str:
    """A `Host` section for ~/.ssh/config. Raises `Invalid` for a user name it cannot hold."""
    lines = [f"Host {alias}", f"    HostName {host}"]
    if user is not None:
        lines.append(f"    User {_argument(user)}")
    return "".join(f"{line}\n" for line in (*lines, f"    Port {PORT}"))


def alias_of(name: str, number: int) -> str:
    """A VM's name without blanks, patterns and what else `Host` and a shell would read in it."""
    alias = _ALIAS_BREAK.sub("-", name).strip("-.")
    return alias if any(one.isalnum() for one in alias) else f"vm-{number}"


def can_hold(user: str) -> bool:
    return _written(user) is not None


def _argument(user: str) -> str:
    written = _written(user)
    if written is None:
        raise Invalid({"user": ["cannot be written into an OpenSSH configuration"]})
    return written


def _written(user: str) -> str | None:
    """The name as an argument of ssh_config(5), one that every version of OpenSSH reads alike.

    Double quotes keep blanks and `#`. Releases differ in what a backslash or a quote inside them
    means, and the newest expand `%` and `${` in user names.
    """
    if _PLAIN.fullmatch(user):
        return user
    return f'"{user}"' if _QUOTABLE.fullmatch(user) and _backslashes_stand(user) else None


def _backslashes_stand(user: str) -> bool:
    r"""Whether each backslash means itself, as in DOMAIN\name."""
    return re.search(r"\\(?![\w.-])", user) is None
