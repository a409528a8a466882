package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
	"github.com/varanhq/varan/wire"
)

// maxTail bounds how far back the logs of one container are read.
const maxTail = 100_000

// historyOf is the input of a stack's history. The framework reads no parameters from
// embedded structs that are not exported, so they are spelled out.
type historyOf struct {
	Name   string `path:"name" maxLength:"128"`
	Limit  int    `query:"limit" minimum:"0" maximum:"500"`
	Before int64  `query:"before" minimum:"0"`
}

// logsOf is the input of a stack's logs.
type logsOf struct {
	Name       string `path:"name" maxLength:"128"`
	Server     string `query:"server" maxLength:"128"`
	Service    string `query:"service" maxLength:"128"`
	Follow     bool   `query:"follow"`
	Tail       int    `query:"tail" minimum:"-1"`
	Timestamps bool   `query:"timestamps"`
}

func (s *server) registerStacks(a huma.API) {
	handle(s, a, route(http.MethodGet, "/stacks/{name}/diff", "diffStack", "What applying would change in a stack"), s.diff)
	handle(s, a, route(http.MethodGet, "/stacks/{name}/history", "stackHistory", "What was done to a stack, newest first"),
		func(ctx context.Context, in *historyOf) ([]api.Op, error) {
			return s.Store.History(ctx, in.Name, in.Before, pageSize(in.Limit))
		})
	stream(s, a, route(http.MethodGet, "/stacks/{name}/logs", "stackLogs", "A stack's logs; JSON lines of api.LogLine"), s.logs)
	stream(s, a, route(http.MethodPost, "/stacks/{name}/deploy", "deployStack", "Apply one stack in any case; JSON lines of api.ApplyEvent"),
		func(ctx context.Context, in *namedBody[api.DeployRequest]) (func(huma.Context), error) {
			source, err := s.sourceOf(ctx, in.Name)
			if err != nil {
				return nil, err
			}
			return s.apply(ctx, reconciler.ApplyRequest{
				Sync: source.sync.Name, Only: []string{in.Name}, Forced: []string{in.Name},
				Approved: in.Body.Approved, Actor: auth.ActorOf(ctx).Name,
				Override: overrideOf(ctx, in.Body.OverrideWindow, in.Body.Reason),
			})
		})
}

// sourceOf is the sync that declares a stack.
func (s *server) sourceOf(ctx context.Context, stack string) (source, error) {
	view, err := s.look(ctx)
	if err != nil {
		return source{}, err
	}
	var names []string
	for _, source := range view.sources {
		if _, ok := source.desired.Stack(stack); ok {
			return source, nil
		}
		for i := range source.desired.Stacks {
			names = append(names, source.desired.Stacks[i].Name)
		}
	}
	return source{}, notFound(fmt.Sprintf("no sync declares a stack %q", stack), didYouMean(stack, names))
}

func (s *server) diff(ctx context.Context, in *named) (api.Diff, error) {
	source, err := s.sourceOf(ctx, in.Name)
	if err != nil {
		return api.Diff{}, err
	}
	result, err := s.plan(ctx, reconciler.PlanRequest{Sync: source.sync.Name, Only: []string{in.Name}})
	if err != nil {
		return api.Diff{}, err
	}
	stack, _ := source.desired.Stack(in.Name)
	diff := api.Diff{
		Stack: in.Name, Server: stack.Server, Source: source.sync.Name, Desired: result.Plan.Commit, Ops: []plan.Op{},
	}
	if report, ok := s.Agents.Observed()[stack.Server].Stack(in.Name); ok {
		diff.Running = report.Release.Commit
	}
	gates := map[string]bool{}
	for _, op := range result.Plan.Ops {
		if op.Stack != in.Name {
			continue
		}
		diff.Ops = append(diff.Ops, op)
		for _, gate := range op.Gates {
			gates[gate] = true
		}
	}
	for _, blocked := range result.Plan.Blocked {
		if blocked.Op.Stack == in.Name {
			diff.Blocked = append(diff.Blocked, blocked)
		}
	}
	for _, gate := range result.Plan.Gates {
		if gates[gate.ID] {
			diff.Gates = append(diff.Gates, gate)
		}
	}
	for _, notice := range result.Plan.Notices {
		if notice.Stack == in.Name {
			diff.Notices = append(diff.Notices, notice)
		}
	}
	return diff, nil
}

// logs finds the server that runs the stack and passes its lines on.
func (s *server) logs(ctx context.Context, in *logsOf) (func(huma.Context), error) {
	server, err := s.runs(in.Name, in.Server)
	if err != nil {
		return nil, err
	}
	lines, err := s.Agents.Logs(ctx, server, wire.LogsRequest{
		Stack: in.Name, Service: in.Service, Follow: in.Follow,
		Tail: min(cmp.Or(in.Tail, defaultLogTail), maxTail), Timestamps: in.Timestamps,
	})
	if err != nil {
		return nil, agentError(err)
	}
	return func(hc huma.Context) {
		defer func() { _ = lines.Close() }()
		out := newLineWriter(hc)
		defer out.close()
		err := eachLogLine(lines, func(line wire.LogLine) bool {
			return out.write(api.LogLine{
				Service: line.Service, Container: line.Container, Stderr: line.Stderr, Time: line.Time, Text: line.Text,
			})
		})
		if err != nil && ctx.Err() == nil {
			out.write(api.LogLine{Error: unavailable("the logs broke off: "+err.Error(), "ask for them again")})
		}
	}, nil
}

// eachLogLine decodes what an agent sends. The decoding keeps a broken agent from writing
// anything but log lines into the answer.
func eachLogLine(r io.Reader, each func(wire.LogLine) bool) error {
	for dec := json.NewDecoder(r); ; {
		var line wire.LogLine
		if err := dec.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if !each(line) {
			return nil
		}
	}
}

// agentError says what an agent, or its absence, keeps from being done.
func agentError(err error) error {
	var theirs *wire.Error
	if errors.As(err, &theirs) && theirs.Code == wire.CodeNotFound {
		return notFound(theirs.Message, "varan status shows what runs")
	}
	return unavailable("the agent cannot be asked: "+err.Error(), "varan get servers shows which are connected")
}

// runs is the connected server that runs the stack: the one wanted, or the only one.
func (s *server) runs(stack, wanted string) (string, error) {
	var online, offline, all []string
	for name, report := range s.Agents.Observed() {
		for i := range report.Stacks {
			all = append(all, report.Stacks[i].Stack)
		}
		if _, ok := report.Stack(stack); !ok || wanted != "" && wanted != name {
			continue
		}
		if report.Online {
			online = append(online, name)
		} else {
			offline = append(offline, name)
		}
	}
	slices.Sort(online)
	switch {
	case len(online) == 1:
		return online[0], nil
	case len(online) > 1:
		return "", badRequest(fmt.Sprintf("servers %v all run stack %q", online, stack), "say which with --server")
	case len(offline) > 0:
		return "", unavailable(fmt.Sprintf("server %s is not connected", offline[0]), "its logs are on the host: docker compose logs")
	}
	return "", notFound(fmt.Sprintf("no server runs a stack %q", stack), didYouMean(stack, all))
}
