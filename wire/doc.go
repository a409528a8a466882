// Package wire is the protocol between core and agent: messages, framing and the
// multiplexer. It knows nothing of sockets or keys; it runs over anything that moves
// whole messages. Core and agent both import it; it imports only fleet.
package wire
