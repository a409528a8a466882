package compose

import (
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/varanhq/varan/fleet"
)

// Claims are what a stack takes of its server that another stack could want as well.
type Claims struct {
	Containers        []Claim
	Ports             []PortClaim
	Networks, Volumes []Claim
	// Paths are what containers mount and builds read of the host: absolute ones, and those
	// of a stack whose files are on the host already; sorted. They are known of a stack that
	// has errors, too.
	Paths []string
}

// Claim is a name on the server.
type Claim struct {
	Name string
	// Service is whose it is; empty for networks and volumes.
	Service string
	// External things are used and must be there already.
	External bool
	// Named says that the file gives the name; otherwise it is made of the project's.
	Named  bool
	Origin fleet.Position
}

// PortClaim is a port, or one of a range of ports, of the server.
type PortClaim struct {
	// IP is the address it is published on; the zero value is all of them.
	IP netip.Addr
	// First and Last are equal for a single port. Of a range the engine takes one that is
	// free, unless as many ports of the container want it.
	First, Last int
	Protocol    string
	Service     string
	Origin      fleet.Position
}

// Overlaps reports whether two stacks cannot have both. A range that has a free port left
// overlaps nothing.
func (p PortClaim) Overlaps(q PortClaim) bool {
	if p.Protocol != q.Protocol || p.Last < q.First || q.Last < p.First {
		return false
	}
	if p.IP.IsValid() && q.IP.IsValid() && p.IP != q.IP {
		return false
	}
	return p.First == p.Last && q.First == q.Last
}

// String is "8080/tcp" or "127.0.0.1:8080/tcp".
func (p PortClaim) String() string {
	text := strconv.Itoa(p.First)
	if p.Last != p.First {
		text += "-" + strconv.Itoa(p.Last)
	}
	if p.Protocol != "tcp" {
		text += "/" + p.Protocol
	}
	if p.IP.IsValid() {
		return netip.AddrPortFrom(p.IP, 0).Addr().String() + ":" + text
	}
	return text
}

// claim collects what the resolved stack takes.
func (l *load) claim(project *types.Project) Claims {
	var c Claims
	for _, name := range serviceNames(project) {
		service := project.Services[name]
		if service.ContainerName != "" && !l.usesUnknown(l.at("services", name, "container_name")) {
			c.Containers = append(c.Containers, Claim{
				Name: service.ContainerName, Service: name, Origin: l.at("services", name, "container_name"),
			})
		}
		for _, port := range service.Ports {
			if claim, ok := portClaim(port); ok {
				claim.Service, claim.Origin = name, l.atItem(strconv.Itoa(int(port.Target)), "services", name, "ports")
				if port.Published != "" && port.Published != strconv.Itoa(int(port.Target)) {
					claim.Origin = l.atItem(port.Published, "services", name, "ports")
				}
				if !l.usesUnknown(claim.Origin) {
					c.Ports = append(c.Ports, claim)
				}
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(project.Networks)) {
		network := project.Networks[key]
		c.Networks = l.named(c.Networks, "networks", key, network.Name, bool(network.External))
	}
	for _, key := range slices.Sorted(maps.Keys(project.Volumes)) {
		volume := project.Volumes[key]
		c.Volumes = l.named(c.Volumes, "volumes", key, volume.Name, bool(volume.External))
	}
	return c
}

// hostPaths are the paths of the host that the stack reads from.
func hostPaths(project *types.Project) []string {
	var paths []string
	add := func(p string) {
		if path.IsAbs(p) {
			paths = append(paths, path.Clean(p))
		}
	}
	for _, name := range serviceNames(project) {
		service := project.Services[name]
		for _, v := range service.Volumes {
			if v.Type == types.VolumeTypeBind {
				add(v.Source)
			}
		}
		if service.Build != nil {
			add(service.Build.Context)
		}
	}
	for _, v := range project.Volumes {
		add(v.DriverOpts["device"])
	}
	for _, v := range project.Configs {
		add(v.File)
	}
	for _, v := range project.Secrets {
		add(v.File)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// named adds a network or volume.
func (l *load) named(list []Claim, kind, key, name string, external bool) []Claim {
	origin := l.at(kind, key)
	if f := l.find(kind, key, "name"); f.depth == 3 {
		origin = f.position()
	}
	if l.usesUnknown(origin) {
		return list
	}
	return append(list, Claim{
		Name: name, External: external, Named: name != l.req.Project+"_"+key, Origin: origin,
	})
}

// portClaim reads a published port. Compose has made single ports of equal ranges.
func portClaim(port types.ServicePortConfig) (PortClaim, bool) {
	if port.Published == "" {
		return PortClaim{}, false
	}
	first, last, ranged := strings.Cut(port.Published, "-")
	if !ranged {
		last = first
	}
	claim := PortClaim{Protocol: port.Protocol}
	if claim.Protocol == "" {
		claim.Protocol = "tcp"
	}
	var err error
	if claim.First, err = strconv.Atoi(first); err != nil || claim.First == 0 {
		return PortClaim{}, false
	}
	if claim.Last, err = strconv.Atoi(last); err != nil {
		return PortClaim{}, false
	}
	if ip, err := netip.ParseAddr(port.HostIP); err == nil && !ip.IsUnspecified() {
		claim.IP = ip
	}
	return claim, true
}
