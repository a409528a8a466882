package render

import (
	"context"
	"fmt"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
)

// Content serves the blobs of one render. It is safe for concurrent use and stays valid
// as long as its trees can be read.
type Content struct{ parts []part }

// part are the blobs of one release and the tree that their files are in.
type part struct {
	tree  compose.Tree
	blobs map[fleet.Digest]compose.Blob
}

func (c *Content) add(tree compose.Tree, blobs map[fleet.Digest]compose.Blob) {
	if len(blobs) > 0 {
		c.parts = append(c.parts, part{tree, blobs})
	}
}

// find looks through the releases: blobs are asked for far more seldom than a commit is
// rendered.
func (c *Content) find(digest fleet.Digest) (blob compose.Blob, tree compose.Tree, ok bool) {
	for _, p := range c.parts {
		if blob, ok = p.blobs[digest]; ok {
			return blob, p.tree, true
		}
	}
	return compose.Blob{}, nil, false
}

// Blob returns the content of a digest that a release of the render names.
func (c *Content) Blob(ctx context.Context, digest fleet.Digest) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read blob %s: %w", digest.Short(), err)
	}
	blob, tree, ok := c.find(digest)
	if !ok {
		return nil, fmt.Errorf("blob %s belongs to no release of this commit", digest.Short())
	}
	data, err := blob.Bytes(tree)
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", digest.Short(), err)
	}
	if fleet.SumDigest(data) != digest {
		// A local directory changes under our feet; a commit never does.
		return nil, fmt.Errorf("%s changed since it was rendered", blob.Path)
	}
	return data, nil
}
