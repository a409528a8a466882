package plan_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// now is when every test takes place.
var now = time.Date(2026, 11, 3, 9, 30, 0, 0, time.UTC)

// deployed is the report of a stack that runs exactly as its release says. generation
// tells the containers of one deploy from those of another.
func deployed(s fleet.Stack, generation string) fleet.StackReport {
	r := fleet.StackReport{Stack: s.Name, Project: s.Release.Project, Release: s.Release}
	for _, svc := range s.Release.Services {
		for n := range svc.Replicas {
			r.Containers = append(r.Containers, container(s.Name, svc, n, generation))
		}
	}
	return r
}

func container(stack string, svc fleet.Service, n int, generation string) fleet.Container {
	c := fleet.Container{
		ID:      fmt.Sprintf("%s-%s-%d-%s-%s", stack, svc.Name, n, svc.Digest.Short(), generation),
		Name:    fmt.Sprintf("%s-%s-%d", stack, svc.Name, n+1),
		Service: svc.Name, Image: svc.Image, State: fleet.StateRunning, Health: fleet.HealthNone, Digest: svc.Digest,
	}
	if svc.OneShot {
		c.State = fleet.StateExited
	}
	return c
}

// seal gives a release the digests of its content.
func seal(r fleet.Release) fleet.Release {
	for i := range r.Services {
		s := &r.Services[i]
		slices.SortFunc(s.Fields, func(a, b fleet.Field) int { return strings.Compare(a.Path, b.Path) })
		var text strings.Builder
		for _, f := range s.Fields {
			if f.Value == "" || fleet.Digest(f.Value) != s.Restart {
				fmt.Fprintln(&text, f.Path, f.Value, f.Keyed)
			}
		}
		s.Digest = fleet.SumDigest([]byte(s.Name + text.String()))
	}
	slices.SortFunc(r.Services, func(a, b fleet.Service) int { return strings.Compare(a.Name, b.Name) })
	var text strings.Builder
	for _, s := range r.Services {
		fmt.Fprintln(&text, s.Name, s.Digest, s.Restart, s.Replicas)
	}
	fmt.Fprintln(&text, r.Stack, r.Server, r.Project, r.Volumes, r.Options)
	r.Digest = fleet.SumDigest([]byte(text.String()))
	return r
}

// world is what a golden test describes: what Git said before and was applied, what
// happened since, and what Git says now.
type world struct {
	before, git fleet.Desired
	in          plan.Input
}

// parseWorld reads the sections of a golden test:
//
//	before, git   commit ID "subject" | server NAME [disabled] [untrusted]
//	              stack NAME on SERVER [after=a,b] [deploy] [ignore=a,b] [project=p] [pull] [destroy]
//	              [force-recreate] [dir=/d] [pre=script] [account=a] [from=REPO@COMMIT] [unreadable=WHY]
//	              service NAME [image=i] [env.K=v] [secret.K=v] [file:PATH=v] [restart:PATH=v] [replicas=n] [oneshot]
//	              volume NAME DEFINITION
//	              resource KIND NAME [path=value] [secret.path=keyed]
//	world         what happened, see happen
//	policy        delete | self-heal | max-removals=n | only=a,b | forced=a,b | foreign NAME SYNC
//	              foreign-record KIND/NAME SYNC | elsewhere NAME SYNC TEXT|settled [after=a,b]
//	control       see decide
func parseWorld(sections map[string]string) (plan.Input, error) {
	w := &world{}
	var err error
	if w.before, err = parseDesired(sections["before"]); err != nil {
		return plan.Input{}, err
	}
	if w.git, err = parseDesired(sections["git"]); err != nil {
		return plan.Input{}, err
	}
	w.in = plan.Input{Desired: w.git, Observed: fleet.Observed{}, Foreign: map[string]string{}, Now: now}
	for _, d := range []fleet.Desired{w.before, w.git} {
		for _, s := range d.Servers {
			w.in.Observed[s.Name] = fleet.ServerReport{Server: s.Name, Online: true, Received: now}
		}
	}
	w.in.Records = w.before.Resources
	for _, s := range w.before.Stacks {
		w.report(s.Server, deployed(s, "1"))
		w.in.Inventory = append(w.in.Inventory, plan.Owned{
			Stack: s.Name, Server: s.Server, Project: s.Release.Project, After: s.After,
		})
	}
	for _, line := range lines(sections["world"]) {
		if err := w.happen(line); err != nil {
			return plan.Input{}, fmt.Errorf("world: %v: %w", line, err)
		}
	}
	for _, line := range lines(sections["policy"]) {
		w.policy(line)
	}
	for _, line := range lines(sections["control"]) {
		w.decide(line)
	}
	return w.in, nil
}

