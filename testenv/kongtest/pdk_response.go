package kongtest

import (
	"sort"

	kpp "github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/types/known/structpb"
)

// headerValues checks a value for a header field and turns it into fields' values: Kong
// sends an empty one as a space, because nginx takes an empty one for "remove".
func headerValues(name string, value any) ([]string, error) {
	one := func(s string) string {
		if s == "" {
			return " "
		}
		return s
	}
	switch v := value.(type) {
	case string:
		return []string{one(v)}, nil
	case bool, float64:
		return []string{tostring(v)}, nil
	case map[string]any: // a table without list part, like an empty list
		return nil, nil
	case []any:
		values := []string{}
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, luaErrorf("invalid header value in array %q: got %s, expected string", name, luaType(e))
			}
			values = append(values, one(s))
		}
		return values, nil
	}
	return nil, luaErrorf("invalid header value for %q: got %s, expected array of string, string, number or boolean", name, luaType(value))
}

func luaType(v any) string {
	switch v.(type) {
	case nil:
		return "nil"
	case string:
		return "string"
	case bool:
		return "boolean"
	case float64:
		return "number"
	default:
		return "table"
	}
}

// headerChange is one name with its values.
type headerChange struct {
	name   string
	values []string
}

// headerChanges checks a table of header fields as a whole before any is applied.
func headerChanges(s *structpb.Struct) ([]headerChange, error) {
	var changes []headerChange
	for name, value := range s.GetFields() {
		values, err := headerValues(name, fromValue(value))
		if err != nil {
			return nil, err
		}
		changes = append(changes, headerChange{name, values})
	}
	sort.Slice(changes, func(i, j int) bool { return changes[i].name < changes[j].name })
	return changes, nil
}

func checkStatus(status int32) error {
	if status < 100 || status > 599 {
		return luaError("code must be a number between 100 and 599")
	}
	return nil
}

func responseSetStatus(_ *exchange, status *kpp.Int) ([]byte, error) {
	// The status of an access phase is overwritten by the upstream's or by exit.
	return nil, checkStatus(status.GetV())
}

// setResponseHeader is ngx.header[name] = values, but for Transfer-Encoding.
func (x *exchange) setResponseHeader(name string, values []string) {
	name = responseHeaderName(name)
	if lower(name) == "transfer-encoding" {
		x.log(levelWarn, "[kong] response.lua:470 manually setting Transfer-Encoding. Ignored.")
		return
	}
	x.response.set(name, values, singleResponseHeaders())
}

// responseHeaderName: nginx's Lua module turns underscores into dashes.
func responseHeaderName(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c == '_' {
			b[i] = '-'
		}
	}
	return string(b)
}

func responseSetHeader(x *exchange, kv *kpp.KV) ([]byte, error) {
	values, err := headerValues(kv.GetK(), fromValue(kv.GetV()))
	if err != nil {
		return nil, err
	}
	x.setResponseHeader(kv.GetK(), values)
	return nil, nil
}

func responseAddHeader(x *exchange, kv *kpp.KV) ([]byte, error) {
	values, err := headerValues(kv.GetK(), fromValue(kv.GetV()))
	if err != nil {
		return nil, err
	}
	x.response.add(responseHeaderName(kv.GetK()), values, singleResponseHeaders())
	return nil, nil
}

func responseClearHeader(x *exchange, name *kpp.String) ([]byte, error) {
	x.response.clear(responseHeaderName(name.GetV()))
	return nil, nil
}

func responseSetHeaders(x *exchange, s *structpb.Struct) ([]byte, error) {
	changes, err := headerChanges(s)
	if err != nil {
		return nil, err
	}
	for _, c := range changes {
		x.setResponseHeader(c.name, c.values)
	}
	return nil, nil
}

func responseExit(x *exchange, args *kpp.ExitArgs) ([]byte, error) {
	if err := checkStatus(args.GetStatus()); err != nil {
		return nil, err
	}
	changes, err := headerChanges(args.GetHeaders())
	if err != nil {
		return nil, err
	}
	x.delayed = &delayedResponse{status: int(args.GetStatus()), body: args.GetBody(), headers: changes}
	return nil, errExit
}
