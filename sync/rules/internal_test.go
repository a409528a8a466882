package rules

import "testing"

func TestEachRuleHasOneEntry(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, table := range tables {
		for _, e := range table {
			if seen[e.ID] {
				t.Errorf("the rule %q has two entries: keep the better one", e.ID)
			}
			seen[e.ID] = true
		}
	}
}
