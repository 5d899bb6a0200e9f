"""Who is known to the providers."""

from typing import Any

TENANT = "6f1c9e0a-3b52-4a7e-9d1f-2c8b5e7a4d30"
OTHER_TENANT = "0d9b7c52-8e14-4f6a-b3c1-5a2e9f7d6b48"

PEOPLE: dict[str, dict[str, Any]] = {
    "ada": {
        "sub": "pairwise-ada",
        "oid": "a1a1a1a1-0000-4000-8000-000000000001",
        "preferred_username": "ada.lovelace@corp.example",
        "email": "ada.lovelace@corp.example",
        "email_verified": True,
        "name": "Ada Lovelace",
        "roles": ["VMTrak.Admin"],
    },
    "otto": {
        "sub": "pairwise-otto",
        "oid": "a1a1a1a1-0000-4000-8000-000000000002",
        "preferred_username": "otto.hahn@corp.example",
        "email": "otto.hahn@corp.example",
        "email_verified": True,
        "name": "Otto Hahn",
        "roles": ["VMTrak.Operator"],
    },
    "nobody": {
        "sub": "pairwise-nobody",
        "oid": "a1a1a1a1-0000-4000-8000-000000000003",
        "preferred_username": "no.body@corp.example",
        "email": "no.body@corp.example",
        "email_verified": True,
        "name": "No Body",
        "roles": ["Something.Else"],
    },
    "guest": {
        "sub": "pairwise-guest",
        "oid": "a1a1a1a1-0000-4000-8000-000000000004",
        "preferred_username": "guest_partner.example#EXT#@corp.example",
        "email": "guest@partner.example",
        "email_verified": True,
        "name": "Gus Guest",
        "roles": ["VMTrak.Operator"],
        "acct": 1,
    },
}
"""Claims by the name on the provider's buttons."""

ROLE_MAP = "VMTrak.Admin=admin,VMTrak.Operator=readwrite,VMTrak.Reader=read"
