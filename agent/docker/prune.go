package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// heldPrefix begins the tags that keep what a rollback needs.
const heldPrefix = "varan-rollback/"

// prune removes what nobody uses. The engine's own prune knows neither which images a
// rollback needs nor which stopped containers are a stack's, so that this one chooses.
func (h host) prune(ctx context.Context) (string, error) {
	steps := map[fleet.HostKind][]func(context.Context) (string, error){
		fleet.HostPruneContainers: {h.pruneContainers},
		fleet.HostPruneNetworks:   {h.pruneNetworks},
		fleet.HostPruneImages:     {h.pruneImages},
		fleet.HostPruneVolumes:    {h.pruneVolumes},
		fleet.HostPruneBuildCache: {h.pruneBuildCache},
		fleet.HostPruneSystem:     {h.pruneContainers, h.pruneNetworks, h.pruneImages, h.pruneBuildCache},
	}
	var said []string
	for _, step := range steps[h.task.Kind] {
		text, err := step(ctx)
		if err != nil {
			return "", err
		}
		said = append(said, text)
	}
	return strings.Join(said, "; "), nil
}

func (h host) pruneContainers(ctx context.Context) (string, error) {
	res, err := h.api.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return "", fmt.Errorf("list containers: %w", err)
	}
	var names []string
	for i := range res.Items {
		c := &res.Items[i]
		idle := c.State == container.StateExited || c.State == container.StateCreated || c.State == container.StateDead
		if !idle || exempt(c.Labels) || h.ours(c.Labels) {
			continue
		}
		_, err := h.api.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{RemoveVolumes: true})
		switch {
		case err == nil:
			names = append(names, containerName(c))
		case !gone(err):
			return "", fmt.Errorf("remove container %s: %w", containerName(c), err)
		}
	}
	return listed(fmt.Sprintf("removed %d containers", len(names)), names), nil
}

func (h host) pruneNetworks(ctx context.Context) (string, error) {
	used, err := h.usedNetworks(ctx)
	if err != nil {
		return "", err
	}
	res, err := h.api.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return "", fmt.Errorf("list networks: %w", err)
	}
	var names []string
	for i := range res.Items {
		n := &res.Items[i]
		if slices.Contains([]string{"bridge", "host", "none"}, n.Name) || n.Scope == "swarm" || n.Ingress ||
			used[n.Name] || used[n.ID] || h.ours(n.Labels) {
			continue
		}
		_, err := h.api.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{})
		switch {
		case err == nil:
			names = append(names, n.Name)
		case !gone(err) && !inUse(err):
			return "", fmt.Errorf("remove network %s: %w", n.Name, err)
		}
	}
	return listed(fmt.Sprintf("removed %d networks", len(names)), names), nil
}

// usedNetworks are those that any container, stopped ones too, is attached to.
func (h host) usedNetworks(ctx context.Context) (map[string]bool, error) {
	res, err := h.api.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	used := map[string]bool{}
	for i := range res.Items {
		if s := res.Items[i].NetworkSettings; s != nil {
			for name, endpoint := range s.Networks {
				used[name] = true
				if endpoint != nil {
					used[endpoint.NetworkID] = true
				}
			}
		}
	}
	return used, nil
}

func (h host) pruneImages(ctx context.Context) (string, error) {
	images, err := h.api.ImageList(ctx, client.ImageListOptions{})
	if err != nil {
		return "", fmt.Errorf("list images: %w", err)
	}
	containers, err := h.api.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return "", fmt.Errorf("list containers: %w", err)
	}
	used := map[string]bool{}
	for i := range containers.Items {
		used[containers.Items[i].ImageID] = true
	}
	var names []string
	var freed int64
	held := 0
	for i := range images.Items {
		img := &images.Items[i]
		if used[img.ID] {
			continue
		}
		if slices.ContainsFunc(img.RepoTags, isHeld) {
			held++
			continue
		}
		name, err := h.removeImage(ctx, img.ID, img.RepoTags)
		switch {
		case err != nil:
			return "", err
		case name != "":
			names = append(names, name)
			freed += img.Size
		}
	}
	text := fmt.Sprintf("removed %d images, %s", len(names), size(freed))
	if held > 0 {
		text += fmt.Sprintf(" (%d kept for a rollback)", held)
	}
	return listed(text, names), nil
}

