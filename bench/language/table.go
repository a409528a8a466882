package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// row is one figure beside its floor or its limit.
type row struct {
	what, ours, floor string
	// ratio is ours over the floor; zero when there is no floor.
	ratio, goal float64
	// over says that an absolute limit was missed; limit names it.
	over  bool
	limit string
}

type table struct {
	title string
	rows  []row
}

func (t *table) print(w io.Writer) {
	fmt.Fprintln(w, t.title)
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "what\tours\tfloor\tratio\tgoal\t")
	for _, r := range t.rows {
		ratio, goal, verdict := "-", r.limit, "met"
		if r.ratio > 0 {
			ratio = fmt.Sprintf("%.2fx", r.ratio)
		}
		if r.goal > 0 {
			goal = fmt.Sprintf("<= %.1fx", r.goal)
		}
		switch {
		case r.goal == 0 && r.limit == "":
			goal, verdict = "-", ""
		case r.over || r.goal > 0 && r.ratio > r.goal:
			verdict = "missed"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", r.what, r.ours, r.floor, ratio, goal, verdict)
	}
	_ = tw.Flush()
}

// timed adds a time beside its floor.
func (t *table) timed(what string, ours time.Duration, floorIs string, floor time.Duration, goal float64) {
	t.rows = append(t.rows, row{
		what: what, ours: show(ours), floor: show(floor) + ", " + floorIs,
		ratio: float64(ours) / float64(floor), goal: goal,
	})
}

// limited adds a figure that has a limit of its own.
func (t *table) limited(what, ours, limit string, over bool) {
	t.rows = append(t.rows, row{what: what, ours: ours, floor: "-", over: over, limit: limit})
}

func show(d time.Duration) string {
	if d < 100*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func median[T int64 | time.Duration](list []T) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
