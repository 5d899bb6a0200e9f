"""Test messages, by which an administrator sees that a channel works."""

from vmtrak.access import Permission
from vmtrak.accounts import User
from vmtrak.channels import Channel
from vmtrak.db import Work
from vmtrak.errors import Conflict
from vmtrak.notices.models import Kind, Message
from vmtrak.notices.planning import new_message
from vmtrak.notices.recipients import Recipient
from vmtrak.notices.rules import Rules

OFF = {
    Channel.MAIL: "Mail is off: set VMTRAK_SMTP_HOST first.",
    Channel.WEBHOOK: "This channel is off: set VMTRAK_WEBHOOK_URL first.",
    Channel.TEAMS: "This channel is off: set VMTRAK_TEAMS_URL first.",
    Channel.SLACK: "This channel is off: set VMTRAK_SLACK_URL first.",
}


def send(work: Work, rules: Rules, channel: Channel) -> Message:
    """Queue a test message: by mail to oneself, else to the channel. Raises `Conflict`."""
    work.actor.require(Permission.USERS)
    if channel not in rules.senders:
        raise Conflict(OFF[channel])
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
