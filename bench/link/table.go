package main

import (
	"fmt"
	"io"
	"runtime"
	"text/tabwriter"
	"time"
)

type unit int

const (
	perAgent  unit = iota + 1 // a time
	bytesEach                 // a number of bytes, kept in a time.Duration
)

// row is one figure beside its floor.
type row struct {
	what    string
	ours    time.Duration
	floorIs string
	floor   time.Duration
	goal    float64 // the highest ratio; 0 when there is no goal
	limit   int     // the highest value besides; 0 when there is none
	unit    unit
}

type table struct {
	rows  []row
	notes []string
}

func (t *table) add(r row) { t.rows = append(t.rows, r) }

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func (t *table) print(w io.Writer, agents, rounds int) {
	fmt.Fprintf(w, "%d agents, medians of %d rounds, %s, %d cores shared by server and agents\n\n",
		agents, rounds, runtime.Version(), runtime.NumCPU())
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "what\tours\tfloor\t\tratio\tgoal\t")
	for _, r := range t.rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%.2fx\t%s\t%s\n",
			r.what, r.unit.format(r.ours), r.unit.format(r.floor), r.floorIs, r.ratio(), r.goalText(), r.verdict())
	}
	_ = tw.Flush()
	for _, note := range t.notes {
		fmt.Fprintln(w, "-", note)
	}
}

func (r row) ratio() float64 {
	if r.floor == 0 {
		return 0
	}
	return float64(r.ours) / float64(r.floor)
}

func (r row) goalText() string {
	switch {
	case r.goal == 0:
		return "-"
	case r.limit > 0:
		return fmt.Sprintf("<= %.2fx, %s", r.goal, r.unit.format(time.Duration(r.limit)))
	}
	return fmt.Sprintf("<= %.2fx", r.goal)
}

func (r row) verdict() string {
	switch {
	case r.goal == 0:
		return ""
	case r.ratio() > r.goal || r.limit > 0 && int(r.ours) > r.limit:
		return "missed"
	}
	return "met"
}

func (u unit) format(v time.Duration) string {
	if u == bytesEach {
		return fmt.Sprintf("%d B", int64(v))
	}
	return fmt.Sprintf("%.1f us", float64(v)/float64(time.Microsecond))
}
