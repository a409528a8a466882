package render

import (
	"context"
	"fmt"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
)

// Content serves the blobs of one render. It is safe for concurrent use and stays valid
// as long as its trees can be read.
type Content struct{ blobs map[fleet.Digest]stored }

// stored is a blob and the tree its file is in.
type stored struct {
	compose.Blob
	tree compose.Tree
}

func newContent(size int) *Content { return &Content{blobs: make(map[fleet.Digest]stored, size)} }

func (c *Content) add(tree compose.Tree, blobs map[fleet.Digest]compose.Blob) {
	for digest, blob := range blobs {
		c.blobs[digest] = stored{blob, tree}
	}
}

// Blob returns the content of a digest that a release of the render names.
func (c *Content) Blob(ctx context.Context, digest fleet.Digest) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read blob %s: %w", digest.Short(), err)
	}
	blob, ok := c.blobs[digest]
	if !ok {
		return nil, fmt.Errorf("blob %s belongs to no release of this commit", digest.Short())
	}
	data, err := blob.Bytes(blob.tree)
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", digest.Short(), err)
	}
	if fleet.SumDigest(data) != digest {
		// A local directory changes under our feet; a commit never does.
		return nil, fmt.Errorf("%s changed since it was rendered", blob.Path)
	}
	return data, nil
}