func (w *world) report(server string, r fleet.StackReport) {
	s := w.in.Observed[server]
	s.Stacks = slices.DeleteFunc(slices.Clone(s.Stacks), func(o fleet.StackReport) bool { return o.Stack == r.Stack })
	s.Stacks = append(s.Stacks, r)
	w.in.Observed[server] = s
}

func (w *world) policy(line []string) {
	key, value, _ := strings.Cut(line[0], "=")
	switch key {
	case "delete":
		w.in.Policy.Delete = true
	case "self-heal":
		w.in.Policy.SelfHeal = true
	case "max-removals":
		w.in.Policy.MaxRemovals, _ = strconv.Atoi(value)
	case "only":
		w.in.Policy.Only = strings.Split(value, ",")
	case "forced":
		w.in.Policy.Forced = strings.Split(value, ",")
	case "foreign":
		w.in.Foreign[line[1]] = line[2]
	case "foreign-record":
		w.in.ForeignRecords = map[string]string{line[1]: line[2]}
	case "elsewhere":
		w.elsewhere(line)
	default:
		panic("unknown policy " + key)
	}
}

func (w *world) elsewhere(line []string) {
	other := plan.Elsewhere{Sync: line[2], Text: line[3]}
	if other.Text == "settled" {
		other.Settled, other.Text = true, ""
	}
	if len(line) > 4 {
		other.After = strings.Split(strings.TrimPrefix(line[4], "after="), ",")
	}
	if w.in.Elsewhere == nil {
		w.in.Elsewhere = map[string][]plan.Elsewhere{}
	}
	w.in.Elsewhere[line[1]] = append(w.in.Elsewhere[line[1]], other)
}

// happen applies one event to the world.
func (w *world) happen(line []string) error {
	verb, what := line[0], line[1]
	stack, service, _ := strings.Cut(what, "/")
	stack, on, _ := strings.Cut(stack, "@")
	arg := func(i int) string {
		if i+2 < len(line) {
			return line[i+2]
		}
		return ""
	}
	server := w.in.Observed[what]
	switch verb {
	case "offline":
		server.Online = false
		w.in.Observed[what] = server
	case "silent":
		server.Received, server.Stacks = time.Time{}, nil
		w.in.Observed[what] = server
	case "absent":
		delete(w.in.Observed, what)
	case "host-commands":
		server.Agent.HostCommands = true
		w.in.Observed[what] = server
	case "registries":
		server.Agent.AllowedRegistries = line[2:]
		w.in.Observed[what] = server
	case "foreign":
		server.Agent.Foreign = append(server.Agent.Foreign, fleet.ForeignProject{Name: line[2], Services: line[3:]})
		w.in.Observed[what] = server
	case "engine":
		server.Agent.EngineError = arg(0)
		w.in.Observed[what] = server
	case "disowned":
		w.in.Inventory = slices.DeleteFunc(w.in.Inventory, func(o plan.Owned) bool { return o.Stack == what })
	case "owned":
		name, on, _ := strings.Cut(what, "@")
		w.in.Inventory = append(w.in.Inventory, plan.Owned{Stack: name, Server: on, Project: name})
	case "stray":
		name, on, _ := strings.Cut(what, "@")
		w.report(on, fleet.StackReport{Stack: name, Project: name, Containers: []fleet.Container{{
			ID: name, Service: "app", State: fleet.StateRunning,
		}}})
	default:
		return w.happenToStack(verb, stack, on, service, arg)
	}
	return nil
}