func isHeld(tag string) bool { return strings.HasPrefix(tag, heldPrefix) }

// removeImage takes all tags of an image off, and with the last one the image. It returns
// no name for one that something else began to use meanwhile.
func (h host) removeImage(ctx context.Context, id string, tags []string) (name string, err error) {
	refs := slices.DeleteFunc(slices.Clone(tags), func(tag string) bool { return tag == "<none>:<none>" })
	if len(refs) == 0 {
		refs = []string{id}
	}
	for _, ref := range refs {
		_, err := h.api.ImageRemove(ctx, ref, client.ImageRemoveOptions{PruneChildren: true})
		switch {
		case gone(err), inUse(err):
			return "", nil
		case err != nil:
			return "", fmt.Errorf("remove image %s: %w", ref, err)
		}
	}
	return short(strings.TrimPrefix(refs[0], "sha256:")), nil
}

func (h host) pruneVolumes(ctx context.Context) (string, error) {
	res, err := h.api.VolumeList(ctx, client.VolumeListOptions{Filters: make(client.Filters).Add("dangling", "true")})
	if err != nil {
		return "", fmt.Errorf("list volumes: %w", err)
	}
	var names []string
	for i := range res.Items {
		v := &res.Items[i]
		if h.ours(v.Labels) {
			continue
		}
		_, err := h.api.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{})
		switch {
		case err == nil:
			names = append(names, v.Name)
		case !gone(err) && !inUse(err):
			return "", fmt.Errorf("remove volume %s: %w", v.Name, err)
		}
	}
	return listed(fmt.Sprintf("removed %d volumes", len(names)), names), nil
}

func (h host) pruneBuildCache(ctx context.Context) (string, error) {
	res, err := h.api.BuildCachePrune(ctx, client.BuildCachePruneOptions{All: true})
	if err != nil {
		return "", fmt.Errorf("prune the build cache: %w", err)
	}
	return fmt.Sprintf("removed %d entries of the build cache, %s", len(res.Report.CachesDeleted),
		size(int64(min(res.Report.SpaceReclaimed, 1<<62)))), nil
}

// remove deletes one network, image or volume.
func (h host) remove(ctx context.Context) (string, error) {
	name := h.task.Target
	if name == "" {
		return "", wire.Errorf(wire.CodeBadRequest, "no name says what to delete")
	}
	var err error
	switch h.task.Kind { //nolint:exhaustive // the others delete nothing by name
	case fleet.HostDeleteNetwork:
		_, err = h.api.NetworkRemove(ctx, name, client.NetworkRemoveOptions{})
	case fleet.HostDeleteVolume:
		_, err = h.api.VolumeRemove(ctx, name, client.VolumeRemoveOptions{})
	default:
		res, inspectErr := h.api.ImageInspect(ctx, name)
		if inspectErr == nil && slices.ContainsFunc(res.RepoTags, isHeld) {
			return "", wire.Errorf(wire.CodeDenied, "image %s is what a stack's rollback needs", name)
		}
		_, err = h.api.ImageRemove(ctx, name, client.ImageRemoveOptions{PruneChildren: true})
	}
	switch {
	case gone(err):
		return "", wire.Errorf(wire.CodeNotFound, "there is no %q", name)
	case err != nil:
		return "", fmt.Errorf("delete %s: %w", name, err)
	}
	return "deleted " + name, nil
}

func gone(err error) bool { return errdefs.IsNotFound(err) }

// inUse are the answers of an engine that something still uses what should go.
func inUse(err error) bool {
	return err != nil && (errdefs.IsConflict(err) || errdefs.IsPermissionDenied(err) && !errors.Is(err, context.Canceled))
}
