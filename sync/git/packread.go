package git

import (
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// windowBytes is how much of a pack is read at a time. The objects of one commit lie
// close together, so that most are served by a read that an earlier one made.
const windowBytes = 64 << 10

// pack is one open pack. Who holds it can read it, also when its folder is gone.
type pack struct {
	name string
	idx  *idxfile.MemoryIndex
	file *os.File
	// serial tells the packs of a store apart in its cache.
	serial int64
	// sizes are known right after the pack was received, and dropped once its trees
	// are checked.
	sizes map[plumbing.Hash]int64
}

// packReader reads objects from packs. go-git's own reader would hash and buffer all it
// passes over and keep a table of every offset. It is not safe for concurrent use.
type packReader struct {
	// maxBytes is larger than any object that was let into a pack.
	maxBytes int64
	bases    *cache.BufferLRU
	inflater io.ReadCloser

	// window is what was read last, from which file and where.
	window []byte
	from   *os.File
	start  int64
	// at is the position of the byte that is read next.
	at int64
}

// rest gives memory back that only a burst of reading needs.
func (r *packReader) rest() {
	r.bases.Clear()
	r.window, r.from, r.inflater = nil, nil, nil
}

// seek moves to a position in a pack.
func (r *packReader) seek(p *pack, at int64) {
	if r.from != p.file {
		r.from, r.window = p.file, r.window[:0]
	}
	r.at = at
}

// fill makes sure that the window holds the next byte.
func (r *packReader) fill() error {
	if r.at >= r.start && r.at < r.start+int64(len(r.window)) {
		return nil
	}
	if cap(r.window) == 0 {
		r.window = make([]byte, 0, windowBytes)
	}
	n, err := r.from.ReadAt(r.window[:windowBytes], r.at)
	r.window, r.start = r.window[:n], r.at
	if n > 0 {
		return nil
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ReadByte and Read serve the inflater.
func (r *packReader) ReadByte() (byte, error) {
	if err := r.fill(); err != nil {
		return 0, err
	}
	b := r.window[r.at-r.start]
	r.at++
	return b, nil
}

// Read reads from the pack.
func (r *packReader) Read(p []byte) (int, error) {
	if err := r.fill(); err != nil {
		return 0, err
	}
	n := copy(p, r.window[r.at-r.start:])
	r.at += int64(n)
	return n, nil
}

// packHeader is what comes before an object's content.
type packHeader struct {
	typ  plumbing.ObjectType
	size int64 // of the content, or of the delta
	// base is where a delta's base starts in the same pack; 0 when it is named by baseID.
	base   int64
	baseID plumbing.Hash
}

var errMalformedPack = errors.New("malformed pack")

// header reads the header of the object at offset and stays at its content.
func (r *packReader) header(p *pack, offset int64) (h packHeader, err error) {
	r.seek(p, offset)
	c, err := r.ReadByte()
	if err != nil {
		return h, err
	}
	h.typ, h.size = plumbing.ObjectType(c>>4&7), int64(c&15)
	for shift := 4; c&0x80 != 0; shift += 7 {
		if c, err = r.ReadByte(); err != nil {
			return h, err
		}
		if shift > 50 {
			return h, errMalformedPack
		}
		h.size |= int64(c&0x7f) << shift
	}
	if h.size > r.maxBytes {
		return h, errMalformedPack
	}
	switch {
	case h.typ == plumbing.OFSDeltaObject:
		back, err := r.distance()
		if h.base = offset - back; err == nil && (back <= 0 || h.base <= 0) {
			err = errMalformedPack
		}
		return h, err
	case h.typ == plumbing.REFDeltaObject:
		_, err = io.ReadFull(r, h.baseID[:])
	case h.typ < plumbing.CommitObject || h.typ > plumbing.TagObject:
		err = errMalformedPack
	}
	return h, err
}

// distance reads how far back a delta's base is: seven bits a byte, highest first, where
// each further byte adds one so that no distance has two spellings.
func (r *packReader) distance() (int64, error) {
	c, err := r.ReadByte()
	value := int64(c & 0x7f)
	for err == nil && c&0x80 != 0 {
		if value >= 1<<50 {
			return 0, errMalformedPack
		}
		c, err = r.ReadByte()
		value = (value+1)<<7 | int64(c&0x7f)
	}
	return value, err
}

// open starts to inflate at the current position.
func (r *packReader) open() error {
	if r.inflater == nil {
		inflater, err := zlib.NewReader(r)
		r.inflater = inflater
		return err
	}
	resetter, ok := r.inflater.(zlib.Resetter)
	if !ok {
		return errors.New("inflater cannot be reset")
	}
	return resetter.Reset(r, nil)
}

// inflate reads content that is size bytes long, and its checksum.
func (r *packReader) inflate(size int64) ([]byte, error) {
	if err := r.open(); err != nil {
		return nil, err
	}
	content := make([]byte, size)
	if _, err := io.ReadFull(r.inflater, content); err != nil {
		return nil, err
	}
	if n, err := r.inflater.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return nil, errors.Join(errMalformedPack, err)
	}
	return content, nil
}

// size is the size of the object at offset. Of a delta no more than its start is read.
func (r *packReader) size(p *pack, offset int64) (int64, error) {
	h, err := r.header(p, offset)
	if err != nil || !h.typ.IsDelta() {
		return h.size, err
	}
	if err := r.open(); err != nil {
		return 0, err
	}
	// Two numbers of at most ten bytes each.
	start := make([]byte, min(h.size, 20))
	if _, err := io.ReadFull(r.inflater, start); err != nil {
		return 0, err
	}
	return deltaTarget(start)
}

// content returns the object at offset. find looks for a base that is named by its id.
// The result belongs to the caller, unless base is set: then it may not be changed.
func (r *packReader) content(
	p *pack, offset int64, find func(plumbing.Hash) (*pack, int64), base bool, depth int,
) ([]byte, error) {
	key := p.serial<<40 | offset
	if cached, ok := r.bases.Get(key); ok {
		if base {
			return cached, nil
		}
		return append([]byte(nil), cached...), nil
	}
	if depth > maxDeltaDepth {
		return nil, errors.New("chain of deltas is too long")
	}
	h, err := r.header(p, offset)
	if err != nil {
		return nil, err
	}
	content, err := r.inflate(h.size)
	if err != nil {
		return nil, err
	}
	if h.typ.IsDelta() {
		if content, err = r.patch(p, h, content, find, depth); err != nil {
			return nil, err
		}
	}
	if base {
		r.bases.Put(key, content)
	}
	return content, nil
}

// patch applies a delta to its base.
func (r *packReader) patch(
	p *pack, h packHeader, delta []byte, find func(plumbing.Hash) (*pack, int64), depth int,
) ([]byte, error) {
	size, err := deltaTarget(delta)
	if err != nil || size > r.maxBytes {
		return nil, errMalformedPack
	}
	at := h.base
	if h.typ == plumbing.REFDeltaObject {
		if p, at = find(h.baseID); p == nil {
			return nil, fmt.Errorf("base %s is missing", h.baseID)
		}
	}
	source, err := r.content(p, at, find, true, depth+1)
	if err != nil {
		return nil, err
	}
	return packfile.PatchDelta(source, delta)
}
