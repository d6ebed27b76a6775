package pluginserver

import (
	"github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// Call is one call of Kong's plugin development kit: a question about the request or a
// change to it. Its strings must be valid UTF-8, or the call is refused before anything is
// sent.
type Call struct {
	Method string        // dotted name, for example "kong.request.get_method"
	Args   proto.Message // nil for a method without arguments
}

// MaxHeaders is the most header fields that Kong hands out at once. A request that has as
// many may have more.
const MaxHeaders = 1000

// GetHeaders asks for the header fields of the request, at most limit of them (2 to
// MaxHeaders; a larger number ends the request with a 500). Read them by Reply.Headers.
func GetHeaders(limit int) Call {
	return Call{"kong.request.get_headers", &kong_plugin_protocol.Int{V: int32(limit)}}
}

// GetPathWithQuery asks for path and query as the client sent them.
func GetPathWithQuery() Call { return Call{Method: "kong.request.get_path_with_query"} }

// GetMethod asks for the method of the request.
func GetMethod() Call { return Call{Method: "kong.request.get_method"} }

// GetHost asks for the host of the request, in lower case and without port.
func GetHost() Call { return Call{Method: "kong.request.get_host"} }

// GetForwardedIP asks for the client's address. Kong believes forwarding headers only if
// they come from its trusted_ips.
func GetForwardedIP() Call { return Call{Method: "kong.client.get_forwarded_ip"} }

// GetRoute asks for the matched route: Reply.Message into a kong_plugin_protocol.Route.
func GetRoute() Call { return Call{Method: "kong.router.get_route"} }

// SetServiceHeader sets a header of the request that goes to the upstream. Other spellings
// of the name (underscores) stay as they are.
func SetServiceHeader(name, value string) Call {
	return Call{"kong.service.request.set_header", keyValue(name, value)}
}

// ClearServiceHeader removes a header, in exactly this spelling, from the request that
// goes to the upstream.
func ClearServiceHeader(name string) Call {
	return Call{"kong.service.request.clear_header", &kong_plugin_protocol.String{V: name}}
}

// SetResponseHeader sets a header of the response that goes to the client.
func SetResponseHeader(name, value string) Call {
	return Call{"kong.response.set_header", keyValue(name, value)}
}

// LoadConsumer asks for a consumer by its username: Reply.Message into a
// kong_plugin_protocol.Consumer, which is empty when there is none, and when Kong's
// database does not answer. Kong tries a name that has the form of a UUID as an id first.
// Its protocol has no look-up by custom_id.
func LoadConsumer(username string) Call {
	return Call{"kong.client.load_consumer", &kong_plugin_protocol.ConsumerSpec{Id: username, ByUsername: true}}
}

// Authenticate tells Kong who is calling: its later plugins and its logs. Either may be
// nil, not both; what is nil is forgotten, whoever has set it. No header is set.
func Authenticate(consumer *kong_plugin_protocol.Consumer, credential *kong_plugin_protocol.AuthenticatedCredential) Call {
	return Call{"kong.client.authenticate", &kong_plugin_protocol.AuthenticateArgs{Consumer: consumer, Credential: credential}}
}

// SetAuthenticatedGroups tells Kong's acl the groups of the caller. An empty list says that
// there are none; without one acl looks for those of a consumer.
func SetAuthenticatedGroups(groups []string) Call {
	list := &structpb.ListValue{Values: make([]*structpb.Value, len(groups))}
	for i, group := range groups {
		list.Values[i] = structpb.NewStringValue(group)
	}
	return Call{"kong.ctx.shared.set", &kong_plugin_protocol.KV{K: "authenticated_groups", V: structpb.NewListValue(list)}}
}

func keyValue(name, value string) *kong_plugin_protocol.KV {
	return &kong_plugin_protocol.KV{K: name, V: structpb.NewStringValue(value)}
}

// exit makes the call that answers the client. Kong sends several values of one name as
// several fields, save for WWW-Authenticate, of which only the last survives.
func exit(status int, headers []Header, body []byte) Call {
	args := &kong_plugin_protocol.ExitArgs{Status: int32(status), Body: body}
	if len(headers) > 0 {
		args.Headers = &structpb.Struct{Fields: make(map[string]*structpb.Value, len(headers))}
	}
	for _, h := range headers {
		values := args.Headers.Fields[h.Name].GetListValue()
		if values == nil {
			values = &structpb.ListValue{}
			args.Headers.Fields[h.Name] = structpb.NewListValue(values)
		}
		values.Values = append(values.Values, structpb.NewStringValue(h.Value))
	}
	return Call{methodExit, args}
}

const methodExit = "kong.response.exit"
