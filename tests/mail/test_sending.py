"""What becomes of a message at a mail server, and of those after it on the same connection."""

import pytest

from tests.mail.conftest import MakeMailer, Open
from tests.mail.letters import ANN, BOB, digest, line, parcel, part
from tests.mail.server import DROP, LOSE, Action, PostOffice
from tests.services import free_port
from vmtrak.channels import Delayed, Refused, Unreachable
from vmtrak.channels.smtp import Mailer, MailServer, fault

BUSY = "451 4.3.0 Come back later"
NEVER = "554 5.7.1 We do not like it"
CLOSING = "421 4.3.2 Shutting down"


def test_a_message_arrives_with_its_envelope_and_the_answer_is_told(
    office: PostOffice, mailer: Mailer
) -> None:
    assert mailer.send(parcel()) == "250 2.0.0 Ok: queued as 000001"
    [mail] = office.received
    assert (mail.sender, mail.recipients) == ("vmtrak@vmtrak.example", (ANN,))
    assert mail.message_id == f"<{1:032x}@vm.example.org>"
    assert office.greeted_by == ["vm.vmtrak.example"]


def test_all_messages_go_over_one_connection_which_ends_politely(
    office: PostOffice, mailer: Mailer
) -> None:
    for number in range(20):
        mailer.send(parcel(number))
    mailer.close()
    office.until(lambda: office.commands[-1] == "QUIT")
    assert office.connections == 1
    assert [mail.message_id[1:33] for mail in office.received] == [f"{n:032x}" for n in range(20)]


def test_nothing_is_connected_to_before_there_is_a_message(
    office: PostOffice, mailer: Mailer
) -> None:
    mailer.close()
    assert office.connections == 0


def test_a_mailer_goes_on_after_it_was_closed(office: PostOffice, mailer: Mailer) -> None:
    mailer.send(parcel(1))
    mailer.close()
    mailer.send(parcel(2))
    assert office.connections == 2


def test_one_refused_recipient_holds_up_nobody(office: PostOffice, mailer: Mailer) -> None:
    office.refuse[BOB] = "550 5.1.1 No such mailbox"
    with pytest.raises(Refused, match=r"^550 5\.1\.1 No such mailbox$"):
        mailer.send(parcel(1, BOB))
    mailer.send(parcel(2, ANN))
    assert office.connections == 1
    assert [mail.recipients for mail in office.received] == [(ANN,)]
    assert office.commands[-5:] == ["RCPT", "RSET", "MAIL", "RCPT", "DATA"]


def test_one_delayed_recipient_holds_up_nobody(office: PostOffice, mailer: Mailer) -> None:
    office.refuse[BOB] = "450 4.2.1 Greylisted"
    with pytest.raises(Delayed, match=r"^450 4\.2\.1 Greylisted$"):
        mailer.send(parcel(1, BOB))
    mailer.send(parcel(2, ANN))
    assert (office.connections, len(office.received)) == (1, 1)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "DOT"])
@pytest.mark.parametrize(("answer", "outcome"), [(NEVER, Refused), (BUSY, Delayed)])
def test_an_answer_decides_over_the_message_alone(
    office: PostOffice, mailer: Mailer, verb: str, answer: str, outcome: type[Exception]
) -> None:
    office.next(verb, answer)
    with pytest.raises(outcome) as caught:
        mailer.send(parcel(1))
    assert str(caught.value) == answer
    mailer.send(parcel(2))
    assert office.connections == 1
    assert [mail.message_id[1:33] for mail in office.received] == [f"{2:032x}"]


@pytest.mark.parametrize("action", [CLOSING, DROP])
@pytest.mark.parametrize("verb", ["GREETING", "EHLO", "MAIL"])
def test_a_server_that_hangs_up_before_it_is_about_a_recipient_is_unreachable(
    office: PostOffice, mailer: Mailer, verb: str, action: Action
) -> None:
    office.always[verb] = action
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1, port \d+ "):
        mailer.send(parcel())
    office.always.clear()
    mailer.send(parcel())
    assert len(office.received) == 1


@pytest.mark.parametrize("action", [CLOSING, DROP])
@pytest.mark.parametrize("verb", ["RCPT", "DATA"])
def test_a_server_that_hangs_up_at_a_recipient_or_a_text_delays_that_message_only(
    office: PostOffice, mailer: Mailer, verb: str, action: Action
) -> None:
    office.next(verb, action)
    with pytest.raises(Delayed):
        mailer.send(parcel(1))
    mailer.send(parcel(2))
    assert (office.connections, len(office.received)) == (2, 1)


