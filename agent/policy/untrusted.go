package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// service is what of a resolved service gives a stack power over its host.
type service struct {
	Privileged        bool           `yaml:"privileged"`
	CapAdd            []string       `yaml:"cap_add"`
	Devices           []yaml.Node    `yaml:"devices"`
	DeviceCgroupRules []string       `yaml:"device_cgroup_rules"`
	Gpus              yaml.Node      `yaml:"gpus"`
	Pid               string         `yaml:"pid"`
	Ipc               string         `yaml:"ipc"`
	Uts               string         `yaml:"uts"`
	UsernsMode        string         `yaml:"userns_mode"`
	Cgroup            string         `yaml:"cgroup"`
	CgroupParent      string         `yaml:"cgroup_parent"`
	NetworkMode       string         `yaml:"network_mode"`
	Runtime           string         `yaml:"runtime"`
	SecurityOpt       []string       `yaml:"security_opt"`
	VolumesFrom       []string       `yaml:"volumes_from"`
	Sysctls           map[string]any `yaml:"sysctls"`
	Build             yaml.Node      `yaml:"build"`
	Volumes           []mount        `yaml:"volumes"`
	PreStart          []hook         `yaml:"pre_start"`
	PostStart         []hook         `yaml:"post_start"`
	PreStop           []hook         `yaml:"pre_stop"`
	Deploy            struct {
		Resources struct {
			Reservations struct {
				Devices []yaml.Node `yaml:"devices"`
			} `yaml:"reservations"`
		} `yaml:"resources"`
	} `yaml:"deploy"`
}

type mount struct {
	Type   string `yaml:"type"`
	Source string `yaml:"source"`
}

type hook struct {
	Privileged bool `yaml:"privileged"`
}

// model is a resolved Compose model as far as it matters here.
type model struct {
	Services map[string]service `yaml:"services"`
	Volumes  map[string]struct {
		Driver     string            `yaml:"driver"`
		DriverOpts map[string]string `yaml:"driver_opts"`
	} `yaml:"volumes"`
	Configs map[string]fileSource `yaml:"configs"`
	Secrets map[string]fileSource `yaml:"secrets"`
}

type fileSource struct {
	File string `yaml:"file"`
}

// harmless are the capabilities that Docker gives a container that drops none.
var harmless = []string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP",
	"SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

// RefuseUntrusted says what in a resolved model no untrusted host may run; empty when there is
// nothing. Core refuses the same and more while it renders: this holds also against a core
// that was taken over. Files of the release are at paths that begin with a dot.
func RefuseUntrusted(text []byte) string {
	var m model
	if err := yaml.Unmarshal(text, &m); err != nil {
		return "the model of the stack cannot be read"
	}
	for _, name := range sortedKeys(m.Services) {
		s := m.Services[name]
		if why := s.power(); why != "" {
			return fmt.Sprintf("service %s %s", name, why)
		}
	}
	for _, name := range sortedKeys(m.Volumes) {
		v := m.Volumes[name]
		if v.Driver != "" && v.Driver != "local" {
			return fmt.Sprintf("volume %s is served by %s", name, v.Driver)
		}
		if device := v.DriverOpts["device"]; device != "" && v.DriverOpts["type"] != "tmpfs" {
			return fmt.Sprintf("volume %s mounts %s", name, device)
		}
	}
	for _, list := range []map[string]fileSource{m.Configs, m.Secrets} {
		for _, name := range sortedKeys(list) {
			if outside(list[name].File) {
				return fmt.Sprintf("%s is read from %s of the host", name, list[name].File)
			}
		}
	}
	return ""
}

func (s *service) power() string {
	hooks := slices.Concat(s.PreStart, s.PostStart, s.PreStop)
	switch {
	case s.Privileged:
		return "is privileged"
	case slices.ContainsFunc(hooks, func(h hook) bool { return h.Privileged }):
		return "has a privileged hook"
	case len(s.Devices)+len(s.DeviceCgroupRules)+len(s.Deploy.Resources.Reservations.Devices) > 0, !s.Gpus.IsZero():
		return "uses devices of the host"
	case len(s.VolumesFrom) > 0 && slices.ContainsFunc(s.VolumesFrom, foreign):
		return "takes the volumes of a container outside the stack"
	case s.Runtime != "":
		return "chooses a runtime"
	case s.CgroupParent != "":
		return "chooses its cgroup"
	case !s.Build.IsZero():
		return "is built on the host"
	}
	return s.loosened()
}

// loosened says what of its isolation from the host a service gives up.
func (s *service) loosened() string {
	for _, capability := range s.CapAdd {
		if !slices.Contains(harmless, strings.TrimPrefix(strings.ToUpper(capability), "CAP_")) {
			return "adds the capability " + capability
		}
	}
	for _, ns := range []string{s.Pid, s.Ipc, s.Uts, s.UsernsMode, s.Cgroup, s.NetworkMode} {
		if ns == "host" || foreign(ns) {
			return "shares a namespace with the host or another container"
		}
	}
	for _, option := range s.SecurityOpt {
		plain := strings.ReplaceAll(strings.ToLower(option), "=", ":")
		if strings.HasSuffix(plain, ":unconfined") || plain == "label:disable" || plain == "no-new-privileges:false" {
			return "gives up isolation: " + option
		}
	}
	for _, key := range sortedKeys(s.Sysctls) {
		if !strings.HasPrefix(key, "net.") {
			return "sets the kernel parameter " + key
		}
	}
	for _, v := range s.Volumes {
		if v.Type == "bind" && outside(v.Source) || v.Type == "npipe" {
			return "mounts " + v.Source + " of the host"
		}
	}
	return ""
}

func foreign(ref string) bool { return strings.HasPrefix(ref, "container:") }

// outside reports whether a path is not one of the release's own files.
func outside(p string) bool {
	clean := path.Clean(p)
	return p != "" && (path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") || strings.HasPrefix(clean, "~"))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
