package git

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// maxDeltaDepth is the longest chain of deltas that Git itself ever writes.
const maxDeltaDepth = 4095

// packIndex is the index of a pack, and the size of each object in it.
type packIndex struct {
	checksum plumbing.Hash
	idx      *idxfile.MemoryIndex
	sizes    map[plumbing.Hash]int64
}

// packObject is one object on the way to being indexed.
type packObject struct {
	offset   int64
	size     int64
	hash     plumbing.Hash
	crc      uint32
	typ      plumbing.ObjectType
	delta    bool
	children []int // the deltas against it, in objects
}

// indexer reads a received pack, checks it and works out the id of each object. go-git's
// own parser buffers whatever size a pack announces; this one holds every object
// against the limits first, streams what need not be held, and inflates once.
type indexer struct {
	limits  Limits
	stop    func() error
	scanner *packfile.Scanner
	objects []packObject
	// waiting are deltas whose base is named by id and not known yet.
	waiting  map[plumbing.Hash][]int
	inflated int64
	held     int64
	done     int
	buf      bytes.Buffer
}

// indexPack indexes f. stop is asked now and then whether to go on. A pack without
// objects gives nil.
func indexPack(f *os.File, limits Limits, stop func() error) (*packIndex, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("index pack: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("index pack: %w", err)
	}
	x := &indexer{
		limits: limits, stop: stop,
		scanner: packfile.NewScanner(f), waiting: map[plumbing.Hash][]int{},
	}
	_, count, err := x.scanner.Header()
	if err != nil {
		return nil, packDamaged(err)
	}
	// No object is shorter than its header and an empty zlib stream.
	if int64(count) > info.Size()/9 {
		return nil, packDamaged(fmt.Errorf("%d objects in %d bytes", count, info.Size()))
	}
	if count == 0 {
		return nil, nil
	}
	x.objects = make([]packObject, 0, count)
	for range count {
		if err := x.scan(); err != nil {
			return nil, packDamaged(err)
		}
	}
	checksum, err := x.scanner.Checksum()
	if err != nil {
		return nil, packDamaged(err)
	}
	if err := x.resolveAll(); err != nil {
		return nil, packDamaged(err)
	}
	return x.index(checksum)
}

// packDamaged says that a pack is no good, unless err is a verdict of its own.
func packDamaged(err error) error {
	if errors.Is(err, ErrLimit) || errors.Is(err, errStopped) {
		return err
	}
	return fmt.Errorf("%w: index pack: %w", ErrCorrupt, err)
}

// errStopped wraps what stop returned.
var errStopped = errors.New("stopped")

func (x *indexer) tick() error {
	x.done++
	if x.done%256 != 0 {
		return nil
	}
	if err := x.stop(); err != nil {
		return fmt.Errorf("index pack: %w: %w", errStopped, err)
	}
	return nil
}

// scan reads the next object of the pack in file order. Whole objects are hashed on the
// way, deltas are only passed over.
func (x *indexer) scan() error {
	if err := x.tick(); err != nil {
		return err
	}
	header, err := x.scanner.NextObjectHeader()
	if err != nil {
		return err
	}
	if err := x.limits.inflates(header.Length, &x.inflated); err != nil {
		return err
	}
	o := packObject{offset: header.Offset, size: header.Length, typ: header.Type, delta: header.Type.IsDelta()}
	var written int64
	switch {
	case header.Type >= plumbing.CommitObject && header.Type <= plumbing.TagObject:
		hasher := plumbing.NewHasher(header.Type, header.Length)
		written, o.crc, err = x.scanner.NextObject(hasher)
		o.hash = hasher.Sum()
	case header.Type.IsDelta():
		if err := x.register(header, len(x.objects)); err != nil {
			return err
		}
		written, o.crc, err = x.scanner.NextObject(io.Discard)
	default:
		return fmt.Errorf("object of type %d", header.Type)
	}
	if err == nil && written != header.Length {
		err = fmt.Errorf("object of %d bytes says it has %d", written, header.Length)
	}
	x.objects = append(x.objects, o)
	return err
}

