package render

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
)

// flagForm is what a flag of `docker run` becomes in a Compose file.
type flagForm int

const (
	// formText sets a setting, formList adds to a list, formPairs adds NAME=VALUE to a map.
	formText flagForm = iota + 1
	formList
	formPairs
	// formSwitch takes no value.
	formSwitch
	// formOther is handled by code of its own.
	formOther
	// formRefused has a field of its own, which the hint names.
	formRefused
	// formIgnored means nothing here.
	formIgnored
)

// flagRule is one flag. key is the Compose setting, or the hint of a refused flag.
type flagRule struct {
	key  string
	form flagForm
}

// dockerFlags are the flags that extra_args of a deployment may have.
var dockerFlags = map[string]flagRule{
	"add-host": {"extra_hosts", formList}, "annotation": {"annotations", formPairs},
	"cap-add": {"cap_add", formList}, "cap-drop": {"cap_drop", formList},
	"cgroup-parent": {"cgroup_parent", formText}, "cgroupns": {"cgroup", formText},
	"cpu-period": {"cpu_period", formText}, "cpu-quota": {"cpu_quota", formText},
	"cpu-rt-period": {"cpu_rt_period", formText}, "cpu-rt-runtime": {"cpu_rt_runtime", formText},
	"cpu-shares": {"cpu_shares", formText}, "cpus": {"cpus", formText}, "cpuset-cpus": {"cpuset", formText},
	"device": {"devices", formList}, "device-cgroup-rule": {"device_cgroup_rules", formList},
	"dns": {"dns", formList}, "dns-option": {"dns_opt", formList}, "dns-opt": {"dns_opt", formList},
	"dns-search": {"dns_search", formList}, "domainname": {"domainname", formText},
	"entrypoint": {"entrypoint", formList}, "env": {"environment", formPairs}, "expose": {"expose", formList},
	"gpus": {"gpus", formOther}, "group-add": {"group_add", formList},
	"health-cmd": {"test", formOther}, "health-interval": {"interval", formOther},
	"health-retries": {"retries", formOther}, "health-start-interval": {"start_interval", formOther},
	"health-start-period": {"start_period", formOther}, "health-timeout": {"timeout", formOther},
	"no-healthcheck": {"disable", formSwitch},
	"hostname":       {"hostname", formText}, "init": {"init", formSwitch}, "interactive": {"stdin_open", formSwitch},
	"ipc": {"ipc", formText}, "isolation": {"isolation", formText}, "label": {"labels", formPairs},
	"log-driver": {"driver", formOther}, "log-opt": {"options", formOther}, "mac-address": {"mac_address", formText},
	"memory": {"mem_limit", formText}, "memory-reservation": {"mem_reservation", formText},
	"memory-swap": {"memswap_limit", formText}, "memory-swappiness": {"mem_swappiness", formText},
	"mount": {"volumes", formOther}, "oom-kill-disable": {"oom_kill_disable", formSwitch},
	"oom-score-adj": {"oom_score_adj", formText}, "pid": {"pid", formText}, "pids-limit": {"pids_limit", formText},
	"platform": {"platform", formText}, "privileged": {"privileged", formSwitch}, "publish": {"ports", formList},
	"pull": {"pull_policy", formText}, "read-only": {"read_only", formSwitch}, "runtime": {"runtime", formText},
	"security-opt": {"security_opt", formList}, "shm-size": {"shm_size", formText},
	"stop-signal": {"stop_signal", formText}, "stop-timeout": {"stop_grace_period", formOther},
	"storage-opt": {"storage_opt", formPairs}, "sysctl": {"sysctls", formPairs}, "tmpfs": {"tmpfs", formList},
	"tty": {"tty", formSwitch}, "ulimit": {"ulimits", formOther}, "user": {"user", formText},
	"userns": {"userns_mode", formText}, "uts": {"uts", formText}, "volume": {"volumes", formList},
	"volumes-from": {"volumes_from", formOther}, "workdir": {"working_dir", formText},

	"detach": {"", formIgnored}, "sig-proxy": {"", formIgnored}, "quiet": {"", formIgnored},
	"name": {"use custom_name", formRefused}, "network": {"use network", formRefused}, "net": {"use network", formRefused},
	"restart": {"use restart", formRefused}, "env-file": {"use environment", formRefused},
	"label-file": {"use labels", formRefused}, "rm": {"a deployment stays until it leaves Git", formRefused},
}

