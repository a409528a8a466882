package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

const (
	// retryEvery is how soon a failed observation or delivery is tried again.
	retryEvery = 15 * time.Second
	// busyEvery is how often a stack is reported while an order changes it. Each of the
	// engine's steps is an event; core needs to see the end, and a little of the way.
	busyEvery = 5 * time.Second
	// afterAnswer is how long reports wait after core was sent an observation it asked
	// for, so that none of them overtakes it.
	afterAnswer = 100 * time.Millisecond
	// readAllAbove is the number of changed stacks from which one reading of everything
	// is cheaper than a reading of each.
	readAllAbove = 8
	// callTimeout bounds one report or result; a core that is slower has a problem, and
	// a new session shows it.
	callTimeout = 30 * time.Second
	// observeTimeout bounds one reading of the engine.
	observeTimeout = time.Minute
	// maxReport keeps a report well below what one message may hold, maxStack is what
	// core accepts of one stack.
	maxReport = 4 << 20
	maxStack  = 2 << 20
)

// uplink tells core what changes and how orders ended, over one session. A single
// goroutine does both, in that order: when core gets an outcome, it already has the
// observation that the outcome led to.
type uplink struct {
	peer    *wire.Peer
	engine  Engine
	jobs    *jobs
	news    *news
	log     *slog.Logger
	base    fleet.AgentInfo
	lowDisk func() (text string, low bool)
	observe chan observation // requests of core, answered by run
	// rereadEvery is how often everything is read although no event asked for it.
	rereadEvery time.Duration
	// hostEvery is how often the disk and the clock are looked at.
	hostEvery time.Duration

	// The rest belongs to run alone.
	info     fleet.AgentInfo
	toldInfo fleet.AgentInfo         // what core was told last
	told     map[string]fleet.Digest // likewise, by stack
	fullOwed bool                    // core has not had a full report yet
	toldAt   time.Time               // the clock that core was told
	quiet    time.Time               // no report before
	busyAt   time.Time               // when busy stacks were last reported
}

// observation is core's request to read everything now.
type observation struct {
	report chan<- wire.Report // capacity 1
	err    chan<- error       // capacity 1
}

func newUplink(a *Agent, peer *wire.Peer, log *slog.Logger) *uplink {
	return &uplink{
		peer: peer, engine: a.cfg.Engine, jobs: a.jobs, news: a.news, log: log, base: a.info, lowDisk: a.disk.Low,
		rereadEvery: a.cfg.Reread, hostEvery: a.cfg.LookAtHost, observe: make(chan observation), told: map[string]fleet.Digest{}, fullOwed: true,
	}
}

