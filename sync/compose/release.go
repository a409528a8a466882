package compose

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/varanhq/varan/fleet"
)

// LabelOneShot marks a service, by "true" or "false", as one that does its work and
// exits. Without it a service is one when another waits for it to complete.
const LabelOneShot = "dev.varan.one-shot"

// ownLabels is the prefix of the labels that Varan sets.
const ownLabels = "dev.varan."

// release makes the value that travels to the agent.
func (l *load) release(project *types.Project, used map[string]usage) (fleet.Release, error) {
	release := fleet.Release{
		Stack: l.req.Stack, Server: l.req.Server, Project: l.req.Project,
		Commit: l.req.Commit, Options: l.options(),
	}
	waitedFor := completionTargets(project)
	for _, name := range serviceNames(project) {
		service := project.Services[name]
		service.Profiles, service.Develop, service.Extensions = nil, nil, nil
		built, err := l.service(project, service, used[name])
		if err != nil {
			return fleet.Release{}, err
		}
		built.OneShot = isOneShot(service, waitedFor[name])
		release.Services = append(release.Services, built)
		service.Labels = maps.Clone(service.Labels).Add(fleet.LabelDigest, string(built.Digest))
		project.Services[name] = service
	}
	var err error
	if release.Volumes, err = l.volumes(project); err != nil {
		return fleet.Release{}, err
	}
	for _, rel := range slices.Sorted(maps.Keys(l.files)) {
		if l.req.HostDir != "" {
			break // they are there already
		}
		release.Files = append(release.Files, l.files[rel])
	}
	slices.SortFunc(release.Files, func(a, b fleet.File) int { return strings.Compare(a.Path, b.Path) })
	if release.Model, err = l.model(project); err != nil {
		return fleet.Release{}, err
	}
	release.SecretModel = l.secretModel
	release.Digest, err = releaseDigest(release)
	return release, err
}

// service describes one service. Its digest leaves out what Compose changes without a
// new container: how many there are, their order, and where images are pulled from.
func (l *load) service(project *types.Project, s types.ServiceConfig, used usage) (fleet.Service, error) {
	bare := s
	bare.Scale, bare.DependsOn, bare.PullPolicy = nil, nil, ""
	if s.Deploy != nil {
		deploy := *s.Deploy
		deploy.Replicas = nil
		bare.Deploy = &deploy
	}
	tree, err := jsonTree(bare)
	if err != nil {
		return fleet.Service{}, fmt.Errorf("describe service %s: %w", s.Name, err)
	}
	d := &describer{
		load: l, service: s.Name, tree: tree, used: used,
		sealed:  l.sealedKeys("services", s.Name),
		objects: map[string]any{},
	}
	for _, c := range s.Configs {
		if err := d.object("configs", c.Source, project.Configs[c.Source], project.Configs[c.Source].Content); err != nil {
			return fleet.Service{}, err
		}
	}
	for _, c := range s.Secrets {
		if err := d.object("secrets", c.Source, project.Secrets[c.Source], project.Secrets[c.Source].Content); err != nil {
			return fleet.Service{}, err
		}
	}
	digest, err := d.digest()
	if err != nil {
		return fleet.Service{}, err
	}
	restart, err := d.restartDigest()
	if err != nil {
		return fleet.Service{}, err
	}
	image := s.Image
	if image == "" {
		image = project.Name + "-" + s.Name
	}
	return fleet.Service{
		Name: s.Name, Digest: digest, Restart: restart, Image: l.seal.redact(image), Replicas: s.GetScale(),
		DependsOn: slices.Sorted(maps.Keys(s.DependsOn)), Fields: d.fields(),
	}, nil
}

// completionTargets are the services that another waits to complete.
func completionTargets(project *types.Project) map[string]bool {
	out := map[string]bool{}
	for _, service := range project.Services {
		for name, dependency := range service.DependsOn {
			if dependency.Condition == types.ServiceConditionCompletedSuccessfully {
				out[name] = true
			}
		}
	}
	return out
}

// isOneShot decides whether exiting with 0 is health. A service that is restarted when
// it exits never is; otherwise its label says so, or that something waits for its end.
// A plain service without a restart policy is not one: if it ends, that is an outage.
func isOneShot(s types.ServiceConfig, waitedFor bool) bool {
	switch s.Restart {
	case types.RestartPolicyAlways, types.RestartPolicyUnlessStopped:
		return false
	}
	if s.Deploy != nil && s.Deploy.RestartPolicy != nil && s.Deploy.RestartPolicy.Condition == "any" {
		return false
	}
	switch s.Labels[LabelOneShot] {
	case "true":
		return true
	case "false":
		return false
	}
	return waitedFor
}

func (l *load) volumes(project *types.Project) ([]fleet.Volume, error) {
	var out []fleet.Volume
	for _, name := range slices.Sorted(maps.Keys(project.Volumes)) {
		tree, err := jsonTree(project.Volumes[name])
		if err != nil {
			return nil, fmt.Errorf("describe volume %s: %w", name, err)
		}
		context := l.req.Stack + "/volumes/" + name
		digest, err := digestOf(l.seal.sealTree(tree, context, len(l.sealedKeys("volumes", name)) > 0))
		if err != nil {
			return nil, err
		}
		volume := fleet.Volume{Name: name, Digest: digest}
		if f := l.find("volumes", name); f.depth == 2 {
			volume.Origin = f.position()
		}
		out = append(out, volume)
	}
	return out, nil
}

// ReleaseDigest is the digest of a release that something was changed in.
func ReleaseDigest(r fleet.Release) fleet.Digest {
	digest, err := releaseDigest(r)
	if err != nil {
		panic("compose: " + err.Error()) // plain structs always encode
	}
	return digest
}

// releaseDigest covers everything but the commits and the origins.
func releaseDigest(r fleet.Release) (fleet.Digest, error) {
	r.Digest, r.Commit, r.Source = "", fleet.Commit{}, fleet.Source{}
	r.Services = slices.Clone(r.Services)
	for i := range r.Services {
		r.Services[i].Fields = slices.Clone(r.Services[i].Fields)
		for j := range r.Services[i].Fields {
			r.Services[i].Fields[j].Origin = fleet.Position{}
		}
	}
	r.Volumes = slices.Clone(r.Volumes)
	for i := range r.Volumes {
		r.Volumes[i].Origin = fleet.Position{}
	}
	return digestOf(r)
}

// digestOf hashes a value as JSON, in which maps are sorted.
func digestOf(value any) (fleet.Digest, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return "", fmt.Errorf("hash: %w", err)
	}
	return fleet.SumDigest(data), nil
}

// jsonTree is a value as plain maps, lists and scalars.
func jsonTree(value any) (map[string]any, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("marshal: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	tree := map[string]any{}
	if err := decoder.Decode(&tree); err != nil {
		return nil, fmt.Errorf("unmarshal: %w", err)
	}
	return tree, nil
}
