package kongtest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/Kong/go-pdk"
	"github.com/Kong/go-pdk/client"
	"github.com/Kong/go-pdk/entities"
)

// probe is the configuration of the recording plugin.
type probe struct {
	Tag string `json:"tag"`
	raw json.RawMessage
}

// UnmarshalJSON keeps the configuration as it came.
func (p *probe) UnmarshalJSON(data []byte) error {
	var known struct {
		Tag string `json:"tag"`
	}
	p.raw = append(p.raw, data...)
	err := json.Unmarshal(data, &known)
	p.Tag = known.Tag
	return err
}

// Access does what the request header X-Script says: a JSON array of arrays, an operation
// and its arguments each. ["report"] sends what the others found out to the upstream in
// the header X-Report.
func (p *probe) Access(kong *pdk.PDK) {
	script, err := kong.Request.GetHeader("X-Script")
	if err != nil || script == "" {
		return
	}
	var steps [][]any
	if err := json.Unmarshal([]byte(script), &steps); err != nil {
		_ = kong.Log.Err("script: ", err.Error())
		return
	}
	var report []any
	for _, step := range steps {
		name, _ := step[0].(string)
		value, err := p.step(kong, name, step[1:])
		if err != nil {
			value = "error: " + err.Error()
		}
		report = append(report, value)
		switch name {
		case "report":
			data, _ := json.Marshal(report[:len(report)-1])
			_ = kong.ServiceRequest.SetHeader("X-Report", string(data))
		case "exit", "exitstatus":
			return
		}
	}
}

func (p *probe) step(kong *pdk.PDK, name string, args []any) (any, error) {
	str := func(i int) string {
		s, _ := args[i].(string)
		return s
	}
	num := func(i int) int {
		f, _ := args[i].(float64)
		return int(f)
	}
	lists := func(i int) map[string][]string {
		out := map[string][]string{}
		m, _ := args[i].(map[string]any)
		for k, v := range m {
			switch v := v.(type) {
			case string:
				out[k] = []string{v}
			case []any:
				out[k] = []string{}
				for _, e := range v {
					out[k] = append(out[k], fmt.Sprint(e))
				}
			}
		}
		return out
	}
	switch name {
	case "report":
		return nil, nil
	case "config":
		return p.raw, nil
	case "env":
		return os.Environ(), nil
	case "pid":
		return os.Getpid(), nil
	case "tags":
		return nil, kong.ServiceRequest.AddHeader("X-Tag", p.Tag)
	case "die":
		os.Exit(3)
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
	case "print":
		fmt.Fprintln(os.Stdout, str(0))
		fmt.Fprintln(os.Stderr, str(0)+" on stderr")
	case "hdr":
		return kong.Request.GetHeader(str(0))
	case "hdrs":
		return kong.Request.GetHeaders(num(0))
	case "req":
		return requestGetters(kong)
	case "path":
		return kong.Request.GetPath()
	case "query":
		return kong.Request.GetQuery(num(0))
	case "arg":
		return kong.Request.GetQueryArg(str(0))
	case "body":
		body, err := kong.Request.GetRawBody()
		return string(body), err
	case "size":
		body, err := kong.Request.GetRawBody()
		return len(body), err
	case "var":
		return kong.Nginx.GetVar(str(0))
	case "loadcons":
		return kong.Client.LoadConsumer(str(0), args[1] == true)
	case "protocol":
		return kong.Client.GetProtocol(args[0] == true)
	case "trusted":
		return kong.IP.IsTrusted(str(0))
	case "node":
		return kong.Node.GetId()
	case "started":
		return kong.Nginx.ReqStartTime()
	case "subsystem":
		return kong.Nginx.GetSubsystem()
	case "tls":
		return kong.Nginx.GetTLS1VersionStr()
	case "nset":
		return nil, kong.Nginx.SetCtx(str(0), args[1])
	case "nget":
		return kong.Nginx.GetCtxAny(str(0))
	case "captures":
		unnamed, named, err := kong.Request.GetUriCaptures()
		return fmt.Sprintf("%q %q", unnamed, named), err
	case "rstatus":
		return nil, kong.Response.SetStatus(num(0))
	case "supstream":
		return nil, kong.Service.SetUpstream(str(0))
	case "starget":
		return nil, kong.Service.SetTarget(str(0), num(1))
	case "sscheme":
		return nil, kong.ServiceRequest.SetScheme(str(0))
	case "ssquery":
		return nil, kong.ServiceRequest.SetQuery(lists(0))
	case "ctxset":
		return nil, kong.Ctx.SetShared(str(0), args[1])
	case "ctxget":
		return kong.Ctx.GetSharedAny(str(0))
	case "route":
		return kong.Router.GetRoute()
	case "service":
		return kong.Router.GetService()
	case "sset":
		return nil, kong.ServiceRequest.SetHeader(str(0), str(1))
	case "sadd":
		return nil, kong.ServiceRequest.AddHeader(str(0), str(1))
	case "sclr":
		return nil, kong.ServiceRequest.ClearHeader(str(0))
	case "ssets":
		return nil, kong.ServiceRequest.SetHeaders(lists(0))
	case "spath":
		return nil, kong.ServiceRequest.SetPath(str(0))
	case "squery":
		return nil, kong.ServiceRequest.SetRawQuery(str(0))
	case "smethod":
		return nil, kong.ServiceRequest.SetMethod(str(0))
	case "sbody":
		return nil, kong.ServiceRequest.SetRawBody(str(0))
	case "rset":
		return nil, kong.Response.SetHeader(str(0), str(1))
	case "radd":
		return nil, kong.Response.AddHeader(str(0), str(1))
	case "rsets":
		return nil, kong.Response.SetHeaders(lists(0))
	case "rclr":
		return nil, kong.Response.ClearHeader(str(0))
	case "rget":
		return kong.Response.GetHeader(str(0))
	case "exit":
		var headers map[string][]string
		if len(args) > 2 {
			headers = lists(2)
		}
		kong.Response.Exit(num(0), []byte(str(1)), headers)
	case "exitstatus":
		kong.Response.ExitStatus(num(0))
	case "auth":
		return nil, authenticate(kong, args)
	case "getcred":
		return kong.Client.GetCredential()
	case "getcons":
		return kong.Client.GetConsumer()
	case "log":
		return nil, logLine(kong, str(0), args[1:])
	default:
		return nil, fmt.Errorf("unknown step %q", name)
	}
	return nil, nil
}

