package main

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/varanhq/varan/wire/noise"
)

// threadCPU is the CPU time of this thread.
func threadCPU() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// ladderCost is the CPU time of one X25519 scalar multiplication, the unit that all of
// a handshake is counted in.
func ladderCost(n int) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ours, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return 0, err
	}
	theirs, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return 0, err
	}
	start, err := threadCPU()
	if err != nil {
		return 0, err
	}
	for range n {
		if _, err := ours.ECDH(theirs.PublicKey()); err != nil {
			return 0, err
		}
	}
	end, err := threadCPU()
	return (end - start) / time.Duration(n), err
}

// responderCost is the CPU time of the core's side of one handshake, sockets aside. The
// agent's side runs on the same thread while the clock stands still.
func responderCost(ctx context.Context, n int) (time.Duration, error) {
	core, err := noise.GenerateKey()
	if err != nil {
		return 0, err
	}
	agent, err := newScriptedAgent(noise.Protocol, byte(noise.PurposeSession), noise.PurposeSession.String())
	if err != nil {
		return 0, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var total time.Duration
	for range n {
		agent.reset()
		start, err := threadCPU()
		if err != nil {
			return 0, err
		}
		_, _, err = noise.Respond(ctx, agent, noise.ResponderConfig{
			Key: core, CoreID: "bench",
			Authenticate: func(context.Context, noise.PeerInfo) error { return nil },
		})
		if err != nil {
			return 0, fmt.Errorf("handshake: %w", err)
		}
		end, err := threadCPU()
		if err != nil {
			return 0, err
		}
		total += end - start - agent.took
	}
	return total / time.Duration(n), nil
}
