package procedure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/fleet/schedule"
	"github.com/varanhq/varan/reconciler"
)

const (
	// lookEvery bounds the time between two looks at the clock: it may have been set.
	lookEvery = time.Minute
	// readEvery bounds the time between two readings of what is declared. Whoever declares
	// something else says so by Changed.
	readEvery = 15 * time.Minute
	// retryAfter is how long to wait when a run could not be begun.
	retryAfter = 5 * time.Second
	// onTime is how late a time may be seen without having been missed.
	onTime = 2 * lookEvery
	// maxBack is how far the clock may be set back for times that were dealt with to stay so
	// when it shows them again. Set back further, it was wrong before.
	maxBack = 24 * time.Hour
	// clockStep is a change of the clock that is told.
	clockStep = 10 * time.Second
	// scheduledAtOnce bounds the runs of schedules under way: what is due at the same time
	// goes one after the other from there on.
	scheduledAtOnce = 32
	// ScheduleActor is who starts what a schedule starts.
	ScheduleActor = "schedule"
)

// Fire is a time of a schedule that a run is for.
type Fire struct {
	Due        time.Time `json:"due"`
	Expression string    `json:"expression"`
	// Missed counts earlier times that this run stands for, up to maxCounted.
	Missed int `json:"missed,omitempty"`
}

// maxCounted is how many missed times are counted.
const maxCounted = 1000

// Mark is how far the schedule of a procedure has been followed.
type Mark struct {
	Procedure string
	// Expression is the schedule, its format and its zone.
	Expression string
	// At is the mark: every time up to it is dealt with.
	At time.Time
	// Run is the last run, for the time Due; Unbegun that it ended with its process before
	// anything of it was done.
	Run     string
	Due     time.Time
	Unbegun bool
	// Skipped counts the times at which there was no run, by a policy.
	Skipped int
}

// Marks is the durable record of how far schedules have been followed. What a run is for is
// recorded by Journal, together with its begin.
type Marks interface {
	Marks(ctx context.Context) ([]Mark, error)
	// SetMarks sets marks and forgets those of the procedures that are gone.
	SetMarks(ctx context.Context, marks []Mark, gone []string) error
	// SkipTime sets a mark and tells why there is no run.
	SkipTime(ctx context.Context, mark Mark, reason string) error
}

// SchedulerConfig wires a Scheduler. Without a comment a field is required.
type SchedulerConfig struct {
	Runner *Runner
	Marks  Marks
	// Procedures are those that are declared; complete says that no sync is still to be read.
	Procedures func(ctx context.Context) (all []fleet.Procedure, complete bool, err error)
	// Zone is the time zone of schedules that name none; optional, default UTC.
	Zone   func() string
	Logger *slog.Logger
	// Now is the clock on the wall; optional, default time.Now.
	Now func() time.Time
	// Fired is told of every run begun whose procedure asks for an alert; optional.
	Fired func(Run)
	// Tell takes news about the clock; optional.
	Tell func(ctx context.Context, text string)
}

// Scheduler starts procedures when their schedules say so.
type Scheduler struct {
	cfg     SchedulerConfig
	changed chan struct{}
	// room is told when a run that it began has ended.
	room chan struct{}
	// running counts the runs under way that it began.
	running atomic.Int32

	entries map[string]*entry
	marks   map[string]Mark
	// stale says that what is declared, or the clock, is another than when it was read.
	stale  bool
	readAt time.Time
	// queue is what is due and has not begun, in order; wake when to look again.
	queue []*entry
	wake  time.Time
	// wall and steady are the clock at the last look, as it was set and as it ran.
	wall, steady time.Time
}

// entry is a procedure with a schedule.
type entry struct {
	name       string
	timetable  fleet.Timetable
	expression string
	schedule   schedule.Schedule
	// next is the first time that is not dealt with; none is left when it is zero.
	next time.Time
	// seen says that next was found due when it was, and waits for room.
	seen bool
	mark Mark
}

// NewScheduler returns a Scheduler.
func NewScheduler(cfg SchedulerConfig) (*Scheduler, error) {
	if cfg.Runner == nil || cfg.Marks == nil || cfg.Procedures == nil || cfg.Logger == nil {
		return nil, errors.New("procedure: Runner, Marks, Procedures and Logger are required")
	}
	if cfg.Zone == nil {
		cfg.Zone = func() string { return "" }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Fired == nil {
		cfg.Fired = func(Run) {}
	}
	if cfg.Tell == nil {
		cfg.Tell = func(context.Context, string) {}
	}
	return &Scheduler{cfg: cfg, changed: make(chan struct{}, 1), room: make(chan struct{}, 1), entries: map[string]*entry{}}, nil
}

// Changed says that other procedures may be declared. It does not block.
func (s *Scheduler) Changed() { signal(s.changed) }

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// Run follows the schedules until ctx ends. There is one timer, for whatever is next.
func (s *Scheduler) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			err = s.pass(ctx)
		case <-s.changed:
			s.stale = true
			err = s.pass(ctx)
		case <-s.room:
		}
		if err != nil && ctx.Err() == nil {
			s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "schedules not followed", slog.Any("err", err))
			s.queue, s.wake = nil, s.wall.Add(retryAfter)
		}
		s.drain(ctx)
		timer.Reset(max(s.wake.Sub(s.cfg.Now()), 0))
	}
}

