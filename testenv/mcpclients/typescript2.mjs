// An MCP client on the TypeScript SDK 2.x, which finds out by itself which protocol the
// server speaks.

import { Client, StreamableHTTPClientTransport, UnauthorizedError } from "@modelcontextprotocol/client";

import { run, url } from "./session.mjs";

await run("Application on TypeScript SDK 2", {
  connect: (credentials) => [
    new Client({ name: "typescript-sdk-2", version: "1.0.0" }, { versionNegotiation: { mode: "auto" } }),
    new StreamableHTTPClientTransport(new URL(url), { authProvider: credentials }),
  ],
  isUnauthorized: (error) => error instanceof UnauthorizedError,
  finish: (transport, parameters) => transport.finishAuth(parameters),
});
