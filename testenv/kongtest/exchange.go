package kongtest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	kpp "github.com/Kong/go-pdk/server/kong_plugin_protocol"
)

// serverToken is what Kong calls itself in Server and Via.
const serverToken = "kong/3.9.3"

// exchange is one request with its response, on its way through the gateway: what ngx.ctx
// and the variables of a request are for Kong. One goroutine uses it.
type exchange struct {
	g      *Gateway
	worker *worker
	conn   *clientConn
	head   *requestHead // its headers change as plugins set them
	body   *requestBody
	id     string
	start  time.Time

	peer     endpoint    // who is connected
	remote   endpoint    // who that is for: real_ip_header of a trusted peer
	original headerTable // the first hundred fields as the client sent them
	method   string
	args     string
	hasArgs  bool

	route   *routeEntity
	service *serviceEntity
	match   routeMatch

	upstream upstreamRequest
	response headers // set before there is a response

	shared     map[string]any
	nginxCtx   map[string]any
	consumer   *kpp.Consumer
	credential *kpp.AuthenticatedCredential

	delayed    *delayedResponse
	closeLater []net.Conn // to plugins, in the middle of an event
	proxied    bool
	accessEnd  time.Time
	keepAlive  bool
}

func newExchange(c *clientConn, head *requestHead) *exchange {
	x := &exchange{
		g: c.g, worker: c.worker, conn: c, head: head,
		id: requestID(), start: c.g.cfg.Now(),
		peer: c.peer, remote: c.peer,
		shared: map[string]any{}, nginxCtx: map[string]any{},
		method: head.method, keepAlive: head.keepAlive,
	}
	x.body = &requestBody{dir: c.g.bodyDir, next: func() uint64 { return c.g.bodies.Add(1) }, expect: x.sendContinue}
	return x
}

// prepare sets up what depends on a complete head.
func (x *exchange) prepare() {
	x.args = x.head.args()
	x.hasArgs = strings.Contains(x.head.uri, "?")
	x.original = x.head.headers.table(luaHeaders)
	x.applyRealIP()
	if x.head.chunked || x.head.contentLength > 0 {
		x.body.reader = deadlineReader{
			&bodyReader{r: x.conn.r, chunked: x.head.chunked, left: max(x.head.contentLength, 0)}, x.conn,
		}
	}
}

// applyRealIP is nginx's realip module.
func (x *exchange) applyRealIP() {
	if !x.trusted() {
		return
	}
	value, ok := x.head.headers.variable(x.g.cfg.RealIPHeader)
	if !ok {
		return
	}
	if i := strings.LastIndexByte(value, ','); i >= 0 {
		value = value[i+1:]
	}
	value = strings.TrimSpace(value)
	if ap, err := netip.ParseAddrPort(value); err == nil {
		x.remote = endpoint{ip: ap.Addr().String(), port: int(ap.Port())}
	} else if addr, err := netip.ParseAddr(strings.Trim(value, "[]")); err == nil {
		x.remote = endpoint{ip: addr.String()}
	}
}

// trusted reports whether the peer is in trusted_ips.
func (x *exchange) trusted() bool {
	addr, err := netip.ParseAddr(x.peer.ip)
	return err == nil && x.g.isTrusted(addr)
}

func (x *exchange) httpVersion() float64 {
	f, _ := strconv.ParseFloat("1."+strconv.Itoa(x.head.minor), 64)
	return f
}

func (x *exchange) tlsVersion() string {
	if x.conn.tls == nil {
		return ""
	}
	switch x.conn.tls.Version {
	case tls.VersionTLS12:
		return "TLSv1.2"
	default:
		return "TLSv1.3"
	}
}

// log writes a line about this request, with nginx's words about it.
func (x *exchange) log(lv level, text string) {
	suffix := fmt.Sprintf(", client: %s, server: kong, request: %q", x.remote.ip, x.head.line)
	if host, ok := x.head.headers.first("host"); ok {
		suffix += fmt.Sprintf(", host: %q", host)
	}
	x.g.errlog.write(lv, x.conn.id, text, suffix+fmt.Sprintf(", request_id: %q", x.id))
}

// sendContinue tells a client that waits with its body to go on.
func (x *exchange) sendContinue() error {
	if !x.head.expectContinue {
		return nil
	}
	x.head.expectContinue = false
	if _, err := io.WriteString(x.conn.w, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
		return err
	}
	return x.conn.w.Flush()
}

// refuse answers a request that nginx refuses by itself, before any plugin. The connection
// ends with it.
func (x *exchange) refuse(status int) {
	x.keepAlive = false
	if status == 501 || status == 505 { // not among Kong's error pages
		x.delayed = nginxPage(status)
	} else {
		x.delayed = x.nginxError(status)
	}
	x.sendDelayed()
}

// run is the access phase and what follows from it.
func (x *exchange) run(ctx context.Context) {
	config := x.worker.loaded.Load()
	if !x.findRoute(config) {
		x.sendDelayed()
		return
	}
	for _, c := range config.pluginsFor(x.route) {
		x.worker.runAccess(ctx, x, c)
		if x.delayed != nil {
			x.sendDelayed()
			return
		}
	}
	if ctx.Err() != nil {
		x.keepAlive = false
		return
	}
	if x.service == nil {
		x.delayed = x.errorResponse(503, "no Service found with those values")
		x.sendDelayed()
		return
	}
	x.proxy(ctx)
}

// findRoute routes the request. False means that x.delayed says why not.
func (x *exchange) findRoute(config *loadedConfig) bool {
	match, ok := config.router.find(x)
	if !ok {
		x.delayed = x.errorResponse(404, "no Route matched with those values")
		return false
	}
	x.match, x.route, x.service = match, match.route, match.route.Upstream
	x.prepareUpstream()
	if x.route.Only("https") && x.upstream.forwardedProto != "https" {
		x.delayed = x.requireHTTPS()
		return false
	}
	return true
}

// requireHTTPS answers plain requests to a route that wants HTTPS.
func (x *exchange) requireHTTPS() *delayedResponse {
	status := x.route.HTTPSRedirectStatusCode
	if status == 426 {
		r := x.errorResponse(426, "Please use HTTPS protocol")
		r.headers = append(r.headers, headerChange{"Connection", []string{"Upgrade"}}, headerChange{"Upgrade", []string{"TLS/1.2, HTTP/1.1"}})
		return r
	}
	return &delayedResponse{status: status, headers: []headerChange{
		{"Location", []string{"https://" + x.upstream.forwardedHost + x.head.uri}},
	}}
}

// finish ends what lives as long as the request.
func (x *exchange) finish() {
	for _, conn := range x.closeLater {
		conn.Close()
	}
	x.body.remove()
}

// discardBody throws away what is left of the request body, so that the next request can
// be read. It reports whether it can.
func (x *exchange) discardBody() bool {
	if x.body.reader == nil {
		return x.head.contentLength <= 0 && !x.head.chunked
	}
	if x.head.expectContinue {
		return false // nobody knows whether the body comes
	}
	deadline := time.Now().Add(lingerTimeout)
	buf := make([]byte, 32<<10)
	for {
		if _, err := x.body.reader.Read(buf); err != nil {
			return err == io.EOF
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
