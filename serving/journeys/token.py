"""Signed requests of Journey Builder: their body is a JSON Web Token of HS256 (RFC 7519).

Source: Salesforce, "Encode Custom Activities Using a JWT" (Marketing Cloud Engagement developer guide).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from features.errors import EncoreError

LEAST_KEY = 32  # bytes; RFC 7518, 3.2, asks for as many as the hash has
WINDOW = 300  # seconds for which a token that says when it was made can be used
CLOCKS = 60  # seconds that two machines' clocks may be apart


@dataclass(frozen=True)
class JourneyBuilder:
    """How Salesforce's Journey Builder signs. customer_key: the External Key of its key management that it signs with, if any."""

    key: str = field(repr=False)
    customer_key: str | None = None


class NotSigned(EncoreError):
    """A request of Journey Builder does not carry a token that can be believed."""


def claims(token: bytes, key: str) -> dict[str, Any]:
    """What a token says, once its signature and its times are right.

    Journey Builder's own tokens need not say when they were made; such a one can be sent again, and has no further effect then.

    Raises:
        NotSigned: another algorithm or key, over or too old, no token.
    """
    import jwt  # brings a library of ciphers where there is one; most services never need it

    # Whom a token is for and from, Journey Builder does not say, or not so that it could be judged here.
    options: jwt.types.Options = {"verify_aud": False, "verify_iss": False, "verify_sub": False, "verify_jti": False}
    try:
        said: dict[str, Any] = jwt.decode(token.strip(), key, algorithms=["HS256"], leeway=CLOCKS, options=options)
    except jwt.ExpiredSignatureError:
        raise NotSigned("The token has expired. See that the clocks of both sides are right.") from None
    except jwt.ImmatureSignatureError:
        raise NotSigned("The token is from the future. See that the clocks of both sides are right.") from None
    except jwt.InvalidAlgorithmError:
        raise NotSigned("The token is not signed with HS256.") from None
    except jwt.InvalidSignatureError:
        raise NotSigned("The token is signed with another key than ENCORE_SFMC_JWT_KEY, the JWT Signing Secret of the installed package.") from None
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise NotSigned("The body is not a JSON Web Token. Set `useJwt` to true for every call of the activity, as config.json does.") from None
    if time.time() - float(said.get("iat", "inf")) > WINDOW + CLOCKS:
        raise NotSigned(f"The token was made more than {WINDOW} seconds ago.")
    return said
