"""The JSON for programs, and its signature, which others check as Standard Webhooks say."""

import base64
import subprocess
import time

import pytest

from tests.webhooks.conftest import SECRET, Open
from tests.webhooks.parcels import BASE_URL, UID, line, parcel, trial
from tests.webhooks.peer import Answer, Peer
from vmtrak.channels import Delayed
from vmtrak.channels.webhooks import signed


def test_a_digest_is_told_whole(poster: Open, peer: Peer) -> None:
    lines = (line(0, "a", 1), line(1, "b", 2), line(7, "c", 3), line(-7, "<d>", 4, "ada"))
    poster(peer.url).send(parcel(*lines, more=5))
    event = peer.posted[0].json
    assert event.pop("vms")[3] == {
        "id": 4,
        "vm_name": "<d>",
        "ip_address": "192.0.2.17",
        "environment": "Production",
        "owner": "ada",
        "expiry_date": "2026-11-15",
        "days_left": -7,
        "group": "overdue",
        "url": f"{BASE_URL}/admin/vm/details/4",
    }
    assert event == {
        "type": "expiry.digest",
        "id": UID,
        "day": "2026-11-22",
        "total": 9,
        "counts": {"today": 1, "tomorrow": 1, "soon": 1, "overdue": 6},
        "more": 5,
        "url": f"{BASE_URL}/admin/vm/list?status=active&sort=expiry_date",
    }


def test_a_digest_that_names_all_leads_to_a_list_of_just_their_dates(
    poster: Open, peer: Peer
) -> None:
    poster(peer.url).send(parcel(line(7), line(-7)))
    dates = "expires_from=2026-11-15&expires_to=2026-11-29"
    assert (
        peer.posted[0]
        .json["url"]
        .endswith(f"/admin/vm/list?status=active&sort=expiry_date&{dates}")
    )


def test_a_test_has_the_same_shape_and_nothing_in_it(poster: Open, peer: Peer) -> None:
    poster(peer.url).send(trial())
    assert peer.posted[0].json == {
        "type": "test",
        "id": UID,
        "day": "2026-11-22",
        "total": 0,
        "counts": {"today": 0, "tomorrow": 0, "soon": 0, "overdue": 0},
        "vms": [],
        "more": 0,
        "url": f"{BASE_URL}/admin/",
    }


def test_the_signature_is_that_of_the_reference_implementations() -> None:
    """The vector with which the libraries of Standard Webhooks (and Svix) test themselves."""
    headers = signed(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def by_openssl(key: bytes, content: bytes) -> str:
    """The same, computed by another program."""
    command = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}"]
    done = subprocess.run([*command, "-binary"], input=content, capture_output=True, check=True)
    return f"v1,{base64.b64encode(done.stdout).decode()}"


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        (SECRET, base64.b64decode(SECRET[6:])),
        ("a passphrase of thirty-two bytes, ü", "a passphrase of thirty-two bytes, ü".encode()),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ],
)
def test_openssl_comes_to_the_same_signature(secret: str, key: bytes) -> None:
    body = '{"vm_name":"bäckerei"}'.encode()
    expected = by_openssl(key, f"{UID}.1795300000.".encode() + body)
    assert signed(secret, UID, 1795300000, body)["webhook-signature"] == expected


def test_what_is_posted_is_what_was_signed_and_the_id_stays_at_each_attempt(
    poster: Open, peer: Peer
) -> None:
    peer.answers = [Answer(503)]
    sender = poster(peer.url)
    told = parcel(line(0, "bäckerei"))
    with pytest.raises(Delayed):
        sender.send(told)
    sender.send(told)
    assert [posted.headers["webhook-id"] for posted in peer.posted] == [UID, UID]
    for posted in peer.posted:
        moment = posted.headers["webhook-timestamp"]
        assert abs(int(moment) - time.time()) < 60
        content = f"{UID}.{moment}.".encode() + posted.body
        expected = by_openssl(base64.b64decode(SECRET[6:]), content)
        assert posted.headers["webhook-signature"] == expected
