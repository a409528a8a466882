package alert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/varanhq/varan/fleet"
)

const (
	// sendTimeout bounds one try, maxTries the tries of one alert.
	sendTimeout = 10 * time.Second
	maxTries    = 6
	// firstPause doubles after each try, up to longestPause.
	firstPause   = time.Second
	longestPause = time.Minute
	// maxQueued is how many alerts wait for one alerter. Beyond it the oldest are dropped.
	maxQueued    = 64
	maxRedirects = 3
)

// sender delivers alerts, each alerter's in order and beside those of the others.
type sender struct {
	client *http.Client
	log    *slog.Logger
	// woken has room for one wake-up of run.
	woken chan struct{}

	mu     sync.Mutex
	queues map[string]*queue
}

// queue is what waits for one alerter.
type queue struct {
	waiting []delivery
	// working says that a goroutine empties it.
	working bool
	dropped int
}

type delivery struct {
	to    fleet.Alerter
	alert Alert
}

func newSender(log *slog.Logger, transport http.RoundTripper) *sender {
	return &sender{
		log: log, woken: make(chan struct{}, 1), queues: map[string]*queue{},
		client: &http.Client{Timeout: sendTimeout, Transport: transport, CheckRedirect: sameHost},
	}
}

// errRedirect keeps what an alert says, and the token in its address, from going elsewhere.
var errRedirect = errors.New("the endpoint redirects to another host")

func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if req.URL.Host != first.Host || first.Scheme == "https" && req.URL.Scheme != "https" {
		return errRedirect
	}
	if len(via) > maxRedirects {
		return fmt.Errorf("the endpoint redirects more than %d times", maxRedirects)
	}
	return nil
}

// enqueue adds an alert and never waits.
func (s *sender) enqueue(d delivery) {
	s.mu.Lock()
	q := s.queues[d.to.Name]
	if q == nil {
		q = &queue{}
		s.queues[d.to.Name] = q
	}
	q.waiting = append(q.waiting, d)
	if len(q.waiting) > maxQueued {
		q.waiting = q.waiting[1:]
		q.dropped++
	}
	s.mu.Unlock()
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// run delivers until ctx ends.
func (s *sender) run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.woken:
		}
		s.mu.Lock()
		for _, q := range s.queues {
			if !q.working && len(q.waiting) > 0 {
				q.working = true
				group.Go(func() { s.empty(ctx, q) })
			}
		}
		s.mu.Unlock()
	}
}

// empty delivers what is in a queue.
func (s *sender) empty(ctx context.Context, q *queue) {
	for {
		s.mu.Lock()
		if len(q.waiting) == 0 || ctx.Err() != nil {
			q.working = false
			s.mu.Unlock()
			return
		}
		next := q.waiting[0]
		q.waiting = q.waiting[1:]
		dropped := q.dropped
		q.dropped = 0
		s.mu.Unlock()
		if dropped > 0 {
			s.log.LogAttrs(ctx, slog.LevelWarn, "alerts dropped, the alerter does not keep up",
				slog.String("alerter", next.to.Name), slog.Int("count", dropped))
		}
		if err := s.deliver(ctx, next); err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelError, "alert not sent", slog.String("alerter", next.to.Name),
				slog.String("type", string(next.alert.Type)), slog.Any("err", err))
		}
	}
}

// deliver tries until the endpoint took the alert or refused it for good.
func (s *sender) deliver(ctx context.Context, d delivery) error {
	wait := firstPause
	for try := 1; ; try++ {
		after, err := s.post(ctx, d)
		if err == nil || after < 0 || try == maxTries {
			return err
		}
		timer := time.NewTimer(max(wait, after))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		wait = min(2*wait, longestPause)
	}
}

// post sends an alert once. after is how long to wait for another try at least; negative
// when there is no use in one. No error names the address.
func (s *sender) post(ctx context.Context, d delivery) (after time.Duration, err error) {
	req, err := request(ctx, d.to.Endpoint, d.alert)
	if err != nil {
		return -1, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // the wrapper holds the address
		}
		if errors.Is(err, errRedirect) {
			return -1, err
		}
		return 0, fmt.Errorf("reach the endpoint: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	switch {
	case resp.StatusCode < http.StatusMultipleChoices:
		return 0, nil
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode >= http.StatusInternalServerError:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return min(max(time.Duration(seconds)*time.Second, 0), longestPause), fmt.Errorf("the endpoint answered %s", resp.Status)
	}
	return -1, fmt.Errorf("the endpoint answered %s", resp.Status)
}
