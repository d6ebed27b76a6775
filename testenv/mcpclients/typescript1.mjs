// An MCP client on the TypeScript SDK 1.x.

import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

import { run, url } from "./session.mjs";

await run("Application on TypeScript SDK 1", {
  connect: (credentials) => [
    new Client({ name: "typescript-sdk-1", version: "1.0.0" }),
    new StreamableHTTPClientTransport(new URL(url), { authProvider: credentials }),
  ],
  isUnauthorized: (error) => error instanceof UnauthorizedError,
  finish: (transport, parameters) => transport.finishAuth(parameters.get("code")),
});