// run reports until ctx or the connection ends; the error says that the session is of
// no more use.
func (u *uplink) run(ctx context.Context) error {
	u.news.mark("")
	// Another session's uplink may be waiting for what this one was woken for.
	defer poke(u.news.wake)
	reread, host := time.NewTicker(u.rereadEvery), time.NewTicker(u.hostEvery)
	defer reread.Stop()
	defer host.Stop()
	for {
		again, err := u.round(ctx)
		if err != nil {
			return err
		}
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
		case <-u.news.wake:
		case <-timer.C:
		case <-reread.C:
			u.news.mark("")
		case <-host.C:
			if text, _ := u.lowDisk(); text != u.toldInfo.LowDisk || u.stepped() {
				u.news.mark("")
			}
		case request := <-u.observe:
			u.answer(ctx, request)
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// round reports what changed and then delivers the outcomes that were there before it
// looked. It returns after what time to come back at the latest.
func (u *uplink) round(ctx context.Context) (again time.Duration, err error) {
	if wait := time.Until(u.quiet); wait > 0 {
		return wait, nil
	}
	outcomes := u.jobs.undelivered()
	again = u.rereadEvery
	busyDue := time.Since(u.busyAt) >= busyEvery
	all, stacks, left := u.news.take(func(stack string) bool { return !busyDue && u.jobs.busy(stack) })
	if busyDue {
		u.busyAt = time.Now()
	}
	if left {
		again = busyEvery - time.Since(u.busyAt)
	}
	if all || len(stacks) > 0 {
		ok, err := u.report(ctx, all, stacks)
		if err != nil {
			u.news.mark("") // whatever core missed, the next session tells it
			return 0, err
		}
		if !ok {
			again = min(again, retryEvery)
		}
	}
	ok, err := u.deliver(ctx, outcomes)
	if !ok {
		again = min(again, retryEvery)
	}
	return again, err
}

// report reads the stacks, or everything, and tells core what differs from what it was
// told last. ok is false when the engine could not be read.
func (u *uplink) report(ctx context.Context, all bool, stacks []string) (ok bool, err error) {
	if !all && !u.fullOwed && len(stacks) <= readAllAbove {
		observed, gone, err := u.readStacks(ctx, stacks)
		if err == nil {
			return true, u.send(ctx, u.changes(ctx, observed, gone))
		}
	}
	observed, err := u.readAll(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return false, err
		}
		if u.info.EngineError != u.toldInfo.EngineError {
			u.log.WarnContext(ctx, "the engine could not be observed", slog.Any("err", err))
		}
		u.news.owe()
		return false, u.send(ctx, changes{info: u.info})
	}
	c := u.changes(ctx, observed, u.goneWithout(observed))
	c.full = u.fullOwed
	if err := u.send(ctx, c); err != nil {
		return true, err
	}
	u.fullOwed = false
	return true, nil
}

// readAll reads everything; after an error u.info says so.
func (u *uplink) readAll(ctx context.Context) ([]fleet.StackReport, error) {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	info, observed, err := u.engine.Observe(ctx)
	if err != nil && info.EngineError == "" {
		info.EngineError = err.Error()
	}
	u.info = describe(u.base, info)
	u.info.LowDisk, _ = u.lowDisk()
	return observed, err
}

func (u *uplink) readStacks(ctx context.Context, stacks []string) (observed []fleet.StackReport, gone []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	for _, stack := range stacks {
		report, ok, err := u.engine.ObserveStack(ctx, stack)
		switch {
		case err != nil:
			return nil, nil, err
		case ok:
			observed = append(observed, report)
		case u.told[stack] != "":
			gone = append(gone, stack)
		}
	}
	return observed, gone, nil
}

// goneWithout lists, sorted, what core knows and was not observed any more.
func (u *uplink) goneWithout(observed []fleet.StackReport) []string {
	var gone []string
	for stack := range u.told {
		if !slices.ContainsFunc(observed, func(r fleet.StackReport) bool { return r.Stack == stack }) {
			gone = append(gone, stack)
		}
	}
	slices.Sort(gone)
	return gone
}

// changes is what core does not know yet.
type changes struct {
	info   fleet.AgentInfo
	full   bool
	stacks []change
	gone   []string
}

type change struct {
	report fleet.StackReport
	digest fleet.Digest
	size   int
}

// changes picks what differs from what core was told.
func (u *uplink) changes(ctx context.Context, observed []fleet.StackReport, gone []string) changes {
	c := changes{info: u.info, gone: gone}
	for _, report := range observed {
		text, err := json.Marshal(report)
		if err == nil && len(text) > maxStack {
			err = fmt.Errorf("%d bytes are too many", len(text))
		}
		if err != nil {
			u.log.ErrorContext(ctx, "a stack cannot be reported", slog.String("stack", report.Stack), slog.Any("err", err))
			continue
		}
		if digest := fleet.SumDigest(text); u.told[report.Stack] != digest {
			c.stacks = append(c.stacks, change{report, digest, len(text)})
		}
	}
	return c
}

// send tells core, in several messages when there is much to tell. Nothing new is not
// sent at all.
func (u *uplink) send(ctx context.Context, c changes) error {
	if !c.full && len(c.stacks) == 0 && len(c.gone) == 0 && !u.stepped() && reflect.DeepEqual(u.toldInfo, c.info) {
		return nil
	}
	u.toldAt = time.Now()
	report := wire.Report{Agent: c.info, Full: c.full, Gone: c.gone, Time: u.toldAt}
	for size := 0; ; report, size = (wire.Report{Agent: c.info, Time: time.Now()}), 0 {
		for len(c.stacks) > 0 && (size == 0 || size+c.stacks[0].size <= maxReport) {
			report.Stacks = append(report.Stacks, c.stacks[0].report)
			size += c.stacks[0].size
			u.told[c.stacks[0].report.Stack] = c.stacks[0].digest
			c.stacks = c.stacks[1:]
		}
		if err := u.call(ctx, wire.VerbReport, report); err != nil {
			return fmt.Errorf("report: %w", err)
		}
		if len(c.stacks) == 0 {
			break
		}
	}
	u.toldInfo = c.info
	for _, stack := range c.gone {
		delete(u.told, stack)
	}
	return nil
}

// stepped reports whether the host's clock was set since core was told it.
func (u *uplink) stepped() bool {
	now := time.Now()
	step := now.Round(0).Sub(u.toldAt.Round(0)) - now.Sub(u.toldAt)
	return step.Abs() >= time.Second
}

// deliver hands outcomes over until core has each of them. ok is false when some have
// to wait.
func (u *uplink) deliver(ctx context.Context, outcomes []fleet.Outcome) (ok bool, err error) {
	ok = true
	for _, outcome := range outcomes {
		err := u.call(ctx, wire.VerbResult, outcome)
		refused, isRefusal := errors.AsType[*wire.Error](err)
		switch {
		case err == nil:
		case !isRefusal || errors.Is(err, wire.ErrClosed):
			return false, fmt.Errorf("deliver outcome of order %s: %w", outcome.Order, err)
		case refused.Retryable:
			u.log.WarnContext(ctx, "core could not take an outcome", slog.String("order", outcome.Order), slog.Any("err", err))
			ok = false
			continue
		default:
			u.log.WarnContext(ctx, "core refused an outcome; dropping it", slog.String("order", outcome.Order), slog.Any("err", err))
		}
		u.jobs.acknowledged(ctx, outcome)
	}
	return ok, nil
}

func (u *uplink) call(ctx context.Context, verb wire.Verb, req any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return u.peer.Call(ctx, verb, req, nil)
}

// answer serves core's wish to have everything read now.
func (u *uplink) answer(ctx context.Context, request observation) {
	observed, err := u.readAll(ctx)
	if err != nil {
		request.err <- err
		return
	}
	clear(u.told)
	for _, c := range u.changes(ctx, observed, nil).stacks {
		u.told[c.report.Stack] = c.digest
	}
	u.toldInfo = u.info
	u.fullOwed = false
	u.quiet = time.Now().Add(afterAnswer)
	u.toldAt = time.Now()
	request.report <- wire.Report{Agent: u.info, Full: true, Stacks: observed, Time: u.toldAt}
}

// ask is answer's other end.
func (u *uplink) ask(ctx context.Context) (wire.Report, error) {
	report, failed := make(chan wire.Report, 1), make(chan error, 1)
	select {
	case u.observe <- observation{report, failed}:
	case <-ctx.Done():
		return wire.Report{}, ctx.Err()
	}
	select {
	case r := <-report:
		return r, nil
	case err := <-failed:
		return wire.Report{}, &wire.Error{Code: wire.CodeInternal, Message: err.Error(), Retryable: true}
	case <-ctx.Done():
		return wire.Report{}, ctx.Err()
	}
}

// describe completes what the engine says of itself with what the agent knows.
func describe(base, engine fleet.AgentInfo) fleet.AgentInfo {
	engine.Version, engine.Hostname = base.Version, base.Hostname
	engine.LocalSecrets, engine.HostCommands = base.LocalSecrets, base.HostCommands
	engine.Tier, engine.AllowedRegistries = base.Tier, base.AllowedRegistries
	if engine.OS == "" {
		engine.OS = base.OS
	}
	if engine.Arch == "" {
		engine.Arch = base.Arch
	}
	return engine
}
