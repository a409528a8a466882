package render

import (
	"context"
	"fmt"
	"slices"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

// names are what deployments and repos are called in the fleet, by their own names: what
// comes first keeps its name.
type names struct {
	stacks             map[string]bool
	deployments, repos map[string]string
}

// giveNames keeps stacks, deployments and repos apart.
func (p *pass) giveNames() {
	p.names = names{stacks: map[string]bool{}, deployments: map[string]string{}, repos: map[string]string{}}
	for i := range p.decls.Stacks {
		p.names.stacks[p.decls.Stacks[i].Name] = true
	}
	taken := func(name string) bool {
		_, deployment := p.names.deployments[name]
		return p.names.stacks[name] || deployment
	}
	give := func(name, kind string, at fleet.Position) string {
		if !taken(name) {
			return name
		}
		other := name + "-" + kind
		p.findings = append(p.findings, fleet.Diagnostic{
			Rule: "name-taken", Severity: fleet.SeverityNote, Position: at,
			Message: fmt.Sprintf("%s %s is called %s, for there is something else of that name", kind, name, other),
		})
		return other
	}
	for i := range p.decls.Deployments {
		d := &p.decls.Deployments[i]
		p.names.deployments[d.Name] = give(d.Name, "deployment", d.At("name"))
	}
	for i := range p.decls.Repos {
		r := &p.decls.Repos[i]
		if r.Config.Server == "" {
			continue
		}
		p.names.repos[r.Name] = give(r.Name, "repo", r.At("name"))
	}
}

// after are the names in the fleet of what something waits for.
func (n names) after(written []string) []string {
	out := slices.Clone(written)
	for i, name := range out {
		if known, ok := n.deployments[name]; ok && !n.stacks[name] {
			out[i] = known
		}
	}
	return out
}

// jobs are all that is to be loaded, their sources opened.
func (p *pass) jobs(ctx context.Context) ([]*job, error) {
	p.giveNames()
	places := make([]where, len(p.decls.Stacks))
	for i := range places {
		var findings fleet.Diagnostics
		places[i], findings = p.locate(&p.decls.Stacks[i])
		p.findings = append(p.findings, findings...)
		p.wants(places[i])
	}
	for i := range p.decls.Repos {
		p.wants(p.locateRepo(&p.decls.Repos[i]))
	}
	if p.in.Sources != nil {
		if err := p.checkouts.open(ctx, p.in.Sources); err != nil {
			return nil, err
		}
	}
	jobs := make([]*job, 0, len(p.decls.Stacks)+len(p.decls.Deployments)+len(p.decls.Repos))
	for i := range p.decls.Stacks {
		jobs = append(jobs, p.stackJobs(&p.decls.Stacks[i], places[i])...)
	}
	for i := range p.decls.Deployments {
		jobs = append(jobs, p.deploymentJob(&p.decls.Deployments[i]))
	}
	for i := range p.decls.Repos {
		if r := &p.decls.Repos[i]; r.Config.Server != "" {
			jobs = append(jobs, p.repoJob(r))
		}
	}
	for _, j := range jobs {
		j.settle()
	}
	return jobs, p.readHosts(ctx, jobs)
}

func (p *pass) wants(w where) {
	if !w.own && !w.host && w.Repo != "" {
		p.checkouts.want(w.ref())
	}
}

// stackJobs are one for each server of a stack; one that runs nowhere is only checked.
func (p *pass) stackJobs(s *spec.Stack, w where) []*job {
	if !s.Template && !s.Config.Placed() {
		return nil // spec says so
	}
	src := p.find(s, w)
	if s.Template {
		return []*job{p.stackJob(s, w, src, fleet.Server{})}
	}
	servers, findings := p.targets(s)
	p.findings = append(p.findings, findings...)
	p.findings = append(p.findings, checkOverlays(s, servers)...)
	if len(servers) == 0 {
		return []*job{p.stackJob(s, w, src, fleet.Server{})}
	}
	jobs := make([]*job, len(servers))
	for i, server := range servers {
		jobs[i] = p.stackJob(s, w, src, server)
		if len(servers) > 1 {
			jobs[i].likeness = p.vars.likeness(jobs[i].pool.place)
		}
	}
	return jobs
}

// place is where the variables of something are used.
func (p *pass) place(name string, server fleet.Server) place {
	return place{stack: name, server: server, locals: p.in.LocalSecrets[server.Name]}
}
