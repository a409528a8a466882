package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// bench is one run of everything.
type bench struct {
	agents, rounds int
	nextAddr       int
	table          table
}

func measure(ctx context.Context, agents, rounds int) error {
	b := &bench{agents: agents, rounds: rounds}
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"handshakes and storms", b.handshakes},
		{"idle and used memory", b.memory},
		{"calls and fan-out", b.traffic},
	}
	for _, step := range steps {
		fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), step.what)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	b.table.print(os.Stdout, agents, rounds)
	return nil
}

// Agents ping every 25 s. Where the figure is what an idle one holds, they ping more
// often, so that idling takes less of everybody's time.
const realPing, quickPing = 25 * time.Second, 5 * time.Second

// pair is a server and its agents.
type pair struct{ server, agents *process }

func startPair(ctx context.Context) (pair, error) {
	server, err := startProcess(ctx, "server")
	if err != nil {
		return pair{}, err
	}
	agents, err := startProcess(ctx, "agents")
	if err != nil {
		server.stop()
		return pair{}, err
	}
	return pair{server, agents}, nil
}

func (p pair) stop() {
	p.agents.stop()
	p.server.stop()
}

// connect starts a service and lets all agents connect, which then ping that often. before and after are what the
// server had used.
func (b *bench) connect(p pair, kind string, ping time.Duration) (took time.Duration, before, after usage, err error) {
	keys, err := p.agents.ask(request{Do: "keys", N: b.agents})
	if err != nil {
		return 0, usage{}, usage{}, err
	}
	b.nextAddr++
	service, err := p.server.ask(request{Do: "listen", Kind: kind, Addr: fmt.Sprintf("127.0.1.%d:0", b.nextAddr), Keys: keys.Keys})
	if err != nil {
		return 0, usage{}, usage{}, err
	}
	start, err := p.server.ask(request{Do: "settle"})
	if err != nil {
		return 0, usage{}, usage{}, err
	}
	storm, err := p.agents.ask(request{Do: "storm", Kind: kind, Addr: service.Addr, Pin: service.Pin, N: b.agents, Ping: ping})
	if err != nil {
		return 0, usage{}, usage{}, err
	}
	end, err := p.server.ask(request{Do: "await", N: b.agents})
	return storm.Took, start.Use, end.Use, err
}

// handshakes measures what a connection costs: a handshake by itself, and all agents at
// the same instant.
func (b *bench) handshakes(ctx context.Context) error {
	var ladders, responders, upgrades, storms, walls []time.Duration
	for range b.rounds {
		ladder, err := ladderCost(2000)
		if err != nil {
			return err
		}
		responder, err := responderCost(ctx, 400)
		if err != nil {
			return err
		}
		ladders, responders = append(ladders, ladder), append(responders, responder)
		for _, kind := range []string{kindUpgrade, kindHub} {
			took, cpu, err := b.storm(ctx, kind)
			if err != nil {
				return err
			}
			if kind == kindUpgrade {
				upgrades = append(upgrades, cpu)
			} else {
				storms, walls = append(storms, cpu), append(walls, took)
			}
		}
	}
	b.table.add(row{
		what: "noise responder, CPU per handshake", ours: median(responders), floorIs: "1 X25519 ladder",
		floor: median(ladders), goal: 4.5, unit: perAgent,
	})
	b.table.add(row{
		what: "storm of full handshakes, core's CPU per agent", ours: median(storms),
		floorIs: "HTTP upgrade + 4 ladders", floor: median(upgrades) + 4*median(ladders), goal: 1.35, unit: perAgent,
	})
	b.table.note("the storm took %v with server and agents on the same cores; no connection failed", median(walls).Round(time.Millisecond))
	return nil
}

