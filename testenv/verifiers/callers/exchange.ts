// Asks the sidecar for a token by hand (RFC 8693) and calls an API with it.
const { TOKEN_ENDPOINT = "", MCP_SERVER_SECRET = "", API = "" } = process.env;

// exchange swaps the token that this server received for one that the API accepts.
async function exchange(received: string): Promise<string> {
  const credentials = `mcp-server:${encodeURIComponent(MCP_SERVER_SECRET)}`;
  const res = await fetch(TOKEN_ENDPOINT, {
    method: "POST",
    headers: { Authorization: `Basic ${Buffer.from(credentials).toString("base64")}` },
    body: new URLSearchParams({
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token: received,
      subject_token_type: "urn:ietf:params:oauth:token-type:access_token",
      audience: "https://api.example.com",
      scope: "stocks/read",
    }),
    redirect: "error",
    signal: AbortSignal.timeout(10_000),
  });
  const answer = (await res.json()) as Record<string, string>;
  if (!res.ok || answer.token_type?.toLowerCase() !== "bearer" || !answer.access_token) {
    // Never go on with the token that was received.
    throw new Error(`the exchange was refused: ${answer.error}: ${answer.error_description}`);
  }
  return answer.access_token;
}

// stockPrices is the body of a tool.
export async function stockPrices(received: string): Promise<unknown> {
  const res = await fetch(`${API}/stocks`, {
    headers: { Authorization: `Bearer ${await exchange(received)}` },
    signal: AbortSignal.timeout(30_000),
  });
  if (!res.ok) throw new Error(`the API answered ${res.status}`);
  return res.json();
}

console.log(JSON.stringify(await stockPrices(process.env.RECEIVED_TOKEN ?? "")));
