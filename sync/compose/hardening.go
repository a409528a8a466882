package compose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"
)

// checkHardening advises on the resolved services. What it finds is a warning: how severe
// each rule really is, the repository decides.
func (l *load) checkHardening(project *types.Project) {
	waitedFor := completionTargets(project)
	for _, name := range serviceNames(project) {
		service := project.Services[name]
		l.subject = name
		l.checkImage(service)
		l.checkContainer(service)
		l.checkRestart(service, waitedFor[name])
		for _, port := range service.Ports {
			pos := l.atItem(fmt.Sprint(port.Target), "services", name, "ports")
			if port.Published != "" && !loopback(port.HostIP) && !l.usesUnknown(pos) {
				l.advise("published-ports", pos,
					fmt.Sprintf("service %s publishes port %s on the network", name, port.Published),
					"let the reverse proxy reach it over a network, or publish it on 127.0.0.1")
			}
		}
	}
	l.subject = ""
}

func loopback(ip string) bool {
	addr, err := netip.ParseAddr(ip)
	return err == nil && addr.IsLoopback()
}

// checkImage asks for images that say exactly what they are. One that is built here has
// no registry to come from.
func (l *load) checkImage(s types.ServiceConfig) {
	if s.Image == "" || s.Build != nil {
		return
	}
	named, err := reference.ParseNormalizedNamed(s.Image)
	if err != nil {
		return
	}
	pos := l.at("services", s.Name, "image")
	if l.usesUnknown(pos) {
		return // core knows what it is
	}
	_, digested := named.(reference.Digested)
	tagged, hasTag := named.(reference.Tagged)
	switch {
	case digested:
	case !hasTag:
		l.advise("unpinned-image", pos, fmt.Sprintf("service %s takes whatever %s is at the time", s.Name, s.Image),
			"write a version: "+s.Image+":1.2.3")
	case tagged.Tag() == "latest":
		l.advise("unpinned-image", pos, fmt.Sprintf("service %s takes whatever %s is at the time", s.Name, s.Image),
			"write a version instead of latest")
	}
	if !digested {
		l.advise("image-digest", pos, fmt.Sprintf("the image of service %s has no digest", s.Name),
			"write it as name:tag@sha256:...; Renovate keeps it current")
	}
	if first, _, _ := strings.Cut(s.Image, "/"); first == s.Image || !strings.ContainsAny(first, ".:") && first != "localhost" {
		l.advise("image-registry-prefix", pos, fmt.Sprintf("the image of service %s does not say its registry", s.Name),
			"write "+named.Name())
	}
}

// checkContainer asks for what keeps a process that was broken into inside its container.
func (l *load) checkContainer(s types.ServiceConfig) {
	pos := l.at("services", s.Name)
	if !slices.ContainsFunc(s.SecurityOpt, func(opt string) bool {
		return opt == "no-new-privileges" || opt == "no-new-privileges:true" || opt == "no-new-privileges=true"
	}) {
		l.advise("no-new-privileges", pos, fmt.Sprintf("processes of service %s may gain privileges", s.Name),
			"security_opt: [no-new-privileges:true]")
	}
	if !slices.ContainsFunc(s.CapDrop, func(c string) bool { return strings.EqualFold(c, "ALL") }) {
		l.advise("cap-drop-all", pos, fmt.Sprintf("service %s keeps the default capabilities", s.Name),
			"cap_drop: [ALL], and cap_add what it needs")
	}
	if !s.ReadOnly {
		l.advise("read-only", pos, fmt.Sprintf("service %s can write to its own file system", s.Name),
			"read_only: true, with tmpfs or volumes for what it writes")
	}
	if logsWithoutLimit(s) {
		if s.Logging != nil {
			pos = l.at("services", s.Name, "logging")
		}
		l.advise("logging-limits", pos, fmt.Sprintf("the log of service %s grows without limit", s.Name),
			"logging: {driver: json-file, options: {max-size: 10m, max-file: \"3\"}}")
	}
}

// logsWithoutLimit reports the one driver that never rotates by itself.
func logsWithoutLimit(s types.ServiceConfig) bool {
	if s.Logging == nil {
		return s.LogDriver == "" || s.LogDriver == "json-file" && s.LogOpt["max-size"] == ""
	}
	driver := s.Logging.Driver
	return (driver == "" || driver == "json-file") && s.Logging.Options["max-size"] == ""
}

// checkRestart asks for a policy by which a service survives a reboot. What does its work
// and ends needs none.
func (l *load) checkRestart(s types.ServiceConfig, waitedFor bool) {
	byDeploy := s.Deploy != nil && s.Deploy.RestartPolicy != nil && s.Deploy.RestartPolicy.Condition != "none"
	if s.Restart != "" && s.Restart != types.RestartPolicyNo || byDeploy || isOneShot(s, waitedFor) {
		return
	}
	pos := l.at("services", s.Name)
	if s.Restart != "" {
		pos = l.at("services", s.Name, "restart")
	}
	l.advise("restart-policy", pos, fmt.Sprintf("service %s does not start again by itself", s.Name),
		"restart: unless-stopped; a task that ends has the label "+LabelOneShot+": \"true\"")
}
