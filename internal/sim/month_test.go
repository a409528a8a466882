package sim_test

import (
	"bufio"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/audit"
	"github.com/varanhq/varan/fleet"
)

const fleetSize = 20

// desired is what the repository says: where each stack runs, and what.
type desired map[string]app

type app struct {
	server string
	image  string
}

// files are the repository's content.
func (d desired) files(servers []string) map[string]string {
	var toml strings.Builder
	for _, server := range servers {
		fmt.Fprintf(&toml, "[[server]]\nname = %q\n\n", server)
	}
	out := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(d)) {
		fmt.Fprintf(&toml, "[[stack]]\nname = %q\n[stack.config]\nserver = %q\nrun_directory = %q\n\n", name, d[name].server, name)
		out[name+"/compose.yaml"] = "services:\n  app:\n    image: " + d[name].image + "\n  side:\n    image: side:1\n"
	}
	toml.WriteString(nightly)
	out["fleet.toml"] = toml.String()
	return out
}

// nightly runs at a time that one night of March does not have in Berlin.
const nightly = `[[procedure]]
name = "nightly"
[procedure.config]
schedule = "every day at 02:30"
schedule_timezone = "Europe/Berlin"
[[procedure.config.stage]]
name = "restart"
executions = [{ execution.type = "RestartStack", execution.params.stack = "s00" }]
`

// month is a fleet to which things happen.
type month struct {
	*world

	rng     *rand.Rand
	servers []string
	want    desired
	begun   time.Time
	serial  int
	// mended are what put the faults right that last a while.
	mended []func()
}

func (m *month) pick(n int) int { return m.rng.IntN(n) }

func (m *month) anyStack() string {
	names := slices.Sorted(maps.Keys(m.want))
	return names[m.pick(len(names))]
}

func (m *month) anyHost() *host { return m.hosts[m.servers[m.pick(len(m.servers))]] }

func (m *month) image(kind string) string {
	m.serial++
	return fmt.Sprintf("%s:%d", kind, m.serial)
}

func (m *month) push(message string) { m.repo.commit(message, m.want.files(m.servers)) }

// happens are the things of a day, by how likely they are.
var happens = []struct {
	weight int
	what   func(*month)
}{
	{8, func(m *month) { // a new version
		name := m.anyStack()
		m.want[name] = app{m.want[name].server, m.image("app")}
		m.push("update " + name)
	}},
	{2, func(m *month) { // one that does not come up, mended the next day at the latest
		name := m.anyStack()
		m.want[name] = app{m.want[name].server, m.image("broken")}
		m.push("break " + name)
		m.later(func() {
			if a, ok := m.want[name]; ok && strings.HasPrefix(a.image, "broken") {
				m.want[name] = app{a.server, m.image("app")}
				m.push("mend " + name)
			}
		})
	}},
	{1, func(m *month) { // a commit that is no fleet
		files := m.want.files(m.servers)
		files["fleet.toml"] += "\n[[stack\n"
		m.repo.commit("typo", files)
		m.later(func() { m.push("no typo") })
	}},
	{1, func(m *month) { // a new stack
		m.serial++
		m.want[fmt.Sprintf("n%04d", m.serial)] = app{m.servers[m.pick(len(m.servers))], m.image("app")}
		m.push("another stack")
	}},
	{1, func(m *month) { // a stack that leaves; s00 is the procedure's
		if name := m.anyStack(); name != "s00" && len(m.want) > fleetSize {
			delete(m.want, name)
			m.push("without " + name)
		}
	}},
	{1, func(m *month) { // a stack that moves
		name := m.anyStack()
		m.want[name] = app{m.servers[m.pick(len(m.servers))], m.want[name].image}
		m.push("move " + name)
	}},
	{4, func(m *month) { m.anyHost().stopByHand(m.anyStack()) }},
	{3, func(m *month) { m.net.hangUp(m.anyHost().name, false) }},
	{2, func(m *month) { // a network away for hours
		h := m.anyHost()
		m.net.hangUp(h.name, true)
		m.later(func() { m.net.hangUp(h.name, false) })
	}},
	{2, func(m *month) { // an agent that restarts, at once or later
		h := m.anyHost()
		m.stopAgent(h)
		if m.pick(2) == 0 {
			m.startAgent(h)
			return
		}
		m.later(func() {
			if h.stop == nil {
				m.startAgent(h)
			}
		})
	}},
	{1, func(m *month) { // an engine that does not answer
		h := m.anyHost()
		h.engine.Away(fmt.Errorf("dockerd is gone"))
		m.later(func() { h.engine.Away(nil) })
	}},
	{1, func(m *month) { // core restarts, at once or after a while
		m.killCore()
		time.Sleep(time.Duration(m.pick(3)) * time.Hour)
		m.startCore()
	}},
}

