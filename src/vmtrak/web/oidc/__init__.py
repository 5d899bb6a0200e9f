"""Signing in over Microsoft Entra ID, or any OpenID provider, by Authlib and joserfc.

How a sign-in goes:

1. `GET /api/auth/microsoft?next=/admin/…` makes a flow: state, nonce and PKCE verifier, sealed in
   a cookie of the flow's own (`vmtrak_oidc_…`, ten minutes, path /api/auth/microsoft, HttpOnly,
   SameSite=Lax). It leads to the provider with `response_type=code`, `scope=openid profile email`,
   `code_challenge_method=S256` and the redirect URI `VMTRAK_BASE_URL/api/auth/microsoft/callback`.
   Several flows may be under way in one browser.
2. The provider leads back to the callback, which opens the cookie that its `state` names, and
   takes it away. It exchanges the code, checks the ID token, and asks `accounts.identities` for
   the account. A panel session starts, and the browser goes on to `next` (303).

Variants: `?client=rest&next=/any/own/path` starts a session of the REST interface: the cookie
`refreshToken` is set instead. `?client=rest&purpose=prove` insists on a sign-in at this moment
(`prompt=login`, `max_age=0`). `GET /admin/microsoft?purpose=prove&next=…` does so for the panel
session of the browser, whose person it must be: the session is renewed with `proved_at`.
`/api/auth/microsoft?purpose=prove` leads there. `GET /admin/microsoft?next=…` is as 1, but a panel
session that the browser has ends when the new one starts; the button of the sign-in page uses it.

What is checked beyond the specifications' musts:

- The metadata's `issuer` is the configured one to the letter; every address in the metadata is
  https, or http on loopback. No redirect is followed. Five seconds for each exchange, 512 KiB.
- `iss` in the redirect (RFC 9207) where the provider announces it, and whenever it is there.
- Clocks may differ by `LEEWAY` (60 s), by `exp`, `nbf`, `iat` and by the `Date` of the token
  response. Entra dates its tokens five minutes back, so there `iat` may be that much older.
- For Entra `tid` is the tenant, and `oid` is there. The person is (`tid`, `oid`), elsewhere
  (`iss`, `sub`). `at_hash`, if there is one, is that of the access token, which is then forgotten.
- An e-mail address counts where somebody vouches for it: `email_verified` is true, or for Entra
  the tenant does, who is no guest (`acct` is not 1, `idp` is absent or the tenant). Who comes with
  another gets an account, but neither that address nor a user name of their own choice
  (decisions/0013): `bob-1f2e3d4c`, `bob-1f2e3d4c@unverified.example`.
- `sid` and `auth_time` go into the session (`provider_sid`, `proved_at`).

Whatever fails raises `SignInRefused`: a page with the words and the status of `web.refusals`, an
event `auth.login_failed` with `{"reason": …}` (`auth.proof_failed` where a session was to be
proved), no session, and the flow's cookie is gone. 503 as problem+json while no provider is
configured.

`GET /api/auth/microsoft/logout?sid=…[&iss=…]` ends the sessions of that `sid` (Front-Channel
Logout 1.0): 200, framed by the issuer's origin alone; 400 without `sid` or with another `iss`.
After `POST /admin/logout` of somebody who signs in here `/admin/microsoft/signed-out` offers the
provider's `end_session_endpoint`.
"""

from vmtrak.web.oidc.checks import examine
from vmtrak.web.oidc.flows import Flow
from vmtrak.web.oidc.people import person_of
from vmtrak.web.oidc.provider import LEEWAY, Provider, Registration

__all__ = ["LEEWAY", "Flow", "Provider", "Registration", "examine", "person_of"]