// requestGetters asks in the order of the recording plugin.
func requestGetters(kong *pdk.PDK) (any, error) {
	out := map[string]any{}
	str := func(get func() (string, error)) func() (any, error) {
		return func() (any, error) { return get() }
	}
	num := func(get func() (int, error)) func() (any, error) {
		return func() (any, error) { return get() }
	}
	r := kong.Request
	for _, getter := range []struct {
		name string
		get  func() (any, error)
	}{
		{"method", str(r.GetMethod)}, {"path", str(r.GetPath)}, {"path_with_query", str(r.GetPathWithQuery)}, {"raw_query", str(r.GetRawQuery)},
		{"host", str(r.GetHost)}, {"port", num(r.GetPort)}, {"scheme", str(r.GetScheme)}, {"forwarded_host", str(r.GetForwardedHost)},
		{"forwarded_port", num(r.GetForwardedPort)}, {"forwarded_scheme", str(r.GetForwardedScheme)},
		{"http_version", func() (any, error) { return r.GetHttpVersion() }},
		{"ip", str(kong.Client.GetIp)}, {"forwarded_ip", str(kong.Client.GetForwardedIp)},
	} {
		v, err := getter.get()
		if err != nil {
			return nil, err
		}
		out[getter.name] = v
	}
	return out, nil
}

// authenticate takes a consumer and a credential; either may be null.
func authenticate(kong *pdk.PDK, args []any) error {
	member := func(i int, name string) string {
		m, _ := args[i].(map[string]any)
		s, _ := m[name].(string)
		return s
	}
	var consumer *entities.Consumer
	if args[0] != nil {
		consumer = &entities.Consumer{Id: member(0, "id"), Username: member(0, "username")}
	}
	if args[1] == nil {
		return kong.Client.Authenticate(consumer, nil)
	}
	return kong.Client.Authenticate(consumer, &client.AuthenticatedCredential{Id: member(1, "id"), ConsumerId: member(1, "consumer_id")})
}

func logLine(kong *pdk.PDK, level string, args []any) error {
	switch level {
	case "info":
		return kong.Log.Info(args...)
	case "warn":
		return kong.Log.Warn(args...)
	case "err":
		return kong.Log.Err(args...)
	}
	return kong.Log.Debug(args...)
}
