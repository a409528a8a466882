package sim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

// canary is the secret of the model. It is for trusted servers.
const canary = "canary-5b1c7e"

// The model's servers; the last one is not trusted.
var modelServers = []string{"alpha", "beta", "edge"}

const untrusted = "edge"

// modelStack is a stack as the repository declares it.
type modelStack struct {
	server string
	image  string
	tier   string // "trusted", "untrusted" or "any"
	secret bool   // it asks for the canary
	after  string // another stack
}

type modelTree map[string]modelStack

// valid is the rule book, in the model's words.
func (d modelTree) valid() bool {
	for name, s := range d {
		if s.server == untrusted && (s.tier == "trusted" || s.secret) || s.server != untrusted && s.tier == "untrusted" {
			return false
		}
		if _, ok := d[s.after]; s.after != "" && (!ok || s.after == name) {
			return false
		}
	}
	return true
}

func (d modelTree) files() map[string]string {
	var toml strings.Builder
	for _, server := range modelServers {
		tier := "trusted"
		if server == untrusted {
			tier = "untrusted"
		}
		fmt.Fprintf(&toml, "[[server]]\nname = %q\ntier = %q\n\n", server, tier)
	}
	fmt.Fprintf(&toml, "[[variable]]\nname = \"SECRET\"\nvalue = %q\nis_secret = true\ntags = [\"scope:trusted\"]\n\n", canary)
	out := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(d)) {
		s := d[name]
		fmt.Fprintf(&toml, "[[stack]]\nname = %q\ntags = [\"tier:%s\"]\n", name, s.tier)
		if s.after != "" {
			fmt.Fprintf(&toml, "after = [%q]\n", s.after)
		}
		fmt.Fprintf(&toml, "[stack.config]\nserver = %q\nrun_directory = %q\n", s.server, name)
		if s.secret {
			toml.WriteString("environment = \"TOKEN=[[SECRET]]\"\n")
		}
		toml.WriteString("\n")
		out[name+"/compose.yaml"] = "services:\n  app:\n    image: " + s.image + "\n    environment:\n      T: ${TOKEN:-none}\n"
	}
	out["fleet.toml"] = toml.String()
	return out
}

// modelStep is one thing that happens.
type modelStep struct {
	What          string
	Stack, Server string
	Tier          string
	Wait          time.Duration
}

var modelSteps = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) modelStep {
	return modelStep{
		What: rapid.SampledFrom([]string{
			"update", "update", "break", "delete", "rename", "move", "tier", "secret", "after", "typo", "go back",
			"webhook", "agent restarts", "cut", "join", "core restarts", "stop by hand", "remove by hand", "engine away", "engine back", "fail once",
		}).Draw(t, "what"),
		Stack:  rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "stack"),
		Server: rapid.SampledFrom(modelServers).Draw(t, "server"),
		Tier:   rapid.SampledFrom([]string{"trusted", "untrusted", "any"}).Draw(t, "tier"),
		Wait:   time.Duration(rapid.SampledFrom([]int{0, 0, 1, 20, 300, 2400}).Draw(t, "wait_s")) * time.Second,
	}
}), 1, 25)

// TestTheFleetIsAsTheLastValidCommitSays tries what may not happen, whatever happens: a stack
// or a secret on a server of the wrong tier, the end of what is not Varan's or was not
// removed, a deploy before the one it comes after. When the faults are over, what runs is as
// the last valid commit says, and nothing is done any more.
func TestTheFleetIsAsTheLastValidCommitSays(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps, prune := modelSteps.Draw(rt, "steps"), rapid.Bool().Draw(rt, "prune")
		var faults []string
		synctest.Test(t, func(t *testing.T) { faults = playModel(t, steps, prune) })
		if len(faults) > 0 {
			rt.Fatalf("%s", strings.Join(faults, "\n"))
		}
	})
}

// model is the world with what the rules of it need to know.
type model struct {
	*world

	tree, good modelTree
	commits    []modelTree // valid ones, that one may go back to
	heads      []string
	serial     int
	prune      bool

	mu     sync.Mutex
	faults []string
	// gone are stacks that some valid commit left out on a server: "stack@server".
	gone map[string]bool
	// tiers are what valid commits said of a stack, by what they make of it.
	failOnce map[string]bool
}

