package render

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/spec"
)

// deploymentJob prepares a deployment: a Compose project of one service.
func (p *pass) deploymentJob(d *spec.Deployment) *job {
	c := &d.Config
	server := fleet.Server{}
	if c.Server != "" {
		server = p.server(c.Server)
	}
	name := p.names.deployments[d.Name]
	at := p.place(name, server)
	f := &filler{vars: p.vars, place: at, skip: c.SkipSecretInterp}
	j := &job{
		about: fleet.Stack{
			Name: name, Kind: fleet.KindDeployment, Description: d.Description, Tags: d.Tags, Links: c.Links, Quiet: !c.SendAlerts,
			Server: server.Name, Deploy: d.Deploy, After: p.names.after(d.After), Updates: deploymentUpdates(c), Origin: d.At(""),
		},
		idle: d.Template || server.Name == "", load: compose.Load,
		source: source{checkout: &Checkout{Tree: nothing(), Commit: p.in.Commit}},
	}
	if !d.Template {
		j.own = append(j.own, checkTier("deployment "+d.Name, d.Tags, d.At("tags"), server)...)
	}
	w := &container{fill: f, d: d, name: containerName(d)}
	image, pull := p.deploymentImage(d, w)
	text := w.compose(image)
	j.explain = w.explain
	j.own = append(j.own, w.findings...)
	j.request = compose.Request{
		Stack: name, Server: server.Name, Project: projectName(name), Origin: d.At(""), Tier: at.tier(),
		FileContents: text, FileContentsOrigin: fleet.Position{File: inlineFile, Col: 1},
		Key: p.renderer.key, Lenient: p.in.Lenient, Offline: p.in.Offline,
		Options: fleet.ReleaseOptions{
			Pull: pull, Registry: registry(registryOf(image), c.ImageRegistryAccount),
		},
	}
	p.finish(j, f)
	return j
}

// nothing is a tree without files.
func nothing() compose.Tree {
	tree, err := MemTree(nil, nil)
	if err != nil {
		panic("render: " + err.Error()) // there is nothing that could be wrong
	}
	return tree
}

var (
	notInContainer = regexp.MustCompile(`[^a-zA-Z0-9_.-]+`)
	notInProject   = regexp.MustCompile(`[^a-z0-9_-]+`)
	portForm       = regexp.MustCompile(`^(?:(?:\[[0-9a-fA-F:]+\]|[0-9.]+):)?(?:\d+(?:-\d+)?)?:\d+(?:-\d+)?(?:/(?:tcp|udp|sctp))?$`)
	notInFront     = regexp.MustCompile(`^[^a-z0-9]+`)
)

// containerName is the name that Komodo gives the container, so that what runs under it
// keeps its name.
func containerName(d *spec.Deployment) string {
	return notInContainer.ReplaceAllString(strings.TrimSpace(cmp.Or(d.Config.CustomName, d.Name)), "_")
}

// projectName is a name as Compose accepts one for a project.
func projectName(name string) string {
	return cmp.Or(notInFront.ReplaceAllString(notInProject.ReplaceAllString(strings.ToLower(name), "-"), ""), "deployment")
}

// registryOf is the host that an image is pulled from.
func registryOf(image string) string {
	host, _, ok := strings.Cut(image, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return defaultRegistry
	}
	return host
}

// deploymentImage is the image of a deployment, and whether a registry has it.
func (p *pass) deploymentImage(d *spec.Deployment, w *container) (image string, pull bool) {
	at := cmp.Or(d.Config.Image.Pos, d.At("config.image"))
	if d.Config.Image.Build == "" {
		if d.Config.Image.Image == "" {
			w.report(fleet.SeverityError, "missing-image", at, fmt.Sprintf("deployment %s has no image", d.Name),
				`write image.type = "Image" and image.params.image = "name:tag"`)
		}
		return d.Config.Image.Image, true
	}
	name := d.Config.Image.Build
	i := slices.IndexFunc(p.decls.Builds, func(b spec.Build) bool { return b.Name == name })
	if i < 0 {
		known := make([]string, len(p.decls.Builds))
		for i := range p.decls.Builds {
			known[i] = p.decls.Builds[i].Name
		}
		if !p.in.Offline {
			w.report(fleet.SeverityError, "unknown-build", at,
				fmt.Sprintf("deployment %s runs the build %s, which is not declared", d.Name, name), compose.DidYouMean(name, known))
		}
		return unknown + "/" + projectName(name), false
	}
	image, pushed := builtImage(&p.decls.Builds[i], d.Config.Image.Version)
	severity, message := fleet.SeverityNote, "builds are not run yet: deployment %s takes %s as it is in the registry"
	if !pushed {
		severity, message = fleet.SeverityWarning, "builds are not run yet: deployment %s needs %s to be on the server already"
	}
	w.report(severity, "build-not-run", at, fmt.Sprintf(message, d.Name, image), "")
	return image, pushed
}

