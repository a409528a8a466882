package docker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// The labels by which Compose says where a project comes from.
const (
	labelWorkingDir  = "com.docker.compose.project.working_dir"
	labelConfigFiles = "com.docker.compose.project.config_files"
	labelEnvFiles    = "com.docker.compose.project.environment_file"
	labelConfigHash  = "com.docker.compose.config-hash"
)

// Projects implements agent.Engine.
func (e *Engine) Projects(ctx context.Context) (wire.Projects, error) {
	items, err := e.everything(ctx)
	if err != nil {
		return wire.Projects{}, err
	}
	answer := wire.Projects{Projects: []wire.Project{}}
	byName := map[string]*wire.Project{}
	for i := range items {
		c := &items[i]
		one := wire.ProjectContainer{
			ID: c.ID, Name: strings.TrimPrefix(first(c.Names), "/"), Service: c.Labels[labelService],
			Image: c.Image, ImageID: c.ImageID, State: fleet.ContainerState(c.State), ConfigHash: c.Labels[labelConfigHash],
		}
		name := c.Labels[labelProject]
		if name == "" {
			answer.Loose = append(answer.Loose, one)
			continue
		}
		p := byName[name]
		if p == nil {
			p = &wire.Project{
				Name: name, WorkingDir: c.Labels[labelWorkingDir],
				ConfigFiles: commas(c.Labels[labelConfigFiles]), EnvFiles: commas(c.Labels[labelEnvFiles]),
			}
			byName[name] = p
		}
		if server, stack := e.owner(c); server != "" {
			p.Server, p.Stack = server, stack
		}
		p.Containers = append(p.Containers, one)
	}
	byContainer := func(a, b wire.ProjectContainer) int { return strings.Compare(a.Name, b.Name) }
	for _, p := range byName {
		slices.SortFunc(p.Containers, byContainer)
		answer.Projects = append(answer.Projects, *p)
	}
	slices.SortFunc(answer.Projects, func(a, b wire.Project) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(answer.Loose, byContainer)
	return answer, nil
}

// everything lists the containers on the host but those of "compose run".
func (e *Engine) everything(ctx context.Context, labels ...string) ([]container.Summary, error) {
	api, err := e.conn.api()
	if err != nil {
		return nil, err
	}
	options := client.ContainerListOptions{All: true}
	if len(labels) > 0 {
		options.Filters = make(client.Filters).Add("label", labels...)
	}
	res, err := api.ContainerList(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return slices.DeleteFunc(res.Items, func(c container.Summary) bool {
		return strings.EqualFold(c.Labels[labelOneOff], "true")
	}), nil
}

// owner is whose a container is: it says so, or it was taken over as it was.
func (e *Engine) owner(c *container.Summary) (server, stack string) {
	if server = c.Labels[fleet.LabelServer]; server != "" {
		return server, c.Labels[fleet.LabelStack]
	}
	if stack, _, ok := e.states.adoption(c.ID); ok {
		return e.cfg.Server, stack
	}
	return "", ""
}

// foreign lists the projects that are nobody's, from one list of containers.
func (e *Engine) foreign(ctx context.Context) ([]fleet.ForeignProject, error) {
	items, err := e.everything(ctx, labelProject)
	if err != nil {
		return nil, err
	}
	services, owned := map[string][]string{}, map[string]bool{}
	for i := range items {
		name := items[i].Labels[labelProject]
		if server, _ := e.owner(&items[i]); server != "" {
			owned[name] = true
		}
		services[name] = append(services[name], items[i].Labels[labelService])
	}
	var out []fleet.ForeignProject
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if !owned[name] {
			out = append(out, fleet.ForeignProject{Name: name, Services: slices.Compact(slices.Sorted(slices.Values(services[name])))})
		}
	}
	return out, nil
}

// commas takes a label apart that holds a list.
func commas(list string) []string {
	var out []string
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