@pytest.mark.parametrize("action", [DROP, LOSE])
def test_a_drop_after_the_dot_leaves_it_open_whether_the_message_was_taken(
    office: PostOffice, mailer: Mailer, action: Action
) -> None:
    office.next("DOT", action)
    with pytest.raises(Delayed, match="before the server said whether it took the message"):
        mailer.send(parcel(1))
    mailer.send(parcel(1))
    assert {mail.message_id for mail in office.received} == {f"<{1:032x}@vm.example.org>"}
    assert len(office.received) == (2 if action == DROP else 1)


def test_421_at_the_dot_is_an_answer(office: PostOffice, mailer: Mailer) -> None:
    office.next("DOT", CLOSING)
    with pytest.raises(Delayed, match=r"^421 4\.3\.2"):
        mailer.send(parcel(1))
    mailer.send(parcel(1))
    assert len(office.received) == 1


def test_a_kept_connection_that_was_dropped_is_opened_again_without_a_word(
    office: PostOffice, mailer: Mailer
) -> None:
    mailer.send(parcel(1))
    office.hang_up()
    mailer.send(parcel(2))
    assert (office.connections, len(office.received)) == (2, 2)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("action", [CLOSING, DROP])
def test_a_server_that_takes_only_so_many_messages_at_a_time_gets_another_connection(
    office: PostOffice, mailer: Mailer, verb: str, action: Action
) -> None:
    mailer.send(parcel(1))
    office.next(verb, action)
    mailer.send(parcel(2))
    assert (office.connections, len(office.received)) == (2, 2)


@pytest.mark.parametrize("action", [CLOSING, DROP, "502 5.5.1 Not implemented"])
def test_a_connection_that_cannot_be_reset_is_replaced(
    office: PostOffice, mailer: Mailer, action: Action
) -> None:
    office.refuse[BOB] = "550 5.1.1 No such mailbox"
    with pytest.raises(Refused):
        mailer.send(parcel(1, BOB))
    office.next("RSET", action)
    mailer.send(parcel(2, ANN))
    assert (office.connections, len(office.received)) == (2, 1)


def test_a_new_connection_that_is_dropped_again_is_judged(
    office: PostOffice, mailer: Mailer
) -> None:
    mailer.send(parcel(1))
    office.next("MAIL", DROP, DROP)
    with pytest.raises(Unreachable, match="ended the connection"):
        mailer.send(parcel(2))
    assert office.connections == 2


def test_a_server_that_is_down_and_comes_back_goes_on(office: PostOffice, mailer: Mailer) -> None:
    mailer.send(parcel(1))
    office.stop()
    with pytest.raises(Unreachable, match="cannot be reached: the connection was refused"):
        mailer.send(parcel(2))
    office.start()
    mailer.send(parcel(2))
    assert len(office.received) == 2


@pytest.mark.parametrize("verb", ["GREETING", "EHLO"])
def test_a_server_that_wants_none_of_us_is_for_the_administrator_to_mend(
    office: PostOffice, mailer: Mailer, verb: str
) -> None:
    office.always[verb] = "554 5.7.1 No service for you"
    with pytest.raises(Unreachable, match=r"greeted VMTrak with: 554 5\.7\.1 No service"):
        mailer.send(parcel())


@pytest.mark.parametrize("answer", ["530 5.7.0 Must issue a STARTTLS command first", "538 Encrypt"])
def test_a_server_that_wants_a_sign_in_first_makes_the_mail_wait(
    office: PostOffice, mailer: Mailer, answer: str
) -> None:
    office.always["MAIL"] = answer
    with pytest.raises(Unreachable, match=answer):
        mailer.send(parcel())


def test_a_name_that_nobody_knows_is_told_as_such(
    office: PostOffice, mailer_for: MakeMailer
) -> None:
    mailer = mailer_for(office, host="mail..example")  # so that no resolver is asked
    with pytest.raises(Unreachable, match=r"^mail\.\.example, port \d+ cannot be found"):
        mailer.send(parcel())


def test_what_is_no_mail_server_is_told_as_such(office: PostOffice, mailer: Mailer) -> None:
    office.always["GREETING"] = "HTTP/1.1 400 Bad Request"
    with pytest.raises(Unreachable, match=r"does not speak SMTP: HTTP/1\.1 400 Bad Request"):
        mailer.send(parcel())


