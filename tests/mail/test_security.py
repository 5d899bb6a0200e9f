"""TLS and sign-in: nothing secret in the open, no certificate on trust, errors for people."""

import ssl
from collections.abc import Iterator

import pytest

from tests.mail.certificates import Authority
from tests.mail.conftest import MakeMailer, Open, server_of
from tests.mail.letters import parcel
from tests.mail.server import DROP, HOST, Action
from tests.mail.tokens import CLIENT_SECRET, Provider, running
from vmtrak.channels import Unreachable
from vmtrak.channels.smtp import fault

PASSWORD = "correct horse battery staple äöü"
ACCOUNT = {"vmtrak": PASSWORD}
SIGN_IN = {"username": "vmtrak", "password": PASSWORD}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running() as provider:
        yield provider


# TLS


@pytest.mark.parametrize("security", [None, "starttls"])
def test_starttls_is_used_where_it_is_offered(
    open_office: Open, mailer_for: MakeMailer, certificate: ssl.SSLContext, security: str | None
) -> None:
    office = open_office(context=certificate)
    mailer_for(office, security=security).send(parcel())
    assert office.received[0].encrypted


def test_tls_from_the_first_byte(
    open_office: Open, mailer_for: MakeMailer, certificate: ssl.SSLContext
) -> None:
    office = open_office(context=certificate, tls_from_the_start=True)
    mailer = mailer_for(office, security="tls")
    mailer.send(parcel(1))
    mailer.send(parcel(2))
    assert [mail.encrypted for mail in office.received] == [True, True]
    assert office.connections == 1


def test_none_means_none(
    open_office: Open, mailer_for: MakeMailer, certificate: ssl.SSLContext
) -> None:
    office = open_office(context=certificate)
    mailer_for(office, security="none").send(parcel())
    assert not office.received[0].encrypted


def test_without_starttls_mail_goes_in_the_open_unless_it_is_required(
    open_office: Open, mailer_for: MakeMailer
) -> None:
    office = open_office()
    mailer_for(office).send(parcel())
    with pytest.raises(Unreachable, match=r"offers no STARTTLS, which VMTRAK_SMTP_SECURITY asks"):
        mailer_for(office, security="starttls").send(parcel())
    assert len(office.received) == 1


@pytest.mark.parametrize("action", ["454 4.7.0 TLS not available", "554 5.7.0 No", DROP])
@pytest.mark.parametrize("security", [None, "starttls"])
def test_a_starttls_that_fails_never_ends_in_the_open(
    open_office: Open,
    mailer_for: MakeMailer,
    certificate: ssl.SSLContext,
    security: str | None,
    action: Action,
) -> None:
    office = open_office(context=certificate, accounts=ACCOUNT)
    office.always["STARTTLS"] = action
    with pytest.raises(Unreachable):
        mailer_for(office, security=security, **SIGN_IN).send(parcel())
    assert office.commands[-1] == "STARTTLS"
    assert (office.received, office.sign_ins) == ([], [])


def test_words_that_wait_behind_the_answer_to_starttls_are_not_believed(
    open_office: Open, mailer_for: MakeMailer, certificate: ssl.SSLContext
) -> None:
    office = open_office(context=certificate)
    office.always["STARTTLS"] = "220 Ready\r\n250-post.example\r\n250 AUTH PLAIN"
    with pytest.raises(Unreachable, match="something between STARTTLS and TLS"):
        mailer_for(office).send(parcel())


@pytest.mark.parametrize(
    ("address", "ended", "words"),
    [("127.0.0.9", False, "IP address mismatch"), (HOST, True, "certificate has expired")],
)
def test_a_certificate_that_proves_nothing_is_not_accepted(
    open_office: Open,
    mailer_for: MakeMailer,
    authority: Authority,
    certificate: ssl.SSLContext,
    address: str,
    ended: bool,  # noqa: FBT001 - a row
    words: str,
) -> None:
    office = open_office(context=authority.context(address, ended=ended), tls_from_the_start=True)
    with pytest.raises(Unreachable, match=f"The certificate of .* is not accepted: .*{words}"):
        mailer_for(office, security="tls").send(parcel())


def test_an_authority_that_is_not_trusted_is_told_with_what_mends_it(
    open_office: Open, mailer_for: MakeMailer, authority: Authority
) -> None:
    office = open_office(context=authority.context(HOST))
    with pytest.raises(Unreachable, match="SSL_CERT_FILE can name a private authority"):
        mailer_for(office).send(parcel())
    assert office.received == []


def test_tls_where_there_is_none_is_told_with_what_mends_it(
    open_office: Open, mailer_for: MakeMailer
) -> None:
    with pytest.raises(Unreachable, match=r"does not speak TLS.*Does VMTRAK_SMTP_SECURITY fit"):
        mailer_for(open_office(), security="tls").send(parcel())


# Sign-in with a password


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_name_and_password_are_given_in_the_way_the_server_offers(
    open_office: Open, mailer_for: MakeMailer, certificate: ssl.SSLContext, mechanism: str
) -> None:
    office = open_office(context=certificate, accounts=ACCOUNT, mechanisms={mechanism})
    mailer = mailer_for(office, **SIGN_IN)
    mailer.send(parcel(1))
    mailer.send(parcel(2))
    [sign_in] = office.sign_ins
    assert (sign_in.mechanism, sign_in.encrypted) == (mechanism, True)
    assert [mail.signed_in_as for mail in office.received] == ["vmtrak", "vmtrak"]


