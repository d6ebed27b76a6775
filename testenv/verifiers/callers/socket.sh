curl --silent --show-error --fail-with-body \
  --unix-socket "$SOCKET" \
  --header "Authorization: Bearer $RECEIVED_TOKEN" \
  http://api.internal/stocks
