package compose

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"

	"github.com/varanhq/varan/fleet"
)

const (
	// untrustedHint tells what to do about what an untrusted server must not run.
	untrustedHint = "move the stack to a trusted server, or do without"
	// trustedHint tells why a warning is one.
	trustedHint = "whoever can write this repository controls the host"
)

// defaultCapabilities are what Docker gives every container that does not drop them: adding
// one back after `cap_drop: [ALL]` asks for less than saying nothing does.
var defaultCapabilities = map[string]bool{
	"AUDIT_WRITE": true, "CHOWN": true, "DAC_OVERRIDE": true, "FOWNER": true, "FSETID": true, "KILL": true, "MKNOD": true,
	"NET_BIND_SERVICE": true, "NET_RAW": true, "SETFCAP": true, "SETGID": true, "SETPCAP": true, "SETUID": true, "SYS_CHROOT": true,
}

// risky reports what hands the host to the stack: an error on an untrusted server, a
// warning on a trusted one.
func (l *load) risky(rule string, pos fleet.Position, message string) {
	if l.req.Tier == fleet.TierUntrusted {
		l.fail(rule, pos, message+"; not on an untrusted server", untrustedHint)
		return
	}
	l.warn(rule, pos, message, trustedHint)
}

// restricted reports what is common enough to be quiet about on a trusted server.
func (l *load) restricted(rule string, pos fleet.Position, message string) {
	if l.req.Tier == fleet.TierUntrusted {
		l.fail(rule, pos, message+"; not on an untrusted server", untrustedHint)
	}
}

// checkPolicy judges the resolved model, for only there is every merge done. Positions
// are looked up in the files again.
func (l *load) checkPolicy(project *types.Project) {
	if count := len(project.Services); count > maxServices {
		l.fail("too-many-services", l.at("services"),
			fmt.Sprintf("%d services; at most %d are allowed in a stack", count, maxServices), "")
		return
	}
	for _, name := range serviceNames(project) {
		service := project.Services[name]
		l.subject = name
		l.checkService(service)
		l.checkPrivileges(service)
		l.checkNamespaces(project, service)
		l.checkIsolation(service)
		l.checkReach(service)
		l.checkSizes(service)
		l.checkBuild(service)
	}
	l.subject = ""
	for _, name := range slices.Sorted(maps.Keys(project.Volumes)) {
		l.checkVolume(name, project.Volumes[name])
	}
	l.checkNames(project)
}

// checkService refuses what no server may run.
func (l *load) checkService(s types.ServiceConfig) {
	if len(s.Name) > maxName {
		l.fail("service-name", l.at("services", s.Name),
			fmt.Sprintf("the name of a service has at most %d characters", maxName), "")
	}
	if s.Provider != nil {
		l.fail("provider-service", l.at("services", s.Name, "provider"),
			fmt.Sprintf("service %s is a provider: it runs a program on the host, outside any container", s.Name),
			"describe the service as a container")
	}
	if len(s.Models) > 0 {
		l.fail("models", l.at("services", s.Name, "models"),
			fmt.Sprintf("service %s uses models, which a program of the host serves", s.Name),
			"run the model in a container")
	}
	if s.UseAPISocket {
		l.fail("api-socket", l.at("services", s.Name, "use_api_socket"),
			fmt.Sprintf("service %s asks for the engine's socket and the registry credentials", s.Name), "")
	}
	if scale := s.GetScale(); scale > maxReplicas {
		pos := l.at("services", s.Name, "scale")
		if s.Scale == nil || l.find("services", s.Name, "scale").depth < 3 {
			pos = l.at("services", s.Name, "deploy", "replicas")
		}
		l.fail("too-many-replicas", pos, fmt.Sprintf("%d replicas; at most %d are allowed", scale, maxReplicas), "")
	}
	if s.Image != "" {
		if _, err := reference.ParseNormalizedNamed(s.Image); err != nil || strings.HasPrefix(s.Image, "-") {
			l.fail("image-reference", l.at("services", s.Name, "image"),
				fmt.Sprintf("%q is not a reference to an image", s.Image), "write it as registry/name:tag")
		}
	}
	for _, label := range slices.Sorted(maps.Keys(s.Labels)) {
		if strings.HasPrefix(label, ownLabels) && label != LabelOneShot {
			l.fail("reserved-label", l.at("services", s.Name, "labels", label),
				fmt.Sprintf("label %s is set by Varan", label), "choose another prefix")
		}
	}
}