// builtImage is the image that a build makes, and whether it is pushed anywhere.
func builtImage(b *spec.Build, version string) (image string, pushed bool) {
	c := &b.Config
	image = cmp.Or(c.ImageName, projectName(b.Name))
	for _, r := range c.ImageRegistry {
		owner := cmp.Or(r.Organization, r.Account)
		if r.Domain != "" && owner != "" {
			image, pushed = path.Join(r.Domain, strings.ToLower(owner), image), true
			break
		}
	}
	const latest = "0.0.0"
	tag := cmp.Or(version, latest)
	if tag == latest && !c.AutoIncrementVersion {
		tag = cmp.Or(c.Version, latest)
	}
	if tag == latest {
		tag = "latest"
	}
	if c.ImageTag != "" {
		tag += "-" + c.ImageTag
	}
	return image + ":" + tag, pushed
}

// container writes the Compose file of a deployment, one setting a line.
type container struct {
	fill     *filler
	d        *spec.Deployment
	name     string
	text     strings.Builder
	lines    []fleet.Position
	findings fleet.Diagnostics
	flags    flagged
	// volumes are the named ones, in order; network is one that exists already.
	volumes []string
	network string
}

func (w *container) report(severity fleet.Severity, rule string, at fleet.Position, message, hint string) {
	w.findings = append(w.findings, fleet.Diagnostic{
		Rule: rule, Severity: severity, Position: at, Message: message, Hint: hint,
	})
}

// explain is the field that a line was made from.
func (w *container) explain(line, _ int) fleet.Position {
	if line < 1 || line > len(w.lines) {
		return fleet.Position{}
	}
	return w.lines[line-1]
}

// line writes one line that a field explains.
func (w *container) line(at fleet.Position, indent int, text string) {
	w.text.WriteString(strings.Repeat("  ", indent) + text + "\n")
	w.lines = append(w.lines, at)
}

// setting writes a setting of the service, if it has a value.
func (w *container) setting(at fleet.Position, key string, value any) {
	if value == nil || value == "" {
		return
	}
	w.line(at, 2, key+": "+quote(value))
}

// entryOf is an item of a list, or of a map when it has a key, and where it was written.
type entryOf struct {
	key   string
	value any
	at    fleet.Position
}

// list writes a list, or a map when its entries have keys.
func (w *container) list(key string, entries []entryOf) {
	if len(entries) == 0 {
		return
	}
	w.line(entries[0].at, 2, key+":")
	for _, e := range lastOf(entries) {
		if e.key == "" {
			w.line(e.at, 3, "- "+quote(e.value))
			continue
		}
		w.line(e.at, 3, asJSON(e.key)+": "+quote(e.value))
	}
}

// quote writes a value with nothing in it for Compose to fill in.
func quote(value any) string { return strings.ReplaceAll(asJSON(value), "$", "$$") }

// asJSON writes a value, or a key, in a form that YAML shares.
func asJSON(value any) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic("render: " + err.Error()) // strings, numbers and maps of them always encode
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// compose is the Compose file.
func (w *container) compose(image string) string {
	c, at := &w.d.Config, w.d.At
	w.readFlags()
	w.line(at(""), 0, "services:")
	w.line(at(""), 1, quote(serviceName(w.d.Name))+":")
	w.setting(cmp.Or(c.Image.Pos, at("config.image")), "image", cmp.Or(image, unknown))
	w.setting(at("config.custom_name"), "container_name", w.name)
	w.setting(at("config.restart"), "restart", c.Restart)
	command, _ := w.fill.text(c.Command, at("config.command"))
	w.setting(at("config.command"), "command", command)
	if at("config.termination_signal") != at("") {
		w.setting(at("config.termination_signal"), "stop_signal", c.TerminationSignal)
	}
	if at("config.termination_timeout") != at("") {
		w.setting(at("config.termination_timeout"), "stop_grace_period", fmt.Sprintf("%ds", c.TerminationTimeout))
	}
	w.list("environment", append(w.pairs(c.Environment), w.flags.maps["environment"]...))
	w.list("labels", append(w.pairs(c.Labels), w.flags.maps["labels"]...))
	w.networking()
	w.list("volumes", w.mounts())
	w.flags.write(w)
	w.objects()
	return w.text.String()
}

