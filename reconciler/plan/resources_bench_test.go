package plan_test

import (
	"fmt"
	"testing"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// BenchmarkUnchangedResources is what comparing 10,000 records costs when nothing changed.
func BenchmarkUnchangedResources(b *testing.B) {
	var in plan.Input
	for i := range 10_000 {
		fields := make([]fleet.Field, 0, 8)
		for k := range 8 {
			fields = append(fields, fleet.Field{Path: fmt.Sprintf("config.field%d", k), Value: "value"})
		}
		r := fleet.Resource{Kind: "stack", Name: fmt.Sprintf("stack%05d", i), Fields: fields}
		in.Desired.Resources = append(in.Desired.Resources, r)
		in.Records = append(in.Records, r)
	}
	b.ReportAllocs()
	for b.Loop() {
		if p := plan.Compute(in); len(p.Resources) != 0 {
			b.Fatal("something changed")
		}
	}
}
