package docker

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/varanhq/varan/fleet"
)

// settings is a container's configuration, flattened: field to value. A value that could
// hold a secret is a keyed hash, marked by hashed in front of it.
type settings map[string]string

// hashed marks values that must not be shown and cannot be read.
const hashed = "keyed:"

// normalise flattens what Docker says of a container into what someone chose. What
// Docker fills in by itself (addresses, ids, generated names) is left out, else every
// restart would look like drift.
func normalise(c *container.InspectResponse, key []byte) settings {
	s := settings{}
	s.set("image_id", c.Image)
	if cfg := c.Config; cfg != nil {
		s.config(cfg, key)
	}
	if host := c.HostConfig; host != nil {
		s.host(host)
		s.resources(&host.Resources)
	}
	for _, m := range c.Mounts {
		source := m.Source
		if m.Name != "" {
			source = m.Name
		}
		s.set("mounts."+m.Destination, fmt.Sprintf("%s %s rw=%t", m.Type, source, m.RW))
	}
	if net := c.NetworkSettings; net != nil {
		for name := range net.Networks {
			s.set("networks."+name, "connected")
		}
	}
	return s
}

// set leaves out what is not set, so that a field that a newer engine adds with its zero
// value is no drift.
func (s settings) set(field, value string) {
	if value != "" && value != "0" && value != "false" && value != "[]" && value != "null" {
		s[field] = value
	}
}

// hide keeps a value only as a hash.
func (s settings) hide(field, value string, key []byte) {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(field + "\x00" + value))
	s[field] = hashed + hex.EncodeToString(mac.Sum(nil)[:12])
}

func (s settings) config(cfg *container.Config, key []byte) {
	s.set("user", cfg.User)
	s.set("working_dir", cfg.WorkingDir)
	s.set("stop_signal", cfg.StopSignal)
	s.set("tty", strconv.FormatBool(cfg.Tty))
	for _, e := range cfg.Env {
		name, value, _ := strings.Cut(e, "=")
		s.hide("environment."+name, value, key)
	}
	// A command line and a health check may hold what was interpolated into them.
	for field, value := range map[string]any{"command": cfg.Cmd, "entrypoint": cfg.Entrypoint, "healthcheck": cfg.Healthcheck} {
		if text := compact(value); text != "" && text != "null" {
			s.hide(field, text, key)
		}
	}
	for name, value := range cfg.Labels {
		// Ours and Compose's change with every deploy and are compared on their own.
		if !strings.HasPrefix(name, "com.docker.compose.") && !strings.HasPrefix(name, "dev.varan.") {
			s.hide("labels."+name, value, key)
		}
	}
}

func (s settings) host(h *container.HostConfig) {
	if !h.RestartPolicy.IsNone() {
		s.set("restart", string(h.RestartPolicy.Name))
		s.set("restart.retries", strconv.Itoa(h.RestartPolicy.MaximumRetryCount))
	}
	s.set("privileged", strconv.FormatBool(h.Privileged))
	s.set("read_only", strconv.FormatBool(h.ReadonlyRootfs))
	s.set("network_mode", string(h.NetworkMode))
	s.set("pid", string(h.PidMode))
	s.set("ipc", string(h.IpcMode))
	s.set("uts", string(h.UTSMode))
	s.set("userns_mode", string(h.UsernsMode))
	s.set("runtime", h.Runtime)
	s.set("shm_size", strconv.FormatInt(h.ShmSize, 10))
	s.set("cap_add", sorted(h.CapAdd))
	s.set("cap_drop", sorted(h.CapDrop))
	s.set("security_opt", sorted(h.SecurityOpt))
	s.set("extra_hosts", sorted(h.ExtraHosts))
	s.set("group_add", sorted(h.GroupAdd))
	s.set("dns", compact(h.DNS))
	s.set("sysctls", compactMap(h.Sysctls))
	s.set("logging", h.LogConfig.Type)
	for port, bindings := range h.PortBindings {
		var to []string
		for _, b := range bindings {
			host := b.HostPort
			if b.HostIP.IsValid() && !b.HostIP.IsUnspecified() {
				host = b.HostIP.String() + ":" + host
			}
			to = append(to, host)
		}
		s.set("ports."+port.String(), sorted(to)+" ")
	}
}

func (s settings) resources(r *container.Resources) {
	number := func(field string, n int64) { s.set(field, strconv.FormatInt(n, 10)) }
	number("memory", r.Memory)
	number("memory_reservation", r.MemoryReservation)
	number("memory_swap", r.MemorySwap)
	number("nano_cpus", r.NanoCPUs)
	number("cpu_shares", r.CPUShares)
	number("cpu_quota", r.CPUQuota)
	number("cpu_period", r.CPUPeriod)
	number("blkio_weight", int64(r.BlkioWeight))
	s.set("cpuset", r.CpusetCpus)
	s.set("cpuset_mems", r.CpusetMems)
	s.set("cgroup_parent", r.CgroupParent)
	if r.PidsLimit != nil && *r.PidsLimit > 0 {
		number("pids_limit", *r.PidsLimit)
	}
	if len(r.Devices) > 0 {
		s.set("devices", compact(r.Devices))
	}
	if len(r.Ulimits) > 0 {
		s.set("ulimits", compact(r.Ulimits))
	}
}

func sorted(list []string) string {
	out := slices.Clone(list)
	slices.Sort(out)
	return strings.Join(out, " ")
}

// compact is JSON: deterministic, maps included.
func compact(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

func compactMap(m map[string]string) string {
	if len(m) == 0 {
		return ""
	}
	return compact(m)
}

// drift compares a container with what was deployed. A container of which nothing is
// recorded is adopted as it is, unless another one was recorded in its place.
func drift(l *live, st *state) []fleet.Drift {
	if len(st.Baseline) == 0 {
		return nil
	}
	var out []fleet.Drift
	base, ok := st.Baseline[l.ID]
	if !ok {
		var id string
		if id, base, ok = replaced(l, st); !ok {
			return nil
		}
		out = append(out, fleet.Drift{Field: "container", Want: short(id), Have: short(l.ID)})
	}
	return append(out, base.Config.diff(l.config)...)
}

// replaced finds the container that was deployed in the place of l.
func replaced(l *live, st *state) (string, baseline, bool) {
	for id, b := range st.Baseline {
		if b.Service == l.Service && b.Number == l.number {
			return id, b, true
		}
	}
	return "", baseline{}, false
}

// diff lists how have differs from s, sorted by field, hidden values left out.
func (s settings) diff(have settings) []fleet.Drift {
	var out []fleet.Drift
	for field, want := range s {
		if have[field] != want {
			out = append(out, fleet.Drift{Field: field, Want: shown(want), Have: shown(have[field])})
		}
	}
	for field, value := range have {
		if _, ok := s[field]; !ok {
			out = append(out, fleet.Drift{Field: field, Have: shown(value)})
		}
	}
	slices.SortFunc(out, func(a, b fleet.Drift) int { return strings.Compare(a.Field, b.Field) })
	return out
}

func shown(value string) string {
	if strings.HasPrefix(value, hashed) {
		return ""
	}
	return strings.TrimSpace(value)
}

func short(id string) string { return id[:min(12, len(id))] }
