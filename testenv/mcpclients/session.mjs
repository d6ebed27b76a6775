// What both drivers of the TypeScript SDK share: an application's part of a login. The SDK
// does the OAuth; the application keeps what the SDK wants kept, sends its user to the
// authorization URL and listens for the redirect.
//
// A driver is called with the URL of an MCP server, a folder for credentials and the name of
// a tool. It writes one JSON object per line: {"authorize": URL} when the user has to go
// there, and at the end {"text": what the tool said}.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";

export const [url, folder, tool] = process.argv.slice(2);

function say(event) {
  process.stdout.write(JSON.stringify(event) + "\n");
}

// The driver ends with whoever started it.
process.stdin.on("end", () => process.exit(1)).resume();

/**
 * Listens for the redirect, on the port of the last time if there was one: the client is
 * registered with it, and not every authorization server takes another.
 */
async function listen() {
  let arrived;
  const redirected = new Promise((resolve) => (arrived = resolve));
  const server = createServer((request, response) => {
    const at = new URL(request.url, "http://localhost");
    if (at.pathname !== "/callback") {
      response.writeHead(404).end();
      return;
    }
    response.end("You may close this page.");
    arrived(at.searchParams);
  });
  await new Promise((resolve) => server.listen(read("port.json") ?? 0, "127.0.0.1", resolve));
  write("port.json", server.address().port);
  return { redirectUrl: `http://localhost:${server.address().port}/callback`, redirected };
}

function read(file) {
  try {
    return JSON.parse(readFileSync(join(folder, file), "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw error;
  }
}

function write(file, value) {
  writeFileSync(join(folder, file), JSON.stringify(value), { mode: 0o600 });
}

/** An OAuthClientProvider that keeps everything in files of the folder. */
class Credentials {
  constructor(name, redirectUrl) {
    this.redirectUrl = redirectUrl;
    this.clientMetadata = {
      client_name: name,
      redirect_uris: [redirectUrl],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
    };
  }

  state() {
    this.expectedState ??= crypto.randomUUID();
    return this.expectedState;
  }

  clientInformation() { return read("client.json"); }
  saveClientInformation(information) { write("client.json", information); }
  tokens() { return read("tokens.json"); }
  saveTokens(tokens) { write("tokens.json", tokens); }
  codeVerifier() { return read("verifier.json"); }
  saveCodeVerifier(verifier) { write("verifier.json", verifier); }

  invalidateCredentials(scope) {
    const files = { client: ["client.json"], tokens: ["tokens.json"], verifier: ["verifier.json"] };
    for (const file of files[scope] ?? Object.values(files).flat()) rmSync(join(folder, file), { force: true });
  }

  redirectToAuthorization(authorizationUrl) { say({ authorize: authorizationUrl.href }); }
}

/**
 * Connects, with a login in between if there has to be one, calls the tool and says what it
 * answered. connect makes a client and its transport; finish gives the redirect's parameters
 * to the SDK.
 */
export async function run(name, { connect, isUnauthorized, finish }) {
  const { redirectUrl, redirected } = await listen();
  const credentials = new Credentials(name, redirectUrl);
  let [client, transport] = connect(credentials);
  try {
    await client.connect(transport);
  } catch (error) {
    if (!isUnauthorized(error)) throw error;
    const parameters = await redirected;
    if (parameters.get("state") !== credentials.expectedState) throw new Error("the redirect has another state");
    if (!parameters.has("code")) throw new Error(`the redirect has no code but ${parameters.get("error")}`);
    await finish(transport, parameters);
    [client, transport] = connect(credentials);
    await client.connect(transport);
  }
  const result = await client.callTool({ name: tool, arguments: {} });
  if (result.isError) throw new Error(`the tool failed: ${JSON.stringify(result.content)}`);
  say({ text: result.content.map((part) => part.text ?? "").join("") });
  await client.close();
  process.exit(0);
}
