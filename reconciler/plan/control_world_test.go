package plan_test

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// fixedTimes is a window that is open or not, changes that once, and again a day later.
type fixedTimes struct {
	open  bool
	until time.Time
}

// Open implements plan.Times.
func (f fixedTimes) Open(at time.Time) (open bool, until time.Time) {
	if at.Before(f.until) {
		return f.open, f.until
	}
	return !f.open, f.until.Add(24 * time.Hour)
}

// decide reads a line of what people decided:
//
//	suspend KIND/NAME[@SERVER] BY REASON [until=+1h]
//	hold rollback|loop STACK@SERVER BY REASON     of what Git says now, to what was before
//	window allow|deny SCHEDULE open|shut until=+1h [manual] [stacks=a,b] [servers=a] [tags=a] [server-tags=a]
//	override BY REASON
//	limits [stacks=n] [servers=n] [containers=n] [removals=n]
//	rollout STACK STATUS BATCH a,b|c,d [by=WHO] [reason=WHY] [next=+1h]
func (w *world) decide(line []string) {
	c := &w.in.Control
	switch line[0] {
	case "suspend":
		kind, name, _ := strings.Cut(line[1], "/")
		s := plan.Suspension{Kind: kind, Name: name, By: line[2], Reason: line[3], At: now}
		s.Name, s.Server, _ = strings.Cut(name, "@")
		for _, word := range line[4:] {
			s.Until = later(strings.TrimPrefix(word, "until="))
		}
		c.Suspensions = append(c.Suspensions, s)
	case "hold":
		stack, server, _ := strings.Cut(line[2], "@")
		h := plan.Hold{Kind: plan.HoldKind(line[1]), Sync: "home", Stack: stack, Server: server, By: line[3], Reason: line[4]}
		h.Bad, h.Commit = at(w.git, stack, server).Release.Digest, w.git.Commit
		if h.Kind == plan.HoldRollback {
			h.Release = at(w.before, stack, server).Release
		} else {
			h.Field = line[4]
		}
		c.Holds = append(c.Holds, h)
	case "window":
		w.in.Policy.Windows = append(w.in.Policy.Windows, parseWindow(line))
	case "override":
		w.in.Policy.Override = &plan.Override{By: line[1], Reason: line[2]}
	case "limits":
		w.limits(line[1:])
	case "rollout":
		c.Rollouts = append(c.Rollouts, w.rollout(line))
	default:
		panic("unknown decision " + line[0])
	}
}

func (w *world) limits(words []string) {
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		n, _ := strconv.Atoi(value)
		l := &w.in.Policy.Limits
		*map[string]*int{"stacks": &l.Stacks, "servers": &l.Servers, "containers": &l.Containers, "removals": &l.Removals}[key] = n
	}
}

// rollout is one on record, to what Git says now.
func (w *world) rollout(line []string) plan.Rollout {
	fresh := w.in
	fresh.Control.Rollouts, fresh.Policy.Windows = nil, nil
	fresh.Observed = fleet.Observed{}
	for name, report := range w.in.Observed {
		report.Online, report.Stacks = true, nil
		fresh.Observed[name] = report
	}
	var r plan.Rollout
	for _, started := range plan.Compute(fresh).Rollouts {
		if started.Stack == line[1] {
			r = started // with its target
		}
	}
	r.Status = plan.RolloutStatus(line[2])
	r.Batch, _ = strconv.Atoi(line[3])
	r.Batches, r.Done, r.Failed, r.Next = nil, nil, nil, time.Time{}
	for batch := range strings.SplitSeq(line[4], "|") {
		r.Batches = append(r.Batches, strings.Split(batch, ","))
	}
	r.Before = map[string]fleet.Release{}
	for _, s := range w.before.Stacks {
		if s.Name == r.Stack {
			r.Before[s.Server] = s.Release
		}
	}
	for _, word := range line[5:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "by":
			r.By = value
		case "reason":
			r.Reason = value
		case "next":
			r.Next = later(value)
		}
	}
	return r
}

func parseWindow(line []string) plan.Window {
	out := plan.Window{SyncWindow: fleet.SyncWindow{Kind: fleet.WindowKind(line[1]), Schedule: line[2], Duration: 2 * time.Hour}}
	times := fixedTimes{open: line[3] == "open"}
	for _, word := range line[4:] {
		key, value, _ := strings.Cut(word, "=")
		list := strings.Split(value, ",")
		switch key {
		case "until":
			times.until = later(value)
		case "manual":
			out.Manual = true
		case "stacks":
			out.Stacks = list
		case "servers":
			out.Servers = list
		case "tags":
			out.Tags = list
		case "server-tags":
			out.ServerTags = list
		}
	}
	out.Times = times
	return out
}

func parseRollout(s *fleet.Stack, key, value string) {
	if s.Rollout == nil {
		s.Rollout = &fleet.Rollout{}
	}
	r := s.Rollout
	switch key {
	case "rollout":
		number, percent := strings.CutSuffix(value, "%")
		r.Batch, _ = strconv.Atoi(number)
		r.Percent = percent
	case "canary":
		r.Canary = strings.Split(value, ",")
	case "max-failures":
		r.MaxFailures, _ = strconv.Atoi(value)
	case "pause":
		r.Pause, _ = time.ParseDuration(value)
	case "on-failure":
		r.OnFailure = fleet.RolloutFailure(value)
	}
}

// later is the time that "+1h" is after now.
func later(text string) time.Time {
	d, err := time.ParseDuration(strings.TrimPrefix(text, "+"))
	if err != nil {
		panic(err)
	}
	return now.Add(d)
}

// at is a stack on a server; on any when the server is empty.
func at(d fleet.Desired, stack, server string) fleet.Stack {
	i := slices.IndexFunc(d.Stacks, func(s fleet.Stack) bool { return s.Name == stack && (server == "" || s.Server == server) })
	if i < 0 {
		return fleet.Stack{}
	}
	return d.Stacks[i]
}
