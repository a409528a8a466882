package registry

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// defaultBudget is what Config.Budget says when it is not set.
	defaultBudget = 200
	// refused is how long a registry that said 429 and not for how long is left alone.
	refused = 15 * time.Minute
	// maxRefused bounds what a registry may say.
	maxRefused = 24 * time.Hour
	// reserve is what is left of a registry's own limit for those who pull; when no more
	// remains, it is left alone for as long as lowWait.
	reserve = 10
	lowWait = time.Hour
)

// limits are the budget of each registry, and until when one wants to be left alone.
type limits struct {
	budget func() int
	clock  func() time.Time

	mu    sync.Mutex
	hosts map[string]*limit
}

// limit is a bucket that fills over an hour.
type limit struct {
	left   float64
	filled time.Time
	until  time.Time
	why    string
}

// limitError is a request that was not made.
type limitError struct {
	until time.Time
	why   string
}

func (e *limitError) Error() string { return e.why }

func newLimits(budget func() int, now func() time.Time) *limits {
	return &limits{budget: budget, clock: now, hosts: map[string]*limit{}}
}

// of is the limit of a registry as it is now; the caller holds the lock.
func (l *limits) of(host string) *limit {
	now, budget := l.clock(), float64(l.budget())
	h, ok := l.hosts[host]
	if !ok {
		h = &limit{left: budget, filled: now}
		l.hosts[host] = h
	}
	h.left = min(budget, h.left+now.Sub(h.filled).Hours()*budget)
	h.filled = now
	if !now.Before(h.until) {
		h.until, h.why = time.Time{}, ""
	}
	return h
}

// closed says why a registry is not to be asked now; empty when it is.
func (l *limits) closed(host string) (until time.Time, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.of(host)
	if h.why != "" {
		return h.until, h.why
	}
	if h.left < 1 {
		return l.spent(h, host)
	}
	return time.Time{}, ""
}

func (l *limits) spent(h *limit, host string) (until time.Time, why string) {
	wait := time.Duration((1 - h.left) / float64(l.budget()) * float64(time.Hour))
	return h.filled.Add(wait), fmt.Sprintf("the budget of %d requests an hour to %s is used up", l.budget(), host)
}

// take spends one request.
func (l *limits) take(host string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.of(host)
	if h.why != "" {
		return &limitError{h.until, h.why}
	}
	if h.left < 1 {
		until, why := l.spent(h, host)
		return &limitError{until, why}
	}
	h.left--
	return nil
}

// hear learns from an answer.
func (l *limits) hear(host string, res *http.Response) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, now := l.of(host), l.clock()
	if res.StatusCode == http.StatusTooManyRequests {
		h.until = now.Add(retryAfter(res.Header.Get("Retry-After"), now))
		h.why = fmt.Sprintf("%s has had too many requests; it is asked again after %s", host, h.until.UTC().Format(time.RFC3339))
		return &limitError{h.until, h.why}
	}
	if left, ok := remaining(res.Header); ok && left <= reserve {
		h.until = now.Add(lowWait)
		h.why = fmt.Sprintf("%s allows %d more pulls, which are left to deploys; it is asked again after %s",
			host, left, h.until.UTC().Format(time.RFC3339))
	}
	return nil
}

// retryAfter reads seconds or a date.
func retryAfter(text string, now time.Time) time.Duration {
	wait := refused
	if seconds, err := strconv.Atoi(text); err == nil && seconds >= 0 {
		wait = time.Duration(min(seconds, int(maxRefused/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, time.Second), maxRefused)
}

// remaining is what a registry such as Docker Hub says is left: "76;w=21600".
func remaining(h http.Header) (int, bool) {
	count, _, _ := strings.Cut(h.Get("Ratelimit-Remaining"), ";")
	left, err := strconv.Atoi(strings.TrimSpace(count))
	return left, err == nil
}

// limited is a transport that keeps to the limits of one registry. Logins are not counted.
type limited struct {
	next   http.RoundTripper
	limits *limits
	host   string
}

// RoundTrip implements http.RoundTripper.
func (t *limited) RoundTrip(req *http.Request) (*http.Response, error) {
	counted := strings.Contains(req.URL.Path, "/manifests/") || strings.HasSuffix(req.URL.Path, "/tags/list")
	if counted {
		if err := t.limits.take(t.host); err != nil {
			return nil, err
		}
	}
	res, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if err := t.limits.hear(t.host, res); err != nil {
		_ = res.Body.Close()
		return nil, err
	}
	return res, nil
}
