curl --silent --show-error --fail-with-body \
  --header "Authorization: Bearer $RECEIVED_TOKEN" \
  --header "Phantom-Tool: get_stock_prices" \
  "$EGRESS/stocks"