func playModel(t *testing.T, steps []modelStep, prune bool) []string {
	t.Helper()
	m := &model{
		prune: prune, gone: map[string]bool{}, failOnce: map[string]bool{},
		tree: modelTree{
			"a": {server: "alpha", image: "app:0", tier: "any"}, "b": {server: "beta", image: "app:0", tier: "trusted", secret: true, after: "a"},
			"c": {server: "edge", image: "app:0", tier: "any"},
		},
	}
	m.world = newWorld(t, modelServers)
	defer m.close()
	for _, h := range m.hosts {
		h.engine.Script("", func(ctx context.Context, order fleet.Order, blobs agent.Blobs, progress func(fleet.Progress)) fleet.Outcome {
			return m.carryOut(ctx, h, order, blobs, progress)
		})
		h.engine.Set(fleet.StackReport{Stack: "foreign", Project: "foreign", Containers: []fleet.Container{
			{ID: strings.Repeat("f", 64), Name: "foreign-1", Service: "other", Image: "other:1", State: fleet.StateRunning},
		}})
	}
	m.push("begin")
	_, err := m.client.AddSync(t.Context(), api.SyncSpec{
		Name: "main", URL: m.repo.dir, IntervalSeconds: int(poll / time.Second), AutoApply: true, Delete: prune, SelfHeal: true, MaxRemovals: 1000,
	})
	must(t, err)
	for _, step := range steps {
		m.do(step)
		time.Sleep(step.Wait)
	}
	m.mend()
	time.Sleep(settle + 3*poll)
	synctest.Wait()
	m.compare()
	before := m.orders()
	time.Sleep(3 * poll)
	synctest.Wait()
	if after := m.orders(); after != before {
		m.fault("%d orders were given although nothing changed", after-before)
	}
	return m.faults
}

