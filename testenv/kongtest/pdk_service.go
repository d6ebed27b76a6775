package kongtest

import (
	"slices"
	"sort"
	"strings"

	kpp "github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/types/known/structpb"
)

func serviceSetUpstream(_ *exchange, _ *kpp.String) ([]byte, error) {
	return nil, nil // there are no upstreams: false
}

func serviceSetTarget(x *exchange, target *kpp.Target) ([]byte, error) {
	if port := target.GetPort(); port < 0 || port > 65535 {
		return nil, luaErrorf("port must be an integer between 0 and 65535: given %d", port)
	}
	x.upstream.hostHeader = target.GetHost()
	x.upstream.host, x.upstream.port = target.GetHost(), int(target.GetPort())
	return nil, nil
}

func serviceSetScheme(x *exchange, scheme *kpp.String) ([]byte, error) {
	if s := scheme.GetV(); s != "http" && s != "https" {
		return nil, luaErrorf("invalid scheme: %s", s)
	}
	x.upstream.scheme = scheme.GetV()
	return nil, nil
}

func serviceSetPath(x *exchange, path *kpp.String) ([]byte, error) {
	if !strings.HasPrefix(path.GetV(), "/") {
		return nil, luaError("path must start with /")
	}
	x.upstream.uri = escapeURI(path.GetV())
	return nil, nil
}

func serviceSetRawQuery(x *exchange, query *kpp.String) ([]byte, error) {
	x.args = query.GetV()
	x.hasArgs = x.args != ""
	return nil, nil
}

// serviceSetQuery sorts the arguments by their encoded form.
func serviceSetQuery(x *exchange, args *structpb.Struct) ([]byte, error) {
	var parts []string
	for key, value := range fromStruct(args) {
		list, ok := value.([]any)
		if !ok {
			list = []any{value}
		}
		var part []string
		for _, v := range list {
			switch v := v.(type) {
			case string, float64:
				part = append(part, escapeComponent(key)+"="+escapeComponent(tostring(v)))
			case bool:
				part = append(part, escapeComponent(key))
			default:
				return nil, luaErrorf("attempt to use %s as query arg value", luaType(v))
			}
		}
		parts = append(parts, strings.Join(part, "&"))
	}
	sort.Strings(parts)
	x.args = strings.Join(parts, "&")
	x.hasArgs = x.args != ""
	return nil, nil
}

func serviceSetMethod(x *exchange, method *kpp.String) ([]byte, error) {
	accepted := []string{
		"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "MKCOL", "COPY", "MOVE",
		"PROPFIND", "PROPPATCH", "LOCK", "UNLOCK", "PATCH", "TRACE",
	}
	if !slices.Contains(accepted, method.GetV()) {
		return nil, luaErrorf("invalid method: %s", method.GetV())
	}
	x.method = method.GetV()
	return nil, nil
}

// setRequestHeader is kong.service.request.set_header: the Host field decides the
// upstream's, an underscore is not a dash, and no value removes the fields.
func (x *exchange) setRequestHeader(name string, values []string) error {
	if lower(name) == "host" && len(values) > 0 {
		host := values[len(values)-1]
		if _, ok := validHost(host); !ok {
			return luaErrorf("failed to set header %q: invalid host", name)
		}
		x.upstream.hostHeader = host
	}
	x.head.headers.set(name, values, singleRequestHeaders())
	return nil
}

func serviceSetHeader(x *exchange, kv *kpp.KV) ([]byte, error) {
	values, err := headerValues(kv.GetK(), fromValue(kv.GetV()))
	if err != nil {
		return nil, err
	}
	return nil, x.setRequestHeader(kv.GetK(), values)
}

// serviceAddHeader sets the fields of that name again, among the first hundred, with one
// more.
func serviceAddHeader(x *exchange, kv *kpp.KV) ([]byte, error) {
	values, err := headerValues(kv.GetK(), fromValue(kv.GetV()))
	if err != nil {
		return nil, err
	}
	old := x.head.headers.table(luaHeaders).get(kv.GetK())
	return nil, x.setRequestHeader(kv.GetK(), append(slices.Clone(old), values...))
}

func serviceClearHeader(x *exchange, name *kpp.String) ([]byte, error) {
	x.head.headers.clear(name.GetV())
	return nil, nil
}

func serviceSetHeaders(x *exchange, s *structpb.Struct) ([]byte, error) {
	changes, err := headerChanges(s)
	if err != nil {
		return nil, err
	}
	for _, c := range changes {
		if err := x.setRequestHeader(c.name, c.values); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func serviceSetRawBody(x *exchange, body *kpp.ByteString) ([]byte, error) {
	if err := x.body.buffer(); err != nil {
		return nil, luaErrorf("%v", err)
	}
	x.body.replace(body.GetV())
	return nil, nil
}
