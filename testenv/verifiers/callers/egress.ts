// Calls an API through the sidecar's proxy: plain HTTP, no OAuth.
import { Agent, fetch } from "undici";

// http://127.0.0.1:9201, or unix:/run/token-exchange/egress.sock
const egress = process.env.EGRESS ?? "http://127.0.0.1:9201";
const socket = egress.startsWith("unix:") ? egress.slice("unix:".length) : undefined;
const dispatcher = new Agent(socket ? { connect: { socketPath: socket } } : {});
const base = socket ? "http://api.internal" : egress; // the host of a route, or any

// stockPrices is the body of a tool. received is the token of the request that is served.
export async function stockPrices(received: string): Promise<unknown> {
  const res = await fetch(`${base}/stocks`, {
    dispatcher,
    headers: {
      Authorization: `Bearer ${received}`,
      "Phantom-Tool": "get_stock_prices", // if the policy has tools
    },
    redirect: "manual", // where a redirect leads there may be no route
    signal: AbortSignal.timeout(30_000),
  });
  const refused = res.headers.get("Phantom-Error"); // the sidecar's own answer; the body says more
  if (refused) throw new Error(`the sidecar refused: ${refused}`);
  if (!res.ok) throw new Error(`the API answered ${res.status}`);
  return res.json();
}

console.log(JSON.stringify(await stockPrices(process.env.RECEIVED_TOKEN ?? "")));
await dispatcher.close();
