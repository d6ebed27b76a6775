package kongtest

import (
	"errors"
	"fmt"
	"strings"

	kpp "github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// pdkFunc answers one question of a plugin during access. A luaError, or any other error,
// ends the request with 500; errExit ends it with the response in x.delayed.
type pdkFunc func(x *exchange, args []byte) (reply []byte, err error)

// errExit says that the plugin has answered the request. The question gets no reply.
var errExit = errors.New("the plugin has answered the request")

// luaError is an error raised inside a function of Kong's PDK.
type luaError string

func (e luaError) Error() string { return string(e) }

func luaErrorf(format string, args ...any) error { return luaError(fmt.Sprintf(format, args...)) }

// ask wraps a function that takes one message.
func ask[M any, P interface {
	*M
	proto.Message
}](f func(x *exchange, args P) ([]byte, error)) pdkFunc {
	return func(x *exchange, data []byte) ([]byte, error) {
		args := P(new(M))
		if err := proto.Unmarshal(data, args); err != nil {
			return nil, luaErrorf("decoding arguments: %v", err)
		}
		return f(x, args)
	}
}

// get wraps a function without arguments that cannot fail.
func get(f func(x *exchange) []byte) pdkFunc {
	return func(x *exchange, _ []byte) ([]byte, error) { return f(x), nil }
}

// getString wraps a getter of a string.
func getString(f func(x *exchange) string) pdkFunc {
	return get(func(x *exchange) []byte { return encodeString(f(x)) })
}

// getInt wraps a getter of an integer.
func getInt(f func(x *exchange) int) pdkFunc {
	return get(func(x *exchange) []byte { return encodeInt(int64(f(x))) })
}

// notIn refuses a function in the phase access, in Kong's words.
func notIn(phases string) pdkFunc {
	return func(*exchange, []byte) ([]byte, error) {
		return nil, luaErrorf("function cannot be called in access phase (only in: %s)", phases)
	}
}

// notModelled refuses a function that Kong has and kongtest has not.
func notModelled(_ *exchange, _ []byte) ([]byte, error) {
	return nil, luaError("kongtest does not model this function of the PDK")
}

// pdkFunctions are the functions of the PDK by their dotted names. Every method of the
// protocol is in it; what is not ends the request as in Kong.
func pdkFunctions() map[string]pdkFunc {
	const responsePhases = "response, header_filter, body_filter, log"
	functions := map[string]pdkFunc{
		"kong.client.get_ip":             getString(func(x *exchange) string { return x.peer.ip }),
		"kong.client.get_forwarded_ip":   getString(func(x *exchange) string { return x.remote.ip }),
		"kong.client.get_port":           getInt(func(x *exchange) int { return x.peer.port }),
		"kong.client.get_forwarded_port": getInt(func(x *exchange) int { return x.remote.port }),
		"kong.client.get_credential":     get(clientGetCredential),
		"kong.client.get_consumer":       get(clientGetConsumer),
		"kong.client.load_consumer":      ask(clientLoadConsumer),
		"kong.client.authenticate":       ask(clientAuthenticate),
		"kong.client.get_protocol":       ask(clientGetProtocol),

		"kong.ctx.shared.set": ask(ctxSharedSet),
		"kong.ctx.shared.get": ask(ctxSharedGet),

		"kong.ip.is_trusted": ask(ipIsTrusted),

		"kong.log.set_serialize_value": ask(func(*exchange, *kpp.KV) ([]byte, error) { return nil, nil }),
		"kong.log.serialize":           notIn("log"),

		"kong.nginx.get_var":              ask(nginxGetVar),
		"kong.nginx.get_tls1_version_str": getString(func(x *exchange) string { return x.tlsVersion() }),
		"kong.nginx.set_ctx":              ask(nginxSetCtx),
		"kong.nginx.get_ctx":              ask(nginxGetCtx),
		"kong.nginx.req_start_time":       get(nginxReqStartTime),
		"kong.nginx.get_subsystem":        getString(func(*exchange) string { return "http" }),

		"kong.node.get_id":           getString(func(x *exchange) string { return x.g.nodeID }),
		"kong.node.get_memory_stats": notModelled,

		"kong.request.get_scheme":           getString(func(x *exchange) string { return x.conn.scheme() }),
		"kong.request.get_host":             getString(func(x *exchange) string { return x.head.host }),
		"kong.request.get_port":             getInt(func(x *exchange) int { return x.conn.port }),
		"kong.request.get_forwarded_scheme": getString(requestForwardedScheme),
		"kong.request.get_forwarded_host":   getString(requestForwardedHost),
		"kong.request.get_forwarded_port":   getInt(requestForwardedPort),
		"kong.request.get_http_version":     get(func(x *exchange) []byte { return encodeNumber(x.httpVersion()) }),
		"kong.request.get_method":           getString(func(x *exchange) string { return x.method }),
		"kong.request.get_path":             getString(requestPath),
		"kong.request.get_path_with_query":  getString(func(x *exchange) string { return x.head.uri }),
		"kong.request.get_raw_query":        getString(func(x *exchange) string { return x.args }),
		"kong.request.get_query_arg":        ask(requestGetQueryArg),
		"kong.request.get_query":            ask(requestGetQuery),
		"kong.request.get_header":           ask(requestGetHeader),
		"kong.request.get_headers":          ask(requestGetHeaders),
		"kong.request.get_raw_body":         requestGetRawBody,
		"kong.request.get_uri_captures":     get(requestGetURICaptures),

		"kong.response.get_status":   notIn(responsePhases + ", error, admin_api"),
		"kong.response.get_header":   notIn(responsePhases + ", error, admin_api"),
		"kong.response.get_headers":  notIn(responsePhases + ", error, admin_api"),
		"kong.response.get_source":   notIn(responsePhases + ", error, admin_api"),
		"kong.response.set_status":   ask(responseSetStatus),
		"kong.response.set_header":   ask(responseSetHeader),
		"kong.response.add_header":   ask(responseAddHeader),
		"kong.response.clear_header": ask(responseClearHeader),
		"kong.response.set_headers":  ask(responseSetHeaders),
		"kong.response.exit":         ask(responseExit),

		"kong.router.get_route":   get(routerGetRoute),
		"kong.router.get_service": get(routerGetService),

		"kong.service.set_upstream": ask(serviceSetUpstream),
		"kong.service.set_target":   ask(serviceSetTarget),

		"kong.service.request.set_scheme":    ask(serviceSetScheme),
		"kong.service.request.set_path":      ask(serviceSetPath),
		"kong.service.request.set_raw_query": ask(serviceSetRawQuery),
		"kong.service.request.set_method":    ask(serviceSetMethod),
		"kong.service.request.set_query":     ask(serviceSetQuery),
		"kong.service.request.set_header":    ask(serviceSetHeader),
		"kong.service.request.add_header":    ask(serviceAddHeader),
		"kong.service.request.clear_header":  ask(serviceClearHeader),
		"kong.service.request.set_headers":   ask(serviceSetHeaders),
		"kong.service.request.set_raw_body":  ask(serviceSetRawBody),

		"kong.service.response.get_status":   notIn(responsePhases),
		"kong.service.response.get_header":   notIn(responsePhases),
		"kong.service.response.get_headers":  notIn(responsePhases),
		"kong.service.response.get_raw_body": notIn(responsePhases),
	}
	for name, lv := range map[string]level{
		"alert": levelAlert, "crit": levelCrit, "err": levelError, "warn": levelWarn,
		"notice": levelNotice, "info": levelInfo, "debug": levelDebug,
	} {
		functions["kong.log."+name] = logFunction(lv)
	}
	return functions
}

// logFunction writes the arguments one after the other, without the plugin's name.
func logFunction(lv level) pdkFunc {
	return ask(func(x *exchange, args *structpb.ListValue) ([]byte, error) {
		var text strings.Builder
		for _, v := range fromList(args) {
			text.WriteString(tostring(v))
		}
		x.log(lv, "[kong] pb_rpc.lua:233 "+text.String())
		return nil, nil
	})
}
