// oidc-provider as an authorization server for MCP: opaque access tokens, each for one
// resource (RFC 8707), dynamic registration, PKCE, introspection. Everything that a run
// decides is in its environment; everything it learns is in memory and forgotten at its end.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import Provider, { errors } from 'oidc-provider';

const setting = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`expected ${name} in the environment`);
  return value;
};

const issuer = setting('ISSUER');
const resources = setting('RESOURCES').split(' ');
const gateway = { client_id: 'api-gateway-client', client_secret: setting('API_GATEWAY_CLIENT_SECRET') };
const regions = new Map([['john.doe@demo.example', 'USA'], ['jane.roe@demo.example', 'Europe']]);
const scopes = ['stocks/read', 'stocks/trade']; // of the resources
const lifetime = 15 * 60; // of access tokens, in seconds

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const signingKey = { ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig' };

const provider = new Provider(issuer, {
  // The gateway asks about tokens and gets none itself.
  clients: [{ ...gateway, redirect_uris: [], response_types: [], grant_types: [] }],
  // MCP clients are native applications and do not say so: loopback on any port, own schemes.
  clientDefaults: { application_type: 'native', id_token_signed_response_alg: 'ES256' },
  enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
  jwks: { keys: [signingKey] },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  // The pages to sign in take any password; whoever is not on the list gets no further.
  findAccount: (ctx, id) => (regions.has(id) ? { accountId: id, claims: () => ({ sub: id }) } : undefined),
  pkce: { required: () => true }, // S256, the only method there is
  responseTypes: ['code'],
  // Without these, clients are refused that register for a scope of the resource, or, as
  // nearly all do, for refresh tokens. They get none: access ends, and the user is asked again.
  scopes: ['openid', 'offline_access', ...scopes],
  issueRefreshToken: () => false,
  ttl: { AccessToken: lifetime, AuthorizationCode: 60, Grant: lifetime, Interaction: 600, Session: lifetime },
  // What introspection says beside the registered members, like the mappers of the Keycloak realm.
  extraTokenClaims: (ctx, token) => ({ region: regions.get(token.accountId), client_type: 'mcp', client_assurance_level: 1 }),
  features: {
    devInteractions: { enabled: true },
    registration: { enabled: true }, // by anybody
    revocation: { enabled: true },
    // The default lets any confidential client ask about any token, registered ones too.
    introspection: { enabled: true, allowedPolicy: (ctx, client) => client.clientId === gateway.client_id },
    resourceIndicators: {
      enabled: true,
      // Nobody gets a token for a resource that was not asked for.
      defaultResource: (ctx, client, oneOf) => oneOf,
      // A client that names the resource only where its user signs in means it later, too.
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => {
        if (!resources.includes(resource)) throw new errors.InvalidTarget();
        return { scope: scopes.join(' '), audience: resource, accessTokenFormat: 'opaque', accessTokenTTL: lifetime };
      },
    },
  },
});

provider.on('server_error', (ctx, err) => console.error(`${ctx.method} ${ctx.path}: ${err.stack}`));

const { hostname, port } = new URL(issuer);
provider.listen(Number(port), hostname, () => console.log(`${issuer} is ready`));

const stop = () => process.exit(0); // nothing is kept
process.on('SIGTERM', stop);
// Standard input ends with the process that started this one, however that ended.
process.stdin.on('end', stop).resume();
