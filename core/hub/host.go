package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// maxProjects bounds the projects that one host may have.
const maxProjects = 2_000

// Files reads files of a host: those of a directory that its agent's policy lets core
// read. What is not there comes as Missing.
func (h *Hub) Files(ctx context.Context, server string, req wire.FilesRequest) ([]wire.HostFile, error) {
	s := h.session(server)
	if s == nil {
		return nil, fmt.Errorf("files of %s: %w", server, &OfflineError{Server: server})
	}
	stream, err := s.peer.OpenStream(ctx, wire.VerbFiles, req)
	if err != nil {
		return nil, fmt.Errorf("files of %s: %w", server, err)
	}
	defer func() { _ = stream.Close() }()
	files, err := readHostFiles(stream)
	if err != nil {
		return nil, fmt.Errorf("files of %s: %w", server, err)
	}
	return files, nil
}

// readHostFiles believes no agent that sends more than was agreed on.
func readHostFiles(r io.Reader) ([]wire.HostFile, error) {
	// In JSON content takes four bytes for three, and paths come on top.
	decoder := json.NewDecoder(io.LimitReader(r, 2*wire.MaxHostFilesSize))
	var files []wire.HostFile
	total := 0
	for {
		var f wire.HostFile
		switch err := decoder.Decode(&f); {
		case errors.Is(err, io.EOF):
			return files, nil
		case err != nil:
			return nil, err
		}
		total += len(f.Content)
		if len(files) >= wire.MaxHostFiles || len(f.Content) > wire.MaxHostFile || total > wire.MaxHostFilesSize {
			return nil, wire.Errorf(wire.CodeTooLarge, "the agent sent more than %d files or %d bytes", wire.MaxHostFiles, wire.MaxHostFilesSize)
		}
		f.Mode &= 0o777
		files = append(files, f)
	}
}

// Projects lists the Compose projects on a host, whoever started them, and the containers
// that belong to none.
func (h *Hub) Projects(ctx context.Context, server string) (wire.Projects, error) {
	s := h.session(server)
	if s == nil {
		return wire.Projects{}, fmt.Errorf("projects on %s: %w", server, &OfflineError{Server: server})
	}
	var answer wire.Projects
	if err := s.peer.Call(ctx, wire.VerbProjects, nil, &answer); err != nil {
		return wire.Projects{}, fmt.Errorf("projects on %s: %w", server, err)
	}
	if len(answer.Projects) > maxProjects || len(answer.Loose) > maxContainers {
		return wire.Projects{}, wire.Errorf(wire.CodeTooLarge, "%s reports %d projects and %d containers of none",
			server, len(answer.Projects), len(answer.Loose))
	}
	for i := range answer.Projects {
		cleanProject(&answer.Projects[i])
	}
	cleanContainers(answer.Loose)
	return answer, nil
}

// cleanProject makes the texts fit to be shown, as everything that an agent says.
func cleanProject(p *wire.Project) {
	for _, text := range []*string{&p.Name, &p.Server, &p.Stack, &p.WorkingDir} {
		*text = clean(*text)
	}
	for _, list := range [][]string{p.ConfigFiles, p.EnvFiles} {
		for i := range list {
			list[i] = clean(list[i])
		}
	}
	cleanContainers(p.Containers)
}

func cleanContainers(list []wire.ProjectContainer) {
	for i := range list {
		c := &list[i]
		for _, text := range []*string{&c.ID, &c.Name, &c.Service, &c.Image, &c.ImageID, &c.ConfigHash} {
			*text = clean(*text)
		}
		c.State = fleet.ContainerState(clean(string(c.State)))
	}
}
