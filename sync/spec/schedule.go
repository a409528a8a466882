package spec

import (
	"errors"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/fleet/schedule"
)

// checkSchedule finds what is wrong with the schedule of a resource, and where in its text.
func (p *parser) checkSchedule(t *Timetable, in *table) {
	if strings.TrimSpace(t.Schedule) == "" {
		return
	}
	s, err := schedule.Parse(t.ScheduleFormat, t.Schedule, t.ScheduleTimezone)
	written := configured(in, "schedule")
	var fault *schedule.Error
	switch {
	case errors.As(err, &fault) && fault.Zone:
		p.fail(configured(in, "schedule_timezone").at, "schedule", fault.Hint, "%s", fault.Message)
	case errors.As(err, &fault):
		p.fail(written.place(fault.Offset), "schedule", fault.Hint, "the schedule %s is no time: %s", quoted(t.Schedule), fault.Message)
	case err != nil:
		p.fail(written.at, "schedule", "", "the schedule %s is no time: %v", quoted(t.Schedule), err)
	case s.Hasty():
		p.remarkAt(fleet.SeverityWarning, p.position(written.at), "schedule-hasty", "name minutes rather than seconds",
			"the schedule %s has times within a minute: only the first of them runs", quoted(t.Schedule))
	}
}

// configured is the value of a key of a resource, which may be written beside its config.
func configured(in *table, key string) value {
	if e := in.find(key); e != nil {
		return e.value
	}
	if e := in.find("config"); e != nil && e.value.table != nil {
		if e := e.value.table.find(key); e != nil {
			return e.value
		}
	}
	return value{at: in.at, body: -1}
}