// shortFlags are the flags of one letter.
var shortFlags = map[string]string{
	"c": "cpu-shares", "d": "detach", "e": "env", "h": "hostname", "i": "interactive", "l": "label", "m": "memory",
	"p": "publish", "q": "quiet", "t": "tty", "u": "user", "v": "volume", "w": "workdir",
}

// flagged is what the flags of a deployment came to.
type flagged struct {
	texts  []entryOf
	lists  map[string][]entryOf
	maps   map[string][]entryOf
	health map[string]any
	// healthAt and loggingAt are where the first flag of theirs is.
	healthAt, loggingAt fleet.Position
	logging             map[string]any
}

// argument is one word of extra_args.
type argument struct {
	text string
	at   fleet.Position
}

// readFlags reads extra_args.
func (w *container) readFlags() {
	w.flags = flagged{
		lists: map[string][]entryOf{}, maps: map[string][]entryOf{}, health: map[string]any{}, logging: map[string]any{},
	}
	place := item(w.d.At, "config.extra_args")
	var args []argument
	for i, written := range w.d.Config.ExtraArgs {
		filled, _ := w.fill.text(written, place(i))
		for _, word := range fleet.SplitWords(filled) {
			args = append(args, argument{word, place(i)})
		}
	}
	for len(args) > 0 {
		args = w.readFlag(args)
	}
}

// readFlag reads one flag and returns what follows it.
func (w *container) readFlag(args []argument) []argument {
	first, rest := args[0], args[1:]
	if first.text == "-it" || first.text == "-ti" {
		w.turn("tty", true, first.at)
		w.turn("stdin_open", true, first.at)
		return rest
	}
	name, value, hasValue := strings.Cut(strings.TrimLeft(first.text, "-"), "=")
	if !strings.HasPrefix(first.text, "--") {
		name, value, hasValue = shortFlag(first.text)
	}
	rule, ok := dockerFlags[name]
	if !ok || !strings.HasPrefix(first.text, "-") {
		w.report(fleet.SeverityError, "extra-args", first.at,
			fmt.Sprintf("%q is no argument that a deployment may have", first.text),
			cmp.Or(compose.DidYouMean(name, slices.Sorted(maps.Keys(dockerFlags))),
				"describe the container with the fields of [deployment.config], or make it a [[stack]]"))
		return rest
	}
	switch rule.form {
	case formIgnored:
		return rest
	case formSwitch:
		w.turn(rule.key, !hasValue || value != "false", first.at)
		return rest
	case formText, formList, formPairs, formOther, formRefused:
	}
	if !hasValue && (len(rest) > 0 && name != "rm") {
		value, hasValue, rest = rest[0].text, true, rest[1:]
	}
	if rule.form == formRefused {
		w.report(fleet.SeverityError, "extra-args", first.at, fmt.Sprintf("--%s is not for extra_args", name), rule.key)
		return rest
	}
	if !hasValue || value == "" {
		w.report(fleet.SeverityError, "extra-args", first.at, fmt.Sprintf("--%s has no value", name), "")
		return rest
	}
	w.set(name, rule, value, first.at)
	return rest
}

// shortFlag reads -e and -eNAME=VALUE.
func shortFlag(text string) (name, value string, hasValue bool) {
	letters := strings.TrimPrefix(text, "-")
	if letters == "" {
		return "", "", false
	}
	name = shortFlags[letters[:1]]
	if len(letters) == 1 {
		return name, "", false
	}
	return name, strings.TrimPrefix(letters[1:], "="), true
}

// turn sets what is on or off.
func (w *container) turn(key string, on bool, at fleet.Position) {
	if key == "disable" {
		w.flags.health[key], w.flags.healthAt = on, at
		return
	}
	w.flags.texts = append(w.flags.texts, entryOf{key, on, at})
}

