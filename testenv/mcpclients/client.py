"""An MCP client on the Python SDK.

Called with the URL of an MCP server, a folder for credentials and the name of a tool. It
writes one JSON object per line: {"authorize": URL} when the user has to go there, and at the
end {"text": what the tool said}. The SDK does the OAuth; this application keeps what the SDK
wants kept, sends its user to the authorization URL and listens for the redirect.
"""

import asyncio
import json
import os
import sys
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken


def say(**event):
    print(json.dumps(event), flush=True)


class Credentials:
    """A TokenStorage that keeps everything in files of a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def read(self, name, model):
        file = self.folder / name
        return model.model_validate_json(file.read_text()) if file.exists() else None

    def write(self, name, value):
        (self.folder / name).write_text(value.model_dump_json(exclude_none=True))

    async def get_tokens(self):
        return self.read("tokens.json", OAuthToken)

    async def set_tokens(self, tokens):
        self.write("tokens.json", tokens)

    async def get_client_info(self):
        return self.read("client.json", OAuthClientInformationFull)

    async def set_client_info(self, client_info):
        self.write("client.json", client_info)


async def listen(folder):
    """Listens for the redirect, on the port of the last time if there was one: the client is
    registered with it, and not every authorization server takes another."""
    redirected = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        request = (await reader.readline()).decode()
        while (await reader.readline()).strip():
            pass
        page = b"You may close this page."
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page))
        await writer.drain()
        writer.close()
        target = urlsplit(request.split(" ")[1])
        if target.path == "/callback" and not redirected.done():
            redirected.set_result({name: values[0] for name, values in parse_qs(target.query).items()})

    last = Path(folder) / "port.json"
    server = await asyncio.start_server(serve, "127.0.0.1", int(last.read_text()) if last.exists() else 0)
    port = server.sockets[0].getsockname()[1]
    last.write_text(str(port))
    return f"http://localhost:{port}/callback", redirected


async def main(url, folder, tool):
    redirect_uri, redirected = await listen(folder)

    async def redirect(authorization_url):
        say(authorize=authorization_url)

    async def callback():
        result = await redirected
        return AuthorizationCodeResult(code=result.get("code", ""), state=result.get("state"), iss=result.get("iss"))

    oauth = OAuthClientProvider(
        server_url=url,
        client_metadata=OAuthClientMetadata(
            client_name="Application on Python SDK",
            redirect_uris=[redirect_uri],
            token_endpoint_auth_method="none",
        ),
        storage=Credentials(folder),
        redirect_handler=redirect,
        callback_handler=callback,
    )
    async with httpx2.AsyncClient(auth=oauth, timeout=30) as http_client:
        async with Client(streamable_http_client(url, http_client=http_client)) as client:
            result = await client.call_tool(tool, {})
            if result.is_error:
                raise RuntimeError(f"the tool failed: {result.content}")
            say(text="".join(getattr(part, "text", "") for part in result.content))


def end_with_parent():
    """The driver ends with whoever started it."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    asyncio.run(main(*sys.argv[1:]))