func (w *world) happenToStack(verb, stack, on, service string, arg func(int) string) error {
	for server, report := range w.in.Observed {
		r, ok := report.Stack(stack)
		if !ok || on != "" && on != server {
			continue
		}
		r.Containers = slices.Clone(r.Containers)
		if err := w.change(&r, verb, service, arg); err != nil {
			return err
		}
		w.report(server, r)
		return nil
	}
	if verb == "bad" {
		s, _ := w.git.Stack(stack)
		r := fleet.StackReport{Stack: stack, Project: stack}
		w.report(s.Server, r)
		return w.happenToStack(verb, stack, on, service, arg)
	}
	return fmt.Errorf("no such stack runs")
}

func (w *world) change(r *fleet.StackReport, verb, service string, arg func(int) string) error {
	one := func(f func(*fleet.Container)) {
		for i := range r.Containers {
			if r.Containers[i].Service == service {
				f(&r.Containers[i])
				return
			}
		}
	}
	switch verb {
	case "stopped":
		r.Stopped = true
		for i := range r.Containers {
			r.Containers[i].State = fleet.StateExited
		}
	case "busy":
		r.Busy = "order-7"
	case "secrets-gone":
		r.SecretsGone = true
	case "file":
		r.Drift = append(r.Drift, fleet.Drift{Field: "file " + arg(0), Want: arg(1), Have: arg(2)})
	case "unrecorded":
		r.Release = fleet.Release{}
	case "updated":
		s := at(w.git, r.Stack, arg(0))
		*r = deployed(s, "2")
	case "bad":
		s := at(w.git, r.Stack, arg(1))
		r.Bad = append(r.Bad, fleet.BadRelease{
			Release: s.Release.Digest, Commit: w.git.Commit.ID, Reason: arg(0), RolledBack: len(r.Containers) > 0,
		})
	case "state":
		one(func(c *fleet.Container) {
			c.State = fleet.ContainerState(arg(0))
			c.ExitCode, _ = strconv.Atoi(arg(1))
			if arg(1) == "unhealthy" || arg(1) == "starting" {
				c.Health = fleet.ContainerHealth(arg(1))
			}
		})
	case "gone":
		i := slices.IndexFunc(r.Containers, func(c fleet.Container) bool { return c.Service == service })
		r.Containers = slices.Delete(r.Containers, i, i+1)
	case "digest":
		one(func(c *fleet.Container) { c.Digest = "sha256:other" })
	case "drift":
		one(func(c *fleet.Container) {
			c.Drift = append(c.Drift, fleet.Drift{Field: arg(0), Want: arg(1), Have: arg(2)})
		})
	case "extra":
		extra := fleet.Container{ID: "extra-" + service, Service: service, State: fleet.StateRunning}
		one(func(c *fleet.Container) { extra.Digest = c.Digest })
		r.Containers = append(r.Containers, extra)
	default:
		return fmt.Errorf("unknown event")
	}
	return nil
}

// parseDesired reads a before or git section.
func parseDesired(text string) (fleet.Desired, error) {
	d := fleet.Desired{Sync: "home", Commit: fleet.Commit{ID: "00000000"}}
	for n, line := range lines(text) {
		origin := fleet.Position{File: "fleet.toml", Line: n + 1}
		switch line[0] {
		case "commit":
			d.Commit = fleet.Commit{ID: line[1], Subject: line[2], Author: "Ada <ada@example.org>"}
		case "server":
			d.Servers = append(d.Servers, fleet.Server{Name: line[1], Enabled: !slices.Contains(line, "disabled")})
			if slices.Contains(line, "untrusted") {
				d.Servers[len(d.Servers)-1].Tier = fleet.TierUntrusted
			}
		case "stack":
			d.Stacks = append(d.Stacks, parseStack(line, origin))
		case "resource":
			d.Resources = append(d.Resources, parseResource(line, origin))
		case "service", "volume":
			parsePart(&d.Stacks[len(d.Stacks)-1], line, n+1)
		default:
			return d, fmt.Errorf("unknown line %q", line)
		}
	}
	for i := range d.Stacks {
		if d.Stacks[i].Unreadable != "" {
			d.Stacks[i].Release = fleet.Release{}
			continue
		}
		d.Stacks[i].Release.Commit = d.Commit
		d.Stacks[i].Release = seal(d.Stacks[i].Release)
	}
	return d, nil
}

