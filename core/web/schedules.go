package web

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/fleet/schedule"
	"github.com/varanhq/varan/reconciler/procedure"
)

// ScheduleStore keeps how far schedules were followed, and core's own procedures.
type ScheduleStore interface {
	Marks(ctx context.Context) ([]procedure.Mark, error)
	EnableOwnProcedure(ctx context.Context, name, actor string, enabled bool) error
	RemoveOwnProcedure(ctx context.Context, name, actor string) error
}

// nextOf is the input of a list of schedules.
type nextOf struct {
	Next int `query:"next" minimum:"0" maximum:"100" default:"1"`
}

func (s *server) registerSchedules(a huma.API) {
	handle(s, a, route(http.MethodGet, "/schedules", "listSchedules", "When procedures run by themselves, by name"),
		func(ctx context.Context, in *nextOf) ([]api.Schedule, error) { return s.schedules(ctx, in.Next) })
	handle(s, a, route(http.MethodPatch, "/procedures/{name}", "changeProcedure", "Switch the schedule of one of core's own procedures on or off"),
		func(ctx context.Context, in *namedBody[api.OwnChange]) (api.Procedure, error) {
			if err := s.ownProcedure(ctx, in.Name); err != nil {
				return api.Procedure{}, err
			}
			if err := s.Store.EnableOwnProcedure(ctx, in.Name, auth.ActorOf(ctx).Name, in.Body.Enabled); err != nil {
				return api.Procedure{}, err
			}
			s.Procedures.ProceduresChanged()
			return s.procedureNamed(ctx, in.Name)
		})
	handle(s, a, route(http.MethodDelete, "/procedures/{name}", "removeProcedure", "Remove one of core's own procedures for good"),
		func(ctx context.Context, in *named) (none, error) {
			if err := s.ownProcedure(ctx, in.Name); err != nil {
				return none{}, err
			}
			defer s.Procedures.ProceduresChanged()
			return none{}, s.Store.RemoveOwnProcedure(ctx, in.Name, auth.ActorOf(ctx).Name)
		})
}

// ownProcedure refuses to change what a sync declares.
func (s *server) ownProcedure(ctx context.Context, name string) error {
	p, err := s.procedureNamed(ctx, name)
	if err != nil {
		return err
	}
	if p.Source != api.OwnSource {
		return &api.Error{
			Status: http.StatusConflict, Code: api.CodeConflict, Message: fmt.Sprintf("procedure %q is declared by sync %s", name, p.Source),
			Hint: fmt.Sprintf("change it in Git, at %s", p.Origin),
		}
	}
	return nil
}

func (s *server) schedules(ctx context.Context, next int) ([]api.Schedule, error) {
	declared, sources, err := s.Procedures.Declared(ctx)
	if err != nil {
		return nil, err
	}
	last, err := s.Store.LastProcedureRuns(ctx)
	if err != nil {
		return nil, err
	}
	marks, err := s.Store.Marks(ctx)
	if err != nil {
		return nil, err
	}
	out := []api.Schedule{}
	for i := range declared {
		p := &declared[i]
		if p.Timetable.Schedule == "" {
			continue
		}
		shown := s.scheduleOf(p, marks, next)
		shown.Source = sources[p.Name]
		if run, ok := last[p.Name]; ok {
			shown.LastRun = &run
		}
		out = append(out, shown)
	}
	return out, nil
}

// scheduleOf is the schedule of a procedure with its next times.
func (s *server) scheduleOf(p *fleet.Procedure, marks []procedure.Mark, next int) api.Schedule {
	t := p.Timetable
	out := api.Schedule{
		Procedure: p.Name, Expression: t.Schedule, Format: cmp.Or(t.Format, schedule.English), Timezone: cmp.Or(t.Zone, s.Procedures.Zone()),
		Enabled: t.Enabled, Missed: string(cmp.Or(t.Missed, fleet.MissedRunOnce)), Overlap: string(cmp.Or(t.Overlap, fleet.OverlapSkip)),
		JitterSeconds: int(t.Jitter / time.Second), Next: []api.NextRun{},
	}
	var done time.Time
	if k := slices.IndexFunc(marks, func(m procedure.Mark) bool { return m.Procedure == p.Name }); k >= 0 {
		out.Skipped = marks[k].Skipped
		done = marks[k].At
	}
	parsed, err := schedule.Parse(t.Format, t.Schedule, out.Timezone)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	out.Words = parsed.Words()
	when, ok := parsed.Next(s.Now())
	// What was run is not run again when the clock was set back, nor too soon after.
	if after, more := parsed.Following(done); !done.IsZero() && ok && after.After(when) {
		when, ok = after, more
	}
	for len(out.Next) < next && ok && t.Enabled {
		out.Next = append(out.Next, api.NextRun{At: when, Note: parsed.Note(when)})
		when, ok = parsed.Following(when)
	}
	return out
}

// own adds the procedures that core has of its own to what the commits declare.
func (s *server) own(ctx context.Context, list []api.Resource) ([]api.Resource, error) {
	declared, sources, err := s.Procedures.Declared(ctx)
	for i := range declared {
		if p := &declared[i]; sources[p.Name] == api.OwnSource {
			list = append(list, api.Resource{
				Resource: fleet.Resource{Kind: "procedure", Name: p.Name, Origin: p.Origin, Fields: ownFields(p)}, Sync: api.OwnSource,
			})
		}
	}
	slices.SortStableFunc(list, func(a, b api.Resource) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return list, err
}

func ownFields(p *fleet.Procedure) []fleet.Field {
	fields := []fleet.Field{{Path: "config.schedule", Value: p.Timetable.Schedule}}
	if !p.Timetable.Enabled {
		fields = append(fields, fleet.Field{Path: "config.schedule_enabled", Value: "false"})
	}
	return append(fields, fleet.Field{Path: "description", Value: p.Description})
}
