package kongtest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	kpp "github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/proto"
)

// idlePluginConns is lua_socket_pool_size: idle connections of a worker to a plugin.
const idlePluginConns = 256

// rpc is a worker's side of the conversation with one plugin server. It is safe for
// concurrent use.
type rpc struct {
	plugin    *plugin
	pool      *connPool
	timeout   time.Duration
	functions map[string]pdkFunc
	sequence  atomic.Int64
}

func newRPC(p *plugin, timeout time.Duration, functions map[string]pdkFunc) *rpc {
	r := &rpc{plugin: p, pool: newConnPool(idlePluginConns, p.dial), timeout: timeout, functions: functions}
	r.sequence.Store(1) // Kong's first call is number 2
	return r
}

// rpcError is a failed call that Kong reports as a value, in the words of its sockets
// ("closed", "timeout"); other errors of a call are Lua errors.
type rpcError string

func (e rpcError) Error() string { return string(e) }

// socketError names a connection error as nginx's Lua sockets do.
func socketError(err error) rpcError {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "closed"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ENOENT):
		return "no such file or directory"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset by peer"
	default:
		return rpcError(err.Error())
	}
}

// call sends one RpcCall and returns the plugin's RpcReturn. x is the request whose
// questions are answered on the way, nil for calls that allow none.
//
// A connection on which anything went wrong, or an exit was asked for, is closed when the
// request is over (x) or at once.
func (r *rpc) call(ctx context.Context, x *exchange, call *kpp.RpcCall) (_ *kpp.RpcReturn, err error) {
	conn, err := r.pool.get(ctx)
	if err != nil {
		return nil, socketError(err)
	}
	// A gateway that is being closed does not wait for a plugin.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer func() {
		stop()
		switch {
		case err == nil:
			r.pool.put(conn)
		case x != nil:
			x.closeLater = append(x.closeLater, conn)
		default:
			conn.Close()
		}
	}()

	sequence := r.sequence.Add(1)
	if err := writeFrame(conn, encodeCall(call, sequence)); err != nil {
		return nil, luaErrorf("%v", socketError(err))
	}
	for x != nil {
		done, err := r.question(conn, x)
		if err != nil {
			return nil, err
		}
		if done {
			break
		}
	}
	data, err := r.read(conn)
	if err != nil {
		return nil, err
	}
	ret := new(kpp.RpcReturn)
	if err := proto.Unmarshal(data, ret); err != nil {
		return nil, luaErrorf("decoding RpcReturn: %v", err)
	}
	if ret.GetSequence() != sequence {
		return nil, luaErrorf("assertion failed! (expected the answer to call %d, got that to %d)", sequence, ret.GetSequence())
	}
	return ret, nil
}

// encodeCall puts the command first and the sequence number last, as Kong happens to do: a
// plugin must not rely on the order of fields.
func encodeCall(call *kpp.RpcCall, sequence int64) []byte {
	data := message(call)
	return append(data, message(&kpp.RpcCall{Sequence: sequence})...)
}

// read reads one frame within the timeout.
func (r *rpc) read(conn net.Conn) ([]byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(r.timeout)); err != nil {
		return nil, socketError(err)
	}
	data, err := readFrame(conn)
	if err != nil {
		return nil, socketError(err)
	}
	return data, nil
}

// question reads and answers one question. An empty method name ends the event.
func (r *rpc) question(conn net.Conn, x *exchange) (done bool, err error) {
	method, err := r.read(conn)
	if err != nil || len(method) == 0 {
		return err == nil, err
	}
	args, err := r.read(conn)
	if err != nil {
		return false, err
	}
	function, ok := r.functions[string(method)]
	if !ok {
		return false, rpcError(`method "` + string(method) + `" not found`)
	}
	reply, err := function(x, args)
	if err != nil {
		return false, err
	}
	if err := writeFrame(conn, reply); err != nil {
		return false, luaErrorf("%v", socketError(err))
	}
	return false, nil
}

func (r *rpc) startInstance(ctx context.Context, c *pluginConfig) (int32, error) {
	ret, err := r.call(ctx, nil, &kpp.RpcCall{Call: &kpp.RpcCall_CmdStartInstance{
		CmdStartInstance: &kpp.CmdStartInstance{Name: c.plugin.name, Config: c.json},
	}})
	if err != nil {
		return 0, err
	}
	if ret.GetInstanceStatus() == nil {
		return 0, luaError("attempt to index field 'instance_status' (a nil value)")
	}
	return ret.GetInstanceStatus().GetInstanceId(), nil
}

func (r *rpc) closeInstance(ctx context.Context, id int32) error {
	_, err := r.call(ctx, nil, &kpp.RpcCall{Call: &kpp.RpcCall_CmdCloseInstance{
		CmdCloseInstance: &kpp.CmdCloseInstance{InstanceId: id},
	}})
	return err
}

func (r *rpc) handleEvent(ctx context.Context, x *exchange, id int32, phase string) error {
	_, err := r.call(ctx, x, &kpp.RpcCall{Call: &kpp.RpcCall_CmdHandleEvent{
		CmdHandleEvent: &kpp.CmdHandleEvent{InstanceId: id, EventName: phase},
	}})
	return err
}

// unknownInstance reports whether Kong takes err for "the plugin does not know this
// instance", forgets the plugin's instances and repeats the event.
func unknownInstance(err error) bool {
	var failed rpcError
	if !errors.As(err, &failed) {
		return false
	}
	text := strings.ToLower(string(failed))
	return strings.Contains(text, "no plugin instance") || strings.Contains(text, "closed")
}
