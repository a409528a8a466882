package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

func TestReconnectBacksOffToOneMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.core.away(errors.New("connection refused"))
		r.start()
		time.Sleep(2 * time.Hour)
		dials := r.core.dialled()
		// Waits average half a minute once they have grown: full jitter below a minute.
		if n := len(dials); n < 130 || n > 400 {
			t.Errorf("%d tries in two hours, want about 240", n)
		}
		for i := 1; i < len(dials); i++ {
			if gap := dials[i].Sub(dials[i-1]); gap > time.Minute {
				t.Errorf("waited %v before try %d", gap, i+1)
			}
		}
		r.core.away(nil)
		r.session()
	})
}

func TestALongSessionIsFollowedByANewOneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.core.away(errors.New("connection refused"))
		r.start()
		time.Sleep(time.Hour) // the waits have grown
		r.core.away(nil)
		s := r.session()
		time.Sleep(time.Hour)
		cut := time.Now()
		s.cut()
		r.session()
		if took := time.Since(cut); took > 5*time.Second {
			t.Errorf("service was restored after %v", took)
		}
	})
}

// Two agents with one key push each other off core. They must not do so in a tight loop.
func TestSessionsThatDoNotLastAreSpacedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		go func() {
			for {
				select {
				case s := <-r.core.sessions:
					s.peer.Close(t.Context(), wire.Errorf(wire.CodeReplaced, "a newer session"))
				case <-t.Context().Done():
					return
				}
			}
		}()
		time.Sleep(time.Hour)
		if n := len(r.core.dialled()); n > 300 {
			t.Errorf("%d sessions in an hour", n)
		}
		if !strings.Contains(r.logs.String(), "copied to another host") {
			t.Error("the log does not say what is wrong")
		}
	})
}

func TestN11SessionsAreRenewedMakeBeforeBreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		started, release := r.engine.Hold("shop")
		order := applyOrder("1", "shop", "1")
		order.Timeout = 48 * time.Hour
		s.mustOrder(order)
		<-started
		begin := time.Now()
		r.core.setAdmit(func(noise.PeerInfo) error {
			select {
			case <-s.ended:
				t.Error("the old session ended before the new one served")
			default:
			}
			return nil
		})
		next := <-r.core.sessions
		if age := time.Since(begin); age < 21*time.Hour || age > 27*time.Hour {
			t.Errorf("renewed after %v, want 24 h within a tenth", age)
		}
		if report := <-next.reports; !report.Full {
			t.Errorf("report %+v, want a full one", report)
		}
		<-s.ended
		release()
		if outcome := <-next.results; outcome.Order != "1" {
			t.Errorf("outcome %+v", outcome)
		}
		if _, err := next.order(applyOrder("2", "shop", "2")); err != nil {
			t.Errorf("an order on the new session: %v", err)
		}
	})
}

func TestTheOldSessionServesUntilARenewalSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		r.core.away(errors.New("connection refused"))
		time.Sleep(30 * time.Hour)
		s.mustOrder(applyOrder("1", "shop", "1"))
		<-s.results
		r.core.away(nil)
		next := r.session()
		<-s.ended
		if next.epoch <= s.epoch {
			t.Errorf("epoch %d after %d", next.epoch, s.epoch)
		}
	})
}

func TestTheAgentKeepsTheLinkAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		time.Sleep(12 * time.Hour) // core gives up on a link that is silent for 75 s
		select {
		case <-s.ended:
			t.Error("the session ended although nothing happened")
		default:
		}
	})
}

func TestN02NothingIsSentToACoreWithAnotherKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		imposter := newCore(t)
		var heard []noise.PeerInfo
		imposter.admit = func(peer noise.PeerInfo) error {
			heard = append(heard, peer)
			return nil
		}
		r.cfg.Dial = imposter.dial
		r.start()
		time.Sleep(2 * time.Hour)
		dials := imposter.dialled()
		if n := len(dials); n < 7 || n > 40 {
			t.Errorf("%d tries in two hours, want few", n)
		}
		for i := 1; i < len(dials); i++ {
			if gap := dials[i].Sub(dials[i-1]); gap < time.Minute || gap > 16*time.Minute {
				t.Errorf("waited %v before try %d, want 60 s to 15 min", gap, i+1)
			}
		}
		if len(heard) > 0 {
			t.Errorf("the imposter learned who the agent is: %+v", heard)
		}
		if want := imposter.key.Public().Fingerprint().String(); !strings.Contains(r.logs.String(), want) {
			t.Errorf("the log does not show the fingerprint %s", want)
		}
	})
}

func TestAnotherAddressIsTriedWhenOneFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		imposter := newCore(t)
		var tried []string
		var back atomic.Bool
		r.cfg.Cores = []string{"ws://down", "ws://imposter", "ws://good"}
		r.cfg.Dial = func(ctx context.Context, address string) (wire.MessageConn, error) {
			tried = append(tried, address)
			switch address {
			case "ws://down":
				if !back.Load() {
					return nil, errors.New("connection refused")
				}
			case "ws://imposter":
				return imposter.dial(ctx, address)
			}
			return r.core.dial(ctx, address)
		}
		r.start()
		r.session().cut()
		s := r.session() // the imposter rests for a minute
		back.Store(true)
		s.cut()
		r.session() // the first again
		want := []string{"ws://down", "ws://imposter", "ws://good", "ws://down", "ws://good", "ws://down"}
		if diff := cmp.Diff(want, tried); diff != "" {
			t.Errorf("addresses tried (-want +got):\n%s", diff)
		}
	})
}

func TestARefusalSaysWhatToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.core.admit = func(noise.PeerInfo) error { return errors.New("unknown key") }
		r.start()
		time.Sleep(10 * time.Minute)
		if !strings.Contains(r.logs.String(), "core does not know this agent's key") {
			t.Errorf("log:\n%s", r.logs)
		}
	})
}

func TestN04ASessionUnderAnotherNameIsNotAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.core.rename = "beta"
		r.start()
		s := <-r.core.sessions
		<-s.ended
		synctest.Wait()
		if len(s.reports) > 0 {
			t.Error("the agent reported although core takes it for another server")
		}
		if !strings.Contains(r.logs.String(), `as \"beta\", not as \"alpha\"`) {
			t.Errorf("log:\n%s", r.logs)
		}
	})
}

func TestAnUnknownProtocolVersionIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.core.version = wire.Version + 1
		r.start()
		<-(<-r.core.sessions).ended
		synctest.Wait()
		if !strings.Contains(r.logs.String(), "protocol version") {
			t.Errorf("log:\n%s", r.logs)
		}
	})
}

func TestN05OnboardingSendsTheTokenOnlyInsideTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		token := r.onboarding()
		var peers []noise.PeerInfo
		r.core.admit = func(peer noise.PeerInfo) error {
			peers = append(peers, peer)
			return nil
		}
		r.start()
		s := r.session()
		var join wire.Join
		if err := json.Unmarshal(peers[0].Payload, &join); err != nil {
			t.Fatal(err)
		}
		if peers[0].Purpose != noise.PurposeOnboard || join.Token != token.Reveal() || join.Server != "alpha" {
			t.Errorf("joined with %v, %+v", peers[0].Purpose, join)
		}
		s.cut()
		r.session()
		if peers[1].Purpose != noise.PurposeSession || len(peers[1].Payload) > 0 || peers[1].Key != peers[0].Key {
			t.Errorf("the second session: %v with %d bytes, key kept: %t", peers[1].Purpose, len(peers[1].Payload), peers[1].Key == peers[0].Key)
		}
		if strings.Contains(r.logs.String(), strings.Split(token.Reveal(), "_")[2]) {
			t.Error("the token is in the log")
		}
	})
}

func TestAnOnboardedAgentStartsWithoutATokenOrAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.onboarding()
		r.start()
		r.session()
		r.stopped()

		token := r.cfg.OnboardingToken
		r.cfg.OnboardingToken = noToken()
		r.start()
		first := r.session().key
		r.stopped()

		r.cfg.OnboardingToken = token // left over in the configuration
		r.start()
		second := r.session().key
		if second.Purpose != noise.PurposeSession || first.Purpose != noise.PurposeSession || first.Key != second.Key {
			t.Errorf("sessions after onboarding: %v, then %v", first.Purpose, second.Purpose)
		}
		if !strings.Contains(r.logs.String(), "ignoring the onboarding token") {
			t.Error("the leftover token is not mentioned")
		}
	})
}

func TestARefusedTokenIsTriedRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.onboarding()
		r.core.admit = func(noise.PeerInfo) error { return errors.New("used up") }
		r.start()
		time.Sleep(2 * time.Hour)
		// A core revokes a token after 50 failures.
		if n := len(r.core.dialled()); n > 45 {
			t.Errorf("%d tries in two hours", n)
		}
		r.core.setAdmit(nil)
		r.session() // and joins once it may
	})
}

// The agent died, or the link broke, after core spent the token and before the agent
// noted it. Core lets the same key join again.
func TestOnboardingIsRepeatedWhenItsEndWasNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.onboarding()
		r.core.cutHello = 1
		var peers []noise.PeerInfo
		r.core.admit = func(peer noise.PeerInfo) error {
			peers = append(peers, peer)
			return nil
		}
		r.start()
		r.session()
		if len(peers) != 2 || peers[0].Key != peers[1].Key || peers[1].Purpose != noise.PurposeOnboard {
			t.Errorf("handshakes %+v, want two to onboard with one key", peers)
		}
	})
}
