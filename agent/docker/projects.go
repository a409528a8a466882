package docker

import (
	"context"
	"fmt"
	"slices"
	"strings"

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
func (e *Engine) Projects(ctx context.Context) ([]wire.Project, error) {
	api, err := e.conn.api()
	if err != nil {
		return nil, err
	}
	res, err := api.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("label", labelProject),
	})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	byName := map[string]*wire.Project{}
	for i := range res.Items {
		c := &res.Items[i]
		if strings.EqualFold(c.Labels[labelOneOff], "true") {
			continue
		}
		name := c.Labels[labelProject]
		p := byName[name]
		if p == nil {
			p = &wire.Project{
				Name: name, WorkingDir: c.Labels[labelWorkingDir],
				ConfigFiles: commas(c.Labels[labelConfigFiles]), EnvFiles: commas(c.Labels[labelEnvFiles]),
			}
			byName[name] = p
		}
		if server := c.Labels[fleet.LabelServer]; server != "" {
			p.Server, p.Stack = server, c.Labels[fleet.LabelStack]
		}
		p.Containers = append(p.Containers, wire.ProjectContainer{
			ID: c.ID, Name: strings.TrimPrefix(first(c.Names), "/"), Service: c.Labels[labelService],
			Image: c.Image, ImageID: c.ImageID, State: fleet.ContainerState(c.State), ConfigHash: c.Labels[labelConfigHash],
		})
	}
	out := make([]wire.Project, 0, len(byName))
	for _, p := range byName {
		slices.SortFunc(p.Containers, func(a, b wire.ProjectContainer) int { return strings.Compare(a.Name, b.Name) })
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b wire.Project) int { return strings.Compare(a.Name, b.Name) })
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
