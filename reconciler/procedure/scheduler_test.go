package procedure_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/procedure"
)

// record is a run as a ledger keeps it.
type record struct {
	procedure.Run
	// steps are those begun, open those of them without an end.
	steps, open int
}

// ledger is a durable journal that can die with its process at any of its writes.
type ledger struct {
	mu    sync.Mutex
	runs  map[string]*record
	order []string
	marks map[string]procedure.Mark
	skips []string
	// writes counts; the write numbered dieAt is the last, and is kept or not.
	writes, dieAt int
	keep          bool
	died          chan struct{}
}

var errDead = errors.New("the process was killed")

func newLedger() *ledger {
	return &ledger{runs: map[string]*record{}, marks: map[string]procedure.Mark{}, died: make(chan struct{})}
}

func (l *ledger) write(do func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dieAt > 0 && l.writes >= l.dieAt {
		return errDead
	}
	l.writes++
	if l.writes == l.dieAt {
		if l.keep {
			do()
		}
		close(l.died)
		return errDead
	}
	do()
	return nil
}

// restart is what the next process does first: what has no end was interrupted.
func (l *ledger) restart() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dieAt = 0
	for _, r := range l.runs {
		if r.Ended.IsZero() {
			r.Status, r.Ended = procedure.StatusInterrupted, time.Now()
		}
	}
}

func (l *ledger) BeginProcedure(_ context.Context, run procedure.Run) error {
	return l.write(func() {
		l.runs[run.ID] = &record{Run: run}
		l.order = append(l.order, run.ID)
		if f := run.Fire; f != nil {
			m := l.marks[run.Procedure]
			m.Procedure, m.Expression, m.Run, m.Due = run.Procedure, f.Expression, run.ID, f.Due
			if f.Due.After(m.At) {
				m.At = f.Due
			}
			l.marks[run.Procedure] = m
		}
	})
}

func (l *ledger) ProcedureStarted(_ context.Context, run string, at time.Time) error {
	return l.write(func() { l.runs[run].Started = at })
}

func (l *ledger) StepStarted(_ context.Context, run string, _ procedure.Step) error {
	return l.write(func() { l.runs[run].steps++; l.runs[run].open++ })
}

func (l *ledger) StepEnded(_ context.Context, run string, _ procedure.Step) error {
	return l.write(func() { l.runs[run].open-- })
}

func (l *ledger) EndProcedure(_ context.Context, run procedure.Run) error {
	return l.write(func() {
		if r := l.runs[run.ID]; r != nil {
			r.Status, r.Ended, r.Reason = run.Status, run.Ended, run.Reason
		}
	})
}

func (l *ledger) Marks(context.Context) ([]procedure.Mark, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var marks []procedure.Mark
	for _, m := range l.marks {
		if r := l.runs[m.Run]; r != nil && r.steps == 0 {
			m.Unbegun = r.Status == procedure.StatusInterrupted ||
				r.Status == procedure.StatusCanceled && strings.HasSuffix(r.Reason, procedure.ReasonShutdown)
		}
		marks = append(marks, m)
	}
	return marks, nil
}

func (l *ledger) SetMarks(_ context.Context, marks []procedure.Mark, gone []string) error {
	return l.write(func() {
		for _, m := range marks {
			l.marks[m.Procedure] = m
		}
		for _, name := range gone {
			delete(l.marks, name)
		}
	})
}

func (l *ledger) SkipTime(_ context.Context, m procedure.Mark, reason string) error {
	return l.write(func() {
		l.marks[m.Procedure] = m
		l.skips = append(l.skips, m.Procedure+": "+reason)
	})
}

// began lists when the runs began, and of which procedure.
func (l *ledger) began() (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range l.order {
		r := l.runs[id]
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s", r.Procedure, r.Created.UTC().Format("02T15:04:05"))))
	}
	return out
}

// plant is a core as far as schedules go, that can be stopped and started.
type plant struct {
	*testing.T
	*world
	ledger     *ledger
	procedures []fleet.Procedure
	scheduler  *procedure.Scheduler
	zone       string
	// ahead is how far the clock on the wall is from the one that runs.
	ahead time.Duration
	told  []string
	fired int
	// reads counts how often it was asked what is declared.
	reads int
	halt  func()
}

// plants runs a test in a bubble; its clock begins at midnight UTC of the first of January 2000.
func plants(t *testing.T, test func(p *plant)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &plant{T: t, ledger: newLedger(), world: &world{T: t, takes: map[string]time.Duration{}, fails: map[string]string{}, busy: map[string]int{}, heals: map[string]int{}}}
		test(p)
	})
}