// register notes delta number at with its base.
func (x *indexer) register(header *packfile.ObjectHeader, at int) error {
	if header.Type == plumbing.REFDeltaObject {
		x.waiting[header.Reference] = append(x.waiting[header.Reference], at)
		return nil
	}
	i, ok := slices.BinarySearchFunc(x.objects, header.OffsetReference, func(o packObject, offset int64) int {
		return cmp.Compare(o.offset, offset)
	})
	if !ok {
		return errors.New("delta against an offset where no object starts")
	}
	x.objects[i].children = append(x.objects[i].children, at)
	return nil
}

// resolveAll follows the deltas from every whole object that has any.
func (x *indexer) resolveAll() error {
	for i := range x.objects {
		o := &x.objects[i]
		if o.delta {
			continue
		}
		x.adopt(o)
		if len(o.children) == 0 {
			continue
		}
		content, err := x.inflate(o.offset, o.size)
		if err != nil {
			return err
		}
		if err := x.resolve(o, bytes.Clone(content), 1); err != nil {
			return err
		}
	}
	for i := range x.objects {
		if x.objects[i].hash.IsZero() {
			return errors.New("delta against an object that is not in the pack")
		}
	}
	return nil
}

// adopt gives o the deltas that named it by id.
func (x *indexer) adopt(o *packObject) {
	if named, ok := x.waiting[o.hash]; ok {
		o.children = append(o.children, named...)
		delete(x.waiting, o.hash)
	}
}

// resolve works out the objects that are deltas against o, and those against them.
func (x *indexer) resolve(o *packObject, content []byte, depth int) error {
	if depth > maxDeltaDepth {
		return errors.New("chain of deltas is too long")
	}
	x.held += int64(len(content))
	defer func() { x.held -= int64(len(content)) }()
	if x.held > maxHeldBytes {
		return fmt.Errorf("%w: chain of deltas needs more than %d bytes: %w", ErrLimit, maxHeldBytes, errPackLimit)
	}
	for _, at := range o.children {
		if err := x.tick(); err != nil {
			return err
		}
		child := &x.objects[at]
		delta, err := x.inflate(child.offset, child.size)
		if err != nil {
			return err
		}
		size, err := deltaTarget(delta)
		if err != nil {
			return err
		}
		if err := x.limits.inflates(size, &x.inflated); err != nil {
			return err
		}
		target, err := packfile.PatchDelta(content, delta)
		if err != nil {
			return err
		}
		child.typ, child.size = o.typ, int64(len(target))
		child.hash = plumbing.ComputeHash(child.typ, target)
		x.adopt(child)
		if len(child.children) == 0 {
			continue
		}
		if err := x.resolve(child, target, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// inflate reads the raw content of the object at offset. It is valid until the next call.
func (x *indexer) inflate(offset, size int64) ([]byte, error) {
	if _, err := x.scanner.SeekObjectHeader(offset); err != nil {
		return nil, err
	}
	x.buf.Reset()
	x.buf.Grow(int(size))
	if _, _, err := x.scanner.NextObject(&x.buf); err != nil {
		return nil, err
	}
	return x.buf.Bytes(), nil
}

// deltaTarget is the size of the object that a delta makes: the second of the two
// numbers it starts with.
func deltaTarget(delta []byte) (int64, error) {
	_, n := binary.Uvarint(delta)
	if n <= 0 {
		return 0, errors.New("malformed delta")
	}
	size, n := binary.Uvarint(delta[n:])
	if n <= 0 || size > math.MaxInt64 {
		return 0, errors.New("malformed delta")
	}
	return int64(size), nil
}

// index writes the index from what was found.
func (x *indexer) index(checksum plumbing.Hash) (*packIndex, error) {
	w := new(idxfile.Writer)
	sizes := make(map[plumbing.Hash]int64, len(x.objects))
	for i := range x.objects {
		o := &x.objects[i]
		w.Add(o.hash, uint64(o.offset), o.crc) //nolint:gosec // an offset is never negative
		sizes[o.hash] = o.size
	}
	if err := w.OnFooter(checksum); err != nil {
		return nil, packDamaged(err)
	}
	idx, err := w.Index()
	if err != nil {
		return nil, packDamaged(err)
	}
	return &packIndex{checksum: checksum, idx: idx, sizes: sizes}, nil
}