// set takes the value of a flag.
func (w *container) set(name string, rule flagRule, value string, at fleet.Position) {
	f := &w.flags
	switch rule.form {
	case formText:
		f.texts = append(f.texts, entryOf{rule.key, value, at})
	case formList:
		f.lists[rule.key] = append(f.lists[rule.key], entryOf{value: value, at: at})
	case formPairs:
		key, text, ok := strings.Cut(value, "=")
		if !ok && rule.key == "environment" {
			w.report(fleet.SeverityError, "extra-args", at, fmt.Sprintf("--env %s takes its value from the host", key),
				"write its value in environment")
			return
		}
		f.maps[rule.key] = append(f.maps[rule.key], entryOf{key, text, at})
	case formOther:
		w.setOther(name, rule.key, value, at)
	case formSwitch, formRefused, formIgnored:
	}
}

// setOther takes the flags that Compose writes in another way.
func (w *container) setOther(name, key, value string, at fleet.Position) {
	f := &w.flags
	switch name {
	case "health-cmd":
		f.health[key], f.healthAt = []string{"CMD-SHELL", value}, at
	case "health-interval", "health-timeout", "health-retries", "health-start-period", "health-start-interval":
		f.health[key], f.healthAt = value, at
	case "log-driver":
		f.logging[key], f.loggingAt = value, at
	case "log-opt":
		option, text, _ := strings.Cut(value, "=")
		options, ok := f.logging[key].(map[string]any)
		if !ok {
			options = map[string]any{}
		}
		options[option] = text
		f.logging[key], f.loggingAt = options, at
	case "stop-timeout":
		f.texts = append(f.texts, entryOf{key, value + "s", at})
	case "volumes-from":
		f.lists[key] = append(f.lists[key], entryOf{value: "container:" + value, at: at})
	case "gpus":
		f.texts = append(f.texts, entryOf{key, gpus(value), at})
	case "ulimit":
		limit, text, _ := strings.Cut(value, "=")
		f.maps[key] = append(f.maps[key], entryOf{limit, ulimit(text), at})
	case "mount":
		mount, unknownKey := parseMount(value)
		if unknownKey != "" {
			w.report(fleet.SeverityError, "extra-args", at, fmt.Sprintf("%q of --mount is not known", unknownKey),
				"use type, source, target and readonly")
			return
		}
		f.lists[key] = append(f.lists[key], entryOf{value: mount, at: at})
	}
}

func gpus(value string) any {
	if value == "all" {
		return value
	}
	if _, err := strconv.Atoi(value); err == nil {
		return []any{map[string]any{"count": value}}
	}
	ids := strings.Split(strings.TrimPrefix(strings.Trim(value, `"`), "device="), ",")
	return []any{map[string]any{"device_ids": ids}}
}

func ulimit(text string) any {
	soft, hard, ok := strings.Cut(text, ":")
	if !ok {
		return number(soft)
	}
	return map[string]any{"soft": number(soft), "hard": number(hard)}
}

// number is a number if the text is one; Compose says what is wrong with one that is not.
func number(text string) any {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	return text
}

// parseMount reads "type=bind,source=/a,target=/b,readonly".
func parseMount(text string) (mount map[string]any, unknownKey string) {
	mount = map[string]any{"type": "volume"}
	for part := range strings.SplitSeq(text, ",") {
		key, value, hasValue := strings.Cut(part, "=")
		switch key {
		case "type":
			mount["type"] = value
		case "source", "src":
			mount["source"] = value
		case "target", "destination", "dst":
			mount["target"] = value
		case "readonly", "ro":
			mount["read_only"] = !hasValue || value == "true" || value == "1"
		case "bind-propagation":
			mount["bind"] = map[string]any{"propagation": value}
		case "volume-nocopy":
			mount["volume"] = map[string]any{"nocopy": !hasValue || value == "true" || value == "1"}
		case "tmpfs-size":
			mount["tmpfs"] = map[string]any{"size": value}
		default:
			return nil, key
		}
	}
	return mount, ""
}

// write writes what the flags set and nothing else does.
func (f *flagged) write(w *container) {
	for _, e := range lastOf(f.texts) {
		w.setting(e.at, e.key, e.value)
	}
	for _, key := range slices.Sorted(maps.Keys(f.lists)) {
		if key != "ports" && key != "volumes" {
			w.list(key, f.lists[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(f.maps)) {
		if key != "environment" && key != "labels" {
			w.list(key, f.maps[key])
		}
	}
	if len(f.health) > 0 {
		w.setting(f.healthAt, "healthcheck", f.health)
	}
	if len(f.logging) > 0 {
		w.setting(f.loggingAt, "logging", f.logging)
	}
}