// declareAt declares a procedure of one execution.
func (p *plant) declareAt(name, text string, change func(*fleet.Procedure)) {
	proc := fleet.Procedure{
		Name: name, Stages: []fleet.Stage{{Name: "s", Enabled: true, Executions: []fleet.Execution{x("ClearRepoCache", "for", name)}}},
		Timetable: fleet.Timetable{Schedule: text, Format: "English", Enabled: true},
	}
	if strings.Contains(text, "*") {
		proc.Timetable.Format = "Cron"
	}
	if change != nil {
		change(&proc)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.procedures = slices.DeleteFunc(slices.Clone(p.procedures), func(d fleet.Procedure) bool { return d.Name == name })
	p.procedures = append(p.procedures, proc)
}

func (p *plant) boot() {
	p.Helper()
	declared := func() []fleet.Procedure {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.procedures
	}
	logger := slog.New(slog.DiscardHandler)
	runner, err := procedure.New(procedure.Config{
		Applier: p.world, Hosts: p.world, Alerts: p.world, Journal: p.ledger, Logger: logger,
		Maintenance: procedure.Maintenance{
			"ClearRepoCache": func(ctx context.Context, e *fleet.Execution, _ func(string)) (string, error) {
				return "", p.act(ctx, e.Text("for"))
			},
		},
		Catalog: func(context.Context) (procedure.Catalog, error) {
			return procedure.Catalog{Procedures: declared()}, nil
		},
	})
	if err != nil {
		p.Fatal(err)
	}
	p.scheduler, err = procedure.NewScheduler(procedure.SchedulerConfig{
		Runner: runner, Marks: p.ledger, Logger: logger,
		Zone: func() string {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.zone
		},
		Procedures: func(context.Context) ([]fleet.Procedure, bool, error) {
			p.mu.Lock()
			p.reads++
			p.mu.Unlock()
			return declared(), true, nil
		},
		Now: func() time.Time {
			p.mu.Lock()
			defer p.mu.Unlock()
			return time.Now().Add(p.ahead)
		},
		Fired: func(procedure.Run) { p.mu.Lock(); p.fired++; p.mu.Unlock() },
		Tell:  func(_ context.Context, text string) { p.mu.Lock(); p.told = append(p.told, text); p.mu.Unlock() },
	})
	if err != nil {
		p.Fatal(err)
	}
	ctx, cancel := context.WithCancel(p.Context())
	var group sync.WaitGroup
	group.Go(func() { _ = runner.Run(ctx) })
	group.Go(func() { _ = p.scheduler.Run(ctx) })
	p.halt = func() { cancel(); group.Wait() }
}

// days lets days pass.
func days(n float64) {
	time.Sleep(time.Duration(n * 24 * float64(time.Hour)))
	synctest.Wait()
}

func (p *plant) want(what string, got, want []string) {
	p.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		p.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestProceduresRunByTheirSchedules(t *testing.T) {
	t.Parallel()
	plants(t, func(p *plant) {
		p.declareAt("backup", "every day at 06:00", func(d *fleet.Procedure) { d.Timetable.Alert = true })
		p.declareAt("local", "every day at 06:00", func(d *fleet.Procedure) { d.Timetable.Zone = "America/New_York" })
		p.declareAt("off", "every day at 06:00", func(d *fleet.Procedure) { d.Timetable.Enabled = false })
		p.declareAt("never", "", nil)
		p.declareAt("broken", "every blue moon", nil)
		p.boot()
		days(2)
		p.want("runs", p.ledger.began(), []string{
			"backup 01T06:00:00", "local 01T11:00:00", "backup 02T06:00:00", "local 02T11:00:00",
		})
		if p.fired != 2 {
			t.Errorf("%d alerts for 2 runs that ask for one", p.fired)
		}
		p.halt()
	})
}

// What is declared is read when somebody says that it changed, and now and then in case nobody did.
func TestAnIdleSchedulerReadsLittle(t *testing.T) {
	t.Parallel()
	plants(t, func(p *plant) {
		p.boot()
		days(1)
		p.mu.Lock()
		idle := p.reads
		p.mu.Unlock()
		if idle < 24 || idle > 4*24+1 {
			t.Errorf("read %d times in a day", idle)
		}
		p.declareAt("backup", "every minute", nil)
		p.scheduler.Changed()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if len(p.ledger.began()) == 0 {
			t.Error("what was declared did not run")
		}
		p.halt()
	})
}

// TestChangedSchedules is the rest of row S03: what is changed while core runs counts from then on.
func TestChangedSchedules(t *testing.T) {
	t.Parallel()
	plants(t, func(p *plant) {
		p.declareAt("backup", "every day at 06:00", nil)
		p.boot()
		days(0.5)                                        // noon
		p.declareAt("backup", "every day at 11:00", nil) // has passed, and is not made up for
		p.scheduler.Changed()
		days(1)
		p.declareAt("backup", "every day at 11:00", func(d *fleet.Procedure) { d.Timetable.Enabled = false })
		p.scheduler.Changed()
		days(2)
		p.declareAt("backup", "every day at 11:00", nil) // what passed meanwhile was not to run
		p.scheduler.Changed()
		days(0.5)
		p.mu.Lock()
		p.zone = "America/New_York"
		p.mu.Unlock()
		days(1)
		p.want("runs", p.ledger.began(), []string{"backup 01T06:00:00", "backup 02T11:00:00", "backup 05T16:00:00"})
		p.halt()
	})
}

// TestTooOften is row S04.
func TestTooOften(t *testing.T) {
	t.Parallel()
	plants(t, func(p *plant) {
		p.declareAt("heavy", "* * * * * *", nil)
		p.takes["heavy"] = 90 * time.Second
		p.boot()
		days(1.0 / 24)
		runs := p.ledger.began()
		if p.most != 1 || len(runs) < 15 || len(runs) > 41 {
			t.Errorf("%d runs in an hour, %d at once", len(runs), p.most)
		}
		if m := p.ledger.marks["heavy"]; m.Skipped == 0 || !slices.Contains(p.ledger.skips, "heavy: the run before was not over") {
			t.Errorf("nothing was counted: %+v %v", m, p.ledger.skips)
		}
		p.halt()
	})
}

func TestOverlapQueues(t *testing.T) {
	t.Parallel()
	plants(t, func(p *plant) {
		p.declareAt("slow", "every hour", func(d *fleet.Procedure) { d.Timetable.Overlap = fleet.OverlapQueue })
		p.takes["slow"] = 150 * time.Minute
		p.boot()
		days(0.25)
		// The second waits for the first; those due meanwhile are that one.
		if runs := p.ledger.began(); p.most != 1 || len(runs) < 3 || runs[1] != "slow 01T02:00:00" {
			t.Errorf("%v, %d at once", runs, p.most)
		}
		p.halt()
	})
}

// TestClockIsSet is row S05.
func TestClockIsSet(t *testing.T) {
	t.Parallel()
	plants(t, func(p *plant) {
		p.declareAt("backup", "every day at 06:00", nil)
		p.boot()
		set := func(by time.Duration) {
			p.mu.Lock()
			p.ahead += by
			p.mu.Unlock()
			time.Sleep(2 * time.Minute) // no time of the schedule is near
			synctest.Wait()
		}
		days(0.5)
		set(365 * 24 * time.Hour)
		if n := len(p.ledger.began()); n != 2 {
			t.Errorf("%d runs after a year forward, want the first and one for the year", n)
		}
		set(-365 * 24 * time.Hour)
		if n := len(p.ledger.began()); n != 2 {
			t.Errorf("%d runs after a year back", n)
		}
		days(1) // it was wrong for a while; it does not stand still for a year
		if n := len(p.ledger.began()); n != 3 {
			t.Errorf("%d runs on the day after", n)
		}
		days(0.75) // about 06:06 of the next day
		before := len(p.ledger.began())
		set(-15 * time.Minute)
		days(0.1)
		if n := len(p.ledger.began()); n != before {
			t.Errorf("a time that the clock showed again was run again")
		}
		if len(p.told) != 3 || !strings.Contains(p.told[0], "forward by 8760h") {
			t.Errorf("told: %v", p.told)
		}
		p.halt()
	})
}

// TestManyAtOnce is row S06.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	plants(t, func(p *plant) {
		stages := []fleet.Stage{{Name: "s", Enabled: true, Executions: []fleet.Execution{x("Sleep", "duration_ms", 1000)}}}
		for i := range 10_000 {
			p.procedures = append(p.procedures, fleet.Procedure{
				Name: fmt.Sprintf("p%04d", i), Stages: stages, Timetable: fleet.Timetable{Schedule: "every day at 06:00", Enabled: true},
			})
		}
		p.boot()
		days(0.25)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		began := p.ledger.began()
		if len(began) != 10_000 || !slices.IsSorted(names(began)) {
			t.Errorf("%d of 10000 ran within 10 minutes, or not by name", len(began))
		}
		p.halt()
	})
}

