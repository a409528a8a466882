package agent_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varanhq/varan/fleet"
)

// No clock decides who is let in, or what becomes of an order.
func TestP16AClockThatIsWrongIsToldAndStopsNothing(t *testing.T) {
	const years = 10 * 365 * 24 * time.Hour
	for name, tc := range map[string]struct {
		ahead time.Duration
		told  bool
	}{
		"ten years ahead": {years, true}, "ten years behind": {-years, true}, "two minutes": {2 * time.Minute, true},
		"half a minute": {30 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.core.ahead = tc.ahead
				r.start()
				s := r.session()
				s.mustOrder(applyOrder("1", "shop", "1"))
				if outcome := <-s.results; outcome.Status != fleet.OutcomeSucceeded {
					t.Errorf("outcome %+v", outcome)
				}
				synctest.Wait()
				if told := strings.Contains(r.logs.String(), "the clocks of core and this host differ"); told != tc.told {
					t.Errorf("told is %v", told)
				}
				r.stopped()
			})
		})
	}
}