func (m *model) fault(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

func (m *model) orders() (n int) {
	for _, h := range m.hosts {
		n += len(h.engine.Orders())
	}
	return n
}

// push commits the tree, and notes what it allows.
func (m *model) push(message string) {
	hash := m.repo.commit(message, m.tree.files())
	if !m.tree.valid() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, s := range m.good {
		if now, ok := m.tree[name]; !ok || now.server != s.server {
			m.gone[name+"@"+s.server] = true
		}
	}
	m.good = maps.Clone(m.tree)
	m.commits, m.heads = append(m.commits, m.good), append(m.heads, hash)
}

func (m *model) change(name string, change func(*modelStack)) {
	s, ok := m.tree[name]
	if !ok {
		s = modelStack{server: "alpha", tier: "any"}
	}
	m.serial++
	s.image = fmt.Sprintf("app:%d", m.serial)
	change(&s)
	m.tree[name] = s
	m.push(name + " changes")
}

func (m *model) do(s modelStep) {
	h := m.hosts[s.Server]
	switch s.What {
	case "update":
		m.change(s.Stack, func(*modelStack) {})
	case "break":
		m.change(s.Stack, func(x *modelStack) { x.image = fmt.Sprintf("broken:%d", m.serial) })
	case "move":
		m.change(s.Stack, func(x *modelStack) { x.server = s.Server })
	case "tier":
		m.change(s.Stack, func(x *modelStack) { x.tier = s.Tier })
	case "secret":
		m.change(s.Stack, func(x *modelStack) { x.secret = !x.secret })
	case "after": // only to an earlier letter: circles have tests of their own
		m.change(s.Stack, func(x *modelStack) {
			if x.after = ""; s.Stack > "a" {
				x.after = string(s.Stack[0] - 1)
			}
		})
	case "delete":
		delete(m.tree, s.Stack)
		m.push("without " + s.Stack)
	case "rename":
		if x, ok := m.tree[s.Stack]; ok {
			delete(m.tree, s.Stack)
			m.tree[s.Stack+"x"] = x
			m.push("rename " + s.Stack)
		}
	case "typo":
		files := m.tree.files()
		files["fleet.toml"] += "\n[[stack\n"
		m.repo.commit("typo", files)
	case "go back": // by force
		m.repo.rewind(m.heads[0])
		m.tree = maps.Clone(m.commits[0])
		m.push("go back")
	case "webhook":
		_, _ = m.client.RunSync(m.Context(), "main")
	case "core restarts":
		m.killCore()
		m.startCore()
	default:
		m.doToHost(s, h)
	}
}

func (m *model) doToHost(s modelStep, h *host) {
	switch s.What {
	case "agent restarts":
		m.stopAgent(h)
		m.startAgent(h)
	case "cut":
		m.net.hangUp(s.Server, true)
	case "join":
		m.net.hangUp(s.Server, false)
	case "stop by hand":
		h.stopByHand(s.Stack)
	case "remove by hand":
		if report, ok, _ := h.engine.ObserveStack(m.Context(), s.Stack); ok && len(report.Containers) > 0 {
			report.Containers = nil
			h.engine.Set(report)
		}
	case "engine away":
		h.engine.Away(errors.New("dockerd is gone"))
	case "engine back":
		h.engine.Away(nil)
	case "fail once":
		m.mu.Lock()
		m.failOnce[s.Server] = true
		m.mu.Unlock()
	}
}

// mend ends all faults: what is in force may be broken or invalid, and both are a person's
// to put right.
func (m *model) mend() {
	for _, h := range m.hosts {
		m.net.hangUp(h.name, false)
		h.engine.Away(nil)
	}
	m.mu.Lock()
	clear(m.failOnce)
	m.mu.Unlock()
	m.tree = maps.Clone(m.good)
	for _, name := range slices.Sorted(maps.Keys(m.tree)) {
		m.serial++
		s := m.tree[name]
		s.image = fmt.Sprintf("app:%d", m.serial)
		m.tree[name] = s
	}
	m.push("everything in order")
}

// carryOut watches an order before the host has it.
func (m *model) carryOut(ctx context.Context, h *host, order fleet.Order, blobs agent.Blobs, progress func(fleet.Progress)) fleet.Outcome {
	where := order.Stack + "@" + h.name
	m.mu.Lock()
	gone, known, fail := m.gone[where], slices.ContainsFunc(m.commits, func(t modelTree) bool { return t[order.Stack].server == h.name }), m.failOnce[h.name]
	delete(m.failOnce, h.name)
	m.mu.Unlock()
	switch {
	case order.Stack == "foreign":
		m.fault("%s was given the order %s", where, order.Kind)
	case order.Kind == fleet.OrderRemove && !gone:
		m.fault("%s is removed, and every commit has it", where)
	case order.Kind == fleet.OrderRemove && !m.prune && !m.movedFrom(order.Stack, h.name):
		m.fault("%s is removed, and the sync may not", where)
	case order.Kind == fleet.OrderApply && !known:
		m.fault("%s is deployed, and no valid commit says so", where)
	}
	if order.Kind == fleet.OrderApply {
		m.readBlobs(ctx, h, order, blobs)
		m.checkAfter(order)
	}
	if fail {
		return fleet.Outcome{Status: fleet.OutcomeFailed, Reason: "no space left on device", Untouched: true, Retryable: true}
	}
	return h.carryOut(ctx, order, blobs, progress)
}

// movedFrom reports whether some commit has the stack elsewhere after it was here.
func (m *model) movedFrom(stack, server string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := false
	for _, tree := range m.commits {
		switch s, ok := tree[stack]; {
		case ok && s.server == server:
			was = true
		case ok && was:
			return true
		}
	}
	return false
}

// readBlobs looks for the canary in what a host is given.
func (m *model) readBlobs(ctx context.Context, h *host, order fleet.Order, blobs agent.Blobs) {
	if h.name != untrusted || blobs == nil {
		return
	}
	digests := []fleet.Digest{order.Release.Model}
	for _, f := range order.Release.Files {
		digests = append(digests, f.Digest)
	}
	_ = blobs.Fetch(ctx, digests, func(_ fleet.Digest, content []byte) error {
		if bytes.Contains(content, []byte(canary)) {
			m.fault("the secret of trusted servers is on %s", h.name)
		}
		return nil
	})
}

// checkAfter holds an order against what its commit says it comes after: what that stack is
// to run either runs or cannot.
func (m *model) checkAfter(order fleet.Order) {
	m.mu.Lock()
	var tree modelTree
	for i, hash := range m.heads {
		if hash == order.Release.Commit.ID {
			tree = m.commits[i]
		}
	}
	m.mu.Unlock()
	s, ok := tree[order.Stack]
	if !ok || s.after == "" {
		return
	}
	first := tree[s.after]
	report, _, err := m.hosts[first.server].engine.ObserveStack(context.Background(), s.after)
	if err != nil || s.image == "" {
		return
	}
	for _, b := range report.Bad {
		if b.Commit == order.Release.Commit.ID {
			m.fault("%s is deployed although %s, which it comes after, did not come up", order.Stack, s.after)
		}
	}
}

// compare holds what runs against the last valid commit.
func (m *model) compare() {
	for _, server := range modelServers {
		want := []string{"foreign other other:1 running"}
		for name, s := range m.good {
			if s.server == server {
				want = append(want, fmt.Sprintf("%s app %s running", name, s.image))
			}
		}
		runs := m.hosts[server].running(m)
		if !m.prune { // what left Git stays
			runs = slices.DeleteFunc(runs, func(line string) bool {
				stack, _, _ := strings.Cut(line, " ")
				_, declared := m.good[stack]
				return m.gone[stack+"@"+server] && !declared
			})
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, runs); diff != "" {
			m.fault("%s is not as the last valid commit says (-want +runs):\n%s", server, diff)
		}
	}
	if len(m.faults) > 0 {
		read, err := m.client.Sync(m.Context(), "main")
		m.fault("the sync is %s (%v): %s %v", read.State.Phase, err, read.State.Error, read.State.Diagnostics)
	}
}