func names(began []string) (out []string) {
	for _, b := range began {
		name, _, _ := strings.Cut(b, " ")
		out = append(out, name)
	}
	return out
}

func TestJitterIsTheSameEveryDay(t *testing.T) {
	t.Parallel()
	plants(t, func(p *plant) {
		for i := range 20 {
			p.declareAt(fmt.Sprint("p", i), "every day at 06:00", func(d *fleet.Procedure) { d.Timetable.Jitter = 10 * time.Minute })
		}
		p.boot()
		days(2)
		at := map[string]string{}
		distinct := map[string]bool{}
		for _, b := range p.ledger.began() {
			name, when, _ := strings.Cut(b, " ")
			clock := when[3:]
			if before, ok := at[name]; ok && before != clock {
				t.Errorf("%s at %s and %s", name, before, clock)
			}
			if clock < "06:00:00" || clock >= "06:10:00" {
				t.Errorf("%s at %s", name, clock)
			}
			at[name], distinct[clock] = clock, true
		}
		if len(at) != 20 || len(distinct) < 15 {
			t.Errorf("%d procedures at %d times", len(at), len(distinct))
		}
		p.halt()
	})
}

// TestDowntime is row S07.
func TestDowntime(t *testing.T) {
	t.Parallel()
	plants(t, func(p *plant) {
		p.declareAt("once", "every day at 06:00", nil)
		p.declareAt("skips", "every day at 06:00", func(d *fleet.Procedure) { d.Timetable.Missed = fleet.MissedSkip })
		p.declareAt("often", "every minute", nil)
		p.boot()
		time.Sleep(90 * time.Second)
		p.halt()
		days(3.5)
		before := len(p.ledger.began())
		p.boot()
		time.Sleep(time.Second)
		synctest.Wait()
		p.want("catching up", names(p.ledger.began()[before:]), []string{"often", "once"})
		p.want("skipped", p.ledger.skips, []string{"skips: 4 times passed while nobody looked"})
		p.ledger.mu.Lock()
		for _, r := range p.ledger.runs {
			if r.Procedure == "once" && (r.Fire.Missed != 3 || r.Fire.Due.Day() != 4) {
				t.Errorf("one run for all: %+v", r.Fire)
			}
		}
		p.ledger.mu.Unlock()
		days(1)
		p.want("afterwards", slices.DeleteFunc(p.ledger.began()[before+2:], func(b string) bool { return strings.HasPrefix(b, "often") }),
			[]string{"once 05T06:00:00", "skips 05T06:00:00"})
		p.halt()
	})
}

