package kongtest

import (
	"strconv"
	"strings"

	kpp "github.com/Kong/go-pdk/server/kong_plugin_protocol"
)

func nginxGetVar(x *exchange, name *kpp.String) ([]byte, error) {
	return encodeString(x.variable(lower(name.GetV()))), nil
}

func nginxSetCtx(x *exchange, kv *kpp.KV) ([]byte, error) {
	x.nginxCtx[kv.GetK()] = fromValue(kv.GetV())
	return nil, nil
}

func nginxGetCtx(x *exchange, key *kpp.String) ([]byte, error) {
	return encodeValue(x.nginxCtx[key.GetV()]), nil
}

func nginxReqStartTime(x *exchange) []byte {
	return encodeNumber(float64(x.start.UnixMilli()) / 1000)
}

// variable is an nginx variable; unknown ones are empty.
func (x *exchange) variable(name string) string {
	if v, ok := strings.CutPrefix(name, "http_"); ok {
		value, _ := x.head.headers.variable(v)
		return value
	}
	if v, ok := strings.CutPrefix(name, "arg_"); ok {
		for part := range strings.SplitSeq(x.args, "&") {
			if key, value, found := strings.Cut(part, "="); found && lower(key) == v {
				return value
			}
		}
		return ""
	}
	switch name {
	case "args", "query_string":
		return x.args
	case "is_args":
		if x.args != "" {
			return "?"
		}
	case "content_length":
		if x.head.contentLength >= 0 {
			return strconv.FormatInt(x.head.contentLength, 10)
		}
	case "content_type":
		value, _ := x.head.headers.first("Content-Type")
		return value
	case "host":
		return x.head.host
	case "https":
		if x.conn.tls != nil {
			return "on"
		}
	case "kong_request_id":
		return x.id
	case "realip_remote_addr":
		return x.peer.ip
	case "realip_remote_port":
		return strconv.Itoa(x.peer.port)
	case "remote_addr":
		return x.remote.ip
	case "remote_port":
		return strconv.Itoa(x.remote.port)
	case "request":
		return x.head.line
	case "request_method":
		return x.method
	case "request_uri":
		return x.head.uri
	case "scheme":
		return x.conn.scheme()
	case "server_name":
		return "kong"
	case "server_port":
		return strconv.Itoa(x.conn.port)
	case "server_protocol":
		return "HTTP/1." + strconv.Itoa(x.head.minor)
	case "ssl_protocol":
		return x.tlsVersion()
	case "ssl_server_name":
		if x.conn.tls != nil {
			return x.conn.tls.ServerName
		}
	case "ssl_client_escaped_cert":
		return x.conn.clientCertificate()
	case "ssl_client_verify":
		return x.conn.clientVerify()
	case "upstream_host":
		return x.upstream.hostHeader
	case "upstream_scheme":
		return x.upstream.scheme
	case "upstream_uri":
		return x.upstream.uri
	}
	return ""
}