func parseResource(line []string, origin fleet.Position) fleet.Resource {
	r := fleet.Resource{Kind: line[1], Name: line[2], Origin: origin}
	for _, word := range line[3:] {
		path, value, _ := strings.Cut(word, "=")
		f := fleet.Field{Path: path, Value: value, Origin: origin}
		if secret, ok := strings.CutPrefix(path, "secret."); ok {
			f = fleet.Field{Path: secret, Keyed: value, Origin: origin}
		}
		r.Fields = append(r.Fields, f)
	}
	return r
}

func parseStack(line []string, origin fleet.Position) fleet.Stack {
	s := fleet.Stack{Name: line[1], Server: line[3], Origin: origin}
	s.Release = fleet.Release{Stack: s.Name, Server: s.Server, Project: s.Name}
	for _, word := range line[4:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "after":
			s.After = strings.Split(value, ",")
		case "deploy":
			s.Deploy = true
		case "ignore":
			s.IgnoreServices = strings.Split(value, ",")
		case "project":
			s.Release.Project = value
		case "pull":
			s.Release.Options.Pull = true
		case "destroy":
			s.Release.Options.DestroyFirst = true
		case "force-recreate":
			s.Release.Options.Up.ForceRecreate = true
		case "from":
			repository, commit, _ := strings.Cut(value, "@")
			s.Release.Source = fleet.Source{Repository: repository, Commit: fleet.Commit{ID: commit}}
		case "dir":
			s.Release.Options.Dir = value
		case "pre":
			s.Release.Options.PreDeploy.Script = fleet.Digest(value)
		case "unreadable":
			s.Unreadable = value
		case "tags":
			s.Tags = strings.Split(value, ",")
		case "rollout", "canary", "max-failures", "pause", "on-failure":
			parseRollout(&s, key, value)
		case "account":
			s.Release.Options.Registry = fleet.RegistryAccount{Registry: "ghcr.io", Account: value}
		default:
			panic("unknown word " + word)
		}
	}
	return s
}

func parsePart(stack *fleet.Stack, line []string, n int) {
	if line[0] == "volume" {
		stack.Release.Volumes = append(stack.Release.Volumes, fleet.Volume{Name: line[1], Digest: fleet.Digest(line[2])})
		return
	}
	svc := fleet.Service{Name: line[1], Replicas: 1, Image: "app:1"}
	field := func(path, value, keyed string) {
		svc.Fields = append(svc.Fields, fleet.Field{
			Path: path, Value: value, Keyed: keyed,
			Origin: fleet.Position{File: stack.Name + "/compose.yaml", Line: n, Col: 7},
		})
	}
	for _, word := range line[2:] {
		key, value, _ := strings.Cut(word, "=")
		switch {
		case key == "replicas":
			svc.Replicas, _ = strconv.Atoi(value)
		case key == "oneshot":
			svc.OneShot = true
		case key == "image":
			svc.Image = value
		case strings.HasPrefix(key, "env."):
			field("environment."+key[4:], value, "")
		case strings.HasPrefix(key, "secret."):
			field("environment."+key[7:], "", value)
		case strings.HasPrefix(key, "file:"):
			field("file "+key[5:], value, "")
		case strings.HasPrefix(key, "restart:"):
			svc.Restart = fleet.Digest(value)
			field("file "+key[8:], value, "")
		default:
			field(key, value, "")
		}
	}
	field("image", svc.Image, "")
	stack.Release.Services = append(stack.Release.Services, svc)
}

// lines splits text into words, with quotes, leaving out comments and empty lines.
func lines(text string) [][]string {
	var all [][]string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		var words []string
		for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
			if quoted, err := strconv.QuotedPrefix(line); err == nil {
				word, _ := strconv.Unquote(quoted)
				words, line = append(words, word), line[len(quoted):]
				continue
			}
			word, rest, _ := strings.Cut(line, " ")
			words, line = append(words, word), rest
		}
		if len(words) > 0 {
			all = append(all, words)
		}
	}
	return all
}