// TestKilledAtEveryWrite kills the process at each of its writes, before and after it is on
// disk: of no time is there no run, and of none are there two that did something.
func TestKilledAtEveryWrite(t *testing.T) {
	t.Parallel()
	const dueDays = 3
	for at := 1; at <= 21; at++ {
		for _, keep := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d %v", at, keep), func(t *testing.T) {
				t.Parallel()
				plants(t, func(p *plant) {
					p.declareAt("nightly", "every day at 06:00", nil)
					p.ledger.dieAt, p.ledger.keep = at, keep
					p.boot()
					select {
					case <-p.ledger.died:
					case <-time.After(dueDays * 24 * time.Hour):
					}
					p.halt()
					before := len(p.did)
					p.ledger.restart()
					p.boot()
					days(dueDays - time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Hours()/24)
					p.halt()
					worked, cut := map[string]int{}, 0
					for _, r := range p.ledger.runs {
						if r.steps > 0 {
							worked[r.Fire.Due.Format(time.DateOnly)]++
						}
						cut += r.open
					}
					for d := range dueDays {
						if day := time.Date(2000, 1, 1+d, 0, 0, 0, 0, time.UTC).Format(time.DateOnly); worked[day] != 1 {
							t.Errorf("%d runs of %s did something: %v", worked[day], day, p.ledger.began())
						}
					}
					// Only a step that was begun and cut off may have done nothing.
					if did := len(p.did); did > dueDays || did < dueDays-cut || cut > 1 {
						t.Errorf("%d things done (%d before the kill), %d cut off", did, before, cut)
					}
				})
			})
		}
	}
}

func TestAMonth(t *testing.T) {
	t.Parallel()
	plants(t, func(p *plant) {
		p.zone = "Europe/Berlin"
		for text, per := range map[string]int{
			"every day at 06:00": 31, "every 15 minutes": 31 * 96, "every weekday at 9am": 22, "every monday at noon": 5,
			"on the 1st and 15th of the month at 18:00": 2, "last day of the month at 12:00": 1, "0 0 12 13 * *": 1, "every 6 hours": 31 * 4,
		} {
			p.declareAt(fmt.Sprint(text, "=", per), text, nil)
		}
		time.Sleep(23*time.Hour - time.Second) // midnight of the second in Berlin: 31 days from there
		p.boot()
		days(31)
		counts := map[string]int{}
		for _, r := range p.ledger.runs {
			counts[r.Procedure]++
		}
		for _, d := range p.procedures {
			if _, want, _ := strings.Cut(d.Name, "="); fmt.Sprint(counts[d.Name]) != want {
				t.Errorf("%s: %d runs", d.Name, counts[d.Name])
			}
		}
		p.halt()
	})
}

func (*ledger) OpenProcedures(context.Context) ([]procedure.Run, error) { return nil, nil }

func (l *ledger) StageStarted(context.Context, string, []procedure.Step) error {
	return l.write(func() {})
}
