package render

import (
	"fmt"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

// checkSource refuses stacks whose files are not in this tree.
func (p *pass) checkSource(s *spec.Stack) fleet.Diagnostics {
	c := &s.Config
	if c.FileContents != "" {
		return nil
	}
	refuse := func(field, message, hint string) fleet.Diagnostics {
		return fleet.Diagnostics{{
			Rule: "source-not-supported", Severity: fleet.SeverityError, Position: s.At("config." + field),
			Message: message, Hint: hint,
		}}
	}
	switch {
	case c.FilesOnHost:
		return refuse("files_on_host", fmt.Sprintf("the files of stack %s are on the host", s.Name),
			"move them into this repository, and remove files_on_host")
	case c.LinkedRepo != "" && !p.isOwn(c.LinkedRepo):
		return refuse("linked_repo", fmt.Sprintf("the files of stack %s are in the repository %s", s.Name, c.LinkedRepo),
			"add a sync for that repository, and declare the stack there")
	case c.Repo != "" && !p.isOwn(c.Repo):
		return refuse("repo", fmt.Sprintf("the files of stack %s are in the repository %s", s.Name, c.Repo),
			"add a sync for that repository, and declare the stack there")
	}
	return nil
}

// isOwn reports whether a repository, as a stack names it, is the tree's own. Offline
// nobody knows, and it is taken for granted.
func (p *pass) isOwn(written string) bool {
	own, other := plainRepository(p.in.Repository), plainRepository(written)
	return own == "" || own == other || strings.HasSuffix(own, "/"+other) || strings.HasSuffix(other, "/"+own)
}

// plainRepository is a repository without what its spellings differ in.
func plainRepository(name string) string {
	if _, after, ok := strings.Cut(name, "://"); ok {
		name = after
	}
	if _, after, ok := strings.Cut(name, "@"); ok {
		name = strings.Replace(after, ":", "/", 1)
	}
	return strings.ToLower(strings.Trim(strings.TrimSuffix(strings.TrimRight(name, "/"), ".git"), "/"))
}

// collisions reports stacks of one server that cannot run beside each other.
func collisions(stacks []fleet.Stack) fleet.Diagnostics {
	c := claims{owners: map[string]string{}}
	for i := range stacks {
		s := &stacks[i]
		c.claim(fleet.SeverityError, "project-taken", s, "project "+s.Release.Project, s.Origin)
		for k := range s.Release.Services {
			c.service(s, &s.Release.Services[k])
		}
	}
	return c.findings
}

// claims are what stacks take of their servers.
type claims struct {
	owners   map[string]string
	findings fleet.Diagnostics
}

func (c *claims) service(s *fleet.Stack, service *fleet.Service) {
	for _, f := range service.Fields {
		switch {
		case f.Path == "container_name" && f.Value != "":
			c.claim(fleet.SeverityError, "container-name-taken", s, "container name "+f.Value, f.Origin)
		case strings.HasPrefix(f.Path, "ports[") && strings.HasSuffix(f.Path, "]"):
			if port := hostPort(f.Value); port != "" {
				c.claim(fleet.SeverityWarning, "port-taken", s, "port "+port, f.Origin)
			}
		}
	}
}

func (c *claims) claim(severity fleet.Severity, rule string, s *fleet.Stack, what string, at fleet.Position) {
	key := s.Server + "\x00" + what
	owner, there := c.owners[key]
	switch {
	case !there:
		c.owners[key] = s.Name
	case owner != s.Name:
		c.findings = append(c.findings, fleet.Diagnostic{
			Rule: rule, Severity: severity, Position: at,
			Message: fmt.Sprintf("stack %s uses %s on server %s already", owner, what, s.Server),
		})
	}
}

// hostPort is the port of the host that "127.0.0.1:8080:80/tcp" takes. A range is left
// out: the engine takes what is free in it.
func hostPort(short string) string {
	binding, protocol, _ := strings.Cut(short, "/")
	parts := strings.Split(binding, ":")
	if len(parts) < 2 || strings.Contains(parts[len(parts)-2], "-") {
		return ""
	}
	port := parts[len(parts)-2] + "/" + protocol
	ip := strings.Join(parts[:len(parts)-2], ":")
	if ip != "" && ip != "0.0.0.0" && ip != "::" {
		port = ip + ":" + port
	}
	return port
}