// storm connects all agents to a fresh server, and returns how long that took and the
// server's CPU time for each.
func (b *bench) storm(ctx context.Context, kind string) (took, cpu time.Duration, err error) {
	p, err := startPair(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer p.stop()
	took, before, after, err := b.connect(p, kind, realPing)
	return took, (after.CPU - before.CPU) / time.Duration(b.agents), err
}

// memory measures what an idle agent holds in the core, before and after traffic.
func (b *bench) memory(ctx context.Context) error {
	type sample struct{ idle, used, goroutines int }
	samples := map[string][]sample{}
	for range min(b.rounds, 3) {
		for _, kind := range []string{kindTCP, kindHub} {
			idle, used, goroutines, err := b.hold(ctx, kind)
			if err != nil {
				return err
			}
			samples[kind] = append(samples[kind], sample{idle, used, goroutines})
		}
	}
	pick := func(kind string, field func(sample) int) int {
		var all []int
		for _, s := range samples[kind] {
			all = append(all, field(s))
		}
		return median(all)
	}
	idle := func(s sample) int { return s.idle }
	floor := time.Duration(pick(kindTCP, idle))
	b.table.add(row{
		what: "idle agent in the core, RSS", ours: time.Duration(pick(kindHub, idle)), floorIs: "bare TCP goroutine",
		floor: floor, goal: 2.6, unit: bytesEach, limit: 10 << 10,
	})
	b.table.add(row{
		what: "idle agent after traffic, RSS", ours: time.Duration(pick(kindHub, func(s sample) int { return s.used })),
		floorIs: "bare TCP goroutine, idle", floor: floor, goal: 2.6, unit: bytesEach, limit: 10 << 10,
	})
	perThousand := func(s sample) int { return 1000 * s.goroutines / b.agents }
	b.table.note("goroutines per idle agent: %.2f (bare TCP: %.2f)",
		float64(pick(kindHub, perThousand))/1000, float64(pick(kindTCP, perThousand))/1000)
	return nil
}

// hold connects all agents and looks at the server's memory: when all said hello and
// reported, and after four rounds of observations and two of orders.
func (b *bench) hold(ctx context.Context, kind string) (idle, used, goroutines int, err error) {
	p, err := startPair(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	defer p.stop()
	_, before, _, err := b.connect(p, kind, quickPing)
	if err != nil {
		return 0, 0, 0, err
	}
	if kind == kindHub {
		if _, err := p.agents.ask(request{Do: "hello"}); err != nil {
			return 0, 0, 0, err
		}
	}
	if err := quiet(ctx, p.server); err != nil {
		return 0, 0, 0, err
	}
	settled, err := p.server.ask(request{Do: "settle"})
	if err != nil {
		return 0, 0, 0, err
	}
	idle = (settled.Use.RSS - before.RSS) / b.agents
	goroutines = settled.Use.Goroutines - before.Goroutines
	if kind != kindHub {
		return idle, 0, goroutines, nil
	}
	for i, do := range []string{"refresh", "refresh", "dispatch", "refresh", "dispatch", "refresh"} {
		if _, err := p.server.ask(request{Do: do, N: i}); err != nil {
			return 0, 0, 0, err
		}
	}
	if err := quiet(ctx, p.server); err != nil {
		return 0, 0, 0, err
	}
	after, err := p.server.ask(request{Do: "settle"})
	return idle, (after.Use.RSS - before.RSS) / b.agents, goroutines, err
}

// quiet lets every agent ping at least once, on a server that has just collected its
// garbage: an idle agent is one that pings.
func quiet(ctx context.Context, server *process) error {
	if _, err := server.ask(request{Do: "settle"}); err != nil {
		return err
	}
	timer := time.NewTimer(2 * quickPing)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// traffic measures calls and fan-outs with all agents connected, kind by kind in turns.
func (b *bench) traffic(ctx context.Context) error {
	kinds := []string{kindTCP, kindPeer, kindHub}
	pairs := map[string]pair{}
	defer func() {
		for _, p := range pairs {
			p.stop()
		}
	}()
	for _, kind := range kinds {
		p, err := startPair(ctx)
		if err != nil {
			return err
		}
		pairs[kind] = p
		if _, _, _, err := b.connect(p, kind, realPing); err != nil {
			return err
		}
	}
	if _, err := pairs[kindHub].agents.ask(request{Do: "hello"}); err != nil {
		return err
	}
	calls, callCPU, fanouts := map[string][]time.Duration{}, map[string][]time.Duration{}, map[string][]time.Duration{}
	for round := range 2 * b.rounds {
		for _, kind := range []string{kindTCP, kindPeer} {
			p50, cpu, err := callRound(pairs[kind].server)
			if err != nil {
				return err
			}
			calls[kind], callCPU[kind] = append(calls[kind], p50), append(callCPU[kind], cpu)
			cpu, err = b.cpuPerAgent(pairs[kind].server, request{Do: "fanout"})
			if err != nil {
				return err
			}
			fanouts[kind] = append(fanouts[kind], cpu)
		}
		cpu, err := b.cpuPerAgent(pairs[kindHub].server, request{Do: "dispatch", N: round})
		if err != nil {
			return err
		}
		fanouts[kindHub] = append(fanouts[kindHub], cpu)
	}
	b.table.add(row{
		what: "call of 1 KB, p50", ours: median(calls[kindPeer]), floorIs: "raw TCP echo", floor: median(calls[kindTCP]),
		goal: 1.25, unit: perAgent,
	})
	b.table.add(row{
		what: "call of 1 KB, core's CPU", ours: median(callCPU[kindPeer]), floorIs: "raw TCP echo", floor: median(callCPU[kindTCP]),
		unit: perAgent,
	})
	b.table.add(row{
		what: "fan-out of 4 KB with acks, core's CPU per agent", ours: median(fanouts[kindPeer]), floorIs: "raw TCP",
		floor: median(fanouts[kindTCP]), goal: 1.5, unit: perAgent,
	})
	b.table.add(row{
		what: "orders of 4 KB with outcomes, core's CPU per agent", ours: median(fanouts[kindHub]), floorIs: "raw TCP",
		floor: median(fanouts[kindTCP]), unit: perAgent,
	})
	return nil
}

// callRound makes calls one after the other.
func callRound(server *process) (p50, cpu time.Duration, err error) {
	const calls = 5000
	before, err := server.ask(request{Do: "usage"})
	if err != nil {
		return 0, 0, err
	}
	a, err := server.ask(request{Do: "calls", Calls: calls})
	if err != nil {
		return 0, 0, err
	}
	return median(a.All), (a.Use.CPU - before.Use.CPU) / calls, nil
}

func (b *bench) cpuPerAgent(server *process, r request) (time.Duration, error) {
	before, err := server.ask(request{Do: "usage"})
	if err != nil {
		return 0, err
	}
	a, err := server.ask(r)
	return (a.Use.CPU - before.Use.CPU) / time.Duration(b.agents), err
}

func median[T time.Duration | int](all []T) T {
	if len(all) == 0 {
		return 0
	}
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}
