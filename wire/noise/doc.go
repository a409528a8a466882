// Package noise turns a message connection into an authenticated, encrypted one:
// Noise_XX_25519_ChaChaPoly_SHA256 between an agent, which initiates, and a core, which
// responds. It decides who the peer is and nothing else; it knows no sockets and no
// messages of ours.
//
// The handshake is four messages, each of an exact size:
//
//	prelude  core -> agent   nonce[32], core id, protocols offered       in the clear
//	m1       agent -> core   purpose[1], pin hint[8], e[32]              in the clear
//	m2       core -> agent   e[32], s[48], tag[16]
//	m3       agent -> core   s[48], payload and tag[16..4112]
//
// All of the prelude and m1 is bound through the prologue: whoever changes a byte of it
// makes the handshake fail, and nothing else. The agent compares the core's key with
// its pins before it sends m3. A core that refuses the agent says so in one byte.
package noise
