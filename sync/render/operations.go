package render

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/didyoumean"
	"github.com/varanhq/varan/sync/spec"
)

// operations fills in what core runs and whom it tells.
func (p *pass) operations(decls spec.Declarations, desired *fleet.Desired) {
	for i := range decls.Procedures {
		if s := &decls.Procedures[i]; !s.Template {
			desired.Procedures = append(desired.Procedures, Procedure(s, p.secret(s.Config.WebhookSecret, s.At("config.webhook_secret"))))
		}
	}
	for i := range decls.Alerters {
		if s := &decls.Alerters[i]; !s.Template {
			desired.Alerters = append(desired.Alerters, p.alerter(s))
		}
	}
}

// Procedure is a declared procedure as core runs it, with the secret of its webhook.
func Procedure(s *spec.Procedure, secret fleet.Secret) fleet.Procedure {
	out := fleet.Procedure{
		Name: s.Name, Description: s.Description, Tags: s.Tags, Origin: s.At(""), Stages: []fleet.Stage{},
		FailureAlert: s.Config.FailureAlert, Webhook: s.Config.WebhookEnabled,
		WebhookSecret: secret,
		Timetable:     timetable(&s.Config.Timetable),
	}
	for _, in := range s.Config.Inputs {
		out.Inputs = append(out.Inputs, fleet.Input{
			Name: in.Name, Description: in.Description, Default: in.Default, Required: in.Required, Options: in.Options,
		})
	}
	for _, stage := range s.Config.Stages {
		to := fleet.Stage{
			Name: stage.Name, Enabled: stage.Enabled, Policy: policyOf(&stage.Policy),
			Approval: stage.Approval, Approvers: stage.Approvers, Executions: []fleet.Execution{},
		}
		for _, x := range stage.Executions {
			execution := fleet.Execution{Type: x.Type, Enabled: x.Enabled, Policy: policyOf(&x.Policy), Origin: x.Pos}
			for _, given := range x.Params {
				execution.Params = append(execution.Params, fleet.Param{
					Name: given.Name, Text: given.Text, List: given.List, Int: given.Int, Bool: given.Bool, As: x.Form(given.Name),
				})
			}
			to.Executions = append(to.Executions, execution)
		}
		out.Stages = append(out.Stages, to)
	}
	return out
}

func policyOf(p *spec.Policy) fleet.Policy {
	return fleet.Policy{
		When: fleet.When(p.When), Timeout: fleet.Duration(p.Timeout), Retries: p.Retries, RetryDelay: fleet.Duration(p.RetryDelay),
		ContinueOnError: p.ContinueOnError,
	}
}

// timetable is a declared timetable as core follows it.
func timetable(t *spec.Timetable) fleet.Timetable {
	if strings.TrimSpace(t.Schedule) == "" {
		return fleet.Timetable{}
	}
	return fleet.Timetable{
		Schedule: strings.TrimSpace(t.Schedule), Format: t.ScheduleFormat, Zone: t.ScheduleTimezone, Enabled: t.ScheduleEnabled,
		Alert: t.ScheduleAlert, Missed: fleet.MissedPolicy(t.ScheduleMissed), Overlap: fleet.OverlapPolicy(t.ScheduleOverlap),
		Jitter: t.ScheduleJitter,
	}
}

// alerter is a declared alerter as core uses it.
func (p *pass) alerter(s *spec.Alerter) fleet.Alerter {
	c := &s.Config
	windows, faults := windowsOf(c.MaintenanceWindows, s.At("config.maintenance_windows"))
	p.findings = append(p.findings, faults...)
	out := fleet.Alerter{
		Name: s.Name, Tags: s.Tags, Enabled: c.Enabled, Origin: s.At(""), Types: c.AlertTypes,
		Endpoint: fleet.Endpoint{
			Type: fleet.EndpointType(c.Endpoint.Type), URL: p.secret(c.Endpoint.URL, c.Endpoint.Pos), Email: c.Endpoint.Email,
		},
		Resources: resourceNames(c.Resources), Except: resourceNames(c.ExceptResources),
		Maintenance: windows,
	}
	for _, typ := range c.AlertTypes {
		p.alertType(typ, s.At("config.alert_types"))
	}
	p.checkEndpoint(s, out.Endpoint)
	return out
}

