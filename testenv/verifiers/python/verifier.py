"""A small API that checks exchanged tokens with PyJWT.

It is here to be copied: docs/upstream-apis.md shows all of it.
"""

import json
import logging
import os
import re
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt

ISSUER = os.environ["ISSUER"]
AUDIENCE = os.environ["AUDIENCE"]
COOLDOWN = float(os.environ.get("JWKS_COOLDOWN", "30"))

LEEWAY = 30  # seconds between the clocks of issuer and API
MAX_ACTORS = 8
# What this API accepts, whatever a token says of itself.
ALGORITHMS = ["ES256", "RS256", "PS256", "EdDSA"]


class Invalid(Exception):
    """401: another token may help."""


class Unavailable(Exception):
    """503: nothing is known of the token."""


class KeySet(jwt.PyJWKClient):
    """The public keys of the issuer.

    PyJWKClient keeps the key set for ten minutes and fetches it again for a key id that it
    does not know, but not more often than every cooldown: anybody can send a token with an
    invented key id. Here, an issuer that did not answer is not asked again at once either.
    """

    retry_at = 0.0

    def fetch_data(self):
        if time.monotonic() < self.retry_at:
            raise jwt.PyJWKClientConnectionError("the issuer did not answer a moment ago")
        try:
            return super().fetch_data()
        except Exception:
            self.retry_at = time.monotonic() + COOLDOWN
            raise


key_set = None  # once the issuer's metadata were read
discovering = threading.Lock()


def key(kid):
    """Find a public key of the issuer."""
    global key_set
    try:
        with discovering:
            if key_set is None:
                key_set = KeySet(jwks_uri(), lifespan=600, cooldown_duration=COOLDOWN, timeout=5)
        return key_set.get_signing_key(kid)
    except (jwt.PyJWKClientConnectionError, jwt.PyJWKSetError, OSError, ValueError) as err:
        raise Unavailable("the keys of the issuer cannot be had") from err
    except jwt.PyJWKClientError as err:
        raise Invalid("signed with a key that the issuer does not publish") from err


def jwks_uri():
    """Ask the issuer's metadata where its keys are."""
    url = ISSUER.removesuffix("/") + "/.well-known/openid-configuration"
    with urllib.request.urlopen(url, timeout=5) as answer:
        metadata = json.loads(answer.read(1 << 20))
    if metadata["issuer"] != ISSUER:
        raise ValueError("expected the metadata of the issuer, got another's")
    return metadata["jwks_uri"]


def verify(token):
    """Check an access token (RFC 9068 §4) and say who is behind it."""
    try:
        header = jwt.get_unverified_header(token)
        kid, typ = header.get("kid"), str(header.get("typ", "")).lower()
        # Nothing but an access token: an ID token of the same issuer has another type.
        if typ.removeprefix("application/") != "at+jwt":
            raise Invalid("typ is not at+jwt")
        if not isinstance(kid, str) or "crit" in header:
            raise Invalid("no kid, or an extension that nobody knows here")
        claims = jwt.decode(
            token,
            key(kid),  # with its own algorithm, and no other
            algorithms=ALGORITHMS,
            issuer=ISSUER,  # byte by byte
            audience=AUDIENCE,
            leeway=LEEWAY,  # for exp, nbf and iat
            options={"require": ["exp", "iat", "sub", "client_id"]},
        )
    except jwt.InvalidTokenError as err:
        raise Invalid(type(err).__name__) from err  # the name: the text may hold claims
    sub, client, scope = claims["sub"], claims["client_id"], claims.get("scope", "")
    if not all(isinstance(claim, str) for claim in (sub, client, scope)) or not sub or not client:
        raise Invalid("sub, client_id or scope is not a text")
    if "cnf" in claims:
        raise Invalid("bound to a key that nobody proves here")
    chain = actors(claims.get("act"))
    who = {
        "user": sub,
        "client": client,  # who had the token issued
        "acted_by": chain[0] if chain else client,  # who acts for the user: decide by this one
        "chain": chain,  # everybody who acted, the last one first: for the log
    }
    return who, scope.split()


def actors(act):
    """Read act (RFC 8693 §4.1), the outermost first."""
    chain = []
    while act is not None:
        name = isinstance(act, dict) and (act.get("sub") or act.get("client_id"))
        if not isinstance(name, str) or not name or len(chain) == MAX_ACTORS:
            raise Invalid(f"act is not a chain of at most {MAX_ACTORS} actors")
        chain.append(name)
        act = act.get("act")
    return chain


class API(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self):
        match self.path.partition("?")[0]:
            case "/healthz":
                self.answer(200)
            case "/stocks":
                self.guard("stocks/read")
            case _:
                self.answer(404)

    def do_POST(self):
        self.close_connection = True  # this sample reads no bodies
        if self.path == "/orders":
            self.guard("stocks/trade")
        else:
            self.answer(404)

    def guard(self, scope):
        """Answer if the token of the request has the scope of the operation."""
        credential = re.fullmatch(r"(?i:Bearer) +(\S+)", self.headers.get("Authorization", ""))
        if not credential:
            # RFC 6750 §3.1: no error code without a token.
            return self.answer(401, challenge="Bearer")
        try:
            who, scopes = verify(credential[1])
        except Invalid as err:
            logging.info("token refused: %s", err)
            return self.answer(401, challenge='Bearer error="invalid_token"')
        except Unavailable:
            logging.exception("tokens cannot be verified")
            return self.answer(503)
        if scope not in scopes:
            return self.answer(403, challenge=f'Bearer error="insufficient_scope", scope="{scope}"')
        logging.info("request of %s", who)
        self.answer(200, body=who)

    def answer(self, status, body=None, challenge=None):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        if status == 503:
            self.send_header("Retry-After", "5")
        self.end_headers()
        self.wfile.write(data)

    def log_request(self, code="-", size="-"):
        """Log no request lines: a client may have put a secret into the query."""


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), API).serve_forever()
