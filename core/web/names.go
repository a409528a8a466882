package web

import (
	"cmp"
	"slices"
	"strings"

	"github.com/varanhq/varan/internal/didyoumean"
)

// closest lists the names that a mistyped one may have meant, best first, at most three.
func closest(name string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	var candidates []candidate
	folded := strings.ToLower(name)
	for _, other := range names {
		lower := strings.ToLower(other)
		d := didyoumean.Distance(folded, lower)
		if folded != "" && (strings.Contains(lower, folded) || strings.Contains(folded, lower)) {
			d = min(d, 2)
		}
		if d <= 1+min(len(name), len(other))/3 {
			candidates = append(candidates, candidate{other, d})
		}
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	var best []string
	for _, c := range slices.Compact(candidates) {
		if len(best) < 3 {
			best = append(best, c.name)
		}
	}
	return best
}

// DidYouMean is a hint with the closest names, or with all of a few.
func DidYouMean(name string, names []string) string { return didYouMean(name, names) }

// didYouMean is a hint with the closest names, or with all of a few.
func didYouMean(name string, names []string) string {
	if best := closest(name, names); len(best) > 0 {
		return "did you mean " + strings.Join(best, ", ") + "?"
	}
	switch {
	case len(names) == 0:
		return "there are none yet"
	case len(names) <= 8:
		return "there are " + strings.Join(slices.Sorted(slices.Values(names)), ", ")
	}
	return ""
}
