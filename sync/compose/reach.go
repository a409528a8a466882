package compose

import (
	"fmt"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/varanhq/varan/fleet"
)

// checkReach judges how far a service gets into what belongs to others.
func (l *load) checkReach(s types.ServiceConfig) {
	at := func(key string) fleet.Position { return l.at("services", s.Name, key) }
	if s.ContainerName != "" && !l.ownName(s.ContainerName) {
		l.restricted("foreign-name", at("container_name"),
			fmt.Sprintf("container name %s does not begin with the project %s", s.ContainerName, l.req.Project))
	}
	for _, link := range s.ExternalLinks {
		l.restricted("foreign-container", l.atItem(link, "services", s.Name, "external_links"),
			fmt.Sprintf("service %s is linked to a container outside the stack", s.Name))
	}
	if l.req.Tier != fleet.TierUntrusted {
		return
	}
	if len(s.ExtraHosts) > 0 {
		l.warn("name-resolution", at("extra_hosts"), fmt.Sprintf("service %s gives names its own addresses", s.Name),
			"an address of the host or of a cloud's metadata service is in reach of this container")
	}
	if len(s.DNS) > 0 {
		l.warn("name-resolution", at("dns"), fmt.Sprintf("service %s asks its own name servers", s.Name),
			"who answers for names decides where the traffic goes")
	}
}

// checkNames judges the names and drivers of networks and the names of volumes: by them,
// a stack takes over what another made.
func (l *load) checkNames(project *types.Project) {
	for _, key := range sortedKeys(project.Networks) {
		network := project.Networks[key]
		if bool(network.External) {
			continue
		}
		if !l.ownName(network.Name) {
			l.restricted("foreign-name", l.at("networks", key, "name"),
				fmt.Sprintf("network name %s does not begin with the project %s", network.Name, l.req.Project))
		}
		if network.Driver != "" && network.Driver != "bridge" && network.Driver != "none" {
			l.restricted("network-driver", l.at("networks", key, "driver"),
				fmt.Sprintf("network %s is made by %s, and may be the host's own", key, network.Driver))
		}
	}
	for _, key := range sortedKeys(project.Volumes) {
		if volume := project.Volumes[key]; !bool(volume.External) && !l.ownName(volume.Name) {
			l.restricted("foreign-name", l.at("volumes", key, "name"),
				fmt.Sprintf("volume name %s does not begin with the project %s", volume.Name, l.req.Project))
		}
	}
}

// ownName reports whether a name could be no other stack's.
func (l *load) ownName(name string) bool {
	rest, ok := strings.CutPrefix(name, l.req.Project)
	return name == "" || ok && (rest == "" || strings.ContainsAny(rest[:1], "-_."))
}

// checkSizes refuses what no engine could start, or a report could hold.
func (l *load) checkSizes(s types.ServiceConfig) {
	if len(s.Environment) > maxEntries || len(s.Labels) > maxEntries {
		l.fail("too-many-variables", l.at("services", s.Name),
			fmt.Sprintf("service %s has more than %d variables or labels", s.Name, maxEntries), "")
		return
	}
	tooLarge := func(key, name string, size int) {
		if size > maxVariable {
			l.fail("too-large", l.at("services", s.Name, key, name),
				fmt.Sprintf("%s of service %s has %d bytes; at most %d are allowed", name, s.Name, size, maxVariable), "put it in a file")
		}
	}
	for _, name := range sortedKeys(s.Environment) {
		if value := s.Environment[name]; value != nil {
			tooLarge("environment", name, len(*value))
		}
	}
	for _, name := range sortedKeys(s.Labels) {
		tooLarge("labels", name, len(s.Labels[name]))
	}
}