// serviceName is a name as Compose accepts one for a service.
func serviceName(name string) string { return notInContainer.ReplaceAllString(name, "_") }

// pairs are variables or labels.
func (w *container) pairs(vars []spec.EnvVar) []entryOf {
	var out []entryOf
	for _, v := range vars {
		value, _ := w.fill.text(v.Value, v.Pos)
		out = append(out, entryOf{v.Name, value, v.Pos})
	}
	return out
}

// lastOf leaves out entries whose key comes again.
func lastOf(entries []entryOf) []entryOf {
	var out []entryOf
	for i, e := range entries {
		again := slices.ContainsFunc(entries[i+1:], func(o entryOf) bool { return o.key == e.key })
		if e.key == "" || !again {
			out = append(out, e)
		}
	}
	return out
}

// networking writes the network and the ports, which need one of their own.
func (w *container) networking() {
	at := w.d.At("config.network")
	network := cmp.Or(w.d.Config.Network, "host")
	ports := w.ports()
	switch {
	case network == "host" || network == "none" || strings.HasPrefix(network, "container:"):
		w.setting(at, "network_mode", network)
		if len(ports) > 0 {
			w.report(fleet.SeverityNote, "ports-ignored", ports[0].at,
				fmt.Sprintf("ports have no effect on the network %s", network), `write network = "bridge" to publish them`)
		}
		return
	case network == "bridge" || network == "default":
		w.setting(at, "network_mode", "bridge")
	default:
		w.network = network
		w.list("networks", []entryOf{{value: "joined", at: at}})
	}
	w.list("ports", ports)
}

func (w *container) ports() []entryOf {
	var out []entryOf
	for _, pair := range w.d.Config.Ports {
		local, _ := w.fill.text(pair.Local, pair.Pos)
		inside, _ := w.fill.text(pair.Container, pair.Pos)
		// An address is cut at its first colon: "127.0.0.1:80 = 80" has an = left.
		port := strings.NewReplacer(" ", "", "=", ":").Replace(local + ":" + inside)
		if !portForm.MatchString(port) && !strings.Contains(port, unknown) {
			w.report(fleet.SeverityError, "port-syntax", pair.Pos, fmt.Sprintf("%q publishes no port", port),
				"write HOST = CONTAINER, as in 8080 = 80/tcp")
			continue
		}
		out = append(out, entryOf{value: port, at: pair.Pos})
	}
	return append(out, w.flags.lists["ports"]...)
}

// mounts are the volumes. A name is that of a Docker volume, as it is for docker run.
func (w *container) mounts() []entryOf {
	var out []entryOf
	for _, pair := range w.d.Config.Volumes {
		local, _ := w.fill.text(strings.TrimSpace(pair.Local), pair.Pos)
		inside, _ := w.fill.text(strings.TrimSpace(pair.Container), pair.Pos)
		if w.source(local, pair.Pos) {
			out = append(out, entryOf{value: local + ":" + inside, at: pair.Pos})
		}
	}
	for _, e := range w.flags.lists["volumes"] {
		keep := true
		switch v := e.value.(type) {
		case string:
			if local, _, ok := strings.Cut(v, ":"); ok {
				keep = w.source(local, e.at)
			}
		case map[string]any:
			if local, _ := v["source"].(string); local != "" && v["type"] == "volume" {
				w.volumes = append(w.volumes, local)
			}
		}
		if keep {
			out = append(out, e)
		}
	}
	return out
}

// source notes a named volume, and refuses a path that is nowhere.
func (w *container) source(local string, at fleet.Position) bool {
	switch {
	case path.IsAbs(local):
	case strings.HasPrefix(local, ".") || strings.HasPrefix(local, "~") || strings.Contains(local, "/"):
		w.report(fleet.SeverityError, "path-outside", at,
			fmt.Sprintf("%q is not an absolute path, and a deployment has no directory", local), "write the whole path")
		return false
	default:
		w.volumes = append(w.volumes, local)
	}
	return true
}

// objects declares the volumes and the network under the names they have in Docker.
func (w *container) objects() {
	if w.network != "" {
		at := w.d.At("config.network")
		w.line(at, 0, "networks:")
		w.line(at, 1, "joined: "+quote(map[string]any{"name": w.network, "external": true}))
	}
	if len(w.volumes) == 0 {
		return
	}
	at := w.d.At("config.volumes")
	slices.Sort(w.volumes)
	w.line(at, 0, "volumes:")
	for _, name := range slices.Compact(w.volumes) {
		w.line(at, 1, asJSON(name)+": "+quote(map[string]any{"name": name}))
	}
}
