"""An MCP client on FastMCP.

Called and answering like client.py. FastMCP does the OAuth and listens for the redirect;
this application says where credentials are kept and stands in for the browser.
"""

import asyncio
import json
import os
import socket
import sys
import threading
import webbrowser
from pathlib import Path

from fastmcp import Client
from fastmcp.client.auth import OAuth
from key_value.aio.stores.filetree import (
    FileTreeStore,
    FileTreeV1CollectionSanitizationStrategy,
    FileTreeV1KeySanitizationStrategy,
)


def say(**event):
    print(json.dumps(event), flush=True)


class Browser(webbrowser.BaseBrowser):
    """Has somebody else open the page."""

    def open(self, url, new=0, autoraise=True):
        say(authorize=url)
        return True


def port(folder):
    """The port of the last time if there was one: the client is registered with it."""
    last = Path(folder) / "port.json"
    if not last.exists():
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            last.write_text(str(s.getsockname()[1]))
    return int(last.read_text())


async def main(url, folder, tool):
    kept = Path(folder) / "tokens"
    kept.mkdir(exist_ok=True)
    storage = FileTreeStore(
        data_directory=kept,  # its keys are URLs
        key_sanitization_strategy=FileTreeV1KeySanitizationStrategy(kept),
        collection_sanitization_strategy=FileTreeV1CollectionSanitizationStrategy(kept),
    )
    oauth = OAuth(
        client_name="Application on FastMCP",
        token_storage=storage,
        callback_port=port(folder),
    )
    async with Client(url, auth=oauth, timeout=30) as client:
        result = await client.call_tool(tool, {})
        say(text="".join(getattr(part, "text", "") for part in result.content))


def end_with_parent():
    """The driver ends with whoever started it."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    webbrowser.register("driver", None, Browser("driver"), preferred=True)
    threading.Thread(target=end_with_parent, daemon=True).start()
    asyncio.run(main(*sys.argv[1:]))
