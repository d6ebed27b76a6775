"""Asks the sidecar for a token by hand (RFC 8693) and calls an API with it."""

import os
from urllib.parse import quote_plus

import httpx

client = httpx.Client(timeout=10, trust_env=False)


def exchange(received: str) -> str:
    """Swap the token that this server received for one that the API accepts."""
    answer = client.post(
        os.environ["TOKEN_ENDPOINT"],
        auth=("mcp-server", quote_plus(os.environ["MCP_SERVER_SECRET"])),
        data={
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": received,
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "audience": "https://api.example.com",
            "scope": "stocks/read",
        },
    )
    body = answer.json()
    if answer.status_code != 200 or body.get("token_type", "").lower() != "bearer":
        # Never go on with the token that was received.
        raise RuntimeError(f"the exchange was refused: {body.get('error')}: {body.get('error_description')}")
    return body["access_token"]


def stock_prices(received: str) -> dict:
    """The body of a tool."""
    token = exchange(received)
    answer = client.get(os.environ["API"] + "/stocks", headers={"Authorization": f"Bearer {token}"})
    answer.raise_for_status()
    return answer.json()


print(stock_prices(os.environ["RECEIVED_TOKEN"]))
