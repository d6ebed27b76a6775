"""Calls an API through the sidecar's proxy: plain HTTP, no OAuth."""

import os

import httpx

# http://127.0.0.1:9201, or unix:/run/token-exchange/egress.sock
EGRESS = os.environ.get("EGRESS", "http://127.0.0.1:9201")

if EGRESS.startswith("unix:"):
    transport = httpx.HTTPTransport(uds=EGRESS.removeprefix("unix:"))
    base = "http://api.internal"  # the host of a route, or any
else:
    transport, base = httpx.HTTPTransport(), EGRESS
# With a transport of its own, no proxy is taken from the environment.
client = httpx.Client(base_url=base, transport=transport, timeout=30)


def stock_prices(received: str) -> dict:
    """The body of a tool. received is the token of the request that is served."""
    answer = client.get(
        "/stocks",
        headers={
            "Authorization": f"Bearer {received}",
            "Phantom-Tool": "get_stock_prices",  # if the policy has tools
        },
    )
    refused = answer.headers.get("Phantom-Error")  # the sidecar's own; the body says more
    if refused:
        raise RuntimeError(f"the sidecar refused: {refused}")
    answer.raise_for_status()
    return answer.json()


print(stock_prices(os.environ["RECEIVED_TOKEN"]))