func (l *load) checkPrivileges(s types.ServiceConfig) {
	at := func(key string) fleet.Position { return l.at("services", s.Name, key) }
	if s.Privileged {
		l.risky("privileged", at("privileged"), fmt.Sprintf("service %s is privileged", s.Name))
	}
	for _, capability := range s.CapAdd {
		if defaultCapabilities[strings.TrimPrefix(strings.ToUpper(capability), "CAP_")] {
			continue
		}
		l.risky("cap-add", l.atItem(capability, "services", s.Name, "cap_add"),
			fmt.Sprintf("service %s adds the capability %s", s.Name, capability))
	}
	for _, device := range s.Devices {
		l.risky("host-device", l.atItem(device.Source, "services", s.Name, "devices"),
			fmt.Sprintf("service %s uses the device %s", s.Name, device.Source))
	}
	if len(s.DeviceCgroupRules) > 0 {
		l.risky("host-device", at("device_cgroup_rules"), fmt.Sprintf("service %s has device_cgroup_rules", s.Name))
	}
	if len(s.Gpus) > 0 {
		l.risky("host-device", at("gpus"), fmt.Sprintf("service %s uses GPUs", s.Name))
	}
	if s.Deploy != nil && s.Deploy.Resources.Reservations != nil && len(s.Deploy.Resources.Reservations.Devices) > 0 {
		l.risky("host-device", l.at("services", s.Name, "deploy", "resources", "reservations", "devices"),
			fmt.Sprintf("service %s reserves devices", s.Name))
	}
	for _, hooks := range []struct {
		key  string
		list []types.ServiceHook
	}{{"pre_start", s.PreStart}, {"post_start", s.PostStart}, {"pre_stop", s.PreStop}} {
		for i, hook := range hooks.list {
			if hook.Privileged {
				l.risky("privileged", l.at("services", s.Name, hooks.key, fmt.Sprint(i), "privileged"),
					fmt.Sprintf("a %s hook of service %s is privileged", hooks.key, s.Name))
			}
		}
	}
}

func (l *load) checkNamespaces(project *types.Project, s types.ServiceConfig) {
	for _, ns := range []struct{ key, value string }{
		{"pid", s.Pid},
		{"ipc", s.Ipc},
		{"uts", s.Uts},
		{"userns_mode", s.UserNSMode},
		{"cgroup", s.Cgroup},
		{"network_mode", s.NetworkMode},
	} {
		pos := l.at("services", s.Name, ns.key)
		switch {
		case ns.value == "host":
			l.risky("host-namespace", pos, fmt.Sprintf("service %s shares the host's %s", s.Name, strings.TrimSuffix(ns.key, "_mode")))
		case strings.HasPrefix(ns.value, types.ContainerPrefix):
			l.checkShared(project, s.Name, ns.key, strings.TrimPrefix(ns.value, types.ContainerPrefix), pos)
		}
	}
	for _, from := range s.VolumesFrom {
		if strings.HasPrefix(from, types.ContainerPrefix) {
			l.risky("foreign-container", l.atItem(from, "services", s.Name, "volumes_from"),
				fmt.Sprintf("service %s takes the volumes of a container outside the stack", s.Name))
		}
	}
}

// checkShared judges a namespace that is shared with a container by its name. When that is
// one of the stack's own, Compose does not know: it recreates the one without the other.
func (l *load) checkShared(project *types.Project, service, key, container string, pos fleet.Position) {
	what := strings.TrimSuffix(key, "_mode")
	for _, name := range serviceNames(project) {
		if project.Services[name].ContainerName == container && l.req.Tier != fleet.TierUntrusted {
			l.warn("foreign-container", pos,
				fmt.Sprintf("service %s shares the %s of container %s, and loses it when that is recreated", service, what, container),
				fmt.Sprintf("write %s: service:%s", key, name))
			return
		}
	}
	l.risky("foreign-container", pos, fmt.Sprintf("service %s shares the %s of a container outside the stack", service, what))
}

func (l *load) checkIsolation(s types.ServiceConfig) {
	for _, opt := range s.SecurityOpt {
		plain := strings.ReplaceAll(strings.ToLower(opt), "=", ":")
		if strings.HasSuffix(plain, ":unconfined") || plain == "label:disable" || plain == "no-new-privileges:false" {
			l.risky("weak-isolation", l.atItem(opt, "services", s.Name, "security_opt"),
				fmt.Sprintf("service %s gives up isolation: %s", s.Name, opt))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Sysctls)) {
		if !strings.HasPrefix(key, "net.") {
			l.restricted("weak-isolation", l.at("services", s.Name, "sysctls", key),
				fmt.Sprintf("service %s sets the kernel parameter %s", s.Name, key))
		}
	}
	for _, setting := range []struct {
		key string
		set bool
	}{
		{"cgroup_parent", s.CgroupParent != ""},
		{"runtime", s.Runtime != ""},
		{"oom_score_adj", s.OomScoreAdj < 0},
		{"oom_kill_disable", s.OomKillDisable},
		{"credential_spec", s.CredentialSpec != nil},
	} {
		if setting.set {
			l.restricted("weak-isolation", l.at("services", s.Name, setting.key),
				fmt.Sprintf("service %s sets %s", s.Name, setting.key))
		}
	}
}

