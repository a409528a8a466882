package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// column is what was measured for one number of stacks.
type column struct {
	stacks int

	floorFirst, floorRecreate, floorOne time.Duration
	firstRunning, firstDone             time.Duration
	firstCPU                            time.Duration
	noop, noopCPU                       time.Duration
	oneRunning, oneDone, oneCPU         time.Duration
	allRunning, allDone, allCPU         time.Duration
	healStopped, healRemoved            time.Duration
	burstPasses                         int
	burstAck                            time.Duration
	coreRSS, corePeak                   int64
	agentRSS, agentPeak                 int64
}

func printTable(w io.Writer, columns []column, parallel int) {
	rows := []struct {
		name string
		cell func(column) string
	}{
		{fmt.Sprintf("floor: create and start all, %d at a time", parallel), func(c column) string { return seconds(c.floorFirst) }},
		{"first deploy: webhook to all running", func(c column) string { return withRatio(c.firstRunning, c.floorFirst) }},
		{"first deploy: webhook to all reported healthy", func(c column) string { return seconds(c.firstDone) }},
		{"first deploy: CPU of core, agent and workers", func(c column) string { return seconds(c.firstCPU) }},
		{"no-op with live comparison: wall", func(c column) string { return millis(c.noop) }},
		{"no-op with live comparison: CPU", func(c column) string { return millis(c.noopCPU) }},
		{"floor: recreate one container", func(c column) string { return millis(c.floorOne) }},
		{"one changed: webhook to new container running", func(c column) string { return withRatio(c.oneRunning, c.floorOne) }},
		{"one changed: webhook to reported healthy", func(c column) string { return seconds(c.oneDone) }},
		{"one changed: CPU", func(c column) string { return millis(c.oneCPU) }},
		{fmt.Sprintf("floor: recreate all, %d at a time", parallel), func(c column) string { return seconds(c.floorRecreate) }},
		{"all changed: webhook to all running", func(c column) string { return withRatio(c.allRunning, c.floorRecreate) }},
		{"all changed: webhook to all reported healthy", func(c column) string { return seconds(c.allDone) }},
		{"all changed: CPU", func(c column) string { return seconds(c.allCPU) }},
		{"container stopped by hand: to running again", func(c column) string { return millis(c.healStopped) }},
		{"container removed by hand: to another running", func(c column) string { return millis(c.healRemoved) }},
		{"20 webhooks at once: passes", func(c column) string { return fmt.Sprint(c.burstPasses) }},
		{"webhook to its answer, median of 20", func(c column) string { return millis(c.burstAck) }},
		{"core RSS after all of it (peak)", func(c column) string { return rss(c.coreRSS, c.corePeak) }},
		{"agent RSS after all of it (peak)", func(c column) string { return rss(c.agentRSS, c.agentPeak) }},
	}
	head, line := "| |", "|--|"
	for _, c := range columns {
		head += fmt.Sprintf(" N=%d |", c.stacks)
		line += "--|"
	}
	fmt.Fprintf(w, "%s\n%s\n", head, line)
	for _, r := range rows {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = r.cell(c)
		}
		fmt.Fprintf(w, "| %s | %s |\n", r.name, strings.Join(cells, " | "))
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

func withRatio(d, floor time.Duration) string {
	if floor == 0 {
		return seconds(d)
	}
	return fmt.Sprintf("%s (%.2fx)", seconds(d), d.Seconds()/floor.Seconds())
}

func rss(now, peak int64) string {
	return fmt.Sprintf("%.1f MiB (%.1f)", float64(now)/(1<<20), float64(peak)/(1<<20))
}
