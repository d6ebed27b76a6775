package kongtest

import (
	"net/netip"
	"slices"
	"strings"

	kpp "github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/proto"

	"phantomtoken/internal/kongconfig"
)

// message encodes a message whose strings came from a plugin, so that they are UTF-8.
func message(m proto.Message) []byte {
	data, err := proto.Marshal(m)
	if err != nil {
		return nil
	}
	return data
}

func clientGetCredential(x *exchange) []byte {
	if x.credential == nil {
		return nil
	}
	return message(x.credential)
}

func clientGetConsumer(x *exchange) []byte {
	if x.consumer == nil {
		return nil
	}
	return message(x.consumer)
}

// clientLoadConsumer looks by id for what has the form of one, and then by username if that
// is wanted; never by custom_id. Nobody is an empty answer.
func clientLoadConsumer(x *exchange, spec *kpp.ConsumerSpec) ([]byte, error) {
	isUUID := kongconfig.IsUUID(spec.GetId())
	if !isUUID && !spec.GetByUsername() {
		return nil, luaError("cannot load a consumer with an id that is not a uuid")
	}
	consumers := x.worker.loaded.Load().consumers
	i := slices.IndexFunc(consumers, func(c *kongconfig.Consumer) bool { return isUUID && c.ID == spec.GetId() })
	if i < 0 && spec.GetByUsername() && spec.GetId() != "" {
		i = slices.IndexFunc(consumers, func(c *kongconfig.Consumer) bool { return c.Username == spec.GetId() })
	}
	if i < 0 {
		return nil, nil
	}
	c := consumers[i]
	return message(&kpp.Consumer{
		Id: c.ID, CreatedAt: x.g.started.Unix(), Username: c.Username, CustomId: c.CustomID, Tags: c.Tags,
	}), nil
}

// clientAuthenticate takes consumers that Kong does not know, too. It sets no header.
func clientAuthenticate(x *exchange, args *kpp.AuthenticateArgs) ([]byte, error) {
	if args.GetConsumer() == nil && args.GetCredential() == nil {
		return nil, luaError("either credential or consumer must be provided")
	}
	x.consumer, x.credential = args.GetConsumer(), args.GetCredential()
	return nil, nil
}

func clientGetProtocol(x *exchange, allowTerminated *kpp.Bool) ([]byte, error) {
	if len(x.route.Protocols) == 1 {
		return encodeString(x.route.Protocols[0]), nil
	}
	scheme := x.conn.scheme()
	if scheme != "https" && allowTerminated.GetV() && x.trusted() {
		proto, _ := x.head.headers.variable("X-Forwarded-Proto")
		if strings.Contains(proto, ",") {
			return nil, nil
		}
		if lower(proto) == "https" {
			scheme = "https"
		}
	}
	return encodeString(scheme), nil
}

func ipIsTrusted(x *exchange, ip *kpp.String) ([]byte, error) {
	addr, err := netip.ParseAddr(ip.GetV())
	return encodeBool(err == nil && x.g.isTrusted(addr)), nil
}

func ctxSharedSet(x *exchange, kv *kpp.KV) ([]byte, error) {
	x.shared[kv.GetK()] = fromValue(kv.GetV())
	return nil, nil
}

func ctxSharedGet(x *exchange, key *kpp.String) ([]byte, error) {
	return encodeValue(x.shared[key.GetV()]), nil
}

// routerGetRoute leaves out the headers of a route: Kong has a map of them, the protocol
// a list of strings.
func routerGetRoute(x *exchange) []byte {
	r := x.route
	m := &kpp.Route{
		Id: r.ID, CreatedAt: x.g.started.Unix(), UpdatedAt: x.g.started.Unix(), Name: r.Name,
		Protocols: r.Protocols, Methods: r.Methods, Hosts: r.Hosts, Paths: r.Paths,
		HttpsRedirectStatusCode: int32(r.HTTPSRedirectStatusCode), RegexPriority: int32(r.RegexPriority),
		StripPath: r.StripPath, PreserveHost: r.PreserveHost, Snis: r.SNIs, Tags: r.Tags,
	}
	if r.Upstream != nil {
		m.Service = &kpp.ServiceKey{Id: r.Upstream.ID}
	}
	return message(m)
}

func routerGetService(x *exchange) []byte {
	s := x.service
	if s == nil {
		return nil
	}
	return message(&kpp.Service{
		Id: s.ID, CreatedAt: x.g.started.Unix(), UpdatedAt: x.g.started.Unix(), Name: s.Name,
		Retries: int32(s.Retries), Protocol: s.Protocol, Host: s.Host, Port: int32(s.Port), Path: s.Path,
		ConnectTimeout: int32(s.ConnectTimeout), WriteTimeout: int32(s.WriteTimeout), ReadTimeout: int32(s.ReadTimeout),
		Tags: s.Tags,
	})
}
