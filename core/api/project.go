package api

import (
	"context"
	"net/url"

	"github.com/varanhq/varan/fleet"
)

// HostProjects is what runs on a host, whoever started it.
type HostProjects struct {
	Projects []HostProject `json:"projects"`
	// Loose are the containers that belong to no Compose project.
	Loose []HostContainer `json:"loose,omitempty"`
}

// HostProject is one Compose project on a host.
type HostProject struct {
	Name string `json:"name"`
	// Stack is the stack that it is, if Varan made it or took it over; Server is then the
	// server whose agent did.
	Stack  string `json:"stack,omitempty"`
	Server string `json:"server,omitempty"`
	// WorkingDir is where Compose was run, ConfigFiles and EnvFiles with what.
	WorkingDir  string        `json:"working_dir,omitempty"`
	ConfigFiles []string      `json:"config_files,omitempty"`
	EnvFiles    []string      `json:"env_files,omitempty"`
	Services    []HostService `json:"services"`
}

// Managed reports whether Varan made the project or took it over.
func (p *HostProject) Managed() bool { return p.Server != "" }

// HostService is one service of a HostProject.
type HostService struct {
	Name       string          `json:"name"`
	Image      string          `json:"image"`
	Containers []HostContainer `json:"containers"`
}

// HostContainer is one container on a host.
type HostContainer struct {
	ID    string               `json:"id"`
	Name  string               `json:"name"`
	Image string               `json:"image"`
	State fleet.ContainerState `json:"state"`
}

// ProjectFiles are the files that a Compose project is made of, as they are on its host.
// They may hold secrets.
type ProjectFiles struct {
	Project string `json:"project"`
	// Dir is the directory of the host that paths are relative to.
	Dir string `json:"dir"`
	// ComposeFiles are what Compose was given, later ones override; EnvFiles likewise, empty
	// for the usual ".env".
	ComposeFiles []string `json:"compose_files"`
	EnvFiles     []string `json:"env_files,omitempty"`
	// Files are these and what they include, extend and name as env_file; sorted.
	Files []HostFile `json:"files"`
	// Mounts are the paths below Dir that containers mount or images are built from. Their
	// content is not read: it may be data.
	Mounts []string `json:"mounts,omitempty"`
	// Refused is what could not be read.
	Refused []RefusedFile `json:"refused,omitempty"`
	// Diagnostics say what of the files Varan would refuse.
	Diagnostics fleet.Diagnostics `json:"diagnostics,omitempty"`
}

// HostFile is one file of a host.
type HostFile struct {
	Path    string `json:"path"`
	Mode    uint32 `json:"mode"`
	Content []byte `json:"content"`
}

// RefusedFile is a path of a host that could not be read, and why.
type RefusedFile struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Projects lists the Compose projects on a connected server.
func (c *Client) Projects(ctx context.Context, server string) (HostProjects, error) {
	return get[HostProjects](ctx, c, "/servers/"+url.PathEscape(server)+"/projects")
}

// ProjectFiles reads the files that a Compose project on a server is made of.
func (c *Client) ProjectFiles(ctx context.Context, server, project string) (ProjectFiles, error) {
	return get[ProjectFiles](ctx, c, "/servers/"+url.PathEscape(server)+"/projects/"+url.PathEscape(project)+"/files")
}
