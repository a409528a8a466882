package docker

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// Observe implements agent.Engine. It lists once, and inspects what events have not
// vouched for since it was last inspected.
func (e *Engine) Observe(ctx context.Context) (fleet.AgentInfo, []fleet.StackReport, error) {
	info := fleet.AgentInfo{
		Version: e.cfg.Version, OS: runtime.GOOS, Arch: runtime.GOARCH,
		LocalSecrets: e.LocalSecrets(), HostCommands: e.cfg.Policy.HostCommands,
		Tier: e.cfg.Policy.Tier, AllowedRegistries: e.cfg.Policy.AllowedRegistries,
	}
	info.Hostname, _ = os.Hostname()
	engine, err := e.conn.info(ctx)
	if err != nil {
		info.EngineError = err.Error()
		return info, nil, err
	}
	info.Engine, info.EngineAPI = engine.Version, engine.APIVersion
	found, err := e.list(ctx, e.memory, fleet.LabelServer+"="+e.cfg.Server)
	if err != nil {
		info.EngineError = err.Error()
		return info, nil, err
	}
	byStack := map[string][]live{}
	for _, l := range found {
		byStack[l.stack] = append(byStack[l.stack], l)
	}
	for _, st := range e.states.known() {
		if _, ok := byStack[st.Stack]; !ok {
			byStack[st.Stack] = nil
		}
	}
	if info.Foreign, err = e.foreign(ctx); err != nil {
		info.EngineError = err.Error()
		return info, nil, err
	}
	reports := make([]fleet.StackReport, 0, len(byStack))
	for stack, containers := range byStack {
		reports = append(reports, e.report(stack, containers))
	}
	slices.SortFunc(reports, func(a, b fleet.StackReport) int { return strings.Compare(a.Stack, b.Stack) })
	return info, reports, nil
}

// ObserveStack implements agent.Engine.
func (e *Engine) ObserveStack(ctx context.Context, stack string) (fleet.StackReport, bool, error) {
	found, err := e.list(ctx, e.memory, fleet.LabelServer+"="+e.cfg.Server, fleet.LabelStack+"="+stack)
	if err != nil {
		return fleet.StackReport{}, false, err
	}
	r := e.report(stack, found)
	known := slices.ContainsFunc(e.states.known(), func(st *state) bool { return st.Stack == stack })
	return r, known || len(found) > 0 || r.Busy != "", nil
}

// report puts together what is recorded and what is there.
func (e *Engine) report(stack string, containers []live) fleet.StackReport {
	st := e.states.get(stack)
	r := fleet.StackReport{
		Stack: stack, Project: st.Project, DeployedAt: st.DeployedAt,
		Bad: st.Bad, Stopped: st.Stopped,
	}
	if st.Good != nil {
		r.Release = *st.Good
		r.Release.Files = nil
	}
	e.mu.Lock()
	r.Busy = e.busy[stack]
	e.mu.Unlock()
	if r.Busy == "" {
		r.Drift, r.SecretsGone = e.fileDrift(st), e.secretsGone(st)
	}
	for i := range containers {
		l := &containers[i]
		if r.Project == "" {
			r.Project = l.project
		}
		if l.oneOff {
			continue
		}
		c := l.Container
		if r.Busy == "" {
			c.Drift = drift(l, st)
		}
		r.Containers = append(r.Containers, c)
	}
	return r
}
