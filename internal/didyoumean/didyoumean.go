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

// Slip is the known word of which word is surely a mistyped form, or "": a letter inside it
// left out, put in, or swapped with the next. Names of a family, such as PUID, UID and PGID,
// KEY_1 and KEY_2, HOST and HOSTS, are not slips of each other.
func Slip(word string, known []string) string {
	best := ""
	for _, candidate := range known {
		if (best == "" || candidate < best) && slipped(word, candidate) {
			best = candidate
		}
	}
	return best
}

func slipped(word, candidate string) bool {
	short, long := word, candidate
	if len(short) > len(long) {
		short, long = long, short
	}
	if len(short) < 3 || len(long) > longest || len(long)-len(short) > 1 || short[0] != long[0] || Distance(short, long) != 1 {
		return false
	}
	if len(short) == len(long) {
		a, b := []byte(short), []byte(long)
		slices.Sort(a)
		slices.Sort(b)
		return slices.Equal(a, b)
	}
	tail := strings.HasPrefix(long, short) && long[len(long)-1] != long[len(long)-2]
	return !tail && !strings.ContainsAny(added(short, long), "0123456789")
}

// added is the letter that long has and short has not.
func added(short, long string) string {
	i := 0
	for i < len(short) && short[i] == long[i] {
		i++
	}
	return long[i : i+1]
}