func (l *load) checkBuild(s types.ServiceConfig) {
	if s.Build == nil {
		return
	}
	at := func(key string) fleet.Position { return l.at("services", s.Name, "build", key) }
	l.restricted("build", l.at("services", s.Name, "build"), fmt.Sprintf("service %s is built on the host", s.Name))
	if isRemote(s.Build.Context) {
		l.risky("remote-build", at("context"), fmt.Sprintf("service %s is built from elsewhere", s.Name))
	}
	if s.Build.Privileged {
		l.risky("privileged", at("privileged"), fmt.Sprintf("the build of service %s is privileged", s.Name))
	}
	if s.Build.Network == "host" {
		l.risky("host-namespace", at("network"), fmt.Sprintf("the build of service %s uses the host's network", s.Name))
	}
	if len(s.Build.Entitlements) > 0 {
		l.risky("privileged", at("entitlements"), fmt.Sprintf("the build of service %s has entitlements", s.Name))
	}
	if len(s.Build.SSH) > 0 {
		l.fail("path-outside", at("ssh"), fmt.Sprintf("the build of service %s uses keys of the host", s.Name), "")
	}
}

// checkVolume treats a volume that is really a mount as the mount it is.
func (l *load) checkVolume(name string, v types.VolumeConfig) {
	pos := l.at("volumes", name)
	if v.Driver != "" && v.Driver != "local" {
		l.restricted("volume-driver", l.at("volumes", name, "driver"),
			fmt.Sprintf("volume %s is served by %s", name, v.Driver))
	}
	kind, device := v.DriverOpts["type"], v.DriverOpts["device"]
	if device == "" {
		return
	}
	pos = l.deeper(pos, "volumes", name, "driver_opts", "device")
	switch {
	case kind == "tmpfs":
	case isBind(v.DriverOpts):
		l.checkHostPath(device, false, pos, fmt.Sprintf("volume %s", name))
	default:
		l.restricted("volume-driver", pos, fmt.Sprintf("volume %s mounts %s", name, device))
	}
}

func (l *load) deeper(pos fleet.Position, p ...string) fleet.Position {
	if f := l.find(p...); f.depth == len(p) {
		return f.position()
	}
	return pos
}

// isBind reports whether the options of a local volume make it a bind mount.
func isBind(opts map[string]string) bool {
	return slices.ContainsFunc(strings.Split(opts["o"], ","), func(o string) bool {
		return o == "bind" || o == "rbind"
	})
}

// checkHostPath judges an absolute path of the host.
func (l *load) checkHostPath(p string, readOnly bool, pos fleet.Position, who string) {
	if !path.IsAbs(p) {
		return
	}
	clean := path.Clean(p)
	if l.req.Tier == fleet.TierUntrusted {
		l.fail("host-path", pos, fmt.Sprintf("%s mounts %s of the host; not on an untrusted server", who, clean),
			"use a named volume, or a path in the repository")
		return
	}
	if danger := dangerousPath(clean, readOnly); danger != "" {
		l.warn("dangerous-host-path", pos, fmt.Sprintf("%s mounts %s of the host, %s", who, clean, danger), trustedHint)
	}
}

// dangerousPath says what makes a path of the host dangerous; "" when nothing does.
func dangerousPath(p string, readOnly bool) string {
	if after, ok := strings.CutPrefix(p+"/", "/var/run/"); ok {
		p = path.Join("/run", after)
	}
	if readOnly && (p == "/etc/localtime" || p == "/etc/timezone") {
		return ""
	}
	for _, sensitive := range []struct{ path, why string }{
		{"/run/docker.sock", "which gives the engine away"},
		{"/run/containerd", "which gives the engine away"},
		{"/var/lib/docker", "which holds every container"},
		{"/var/lib/varan", "which holds the keys of core"},
		{"/var/lib/varan-agent", "which holds the agent's keys"},
		{"/etc", "which holds the host's passwords"},
		{"/root", "which holds the administrator's keys"},
		{"/boot", "which the host starts from"},
		{"/proc", "which is the kernel's"},
		{"/sys", "which is the kernel's"},
	} {
		if within(p, sensitive.path) || within(sensitive.path, p) {
			return sensitive.why
		}
	}
	return ""
}

// within reports whether p is dir or below it.
func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}