def test_no_password_travels_in_the_open(open_office: Open, mailer_for: MakeMailer) -> None:
    office = open_office(accounts=ACCOUNT)
    with pytest.raises(Unreachable, match="offers no encryption, and the password does not travel"):
        mailer_for(office, **SIGN_IN).send(parcel())
    assert office.sign_ins == []


def test_unless_the_settings_say_so(open_office: Open, mailer_for: MakeMailer) -> None:
    office = open_office(accounts=ACCOUNT)
    mailer_for(office, security="none", **SIGN_IN).send(parcel())
    assert [sign_in.encrypted for sign_in in office.sign_ins] == [False]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_refused_password_makes_the_mail_wait_and_is_not_repeated(
    open_office: Open, mailer_for: MakeMailer, mechanism: str
) -> None:
    office = open_office(accounts={"vmtrak": "another"}, mechanisms={mechanism})
    with pytest.raises(Unreachable) as caught:
        mailer_for(office, security="none", **SIGN_IN).send(parcel())
    assert str(caught.value).endswith(
        "refused the sign-in of vmtrak with: 535 5.7.8 Error: authentication failed"
    )
    assert len(office.sign_ins) == 1
    assert PASSWORD not in repr(caught.value)


def test_an_answer_that_repeats_the_password_is_told_without_it(
    open_office: Open, mailer_for: MakeMailer
) -> None:
    office = open_office(accounts=ACCOUNT)
    sent = "AHZtdHJhawBjb3JyZWN0IGhvcnNlIGJhdHRlcnkgc3RhcGxlIMOkw7bDvA=="
    office.always["AUTH"] = f"535 no such {PASSWORD} in {sent}"
    with pytest.raises(Unreachable) as caught:
        mailer_for(office, security="none", **SIGN_IN).send(parcel())
    assert str(caught.value).endswith("535 no such ••• in •••")


@pytest.mark.parametrize("offered", [{}, {"accounts": ACCOUNT, "mechanisms": {"XOAUTH2"}}])
def test_a_server_without_a_way_to_sign_in_is_told_as_such(
    open_office: Open, mailer_for: MakeMailer, offered: dict[str, object]
) -> None:
    office = open_office(**offered)
    with pytest.raises(Unreachable, match=r"with PLAIN or LOGIN, but with (nothing|XOAUTH2)\."):
        mailer_for(office, security="none", **SIGN_IN).send(parcel())


# Sign-in with a token


def by_token(provider: Provider) -> dict[str, object]:
    return {"username": "vmtrak@example.org", "grant": provider.grant}


def test_a_token_is_fetched_and_kept(
    open_office: Open, mailer_for: MakeMailer, certificate: ssl.SSLContext, provider: Provider
) -> None:
    office = open_office(context=certificate, tokens={"vmtrak@example.org": "t1"})
    mailer = mailer_for(office, **by_token(provider))
    mailer.send(parcel(1))
    office.hang_up()
    mailer.send(parcel(2))
    assert [mail.signed_in_as for mail in office.received] == ["vmtrak@example.org"] * 2
    assert len(office.sign_ins) == 2
    assert provider.asked == [
        {
            "grant_type": "client_credentials",
            "client_id": "vmtrak-mail",
            "client_secret": CLIENT_SECRET,
            "scope": "https://mail.example/.default",
        }
    ]


def test_a_kept_token_that_is_refused_is_renewed_once(
    open_office: Open, mailer_for: MakeMailer, certificate: ssl.SSLContext, provider: Provider
) -> None:
    office = open_office(context=certificate, tokens={"vmtrak@example.org": "t1"})
    mailer = mailer_for(office, **by_token(provider))
    mailer.send(parcel(1))
    office.tokens["vmtrak@example.org"] = "t2"
    office.hang_up()
    mailer.send(parcel(2))
    assert [sign_in.secret for sign_in in office.sign_ins] == ["t1", "t1", "t2"]
    office.tokens["vmtrak@example.org"] = "another"
    office.hang_up()
    with pytest.raises(Unreachable, match=r"refused the sign-in of vmtrak@example\.org with: 535"):
        mailer.send(parcel(3))
    assert [sign_in.secret for sign_in in office.sign_ins[3:]] == ["t2", "t3"]


def test_a_new_token_that_is_refused_is_not_renewed(
    open_office: Open, mailer_for: MakeMailer, certificate: ssl.SSLContext, provider: Provider
) -> None:
    office = open_office(context=certificate, tokens={"vmtrak@example.org": "another"})
    words = fault(server_of(office, **by_token(provider)))
    assert words is not None
    assert words.endswith("with: 535 5.7.3 Authentication unsuccessful")
    assert "t1" not in words
    assert len(provider.asked) == 1


def test_no_token_travels_in_the_open(
    open_office: Open, mailer_for: MakeMailer, provider: Provider
) -> None:
    office = open_office(tokens={"vmtrak@example.org": "t1"})
    with pytest.raises(Unreachable, match="offers no encryption"):
        mailer_for(office, **by_token(provider)).send(parcel())
    assert office.sign_ins == []


def test_without_a_token_nothing_is_connected_to(
    open_office: Open, mailer_for: MakeMailer, provider: Provider
) -> None:
    provider.status, provider.answer = 401, b'{"error": "invalid_client"}'
    office = open_office(tokens={"vmtrak@example.org": "t1"})
    with pytest.raises(Unreachable, match=r"^No token for mail from .*: invalid_client$"):
        mailer_for(office, **by_token(provider)).send(parcel())
    assert office.connections == 0
