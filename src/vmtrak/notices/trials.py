"""Test messages, by which an administrator sees that a channel works."""

from typing import Annotated

from pydantic import BeforeValidator

from vmtrak.access import Permission
from vmtrak.accounts import User
from vmtrak.channels import Channel
from vmtrak.db import Work
from vmtrak.errors import Conflict
from vmtrak.fields import Input, blank_to_none
from vmtrak.notices.models import Kind, Message
from vmtrak.notices.planning import new_message
from vmtrak.notices.recipients import Recipient
from vmtrak.notices.rules import Rules


def _or_mail(value: object) -> object:
    value = blank_to_none(value)
    return Channel.MAIL if value is None else value


class TrialRequest(Input):
    """A test message, to oneself by mail or over another channel."""

    channel: Annotated[Channel, BeforeValidator(_or_mail)] = Channel.MAIL


def send(work: Work, rules: Rules, channel: Channel) -> Message:
    """Queue a test message: by mail to oneself, else to the channel. Raises `Conflict`."""
    work.actor.require(Permission.USERS)
    rules.require(channel)
    today = rules.schedule.today(work.moment)
    message = new_message(work, rules, _recipient(work, channel), today, Kind.TEST)
    work.flush()
    return message


def _recipient(work: Work, channel: Channel) -> Recipient:
    if channel is not Channel.MAIL:
        return Recipient.of_channel(channel)
    user = work.session.get(User, work.actor.user_id) if work.actor.user_id else None
    if user is None:
        reason = "A test mail goes to the person who asks for it, and nobody has signed in."
        raise Conflict(reason)
    return Recipient.user(user)