// pass looks at what there is, and queues what is due.
func (s *Scheduler) pass(ctx context.Context) error {
	now := s.look(ctx)
	if s.marks == nil {
		marks, err := s.cfg.Marks.Marks(ctx)
		if err != nil {
			return err
		}
		s.marks = make(map[string]Mark, len(marks))
		for _, m := range marks {
			s.marks[m.Procedure] = m
		}
	}
	if s.stale || s.steady.Sub(s.readAt) >= readEvery {
		s.stale = true // until it was read
		if err := s.read(ctx, now); err != nil {
			return err
		}
		s.stale, s.readAt = false, s.steady
	}
	s.queue, s.wake = s.queue[:0], now.Add(lookEvery)
	for _, e := range s.entries {
		at, ok := e.at()
		if !ok || at.After(now) {
			s.wakeAt(at, ok)
			continue
		}
		e.seen = e.seen || now.Sub(at) <= onTime
		s.queue = append(s.queue, e)
	}
	slices.SortFunc(s.queue, func(a, b *entry) int { return cmp.Or(a.next.Compare(b.next), strings.Compare(a.name, b.name)) })
	return nil
}

func (s *Scheduler) wakeAt(at time.Time, ok bool) {
	if ok && at.Before(s.wake) {
		s.wake = at
	}
}

// drain begins what is queued as long as there is room; the end of a run makes some.
func (s *Scheduler) drain(ctx context.Context) {
	for len(s.queue) > 0 && s.running.Load() < scheduledAtOnce && ctx.Err() == nil {
		e := s.queue[0]
		s.queue = s.queue[1:]
		err := s.fire(ctx, e, s.wall)
		if err == nil {
			s.wakeAt(e.at())
			continue
		}
		if !errors.Is(err, ErrTooMany) && !errors.Is(err, ErrStopped) && ctx.Err() == nil {
			s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "scheduled run not begun", slog.String("procedure", e.name), slog.Any("err", err))
		}
		s.wakeAt(s.wall.Add(retryAfter), true)
	}
}

// look reads the clock, and tells when it was set.
func (s *Scheduler) look(ctx context.Context) time.Time {
	now, steady := s.cfg.Now().Round(0), time.Now()
	if !s.wall.IsZero() {
		step := now.Sub(s.wall) - steady.Sub(s.steady)
		if step.Abs() > clockStep {
			s.stale = true
			way := "forward"
			if step < 0 {
				way = "back"
			}
			s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "the clock was set", slog.String("way", way), slog.Duration("by", step.Abs()))
			s.cfg.Tell(ctx, fmt.Sprintf("the clock was set %s by %s", way, step.Abs().Round(time.Second)))
		}
	}
	s.wall, s.steady = now, steady
	return now
}

// read brings the entries up to what is declared. A schedule that is new, or was changed,
// counts from now on.
func (s *Scheduler) read(ctx context.Context, now time.Time) error {
	procedures, complete, err := s.cfg.Procedures(ctx)
	if err != nil {
		return err
	}
	present := make(map[string]bool, len(procedures))
	var fresh []Mark
	for i := range procedures {
		p := &procedures[i]
		if p.Timetable.Schedule == "" || !p.Timetable.Enabled {
			continue
		}
		present[p.Name] = true
		e := s.entry(p)
		mark, known := s.marks[p.Name]
		if !known || mark.Expression != e.expression || mark.At.Sub(now) > maxBack {
			mark = Mark{Procedure: p.Name, Expression: e.expression, At: now, Run: mark.Run, Due: mark.Due, Skipped: mark.Skipped}
			fresh = append(fresh, mark)
			s.marks[p.Name] = mark
		}
		e.take(mark)
	}
	var gone []string
	for name := range s.entries {
		if !present[name] {
			delete(s.entries, name)
		}
	}
	for name := range s.marks {
		if complete && !present[name] {
			gone = append(gone, name)
			delete(s.marks, name)
		}
	}
	if len(fresh) == 0 && len(gone) == 0 {
		return nil
	}
	if err := s.cfg.Marks.SetMarks(ctx, fresh, gone); err != nil {
		s.marks = nil // read what is on record before the next try
		return err
	}
	return nil
}

// entry is the entry of a procedure, with what it says now.
func (s *Scheduler) entry(p *fleet.Procedure) *entry {
	t := p.Timetable
	t.Zone = cmp.Or(t.Zone, s.cfg.Zone())
	e := s.entries[p.Name]
	if e == nil {
		e = &entry{name: p.Name}
		s.entries[p.Name] = e
	}
	if expression := t.Format + " " + t.Schedule + " " + t.Zone; e.expression != expression {
		*e = entry{name: p.Name, expression: expression}
		e.schedule, _ = schedule.Parse(t.Format, t.Schedule, t.Zone) // checked with its file; else it has no times
	}
	e.timetable = t
	return e
}

