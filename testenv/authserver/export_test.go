package authserver

import (
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// Handler serves without a network, for fuzzing.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.dispatch) }

// SetDocumentTimeout shortens the time for a client metadata document.
func (s *Server) SetDocumentTimeout(d time.Duration) { s.documents.httpClient.Timeout = d }

func CheckRedirectURI(uri string, schemes []string) error   { return checkRedirectURI(uri, schemes) }
func MatchRedirectURI(registered []string, uri string) bool { return matchRedirectURI(registered, uri) }
func WithQuery(uri string, params url.Values) string        { return withQuery(uri, params) }
func MayFetchFrom(addr netip.Addr, trusted bool) bool       { return mayFetchFrom(addr, trusted) }
func ParseBasic(header string) (id, secret string, ok bool) { return parseBasic(header) }
func Words(d time.Duration) string                          { return words(d) }
