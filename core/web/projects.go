package web

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/wire"
)

// projectOf is the input of an operation on a project of a host.
type projectOf struct {
	Name    string `path:"name" maxLength:"128"`
	Project string `path:"project" maxLength:"256"`
}

func (s *server) registerProjects(a huma.API) {
	handle(s, a, route(http.MethodGet, "/servers/{name}/projects", "listProjects", "Compose projects on a server, whoever started them"),
		func(ctx context.Context, in *named) (api.HostProjects, error) {
			list, err := s.hostProjects(ctx, in.Name)
			if err != nil {
				return api.HostProjects{}, err
			}
			answer := api.HostProjects{Projects: []api.HostProject{}}
			for i := range list.Projects {
				answer.Projects = append(answer.Projects, hostProject(&list.Projects[i]))
			}
			for i := range list.Loose {
				answer.Loose = append(answer.Loose, hostContainer(&list.Loose[i]))
			}
			return answer, nil
		})
	handle(s, a, route(http.MethodGet, "/servers/{name}/projects/{project}/files", "getProjectFiles",
		"The files that a Compose project on a server is made of, as far as its agent's policy lets core read"), s.projectFiles)
}

// hostProjects asks the agent of a server.
func (s *server) hostProjects(ctx context.Context, server string) (wire.Projects, error) {
	observed := s.Agents.Observed()
	if _, known := observed[server]; !known {
		return wire.Projects{}, notFound(fmt.Sprintf("there is no server %q", server), didYouMean(server, slices.Sorted(maps.Keys(observed))))
	}
	list, err := s.Agents.Projects(ctx, server)
	if err != nil {
		return wire.Projects{}, agentError(err)
	}
	return list, nil
}

func (s *server) projectFiles(ctx context.Context, in *projectOf) (api.ProjectFiles, error) {
	list, err := s.hostProjects(ctx, in.Name)
	if err != nil {
		return api.ProjectFiles{}, err
	}
	var names []string
	for i := range list.Projects {
		if list.Projects[i].Name == in.Project {
			files, err := s.Sources.ProjectFiles(ctx, in.Name, list.Projects[i])
			if err != nil {
				return api.ProjectFiles{}, agentError(err)
			}
			return files, nil
		}
		names = append(names, list.Projects[i].Name)
	}
	return api.ProjectFiles{}, notFound(fmt.Sprintf("no Compose project %q is on %s", in.Project, in.Name), didYouMean(in.Project, names))
}

func hostProject(p *wire.Project) api.HostProject {
	out := api.HostProject{
		Name: p.Name, Stack: p.Stack, Server: p.Server, WorkingDir: p.WorkingDir, ConfigFiles: p.ConfigFiles, EnvFiles: p.EnvFiles,
		Services: []api.HostService{},
	}
	at := map[string]int{}
	for i := range p.Containers {
		c := &p.Containers[i]
		n, known := at[c.Service]
		if !known {
			n = len(out.Services)
			at[c.Service] = n
			out.Services = append(out.Services, api.HostService{Name: c.Service, Image: c.Image})
		}
		out.Services[n].Containers = append(out.Services[n].Containers, hostContainer(c))
	}
	return out
}

func hostContainer(c *wire.ProjectContainer) api.HostContainer {
	return api.HostContainer{ID: c.ID, Name: c.Name, Image: c.Image, State: c.State}
}
