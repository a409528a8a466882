package docker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"github.com/varanhq/varan/fleet"
)

// The labels of Compose that we read.
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	labelNumber  = "com.docker.compose.container-number"
	labelOneOff  = "com.docker.compose.oneoff"
)

// inspectParallel is how many containers are inspected at a time.
const inspectParallel = 8

// live is one container as it is.
type live struct {
	fleet.Container

	stack, project, number string
	release                fleet.Digest
	// hash is what Compose recorded of the definition.
	hash string
	// order is the id of the order that created the container.
	order string
	// server is the Varan server the container belongs to; empty for one that is not ours.
	server string
	// oneOff containers were started by hand with `compose run`; they are nobody's business.
	oneOff bool
	// checked says that the container has a health check.
	checked bool
	// tty containers have one log stream, not two.
	tty bool
	// config is the normalised configuration.
	config settings
}

// list returns the containers that carry all the labels, sorted by service and number,
// each inspected. remembered is consulted first and may be nil.
func (e *Engine) list(ctx context.Context, remembered *memory, labels ...string) ([]live, error) {
	api, err := e.conn.api()
	if err != nil {
		return nil, err
	}
	res, err := api.ContainerList(ctx, client.ContainerListOptions{
		All:     true,
		Filters: make(client.Filters).Add("label", labels...),
	})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	more, err := e.listAdopted(ctx, api, labels)
	if err != nil {
		return nil, err
	}
	res.Items = append(res.Items, more...)
	out := make([]live, len(res.Items))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inspectParallel)
	for i := range res.Items {
		item := &res.Items[i]
		if l, ok := remembered.recall(item); ok {
			out[i] = l
			continue
		}
		generation := remembered.now()
		group.Go(func() error {
			res, err := api.ContainerInspect(ctx, item.ID, client.ContainerInspectOptions{})
			if errdefs.IsNotFound(err) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("inspect container %s: %w", item.ID[:12], err)
			}
			out[i] = e.look(&res.Container)
			if remembered != nil { // for a report; nobody else asks
				out[i].ImageDigests = e.registryDigests(ctx, out[i].ImageID)
			}
			remembered.keep(generation, out[i])
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	// Those that went away in between.
	out = slices.DeleteFunc(out, func(l live) bool { return l.ID == "" })
	slices.SortFunc(out, compareLive)
	return out, nil
}

// listAdopted lists the containers that stand for the labels which they do not carry.
func (e *Engine) listAdopted(ctx context.Context, api api, labels []string) ([]container.Summary, error) {
	rest := make([]string, 0, len(labels))
	stack, ours := "", false
	for _, label := range labels {
		name, value, _ := strings.Cut(label, "=")
		switch name {
		case fleet.LabelServer:
			ours = value == e.cfg.Server
		case fleet.LabelStack:
			stack = value
		default:
			rest = append(rest, label)
		}
	}
	if !ours {
		return nil, nil
	}
	var out []container.Summary
	for _, project := range e.states.adoptedProjects(stack) {
		res, err := api.ContainerList(ctx, client.ContainerListOptions{
			All:     true,
			Filters: make(client.Filters).Add("label", append(slices.Clone(rest), labelProject+"="+project)...),
		})
		if err != nil {
			return nil, fmt.Errorf("list adopted containers: %w", err)
		}
		for i := range res.Items {
			if _, _, ok := e.states.adoption(res.Items[i].ID); ok {
				out = append(out, res.Items[i])
			}
		}
	}
	return out, nil
}

func compareLive(a, b live) int {
	if c := strings.Compare(a.stack+"\x00"+a.Service, b.stack+"\x00"+b.Service); c != 0 {
		return c
	}
	if c := len(a.number) - len(b.number); c != 0 {
		return c
	}
	return strings.Compare(a.number+a.ID, b.number+b.ID)
}

// look reads what matters out of an inspection.
func (e *Engine) look(c *container.InspectResponse) live {
	l := live{Container: fleet.Container{
		ID:           c.ID,
		Name:         strings.TrimPrefix(c.Name, "/"),
		ImageID:      c.Image,
		RestartCount: c.RestartCount,
		Health:       fleet.HealthNone,
	}}
	if s := c.State; s != nil {
		l.State = fleet.ContainerState(s.Status)
		l.ExitCode = s.ExitCode
		l.StartedAt = parseTime(s.StartedAt)
		if s.Health != nil {
			l.Health, l.checked = fleet.ContainerHealth(s.Health.Status), s.Health.Status != container.NoHealthcheck
		}
	}
	if cfg := c.Config; cfg != nil {
		l.Image = cfg.Image
		l.tty = cfg.Tty
		l.Service = cfg.Labels[labelService]
		l.Digest = fleet.Digest(cfg.Labels[fleet.LabelDigest])
		l.stack = cfg.Labels[fleet.LabelStack]
		l.release = fleet.Digest(cfg.Labels[fleet.LabelRelease])
		l.order = cfg.Labels[fleet.LabelOrder]
		l.server = cfg.Labels[fleet.LabelServer]
		l.project = cfg.Labels[labelProject]
		l.number = cfg.Labels[labelNumber]
		l.oneOff = strings.EqualFold(cfg.Labels[labelOneOff], "true")
		l.hash = cfg.Labels[labelConfigHash]
	}
	if stack, a, ok := e.states.adoption(c.ID); ok && l.server == "" {
		l.server, l.stack, l.Digest = e.cfg.Server, stack, a.Digest
	}
	l.Ports = publishedPorts(c)
	l.config = normalise(c, e.key)
	return l
}

// parseTime reads the engine's times. Its zero time becomes ours.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 2000 {
		return time.Time{}
	}
	return t
}

