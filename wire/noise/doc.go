// Package noise turns a message connection into an authenticated, encrypted one:
// Noise XX between an agent, which initiates, and a core, which responds. It decides
// who the peer is and nothing else; it knows no sockets and no messages of ours.
package noise
