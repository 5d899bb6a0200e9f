"""E-mail addresses as headers and commands carry them."""

import re

from email_validator import EmailNotValidError, validate_email

from vmtrak.channels.messages import Refused


def parts(sender: str) -> tuple[str, str]:
    """Name and address of a sender, which may be Name <address>, as they were written."""
    name, bracket, rest = sender.rpartition("<")
    return (name.strip(), rest.removesuffix(">")) if bracket else ("", sender)


def in_ascii(address: str) -> str:
    """The bare address with its domain in ASCII (IDNA). Raises `Refused` for what is none.

    The part before the @ stays as it is: it may need a server that speaks SMTPUTF8.
    """
    local, _, domain = address.rpartition("@")
    if not local or not domain or not re.fullmatch(r"[^\s<>\x00-\x1f\x7f]+", address):
        raise Refused("This is not an e-mail address.")
    if domain.isascii():
        return address
    try:
        found = validate_email(f"x@{domain}", check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        raise Refused("There can be no such domain as that of this e-mail address.") from None
    return f"{local}@{found.ascii_domain}"
