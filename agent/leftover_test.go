package agent_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/wire/noise"
)

func TestO10ATokenIsRemovedOnceItIsSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.onboarding()
		removed := 0
		r.cfg.ForgetToken = func() error { removed++; return nil }
		r.core.admit = func(noise.PeerInfo) error { return errors.New("not yet") }
		r.start()
		time.Sleep(time.Minute)
		if removed != 0 {
			t.Error("a token that core did not take was removed")
		}
		r.core.setAdmit(nil)
		r.session()
		synctest.Wait()
		if removed != 1 {
			t.Errorf("removed %d times after joining", removed)
		}
		r.stopped()
		r.start() // it is in the configuration again
		r.session()
		if removed != 2 {
			t.Errorf("removed %d times after the next start", removed)
		}
	})
}

func TestO10ALeftoverTokenIsBorneWithForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.onboarding()
		token := r.cfg.OnboardingToken
		r.cfg.ForgetToken = func() error { return fs.ErrPermission }
		r.start()
		r.session()
		r.stopped()
		if !strings.Contains(r.logs.String(), "could not be removed") {
			t.Error("nobody is told")
		}
		r.cfg.OnboardingToken = token
		time.Sleep(23 * time.Hour)
		r.start()
		r.session()
		r.stopped()
		time.Sleep(2 * time.Hour)
		_, err := agent.New(r.cfg)
		fault, ok := errors.AsType[*agent.ConfigError](err)
		if !ok || !strings.Contains(err.Error(), "still in the configuration") || !strings.Contains(fault.Hint, "remove it") {
			t.Errorf("a day later: %v", err)
		}
		if strings.Contains(err.Error()+r.logs.String(), token.Reveal()) {
			t.Error("the token is told")
		}
	})
}