func (p *pass) alertType(typ string, at fleet.Position) {
	known := fleet.AlertTypes()
	if slices.Contains(known, fleet.AlertType(typ)) {
		return
	}
	words := make([]string, len(known))
	for i, k := range known {
		words[i] = string(k)
	}
	hint := "there are " + strings.Join(words, ", ")
	if near := didyoumean.Word(typ, words); near != "" {
		hint = "did you mean " + near + "?"
	}
	p.findings = append(p.findings, fleet.Diagnostic{
		Rule: "alert-type", Severity: fleet.SeverityError, Position: at, Hint: hint,
		Message: fmt.Sprintf("there is no alert type %q", typ),
	})
}

// checkEndpoint refuses an address that nothing can be sent to. It may hold a token, so
// that no message repeats it.
func (p *pass) checkEndpoint(s *spec.Alerter, e fleet.Endpoint) {
	text := e.URL.Reveal()
	if !s.Config.Enabled && text == "" || p.in.Offline && strings.Contains(text, unknown) {
		return
	}
	var message string
	switch u, err := url.Parse(text); {
	case text == "":
		message = "the endpoint has no url"
	case err != nil:
		message = "the endpoint's url is not one"
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		message = "the endpoint's url is neither http:// nor https://"
	default:
		return
	}
	p.findings = append(p.findings, fleet.Diagnostic{
		Rule: "alerter-url", Severity: fleet.SeverityError, Position: s.Config.Endpoint.Pos, Message: message,
		Hint: `write endpoint = { type = "Slack", params = { url = "https://..." } }`,
	})
}

// kinds are the kinds of resource by the names that targets have.
var kinds = map[string]string{"ResourceSync": "resource_sync", "ServerTemplate": "server_template"}

func resourceNames(targets []spec.Target) (out []fleet.ResourceName) {
	for _, t := range targets {
		kind, ok := kinds[t.Type]
		if !ok {
			kind = strings.ToLower(t.Type)
		}
		out = append(out, fleet.ResourceName{Kind: kind, Name: t.ID})
	}
	return out
}

// windows are the maintenance windows that count, checked.
func windowsOf(
	declared []spec.MaintenanceWindow, at fleet.Position,
) (out []fleet.MaintenanceWindow, faults fleet.Diagnostics) {
	for _, w := range declared {
		if problem := wrongWindow(w); problem != "" {
			faults = append(faults, fleet.Diagnostic{
				Rule: "maintenance-window", Severity: fleet.SeverityError, Position: at,
				Message: strings.TrimSpace("maintenance window "+w.Name) + ": " + problem,
			})
			continue
		}
		if w.Enabled {
			out = append(out, fleet.MaintenanceWindow{
				Name: w.Name, Schedule: fleet.WindowSchedule(w.ScheduleType), DayOfWeek: w.DayOfWeek, Date: w.Date,
				Hour: w.Hour, Minute: w.Minute, Minutes: w.DurationMinutes, Timezone: w.Timezone,
			})
		}
	}
	return out, faults
}

// wrongWindow says what is wrong with a window; empty when nothing is.
func wrongWindow(w spec.MaintenanceWindow) string {
	if w.Hour > 23 || w.Minute > 59 {
		return fmt.Sprintf("%d:%02d is no time of day", w.Hour, w.Minute)
	}
	if w.Timezone != "" {
		if _, err := time.LoadLocation(w.Timezone); err != nil {
			return fmt.Sprintf("there is no time zone %q; write a name such as Europe/Amsterdam", w.Timezone)
		}
	}
	switch fleet.WindowSchedule(w.ScheduleType) {
	case fleet.WindowWeekly:
		if !weekday(w.DayOfWeek) {
			return fmt.Sprintf("%q is no day of the week", w.DayOfWeek)
		}
	case fleet.WindowOneTime:
		if _, err := time.Parse(time.DateOnly, w.Date); err != nil {
			return fmt.Sprintf("%q is no date; write YYYY-MM-DD", w.Date)
		}
	case fleet.WindowDaily:
	}
	return ""
}

func weekday(name string) bool {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if strings.EqualFold(day.String(), name) {
			return true
		}
	}
	return false
}
