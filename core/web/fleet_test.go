package web_test

import (
	"strings"
	"testing"
	"time"

	"github.com/varanhq/varan/fleet"
)

func TestAServerSaysWhatIsTheMatterWithItsHost(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		report fleet.ServerReport
		want   string
	}{
		"nothing":             {fleet.ServerReport{}, ""},
		"a minute of skew":    {fleet.ServerReport{Skew: time.Minute}, ""},
		"ahead":               {fleet.ServerReport{Skew: 61 * time.Second}, "its clock is 1m1s ahead of core's"},
		"behind":              {fleet.ServerReport{Skew: -2 * time.Hour}, "its clock is 2h0m0s behind core's"},
		"a disk that is full": {fleet.ServerReport{Agent: fleet.AgentInfo{LowDisk: "1 MiB"}, Skew: time.Hour}, "its disk is nearly full, it takes no new orders: 1 MiB"},
		"Docker that is away": {fleet.ServerReport{Agent: fleet.AgentInfo{LowDisk: "1 MiB", EngineError: "no socket"}}, "Docker does not answer: no socket"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			tc.report.Server, tc.report.Online = "alpha", true
			f.agents.observed["alpha"] = tc.report
			must(t, f.store.AcceptServerKey(t.Context(), "alpha", "key"))
			server, err := f.Server(t.Context(), "alpha")
			must(t, err)
			if server.Text != tc.want || server.ClockSkewMS != tc.report.Skew.Milliseconds() {
				t.Errorf("the server says %q, with a skew of %d ms; want %q", server.Text, server.ClockSkewMS, tc.want)
			}
			status, err := f.Status(t.Context())
			must(t, err)
			if len(status.Servers) != 1 || !strings.Contains(status.Servers[0].Text, tc.want) {
				t.Errorf("the status says %+v", status.Servers)
			}
		})
	}
}