func (m *month) later(mend func()) { m.mended = append(m.mended, mend) }

// day lets a few things happen.
func (m *month) day() {
	total := 0
	for _, h := range happens {
		total += h.weight
	}
	end := time.Now().Add(24 * time.Hour)
	for range 3 + m.pick(8) {
		time.Sleep(time.Duration(m.pick(150)) * time.Minute)
		n := m.pick(total)
		for _, h := range happens {
			if n -= h.weight; n < 0 {
				h.what(m)
				break
			}
		}
		if m.pick(3) == 0 {
			m.mend()
		}
	}
	m.mend()
	time.Sleep(time.Until(end))
}

func (m *month) mend() {
	for _, mend := range m.mended {
		mend()
	}
	m.mended = nil
}

// TestAMonthOfAFleet is the promise of level-triggered work: whatever happened, and whenever
// it happened, two hours after it stops everything is as the repository says.
//
// A month is 30 days of a core with its store, 20 agents and the encrypted links between them,
// over the Sunday on which Berlin has no half past two. On each day three to ten things of
// happens come about, hours apart: commits that change, break, add, remove and move stacks, one
// that is no fleet, containers stopped by hand, connections that break, networks and engines
// that are away for hours, agents and the core that are stopped, core up to two hours. Of its
// own accord core asks the repository every half hour, changes every agent's key on every
// day, and runs a procedure every night. At the end
//
//   - every host runs what the repository says, and core tells so of every stack;
//   - the procedure ran once in each night, also in the one without its time;
//   - every server has one key that is accepted, and keys were changed: nobody is locked out;
//   - the chain of the history is whole.
//
// That is about a thousand handshakes, two hundred deploys and two thousand records of history.
// Where processes die at their system calls is internal/crash.
func TestAMonthOfAFleet(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds(t) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			synctest.Test(t, func(t *testing.T) { liveAMonth(t, seed) })
			t.Logf("%d days of %d servers took %v", days, fleetSize, time.Since(began).Round(time.Millisecond))
		})
	}
}

// seeds are 1, or as many as VARAN_SIM_SEEDS says from VARAN_SIM_FIRST on.
func seeds(t *testing.T) []uint64 {
	t.Helper()
	number := func(name string, otherwise uint64) uint64 {
		text := os.Getenv(name)
		if text == "" {
			return otherwise
		}
		n, err := strconv.ParseUint(text, 10, 32)
		must(t, err)
		return n
	}
	first := number("VARAN_SIM_FIRST", 1)
	var list []uint64
	for i := range number("VARAN_SIM_SEEDS", 1) {
		list = append(list, first+i)
	}
	return list
}

