package web

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/fleet"
)

// Alerters tell people.
type Alerters interface {
	Alerters(ctx context.Context) ([]fleet.Alerter, error)
	// Test sends a test through one alerter and returns when it was taken.
	Test(ctx context.Context, name string) error
}

// AlertStore keeps what was told.
type AlertStore interface {
	Alerts(ctx context.Context, open bool, before int64, limit int) ([]api.Alert, error)
}

// alertsOf is the input of a list of alerts.
type alertsOf struct {
	Open   bool  `query:"open"`
	Limit  int   `query:"limit" minimum:"0" maximum:"500"`
	Before int64 `query:"before" minimum:"0"`
}

func (s *server) registerAlerts(a huma.API) {
	handle(s, a, route(http.MethodGet, "/alerts", "listAlerts", "What people were told, newest first"),
		func(ctx context.Context, in *alertsOf) ([]api.Alert, error) {
			return s.Store.Alerts(ctx, in.Open, in.Before, pageSize(in.Limit))
		})
	handle(s, a, route(http.MethodGet, "/alerters", "listAlerters", "Alerters, without their addresses"),
		func(ctx context.Context, _ *none) ([]api.Alerter, error) {
			declared, err := s.Alerters.Alerters(ctx)
			out := make([]api.Alerter, 0, len(declared))
			for _, d := range declared {
				out = append(out, api.Alerter{
					Name: d.Name, Enabled: d.Enabled, Type: string(d.Endpoint.Type), Types: d.Types, Origin: d.Origin,
				})
			}
			return out, err
		})
	act(s, a, route(http.MethodPost, "/alerters/{name}/test", "testAlerter", "Send a test through an alerter"), s.testAlerter)
}

func (s *server) testAlerter(ctx context.Context, in *named) error {
	declared, err := s.Alerters.Alerters(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, d := range declared {
		names = append(names, d.Name)
		if d.Name != in.Name {
			continue
		}
		err := s.Alerters.Test(ctx, in.Name)
		text := "a test of alerter " + in.Name + " was taken"
		if err != nil {
			text = "a test of alerter " + in.Name + " failed: " + err.Error()
		}
		s.record(ctx, api.Event{Kind: "alert", Actor: auth.ActorOf(ctx).Name, Text: text})
		if err != nil {
			return &api.Error{
				Status: http.StatusBadGateway, Code: api.CodeConflict, Message: err.Error(),
				Hint: "check the endpoint's type and url, and whether core can reach it",
			}
		}
		return nil
	}
	return notFound("no sync declares an alerter \""+in.Name+"\"", didYouMean(in.Name, names))
}
