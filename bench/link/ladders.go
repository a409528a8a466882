package main

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/varanhq/varan/wire"
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
// agent's side runs on another thread, which is not counted.
func responderCost(ctx context.Context, n int) (time.Duration, error) {
	core, err := noise.GenerateKey()
	if err != nil {
		return 0, err
	}
	agent, err := noise.GenerateKey()
	if err != nil {
		return 0, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var total time.Duration
	for range n {
		a, c := wire.Pipe()
		ended := make(chan error, 1)
		var wg sync.WaitGroup
		wg.Go(func() {
			runtime.LockOSThread() // never to be unlocked: nothing else runs on the core's thread
			_, err := noise.Initiate(ctx, a, noise.InitiatorConfig{
				Key: agent, Pins: []wire.Fingerprint{core.Public().Fingerprint()}, Purpose: noise.PurposeSession,
			})
			ended <- err
		})
		start, err := threadCPU()
		if err != nil {
			return 0, err
		}
		_, _, err = noise.Respond(ctx, c, noise.ResponderConfig{
			Key: core, CoreID: "bench",
			Authenticate: func(context.Context, noise.PeerInfo) error { return nil },
		})
		end, clockErr := threadCPU()
		if err := errors.Join(err, clockErr, <-ended); err != nil {
			return 0, fmt.Errorf("handshake: %w", err)
		}
		total += end - start
		wg.Wait()
	}
	return total / time.Duration(n), nil
}
