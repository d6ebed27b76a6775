// A small API that checks exchanged tokens with jose. It is here to be copied:
// docs/upstream-apis.md shows all of it.
import { createServer } from "node:http";
import { createRemoteJWKSet, errors, jwtVerify } from "jose";

const { ISSUER, AUDIENCE, PORT, JWKS_COOLDOWN = "30" } = process.env;
if (!ISSUER || !AUDIENCE) throw new Error("expected ISSUER and AUDIENCE in the environment");

const LEEWAY = 30; // seconds between the clocks of issuer and API
const MAX_ACTORS = 8;
// What this API accepts, whatever a token says of itself.
const ALGORITHMS = ["ES256", "RS256", "PS256", "EdDSA"];

class Invalid extends Error {} // 401: another token may help
class Unavailable extends Error {} // 503: nothing is known of the token

let keySet; // of the issuer, once its metadata were read
let retryAt = 0; // when an issuer that did not answer may be asked again

// key finds a public key of the issuer. jose keeps the key set for ten minutes and fetches it
// again for a key id that it does not know, but not more often than every cooldown: anybody
// can send a token with an invented key id.
async function key(header, token) {
  if (!header.kid) throw new Invalid("no kid");
  const known = keySet?.fresh && keySet.jwks()?.keys.some(({ kid }) => kid === header.kid);
  if (!known && Date.now() < retryAt) throw new Unavailable("the issuer did not answer a moment ago");
  try {
    keySet ??= createRemoteJWKSet(new URL(await jwksURI()), {
      cacheMaxAge: 10 * 60 * 1000,
      cooldownDuration: Number(JWKS_COOLDOWN) * 1000,
      timeoutDuration: 5000,
    });
    return await keySet(header, token);
  } catch (err) {
    if (err instanceof errors.JWKSNoMatchingKey || err instanceof errors.JWKSMultipleMatchingKeys) {
      throw new Invalid("signed with a key that the issuer does not publish");
    }
    retryAt = Date.now() + 1000;
    throw new Unavailable("the keys of the issuer cannot be had", { cause: err });
  }
}

// jwksURI asks the issuer's metadata where its keys are.
async function jwksURI() {
  const url = ISSUER.replace(/\/$/, "") + "/.well-known/openid-configuration";
  const res = await fetch(url, { redirect: "error", signal: AbortSignal.timeout(5000) });
  if (!res.ok) throw new Error(`expected metadata, got status ${res.status}`);
  const metadata = await res.json();
  if (metadata.issuer !== ISSUER) throw new Error("expected the metadata of the issuer, got another's");
  return metadata.jwks_uri;
}

// verify checks an access token (RFC 9068 §4) and says who is behind it.
async function verify(token) {
  let claims;
  try {
    ({ payload: claims } = await jwtVerify(token, key, {
      algorithms: ALGORITHMS,
      typ: "at+jwt", // nothing but an access token: an ID token of the same issuer has another type
      issuer: ISSUER, // byte by byte
      audience: AUDIENCE,
      clockTolerance: LEEWAY,
      requiredClaims: ["exp", "iat", "sub", "client_id"],
    }));
  } catch (err) {
    if (err instanceof Unavailable) throw err;
    throw new Invalid(err.code ?? err.message); // the code: the text may hold claims of the token
  }
  const { sub, client_id: client, scope = "", iat, cnf, act } = claims;
  if (iat - LEEWAY > Date.now() / 1000) throw new Invalid("of the future");
  if (![sub, client, scope].every((claim) => typeof claim === "string") || !sub || !client) {
    throw new Invalid("sub, client_id or scope is not a text");
  }
  if (cnf !== undefined) throw new Invalid("bound to a key that nobody proves here");
  const chain = actors(act);
  return {
    user: sub,
    client, // who had the token issued
    acted_by: chain[0] ?? client, // who acts for the user: decide by this one
    chain, // everybody who acted, the last one first: for the log
    scopes: scope.split(" "),
  };
}

// actors reads act (RFC 8693 §4.1), the outermost first.
function actors(act) {
  const chain = [];
  for (; act !== undefined; act = act.act) {
    const name = act?.sub ?? act?.client_id;
    if (typeof name !== "string" || !name || chain.length === MAX_ACTORS) {
      throw new Invalid(`act is not a chain of at most ${MAX_ACTORS} actors`);
    }
    chain.push(name);
  }
  return chain;
}

// guard lets a request through to next if its token has the scope of the operation.
async function guard(req, res, scope, next) {
  const [, token] = /^Bearer +(\S+)$/i.exec(req.headers.authorization ?? "") ?? [];
  if (!token) return refuse(res, 401, "Bearer"); // RFC 6750 §3.1: no error code without a token
  let caller;
  try {
    caller = await verify(token);
  } catch (err) {
    console.error("token refused:", err.message);
    if (err instanceof Invalid) return refuse(res, 401, 'Bearer error="invalid_token"');
    res.setHeader("Retry-After", "5");
    return refuse(res, 503);
  }
  if (!caller.scopes.includes(scope)) {
    return refuse(res, 403, `Bearer error="insufficient_scope", scope="${scope}"`);
  }
  const { scopes, ...who } = caller;
  console.log("request of", JSON.stringify(who));
  next(res, who);
}

function refuse(res, status, challenge) {
  if (challenge) res.setHeader("WWW-Authenticate", challenge);
  res.writeHead(status).end();
}

function answer(res, who) {
  res.writeHead(200, { "Content-Type": "application/json", "Cache-Control": "no-store" });
  res.end(JSON.stringify(who));
}

createServer((req, res) => {
  switch (`${req.method} ${req.url.split("?")[0]}`) {
    case "GET /healthz":
      return res.end();
    case "GET /stocks":
      return guard(req, res, "stocks/read", answer);
    case "POST /orders":
      return guard(req, res, "stocks/trade", answer);
    default:
      return refuse(res, 404);
  }
}).listen(Number(PORT), "127.0.0.1");
