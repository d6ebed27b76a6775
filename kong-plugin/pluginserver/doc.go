// Package pluginserver is the transport between Kong and a plugin process: it listens on
// the plugin's Unix socket, keeps the plugin's instances and hands each request to the
// instance that Kong names. It speaks the protocol of github.com/Kong/go-pdk 0.11
// ("ProtoBuf:1") and takes its messages from there.
//
// It stands in for the server of go-pdk because that one ends the process when a handler
// panics, forgets instances that are in use, ends the conversation on a string that is not
// UTF-8, and makes four system calls where one suffices.
//
// # The conversation
//
// A frame is a little-endian uint32 and that many bytes. Kong opens connections, keeps
// them in a pool and starts every exchange with an RpcCall.
//
//	start_instance  →  RpcReturn with the id that later events quote
//	close_instance  →  RpcReturn
//	handle_event    →  any number of questions (method name, argument), one reply each;
//	                   then an empty frame and RpcReturn: the request goes on,
//	                   or kong.response.exit: Kong answers the client and closes
//
// Kong works through frames in order, so several questions go out in one write, and the
// changes to a request leave together with the end of its event.
//
// Kong repeats an event without limit when the plugin closes the connection instead of
// answering. So every event is answered here, whatever becomes of its handler: a handler
// that returns without a decision, panics or runs out of time ends in a 500, never in a
// request that goes through. The one exception is an event for an instance that does not
// exist: closing is how Kong learns that it has to start it.
package pluginserver
