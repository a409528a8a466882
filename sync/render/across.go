package render

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/spec"
)

// across judges the stacks beside each other: what two of them want of one server, and
// what one of them expects to be there.
func (p *pass) across(jobs []*job) fleet.Diagnostics {
	jobs = slices.Clone(jobs)
	slices.SortStableFunc(jobs, func(a, b *job) int {
		return cmp.Or(strings.Compare(a.about.Name, b.about.Name), strings.Compare(a.request.Server, b.request.Server))
	})
	a := neighbours{owners: map[string]taken{}, ports: map[string][]portTaken{}}
	for _, j := range jobs {
		a.add(j)
	}
	for _, j := range jobs {
		a.external(j)
	}
	var out fleet.Diagnostics
	for _, f := range a.findings {
		out = append(out, p.judge.Judge(f.tier, fleet.Diagnostics{f.Diagnostic})...)
	}
	return out
}

// taken is what a stack has taken, and where it says so.
type taken struct {
	job *job
	at  fleet.Position
}

type portTaken struct {
	taken
	claim compose.PortClaim
}

// found is a finding of a stack on a server of a tier.
type found struct {
	fleet.Diagnostic
	tier fleet.Tier
}

// neighbours are the stacks of all servers.
type neighbours struct {
	// owners are who has each name, by server and kind.
	owners map[string]taken
	// ports are who has each port, by server and number.
	ports    map[string][]portTaken
	findings []found
}

func (a *neighbours) report(severity fleet.Severity, rule string, j *job, service, message, hint string, at, related fleet.Position) {
	a.findings = append(a.findings, found{tier: j.request.Tier, Diagnostic: fleet.Diagnostic{
		Rule: rule, Severity: severity, Position: at, Message: message, Hint: hint,
		Stack: j.about.Name, Service: service, Related: related,
	}})
}

// add takes what a stack claims, and reports what is taken already.
func (a *neighbours) add(j *job) {
	claims := j.entry.result.Claims
	a.name(fleet.SeverityError, "project-taken", j, "project", compose.Claim{Name: j.request.Project, Origin: j.about.Origin},
		"give one of them another project_name")
	for _, c := range claims.Containers {
		a.name(fleet.SeverityError, "container-name-taken", j, "container name", c, "leave container_name out, or change one of them")
	}
	for _, c := range claims.Networks {
		if !c.External {
			a.shared("network-taken", j, "network", c, "let one of them own it, and write external: true in the other")
		}
	}
	for _, c := range claims.Volumes {
		if !c.External {
			a.shared("volume-taken", j, "volume", c, "let one of them own it, and write external: true in the other")
		}
	}
	for _, c := range claims.Ports {
		a.port(j, c)
	}
}

func nameKey(j *job, kind, name string) string {
	return strings.Join([]string{j.request.Server, kind, name}, "\x00")
}

func (a *neighbours) name(severity fleet.Severity, rule string, j *job, kind string, c compose.Claim, hint string) {
	key := nameKey(j, kind, c.Name)
	first, there := a.owners[key]
	if !there {
		a.owners[key] = taken{job: j, at: j.place(c.Origin)}
		return
	}
	if first.job == j {
		return
	}
	a.report(severity, rule, j, c.Service,
		fmt.Sprintf("%s %s of server %s is that of stack %s already, at %s", kind, c.Name, j.request.Server, first.job.about.Name, first.at),
		hint, j.place(c.Origin), first.at)
}

// shared takes the name of a network or volume. One that is made of the project's name is
// shared only if the project is, which is said already.
func (a *neighbours) shared(rule string, j *job, kind string, c compose.Claim, hint string) {
	if first, there := a.owners[nameKey(j, kind, c.Name)]; there && !c.Named && first.job.request.Project == j.request.Project {
		return
	}
	a.name(fleet.SeverityWarning, rule, j, kind, c, hint)
}

func (a *neighbours) port(j *job, c compose.PortClaim) {
	key := fmt.Sprintf("%s\x00%s\x00%d", j.request.Server, c.Protocol, c.First)
	mine := portTaken{taken: taken{job: j, at: j.place(c.Origin)}, claim: c}
	for _, other := range a.ports[key] {
		if !c.Overlaps(other.claim) || other.job == j && other.claim.Service == c.Service {
			continue
		}
		a.report(fleet.SeverityWarning, "port-taken", j, c.Service,
			fmt.Sprintf("port %s of server %s is that of service %s of stack %s already, at %s",
				c, j.request.Server, other.claim.Service, other.job.about.Name, other.at),
			"publish another port, or let the two share a proxy", j.place(c.Origin), other.at)
		break
	}
	a.ports[key] = append(a.ports[key], mine)
}

// external looks for the stacks that make what a stack expects to be there.
func (a *neighbours) external(j *job) {
	severity := fleet.SeverityNote
	if j.request.Tier == fleet.TierUntrusted {
		severity = fleet.SeverityWarning
	}
	look := func(kind string, list []compose.Claim) {
		for _, c := range list {
			if !c.External || kind == "network" && slices.Contains([]string{"bridge", "host", "none"}, c.Name) {
				continue
			}
			if _, made := a.owners[nameKey(j, kind, c.Name)]; made {
				continue
			}
			a.report(severity, "external-resource", j, "",
				fmt.Sprintf("no stack on server %s makes the %s %s: it must be there already", j.request.Server, kind, c.Name),
				"declare it in one of the stacks, or make it by hand", j.place(c.Origin), fleet.Position{})
		}
	}
	look("network", j.entry.result.Claims.Networks)
	look("volume", j.entry.result.Claims.Volumes)
}

// leftOver reports what is declared and of no use. It says nothing where it cannot see
// everything: a stack that did not load, or a sync that reads a part of the tree.
func (p *pass) leftOver(decls spec.Declarations, jobs []*job) fleet.Diagnostics {
	partial := len(p.in.MatchTags) > 0 || len(p.in.ResourcePaths) > 0
	if p.findings.HasErrors() || partial {
		return nil
	}
	used := map[string]bool{}
	for _, name := range decls.References {
		used[name] = true
	}
	for _, j := range jobs {
		for _, name := range j.entry.result.Variables {
			used[name] = true
		}
	}
	var out fleet.Diagnostics
	for i := range decls.Variables {
		if v := &decls.Variables[i]; !used[v.Name] {
			out = append(out, fleet.Diagnostic{
				Rule: "unused-variable", Severity: fleet.SeverityNote, Position: v.At(""),
				Message: fmt.Sprintf("nothing here uses the variable %s", v.Name),
				Hint:    fmt.Sprintf("write [[%s]] where it is meant, or remove it", v.Name),
			})
		}
	}
	return append(p.judge.Judge("", out), p.judge.Unused()...)
}
