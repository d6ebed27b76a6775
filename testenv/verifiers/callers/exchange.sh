curl --silent --show-error --fail-with-body "$TOKEN_ENDPOINT" \
  --data-urlencode client_id=mcp-server \
  --data-urlencode "client_secret=$MCP_SERVER_SECRET" \
  --data-urlencode grant_type=urn:ietf:params:oauth:grant-type:token-exchange \
  --data-urlencode "subject_token=$RECEIVED_TOKEN" \
  --data-urlencode subject_token_type=urn:ietf:params:oauth:token-type:access_token \
  --data-urlencode audience=https://api.example.com \
  --data-urlencode scope=stocks/read
