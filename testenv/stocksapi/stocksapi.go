package stocksapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"phantomtoken/testenv/accesstoken"
)

// Config is what the API needs to know. Issuer and Audience are required.
type Config struct {
	Issuer   string // whose tokens are trusted: the sidecar
	Gateway  string // a second issuer: the gateway, for clients that come through it; empty: none
	Audience string // the name of this API in aud
	// OrdersThrough is the one server whose orders are accepted, by its name at Issuer: sub of
	// the current actor. Empty: any. Clients of the user's own, without act, are not meant.
	OrdersThrough string
	Transport     http.RoundTripper // fetches the issuer's keys; nil: one of its own
	Now           func() time.Time  // nil: time.Now
	Logger        *slog.Logger      // nil: discard
}

type api struct {
	cfg       Config
	verifiers map[string]*accesstoken.Verifier // by issuer
	stocks    []Stock
	log       *slog.Logger
}

// New returns the API as a handler. It makes no call; the issuer is looked up when the
// first token arrives.
func New(cfg Config) (http.Handler, error) {
	a := &api{cfg: cfg, verifiers: map[string]*accesstoken.Verifier{}, stocks: market(), log: cfg.Logger}
	issuers := []string{cfg.Issuer}
	if cfg.Gateway != "" {
		issuers = append(issuers, cfg.Gateway)
	}
	for _, issuer := range issuers {
		verifier, err := accesstoken.New(accesstoken.Config{
			Issuer: issuer, Audience: cfg.Audience, Transport: cfg.Transport, Now: cfg.Now,
		})
		if err != nil {
			return nil, fmt.Errorf("configuring stocks API: %w", err)
		}
		a.verifiers[issuer] = verifier
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /stocks", a.guard(reading, a.list))
	mux.Handle("GET /stocks/{symbol}", a.guard(reading, a.fetch))
	mux.Handle("GET /portfolio", a.guard(readingPortfolio, a.portfolio))
	mux.Handle("POST /orders", a.guard(a.trading, a.order))
	return mux, nil
}

// guard lets a request through to next when its token is good and may does not refuse.
func (a *api) guard(may allow, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, no := a.authenticate(r)
		if no == nil {
			actors := actorNames(c.actors)
			a.log.InfoContext(r.Context(), "request authenticated", "operation", r.Pattern, "actors", actors)
			showActors(w.Header(), actors)
			no = may(c)
		}
		if no != nil {
			a.refuse(w, r, no)
			return
		}
		next(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
	})
}

func (a *api) list(w http.ResponseWriter, r *http.Request) {
	c := callerOf(r.Context())
	a.write(w, r, http.StatusOK, StockList{Region: c.Region, Stocks: inRegion(a.stocks, c.Region)})
}

func (a *api) fetch(w http.ResponseWriter, r *http.Request) {
	c := callerOf(r.Context())
	stock, ok := bySymbol(inRegion(a.stocks, c.Region), r.PathValue("symbol"))
	if !ok {
		a.refuse(w, r, unknownStock(c))
		return
	}
	a.write(w, r, http.StatusOK, stock)
}

func (a *api) portfolio(w http.ResponseWriter, r *http.Request) {
	c := callerOf(r.Context())
	a.write(w, r, http.StatusOK, Portfolio{Owner: c.subject, Holdings: holdings(inRegion(a.stocks, c.Region))})
}

func (a *api) order(w http.ResponseWriter, r *http.Request) {
	c := callerOf(r.Context())
	var in OrderRequest
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10))
	if err := dec.Decode(&in); err != nil || in.Side != "buy" && in.Side != "sell" || in.Quantity < 1 || in.Quantity > MaxQuantity {
		a.refuse(w, r, &refusal{
			status: http.StatusBadRequest, code: "invalid_request",
			description: fmt.Sprintf("Expected a JSON object with symbol, side (buy or sell) and quantity (1 to %d)", MaxQuantity),
		})
		return
	}
	stock, ok := bySymbol(inRegion(a.stocks, c.Region), in.Symbol)
	if !ok {
		a.refuse(w, r, unknownStock(c))
		return
	}
	a.write(w, r, http.StatusCreated, Order{
		ID: rand.Text(), Symbol: stock.Symbol, Side: in.Side, Quantity: in.Quantity,
		Price: stock.Price, Currency: stock.Currency,
	})
}

// unknownStock is the same for a stock of another region and for none at all.
func unknownStock(c *caller) *refusal {
	return &refusal{
		status: http.StatusNotFound, code: "not_found",
		description: fmt.Sprintf("No such stock in region %q", c.Region),
	}
}
