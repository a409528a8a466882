package agent_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/diskspace"
	"github.com/varanhq/varan/wire"
)

func TestAFullDiskTakesNoNewOrdersUntilThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var free atomic.Uint64
		free.Store(10 << 30)
		r.cfg.LowDisk = diskspace.Limit{Percent: 5, MiB: 512}
		r.cfg.Statfs = func(string) (diskspace.Space, error) {
			return diskspace.Space{Free: free.Load(), Total: 20 << 30}, nil
		}
		r.start()
		s := r.session()
		s.mustOrder(applyOrder("1", "shop", "1"))
		<-s.reports
		<-s.results

		free.Store(100 << 20)
		time.Sleep(time.Minute)
		if report := <-s.reports; !strings.HasPrefix(report.Agent.LowDisk, "100.0 MiB of 20.0 GiB are free in /") {
			t.Errorf("core is told %q of the disk", report.Agent.LowDisk)
		}
		_, err := s.order(applyOrder("2", "shop", "2"))
		var refusal *wire.Error
		if !errors.As(err, &refusal) || refusal.Code != wire.CodeBusy || !refusal.Retryable || !strings.Contains(refusal.Message, "nearly full") {
			t.Errorf("an order that fills the disk: %v", err)
		}
		stop := applyOrder("3", "shop", "1")
		stop.Kind, stop.Release = fleet.OrderStop, fleet.Release{}
		s.mustOrder(stop)
		if outcome := <-s.results; outcome.Order != "3" || outcome.Status != fleet.OutcomeSucceeded {
			t.Errorf("the outcome of what makes room: %+v", outcome)
		}

		free.Store(10 << 30)
		s.mustOrder(applyOrder("4", "shop", "2")) // at once, before core is told
		if outcome := <-s.results; outcome.Order != "4" || outcome.Status != fleet.OutcomeSucceeded {
			t.Errorf("outcome %+v", outcome)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		low := "never told"
		for len(s.reports) > 0 {
			low = (<-s.reports).Agent.LowDisk
		}
		if low != "" {
			t.Errorf("core was last told %q of the disk", low)
		}
	})
}
