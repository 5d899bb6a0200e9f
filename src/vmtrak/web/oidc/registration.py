"""What the settings say about the provider."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from vmtrak.access import Role


@dataclass(frozen=True, slots=True)
class Registration:
    """VMTrak as it is registered at the provider. `tenant` is set for Entra ID alone."""

    issuer: str
    tenant: str | None
    client_id: str
    client_secret: str | None = field(repr=False)
    base_url: str
    role_claim: str
    role_map: tuple[tuple[str, Role], ...]

    @property
    def redirect_uri(self) -> str:
        return f"{self.base_url}/api/auth/microsoft/callback"

    @property
    def after_sign_out(self) -> str:
        return f"{self.base_url}/admin/login"

    @property
    def origin(self) -> str:
        """The issuer's origin, which alone may frame the front-channel sign-out."""
        parts = urlsplit(self.issuer)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def name(self) -> str:
        """What people call this way to sign in."""
        return "Microsoft" if self.tenant else "single sign-on"
