// Package didyoumean finds the word that a mistyped one was meant to be.
package didyoumean

import (
	"slices"
	"strings"
)

// longest bounds the words that are compared; nobody mistypes a longer one.
const longest = 64

// Word is the known word that a slip of the finger turns into word, or "". Case does not
// count. Of equally near ones the first in order of the alphabet is taken.
func Word(word string, known []string) string {
	if len(word) > longest {
		return ""
	}
	best, limit := "", 1+min(2, max(1, len(word)/3))
	for _, candidate := range slices.Sorted(slices.Values(known)) {
		if diff := len(candidate) - len(word); diff >= limit || -diff >= limit || candidate == word {
			continue
		}
		if d := Distance(word, candidate); d < limit {
			best, limit = candidate, d
		}
	}
	return best
}

// Distance counts the letters to insert, remove, replace or swap with the next, case
// aside, to make b of a.
func Distance(a, b string) int {
	a, b = strings.ToLower(a[:min(len(a), 2*longest)]), strings.ToLower(b[:min(len(b), 2*longest)])
	before, previous, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(previous[j]+1, row[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, previous, row = previous, row, before
	}
	return previous[len(b)]
}
