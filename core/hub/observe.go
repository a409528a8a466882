package hub

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// refreshAtOnce bounds how many agents read their engines for one Refresh at a time.
const refreshAtOnce = 256

// Observed is the last report of every registered server. It is shared: callers must
// not change it.
func (h *Hub) Observed() fleet.Observed {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.observed == nil {
		h.observed = make(fleet.Observed, len(h.servers))
		for name, srv := range h.servers {
			h.observed[name] = srv.report
		}
	}
	return h.observed
}

// Refresh asks the servers named, or all, to read their engines afresh, and waits for
// those that answer within ctx.
func (h *Hub) Refresh(ctx context.Context, servers []string) fleet.Observed {
	var wg sync.WaitGroup
	slots := make(chan struct{}, refreshAtOnce)
	for _, s := range h.connected(servers) {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := h.refresh(ctx, s); err != nil && ctx.Err() == nil {
				h.log.LogAttrs(ctx, slog.LevelWarn, "agent not observed", slog.String("host", s.server), slog.Any("err", err))
			}
		})
	}
	wg.Wait()
	return h.Observed()
}

// connected lists the sessions of the servers named, or of all.
func (h *Hub) connected(servers []string) (sessions []*session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, srv := range h.servers {
		if srv.session != nil && (len(servers) == 0 || slices.Contains(servers, name)) {
			sessions = append(sessions, srv.session)
		}
	}
	return sessions
}

func (h *Hub) refresh(ctx context.Context, s *session) error {
	var body json.RawMessage
	if err := s.peer.Call(ctx, wire.VerbObserve, nil, &body); err != nil {
		return err
	}
	report, err := decodeReport(body)
	if err != nil {
		return err
	}
	report.Full = true // that is what was asked for
	h.keep(s, report)
	return nil
}

// report takes what an agent reports by itself.
func (s *session) report(ctx context.Context, body []byte) error {
	report, err := decodeReport(body)
	if err != nil {
		s.hub.log.LogAttrs(ctx, slog.LevelWarn, "report refused", slog.String("host", s.server), slog.Any("err", err))
		return err
	}
	first, kept := s.hub.keep(s, report)
	if !kept {
		return nil // a newer session reports by itself
	}
	var stacks []string
	if !report.Full && !first {
		for i := range report.Stacks {
			stacks = append(stacks, report.Stacks[i].Stack)
		}
		stacks = append(stacks, report.Gone...)
		if len(stacks) == 0 {
			return nil
		}
	}
	s.hub.cfg.OnChange(s.server, stacks)
	return nil
}

// keep merges a report into what is known of the server. Slices are replaced, never
// changed: they may have been given out. first says that it is the session's first
// report, kept that the session still counts.
func (h *Hub) keep(s *session, report wire.Report) (first, kept bool) {
	now := h.cfg.Clock()
	h.mu.Lock()
	defer h.mu.Unlock()
	srv := h.servers[s.server]
	if srv == nil || srv.session != s {
		return false, false
	}
	stacks := report.Stacks
	if !report.Full {
		stacks = merge(srv.report.Stacks, report)
	}
	slices.SortStableFunc(stacks, func(a, b fleet.StackReport) int { return cmp.Compare(a.Stack, b.Stack) })
	srv.report = fleet.ServerReport{
		Server: s.server, Online: true, Epoch: s.epoch, Received: now, Agent: report.Agent, Skew: skew(report.Time, now),
		Stacks: slices.CompactFunc(stacks, func(a, b fleet.StackReport) bool { return a.Stack == b.Stack }),
	}
	h.observed = nil
	first = !s.reported
	s.reported = true
	return first, true
}

// skew is how far an agent's clock is ahead; zero for an agent that does not say. It is made
// from what the clocks show, not from the time that passed.
func skew(theirs, ours time.Time) time.Duration {
	if theirs.IsZero() {
		return 0
	}
	return theirs.Round(0).Sub(ours.Round(0)).Round(100 * time.Millisecond)
}

// merge puts the stacks of a partial report over those that are known.
func merge(known []fleet.StackReport, report wire.Report) []fleet.StackReport {
	replaced := make(map[string]bool, len(report.Stacks)+len(report.Gone))
	for i := range report.Stacks {
		replaced[report.Stacks[i].Stack] = true
	}
	for _, stack := range report.Gone {
		replaced[stack] = true
	}
	stacks := slices.Clone(report.Stacks)
	for i := range known {
		if !replaced[known[i].Stack] {
			stacks = append(stacks, known[i])
		}
	}
	return stacks
}

// Whatever an agent says ends up in front of people and in memory, so it has limits. A
// report over a limit is refused as a whole: a part of one would make running stacks
// look missing.
const (
	maxStacks     = 2_000
	maxStackJSON  = 2 << 20
	maxContainers = 10_000
	maxText       = 4 << 10
	maxLog        = 64 << 10
)

// stackList decodes one element at a time: a body of some megabytes can hold a million
// empty stacks, which take a thousand times the memory when decoded.
type stackList []fleet.StackReport

// UnmarshalJSON implements json.Unmarshaler.
func (l *stackList) UnmarshalJSON(body []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	switch token, err := decoder.Token(); {
	case err != nil:
		return err
	case token == nil: // null
		return nil
	case token != json.Delim('['):
		return errors.New("stacks are no list")
	}
	var list stackList
	containers := 0
	for decoder.More() {
		var element json.RawMessage
		if err := decoder.Decode(&element); err != nil {
			return err
		}
		if len(list) >= maxStacks || len(element) > maxStackJSON {
			return wire.Errorf(wire.CodeTooLarge, "a report of more than %d stacks or %d bytes for one", maxStacks, maxStackJSON)
		}
		var stack fleet.StackReport
		if err := json.Unmarshal(element, &stack); err != nil {
			return err
		}
		if containers += len(stack.Containers); containers > maxContainers {
			return wire.Errorf(wire.CodeTooLarge, "a report of more than %d containers", maxContainers)
		}
		list = append(list, stack)
	}
	*l = list
	return nil
}

// decodeReport reads a report and makes its texts fit to be shown.
func decodeReport(body []byte) (wire.Report, error) {
	var raw struct {
		Agent  fleet.AgentInfo `json:"agent"`
		Full   bool            `json:"full"`
		Stacks stackList       `json:"stacks"`
		Gone   []string        `json:"gone"`
		Time   time.Time       `json:"time"`
	}
	if err := wire.Decode(body, &raw); err != nil {
		return wire.Report{}, err
	}
	if len(raw.Gone) > maxStacks {
		return wire.Report{}, wire.Errorf(wire.CodeTooLarge, "a report of more than %d stacks that are gone", maxStacks)
	}
	report := wire.Report{Agent: cleanAgent(raw.Agent), Full: raw.Full, Stacks: raw.Stacks, Gone: raw.Gone, Time: raw.Time}
	for i := range report.Stacks {
		cleanStack(&report.Stacks[i])
	}
	for i := range report.Gone {
		report.Gone[i] = clean(report.Gone[i])
	}
	return report, nil
}