func liveAMonth(t *testing.T, seed uint64) {
	t.Helper()
	// A day before the clocks of Europe change, so that this is in the month.
	time.Sleep(time.Until(time.Date(2000, 3, 10, 0, 0, 0, 0, time.UTC)))
	servers := make([]string, fleetSize)
	want := desired{}
	for i := range servers {
		servers[i] = fmt.Sprintf("host%02d", i)
		want[fmt.Sprintf("s%02d", i)] = app{servers[i], "app:0"}
	}
	m := &month{world: newWorld(t, servers), rng: rand.New(rand.NewPCG(seed, seed)), servers: servers, want: want, begun: time.Now()}
	defer m.close()
	m.push("begin")
	_, err := m.client.AddSync(t.Context(), api.SyncSpec{
		Name: "main", URL: m.repo.dir, IntervalSeconds: int(poll / time.Second), AutoApply: true, Delete: true, SelfHeal: true, MaxRemovals: 1000,
	})
	must(t, err)
	for range days {
		m.day()
	}
	time.Sleep(settle)
	synctest.Wait()
	m.expectDesired()
	m.expectNightlyRuns()
	m.expectOneKeyEach()
	m.expectWholeHistory()
}

// expectNightlyRuns looks for one run of each night, that of the night without its time
// included. Core is never away for a day, so that no night is without.
func (m *month) expectNightlyRuns() {
	m.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	must(m, err)
	runs, err := m.client.ProcedureRuns(m.Context(), "nightly", 100, false)
	must(m, err)
	byDay := map[string]int{}
	for _, run := range runs {
		byDay[run.Created.In(zone).Format(time.DateOnly)]++
	}
	// The first night began before the procedure was known.
	for day := m.begun.AddDate(0, 0, 1); day.Before(time.Now().Add(-24 * time.Hour)); day = day.AddDate(0, 0, 1) {
		if n := byDay[day.Format(time.DateOnly)]; n != 1 {
			m.Errorf("the procedure of the night ran %d times on %s: %v", n, day.Format(time.DateOnly), byDay)
		}
	}
}

// expectOneKeyEach looks at what core accepts after a month of mornings on which keys changed.
func (m *month) expectOneKeyEach() {
	m.Helper()
	keys, err := m.client.FleetKeys(m.Context())
	must(m, err)
	current := map[string]int{}
	for _, key := range keys.Servers {
		if key.State == "current" {
			current[key.Server]++
		}
	}
	for _, server := range m.servers {
		if current[server] != 1 {
			m.Errorf("%s has %d current keys", server, current[server])
		}
	}
	changed, err := m.client.Events(m.Context(), api.EventFilter{Kinds: []string{"key"}, Page: api.Page{Limit: 100}})
	must(m, err)
	if len(changed) == 0 {
		m.Error("no key was ever changed")
	}
}

// expectWholeHistory follows the chain of the records.
func (m *month) expectWholeHistory() {
	m.Helper()
	export, err := m.client.AuditExport(m.Context(), time.Time{}, time.Time{})
	must(m, err)
	defer func() { must(m, export.Close()) }()
	verifier := audit.NewVerifier(nil)
	lines := bufio.NewScanner(export)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && verifier.Read(lines.Bytes()) {
	}
	must(m, lines.Err())
	report := verifier.End()
	if report.Break != nil || !report.Whole {
		m.Errorf("the chain of the history: %+v, broken at %+v", report, report.Break)
	}
	m.Logf("%d records of history", report.Records)
}

// expectDesired compares every host with the repository.
func (m *month) expectDesired() {
	m.Helper()
	for _, server := range m.servers {
		var want []string
		for name, a := range m.want {
			if a.server == server {
				want = append(want, fmt.Sprintf("%s app %s running", name, a.image), name+" side side:1 running")
			}
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, m.hosts[server].running(m)); diff != "" {
			m.Errorf("%s is not as the repository says (-want +runs):\n%s", server, diff)
		}
	}
	stacks, err := m.client.Stacks(m.Context())
	must(m, err)
	for _, s := range stacks {
		if s.Sync != fleet.Synced || s.Health != fleet.Healthy {
			m.Errorf("%s on %s is %s and %s: %s", s.Name, s.Server, s.Sync, s.Health, s.Text)
		}
	}
	if len(stacks) != len(m.want) {
		m.Errorf("core knows %d stacks, the repository %d", len(stacks), len(m.want))
	}
}
