"""Somebody with a browser that knows no scripts: at the provider's pages, and at VMTrak's."""

import re
from typing import Self
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

import httpx2

_ACTION = re.compile(r'action="([^"]+)"')


class Surfer:
    """A browser before the provider's pages."""

    def __init__(self) -> None:
        self.client = httpx2.Client(follow_redirects=False, timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.client.close()

    def pass_through(
        self, address: str, person: str = "ada", consent: str = "allow"
    ) -> httpx2.Response:
        """Open the address and answer what the provider asks; its last response."""
        response = self.client.get(address)
        for name, value in (("person", person), ("consent", consent)):
            if f'name="{name}"' in response.text:
                found = _ACTION.search(response.text)
                assert found, response.text
                response = self.client.post(str(response.url.join(found[1])), data={name: value})
        return response

    def sign_in(self, address: str, person: str = "ada", consent: str = "allow") -> str:
        """The address to which the provider sends the person back."""
        response = self.pass_through(address, person, consent)
        assert response.status_code == 303, response.text
        return response.headers["location"]


def query_of(address: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(address).query))


def with_query(address: str, **changed: str | None) -> str:
    """The address with some parameters of its query replaced, or left out if None."""
    parts = urlsplit(address)
    given = {name: values[0] for name, values in parse_qs(parts.query).items()}
    kept = {name: value for name, value in {**given, **changed}.items() if value is not None}
    return urlunsplit(parts._replace(query=urlencode(kept)))