@pytest.mark.parametrize("noise", ["x" * 20_000, "250-more\r\n" * 300 + "250 end"])
def test_an_answer_without_an_end_is_not_read_to_it(
    office: PostOffice, mailer: Mailer, noise: str
) -> None:
    office.always["EHLO"] = noise
    with pytest.raises(Unreachable, match="without an end"):
        mailer.send(parcel())


def test_an_answer_is_kept_as_one_line_of_text(office: PostOffice, mailer: Mailer) -> None:
    office.next("RCPT", "550-5.1.1 No\tsuch \x1b[31mmailbox\r\n550 5.1.1 " + "é" * 2000)
    with pytest.raises(Refused) as caught:
        mailer.send(parcel())
    words = str(caught.value)
    assert words.startswith("550 5.1.1 No such ?[31mmailbox 5.1.1 éé")
    assert words.isprintable()
    assert len(words) <= 1004


@pytest.mark.parametrize("name", [".", "..", ".hidden"])
def test_dots_that_begin_a_line_arrive(office: PostOffice, mailer: Mailer, name: str) -> None:
    mailer.send(parcel(content=digest(line(1, 5, name))))
    text = part(office.received[0].message, "plain")
    assert f"\n{name}\n" in text


# Addresses


def test_a_domain_of_other_letters_travels_in_ascii(office: PostOffice, mailer: Mailer) -> None:
    mailer.send(parcel(1, "ann@straße.example"))
    [mail] = office.received
    assert mail.recipients == ("ann@xn--strae-oqa.example",)
    assert str(mail.message["To"]) == "ann@xn--strae-oqa.example"
    assert mail.raw.isascii()
    assert "SMTPUTF8" not in mail.options


def test_an_address_of_other_letters_needs_a_server_that_takes_it(
    office: PostOffice, mailer: Mailer
) -> None:
    mailer.send(parcel(1, "jürgen@straße.example"))
    mailer.send(parcel(2, ANN))
    [mail, other] = office.received
    assert mail.recipients == ("jürgen@xn--strae-oqa.example",)
    assert {"SMTPUTF8", "BODY=8BITMIME"} <= set(mail.options)
    assert "jürgen@xn--strae-oqa.example".encode() in mail.raw
    assert "SMTPUTF8" not in other.options


def test_where_the_server_does_not_such_an_address_is_refused_in_clear_words(
    open_office: Open, mailer_for: MakeMailer
) -> None:
    office = open_office(smtputf8=False)
    mailer = mailer_for(office)
    with pytest.raises(Refused, match="only addresses whose letters are ASCII"):
        mailer.send(parcel(1, "jürgen@vmtrak.example"))
    mailer.send(parcel(2, ANN))
    assert (office.connections, len(office.received)) == (1, 1)


@pytest.mark.parametrize(
    "address",
    [
        "",
        None,
        "ann",
        "@vmtrak.example",
        "ann@",
        "ann@x.example>\r\nRCPT TO:<bob@x.example",
        "ann <ann@x.example>",
        "ann@ex\x00ample.org",
        "ann@\u2028.example",
        "ann@-ü.example",
    ],
)
def test_what_is_no_address_never_reaches_the_server(
    office: PostOffice, mailer: Mailer, address: str | None
) -> None:
    with pytest.raises(Refused, match="e-mail address"):
        mailer.send(parcel(1, address))
    assert office.connections == 0


# Looking


def test_a_look_signs_in_and_sends_nothing(office: PostOffice, mailer: Mailer) -> None:
    server = MailServer("127.0.0.1", office.port, "vmtrak@vmtrak.example")
    assert fault(server) is None
    office.until(lambda: office.commands[-1] == "QUIT")
    assert office.commands == ["EHLO", "NOOP", "QUIT"]


def test_a_look_says_what_is_wrong(office: PostOffice) -> None:
    server = MailServer("127.0.0.1", office.port, "vmtrak@vmtrak.example")
    office.next("NOOP", "451 4.3.0 Out of order")
    assert fault(server) == f"{server} answered: 451 4.3.0 Out of order"
    away = MailServer("127.0.0.1", free_port(), "vmtrak@vmtrak.example")
    assert fault(away) == f"{away} cannot be reached: the connection was refused."
