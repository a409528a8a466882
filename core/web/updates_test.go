package web_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
)

func TestUpdatesAreListedAndAskedFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ops.updates = []api.Update{
		{Stack: "web", Server: "alpha", Service: "app", State: api.UpdateAvailable},
		{Stack: "web", Server: "alpha", Service: "db", State: api.UpdateCurrent, Tag: "2"},
		{Stack: "mail", Server: "alpha", Service: "mx", State: api.UpdateCurrent},
	}
	services := func(stack string, newer bool) (names []string) {
		t.Helper()
		updates, err := f.Updates(t.Context(), stack, newer)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range updates {
			names = append(names, u.Service)
		}
		return names
	}
	for _, c := range []struct {
		stack string
		newer bool
		want  []string
	}{{"", false, []string{"app", "db", "mx"}}, {"", true, []string{"app", "db"}}, {"mail", false, []string{"mx"}}, {"mail", true, nil}} {
		if diff := cmp.Diff(c.want, services(c.stack, c.newer)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c, diff)
		}
	}
	want := api.UpdateRequest{Stack: "web", Apply: true}
	if _, err := f.CheckUpdates(t.Context(), want); err != nil || !cmp.Equal(f.ops.checked, []api.UpdateRequest{want}) {
		t.Errorf("asked for %+v, %v", f.ops.checked, err)
	}
	_, err := f.CheckUpdates(t.Context(), api.UpdateRequest{Apply: true})
	if fault, ok := errors.AsType[*api.Error](err); !ok || fault.Status != http.StatusBadRequest || fault.Hint == "" || len(f.ops.checked) != 1 {
		t.Errorf("an update of everything: %v", err)
	}
}
