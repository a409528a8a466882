package docker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"go.yaml.in/yaml/v3"

	"github.com/varanhq/varan/fleet"
)

// model is the little that the agent itself has to know of a resolved model.
type model struct {
	Services map[string]struct {
		Image      string    `yaml:"image"`
		Build      yaml.Node `yaml:"build"`
		PullPolicy string    `yaml:"pull_policy"`
		Platform   string    `yaml:"platform"`
	} `yaml:"services"`
}

// imagePlan says what has to be fetched or built before anything is touched.
type imagePlan struct {
	pull []wantedImage
	// build lists services.
	build []string
}

// wantedImage is an image to pull. A present one is only refreshed: that it cannot be is
// no reason to fail.
type wantedImage struct {
	ref, platform string
	present       bool
}

// planImages decides for the order at hand.
//
// An update fetches what it is about and nothing else, and fails when it cannot: going on
// with the image that is there would be no update. A release that is only brought back to
// what it was takes the images that ran; a newer one may be what was rolled back before.
func (t *task) planImages(ctx context.Context, release *fleet.Release, raw []byte) (imagePlan, error) {
	good := t.e.states.get(t.order.Stack).Good
	asked := *release
	switch {
	case t.order.Kind == fleet.OrderUpdate:
		asked.Options.Pull, asked.Options.Build = true, false
	case t.order.KeepImages, good != nil && good.Digest == release.Digest && !t.order.Force:
		asked.Options.Pull = false
	}
	plan, err := t.e.planImages(ctx, &asked, raw)
	if err != nil || t.order.Kind != fleet.OrderUpdate {
		return plan, err
	}
	plan.pull = slices.DeleteFunc(plan.pull, func(img wantedImage) bool {
		return img.present && !slices.ContainsFunc(release.Services, func(s fleet.Service) bool {
			return s.Image == img.ref && t.updates(s.Name)
		})
	})
	for i := range plan.pull {
		plan.pull[i].present = false
	}
	return plan, nil
}

// updates reports whether the order is there to give a service a newer image.
func (t *task) updates(service string) bool {
	return t.order.Kind == fleet.OrderUpdate && (len(t.order.Services) == 0 || slices.Contains(t.order.Services, service))
}

// planImages decides from the model, the stack's options and what is on the host.
func (e *Engine) planImages(ctx context.Context, release *fleet.Release, raw []byte) (imagePlan, error) {
	var m model
	if err := yaml.Unmarshal(raw, &m); err != nil {
		return imagePlan{}, fmt.Errorf("read model: %w", err)
	}
	var plan imagePlan
	names := make([]string, 0, len(m.Services))
	for name := range m.Services {
		names = append(names, name)
	}
	slices.Sort(names)
	seen := map[string]bool{}
	for _, name := range names {
		s := m.Services[name]
		ref := s.Image
		if ref == "" {
			ref = release.Project + "-" + name
		}
		_, err := e.imageID(ctx, ref)
		if err != nil && !errdefs.IsNotFound(err) {
			return imagePlan{}, err
		}
		present, builds := err == nil, !s.Build.IsZero()
		switch {
		case builds && (release.Options.Build || !present || s.PullPolicy == "build"):
			plan.build = append(plan.build, name)
		case builds, seen[ref], s.PullPolicy == "never":
		case !present, release.Options.Pull, s.PullPolicy == "always":
			plan.pull = append(plan.pull, wantedImage{ref: ref, platform: s.Platform, present: present})
			seen[ref] = true
		}
	}
	return plan, nil
}

// imageID is what a reference stands for on the host.
func (e *Engine) imageID(ctx context.Context, ref string) (string, error) {
	cl, err := e.conn.api()
	if err != nil {
		return "", err
	}
	res, err := cl.ImageInspect(ctx, ref)
	if err != nil {
		return "", fmt.Errorf("inspect image %s: %w", ref, err)
	}
	return res.ID, nil
}

// registryDigests is what registries call an image. Its name there is left out: the content
// is what counts, and some engines list only names that the image has now.
func (e *Engine) registryDigests(ctx context.Context, id string) []string {
	cl, err := e.conn.api()
	if err != nil {
		return nil
	}
	res, err := cl.ImageInspect(ctx, id)
	if err != nil {
		return nil // its tag may be gone; then nothing is known, which is no reason to fail
	}
	var digests []string
	for _, name := range res.RepoDigests {
		if _, digest, ok := strings.Cut(name, "@"); ok {
			digests = append(digests, digest)
		}
	}
	slices.Sort(digests)
	return slices.Compact(digests)
}

// hold tags images so that no prune takes them while they are what a rollback needs.
func (e *Engine) hold(ctx context.Context, project string, images, before []image) error {
	for _, img := range images {
		if slices.Contains(before, img) {
			continue
		}
		if err := e.tag(ctx, img.ID, holdRef(project, img.Service)); err != nil {
			return err
		}
	}
	return nil
}

// unhold takes the tags of services off again.
func (e *Engine) unhold(ctx context.Context, project string, images []image) error {
	cl, err := e.conn.api()
	if err != nil {
		return err
	}
	for _, img := range images {
		_, err := cl.ImageRemove(ctx, holdRef(project, img.Service), client.ImageRemoveOptions{})
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			return fmt.Errorf("untag the last good image of %s: %w", img.Service, err)
		}
	}
	return nil
}

// putBack makes references stand for the images again that the last good release ran.
func (e *Engine) putBack(ctx context.Context, images []image) error {
	for _, img := range images {
		if strings.Contains(img.Ref, "@") || strings.HasPrefix(img.Ref, "sha256:") {
			continue
		}
		now, err := e.imageID(ctx, img.Ref)
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		if now == img.ID {
			continue
		}
		if err := e.tag(ctx, img.ID, img.Ref); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) tag(ctx context.Context, id, ref string) error {
	cl, err := e.conn.api()
	if err != nil {
		return err
	}
	if _, err := cl.ImageTag(ctx, client.ImageTagOptions{Source: id, Target: ref}); err != nil {
		return fmt.Errorf("tag image %s as %s: %w", short(strings.TrimPrefix(id, "sha256:")), ref, err)
	}
	return nil
}

// holdRef names the tag that keeps a service's last good image. The project and not the
// stack is in it: of several agents on one engine only one can have the project.
func holdRef(project, service string) string {
	plain := project + "-" + service
	var b strings.Builder
	for _, c := range strings.ToLower(plain) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	name := strings.TrimSuffix(b.String(), "-")
	if name != plain {
		// Other names may come to the same: keep them apart.
		name += "-" + fleet.SumDigest([]byte(project+"/"+service)).Short()
	}
	return "varan-rollback/" + name + ":last-good"
}

// permanentPull are the words of a registry that has spoken: trying again will not help.
var permanentPull = []string{
	"manifest unknown", "not found", "does not exist", "denied", "unauthorized", "no basic auth",
	"authentication required", "no matching manifest", "invalid reference", "unsupported",
}

// temporaryPull are the words of a registry that could not speak, or not now.
var temporaryPull = []string{
	"no such host", "timeout", "deadline", "connection refused", "connection reset", "toomanyrequests",
	"too many requests", "rate limit", "eof", "unreachable", "502", "503", "504", "canceled", "no space left",
}

// retryablePull tells a registry that is away from an image that is not there.
func retryablePull(reason string) bool {
	reason = strings.ToLower(reason)
	in := func(words []string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(reason, w) })
	}
	return in(temporaryPull) || !in(permanentPull)
}