func publishedPorts(c *container.InspectResponse) []fleet.Port {
	if c.NetworkSettings == nil {
		return nil
	}
	var out []fleet.Port
	for port, bindings := range c.NetworkSettings.Ports {
		for _, b := range bindings {
			var host uint16
			if _, err := fmt.Sscanf(b.HostPort, "%d", &host); err != nil {
				continue
			}
			p := fleet.Port{Host: host, Target: port.Num(), Protocol: string(port.Proto())}
			if b.HostIP.IsValid() {
				p.HostIP = b.HostIP.String()
			}
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b fleet.Port) int {
		return strings.Compare(
			fmt.Sprintf("%05d %s %05d %s", a.Target, a.Protocol, a.Host, a.HostIP),
			fmt.Sprintf("%05d %s %05d %s", b.Target, b.Protocol, b.Host, b.HostIP))
	})
	return out
}

// memory remembers inspections for as long as the engine's events tell when one of them
// is no longer true. A nil memory remembers nothing.
type memory struct {
	mu sync.Mutex
	// listening is set while events arrive. What is kept is good only then.
	listening bool
	// generation counts forgettings, so that an inspection that raced with an event is
	// not kept.
	generation uint64
	byID       map[string]remembered
}

// remembered is an inspection and when it was made.
type remembered struct {
	live
	at time.Time
}

// rememberFor bounds how long an event that got lost can mislead.
const rememberFor = time.Minute

// now is the generation to hand to keep.
func (m *memory) now() uint64 {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.generation
}

// recall returns what is known of a container, if the list does not contradict it.
func (m *memory) recall(item *container.Summary) (live, bool) {
	if m == nil {
		return live{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.byID[item.ID]
	if !ok || !m.listening || string(r.State) != string(item.State) || time.Since(r.at) > rememberFor {
		return live{}, false
	}
	// The health of old engines is only in the text for people.
	if r.checked && r.Health != healthOf(item) {
		return live{}, false
	}
	return r.live, true
}

// keep remembers an inspection that was begun at a generation.
func (m *memory) keep(generation uint64, l live) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listening && m.generation == generation {
		m.byID[l.ID] = remembered{live: l, at: time.Now()}
	}
}

// forget drops a container.
func (m *memory) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation++
	delete(m.byID, id)
}

// listen says whether events arrive, and drops everything.
func (m *memory) listen(yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation++
	m.listening, m.byID = yes, map[string]remembered{}
}

// stackOf returns the stack of a container that is remembered.
func (m *memory) stackOf(id string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.byID[id]
	return r.stack, ok
}

// healthOf reads the health of a listed container; API versions below 1.52 tell it only
// in words.
func healthOf(item *container.Summary) fleet.ContainerHealth {
	if item.Health != nil {
		return fleet.ContainerHealth(item.Health.Status)
	}
	switch {
	case strings.Contains(item.Status, "(healthy)"):
		return fleet.HealthHealthy
	case strings.Contains(item.Status, "(unhealthy)"):
		return fleet.HealthUnhealthy
	case strings.Contains(item.Status, "(health: starting)"):
		return fleet.HealthStarting
	}
	return fleet.HealthNone
}