// take sets how far an entry has been followed.
func (e *entry) take(mark Mark) {
	if e.mark == mark && !e.next.IsZero() {
		return
	}
	e.mark = mark
	if mark.Unbegun {
		e.next = mark.Due
		return
	}
	e.next = e.after(mark.At)
}

// after is the next time that there is to be a run.
func (e *entry) after(at time.Time) time.Time {
	next, _ := e.schedule.Following(at)
	return next
}

// delay is the jitter of a procedure: always the same, so that its runs are a day apart.
func (e *entry) delay() time.Duration {
	if e.timetable.Jitter <= 0 {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(e.name))
	return time.Duration(h.Sum64() % uint64(e.timetable.Jitter)) //nolint:gosec // positive, and the rest is below it
}

// at is when the entry is to be run next.
func (e *entry) at() (time.Time, bool) { return e.next.Add(e.delay()), !e.next.IsZero() }

// last is the last time that is due, and how many from next on there are, up to maxCounted.
func (e *entry) last(now time.Time) (last time.Time, count int) {
	now = now.Add(-e.delay())
	for last = e.next; count < maxCounted; count++ {
		next := e.after(last)
		if next.IsZero() || next.After(now) {
			return last, count + 1
		}
		last = next
	}
	// Too many to go through: from shorter to longer ago until there is one.
	for ago := schedule.MinInterval; ; ago *= 4 {
		next, ok := e.schedule.Next(now.Add(-ago))
		for ; ok && !next.After(now); next, ok = e.schedule.Next(next) {
			last = next
		}
		if !last.Before(now.Add(-ago)) {
			return last, maxCounted
		}
	}
}

// fire begins the run that is due, or passes over it.
func (s *Scheduler) fire(ctx context.Context, e *entry, now time.Time) error {
	last, count := e.last(now)
	// What was seen in time is not missed, however long it then waited.
	missed := count - 1
	if now.Sub(last.Add(e.delay())) > onTime && !e.seen {
		missed = count
	}
	if missed == count && e.timetable.Missed == fleet.MissedSkip {
		return s.skip(ctx, e, last, count, fmt.Sprintf("%s passed while nobody looked", times(count)))
	}
	busy := slices.ContainsFunc(s.cfg.Runner.Active(), func(r Run) bool { return r.Procedure == e.name })
	if busy && e.timetable.Overlap != fleet.OverlapQueue {
		return s.skip(ctx, e, last, count, "the run before was not over")
	}
	fire := &Fire{Due: last, Expression: e.expression, Missed: count - 1}
	var over atomic.Bool
	release := func() {
		if !over.Swap(true) {
			s.running.Add(-1)
			signal(s.room)
		}
	}
	s.running.Add(1)
	run, coalesced, err := s.cfg.Runner.Start(context.WithoutCancel(ctx), Request{ // the runner stops by itself, and says why
		Procedure: e.name, Trigger: reconciler.TriggerSchedule, Actor: ScheduleActor, Fire: fire, Coalesce: true,
		Watch: func(ev Event) {
			if ev.Kind == EventEnded {
				release()
			}
		},
	})
	if err != nil || coalesced {
		release()
	}
	switch {
	case errors.Is(err, ErrLoop) || errors.Is(err, ErrUnknown) || errors.Is(err, ErrInputs):
		return s.skip(ctx, e, last, count, err.Error())
	case err != nil:
		return err
	case coalesced:
		return s.skip(ctx, e, last, count, "a run that waits for its turn stands for it")
	}
	s.set(e, Mark{Procedure: e.name, Expression: e.expression, At: later(e.mark.At, last), Run: run.ID, Due: last, Skipped: e.mark.Skipped})
	if e.timetable.Alert {
		s.cfg.Fired(run)
	}
	return nil
}

func times(n int) string {
	switch {
	case n == 1:
		return "its time"
	case n >= maxCounted:
		return fmt.Sprintf("%d times or more", maxCounted)
	}
	return fmt.Sprintf("%d times", n)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// skip passes over the times up to last.
func (s *Scheduler) skip(ctx context.Context, e *entry, last time.Time, count int, reason string) error {
	mark := e.mark
	mark.At, mark.Unbegun, mark.Skipped = later(mark.At, last), false, mark.Skipped+count
	if err := s.cfg.Marks.SkipTime(ctx, mark, reason); err != nil {
		return err
	}
	s.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "scheduled run left out", slog.String("procedure", e.name), slog.String("reason", reason))
	s.set(e, mark)
	return nil
}

func (s *Scheduler) set(e *entry, mark Mark) {
	s.marks[e.name], e.seen = mark, false
	e.take(mark)
}
