package registry

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// maxVariants bounds how many images of one index are looked at for one platform.
const maxVariants = 8

// Details looks closer at a digest of an image, for a platform such as "linux", "arm64".
func (c *Client) Details(ctx context.Context, img Image, digest, os, arch string) (Details, error) {
	tag, err := name.NewTag(img.Ref)
	if err != nil {
		return Details{}, &Error{Message: fmt.Sprintf("%q is no name of an image", img.Ref)}
	}
	key := tag.Context().Name() + "@" + digest + " " + os + "/" + arch
	c.mu.Lock()
	have, ok := c.details[key]
	c.mu.Unlock()
	if ok {
		return have, nil // content that is named by its digest stays what it is
	}
	var found Details
	err = c.ask(ctx, tag.Registry, img, func(ctx context.Context, p *remote.Puller) error {
		var err error
		found, err = detailsOf(ctx, p, tag.Context().Digest(digest), os, arch)
		return err
	})
	if err != nil {
		return Details{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.details) >= maxKept {
		clear(c.details)
	}
	c.details[key] = found
	return found, nil
}

func detailsOf(ctx context.Context, p *remote.Puller, ref name.Digest, os, arch string) (out Details, err error) {
	top, err := p.Get(ctx, ref)
	if err != nil {
		return out, err
	}
	if !top.MediaType.IsIndex() {
		image, err := top.Image()
		if err != nil {
			return out, err
		}
		err = out.add(image, top.Digest)
		return out, err
	}
	index, err := top.ImageIndex()
	if err != nil {
		return out, err
	}
	list, err := index.IndexManifest()
	if err != nil {
		return out, err
	}
	for i := range list.Manifests {
		m := &list.Manifests[i]
		if m.Platform == nil || m.Platform.OS != os || m.Platform.Architecture != arch || len(out.Manifests) >= maxVariants {
			continue
		}
		image, err := index.Image(m.Digest)
		if err != nil {
			return out, err
		}
		if err := out.add(image, m.Digest); err != nil {
			return out, err
		}
	}
	if len(out.Manifests) == 0 {
		return out, &Error{Message: fmt.Sprintf("the newer image is not for %s/%s", os, arch)}
	}
	return out, nil
}

// add takes an image in. The newest of several counts for the age.
func (d *Details) add(image v1.Image, manifest v1.Hash) error {
	config, err := image.ConfigName()
	if err != nil {
		return err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return err
	}
	d.Manifests, d.Configs = append(d.Manifests, manifest.String()), append(d.Configs, config.String())
	if t := file.Created.Time; t.Year() > 2000 && t.After(d.Created) {
		d.Created = t // reproducible builds say 1970, or nothing
	}
	return nil
}
