package git

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// packed is one object as it is written into a pack.
type packed struct {
	typ     plumbing.ObjectType
	base    plumbing.Hash // of a delta by id
	back    int           // of a delta by offset: how many objects ago the base was written
	content []byte
	claim   int // the size to announce, when it is not the content's
}

// makePack writes a pack by hand, lies included.
func makePack(tb testing.TB, objects ...packed) []byte {
	tb.Helper()
	var b bytes.Buffer
	b.WriteString("PACK\x00\x00\x00\x02")
	_ = binary.Write(&b, binary.BigEndian, uint32(len(objects)))
	var offsets []int
	for _, o := range objects {
		at := b.Len()
		size := max(o.claim, len(o.content))
		head := byte(o.typ)<<4 | byte(size&15)
		for size >>= 4; size > 0; size >>= 7 {
			b.WriteByte(head | 0x80)
			head = byte(size & 0x7f)
		}
		b.WriteByte(head)
		if o.typ == plumbing.REFDeltaObject {
			b.Write(o.base[:])
		}
		if o.typ == plumbing.OFSDeltaObject {
			b.Write(offsetBytes(at - offsets[len(offsets)-o.back]))
		}
		w := zlib.NewWriter(&b)
		_, _ = w.Write(o.content)
		_ = w.Close()
		offsets = append(offsets, at)
	}
	sum := sha1.Sum(b.Bytes())
	b.Write(sum[:])
	return b.Bytes()
}

func offsetBytes(n int) []byte {
	out := []byte{byte(n & 0x7f)}
	for n >>= 7; n > 0; n >>= 7 {
		n--
		out = append([]byte{byte(n&0x7f) | 0x80}, out...)
	}
	return out
}

// delta turns a base of some size into target.
func delta(base int, target string) []byte {
	b := binary.AppendUvarint(nil, uint64(base))
	b = binary.AppendUvarint(b, uint64(len(target)))
	b = append(b, byte(len(target)))
	return append(b, target...)
}

func index(tb testing.TB, pack []byte, limits Limits) (*packIndex, error) {
	tb.Helper()
	f, err := os.CreateTemp(tb.TempDir(), "pack")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(pack); err != nil {
		tb.Fatal(err)
	}
	return indexPack(f, limits.withDefaults(), func() error { return nil })
}

func blobID(content string) plumbing.Hash {
	return plumbing.ComputeHash(plumbing.BlobObject, []byte(content))
}

func TestIndexKnowsEveryKindOfObject(t *testing.T) {
	x, err := index(t, makePack(t,
		packed{typ: plumbing.REFDeltaObject, base: blobID("two"), content: delta(3, "three")},
		packed{typ: plumbing.BlobObject, content: []byte("one")},
		packed{typ: plumbing.OFSDeltaObject, back: 1, content: delta(3, "two")},
		packed{typ: plumbing.OFSDeltaObject, back: 1, content: delta(3, "four")},
	), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"one", "two", "three", "four"} {
		if size, ok := x.sizes[blobID(content)]; !ok || size != int64(len(content)) {
			t.Errorf("%s: size %d, known %t", content, size, ok)
		}
	}
}

func TestIndexRefusesDamageAndBombs(t *testing.T) {
	bomb := binary.AppendUvarint(nil, 3)
	bomb = binary.AppendUvarint(bomb, 1<<40)
	one := packed{typ: plumbing.BlobObject, content: []byte("one")}
	good := makePack(t, one)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-30] ^= 1
	for _, tc := range []struct {
		name string
		pack []byte
		want error
	}{
		{"nothing", nil, ErrCorrupt},
		{"no pack", []byte("nonsense that is long enough"), ErrCorrupt},
		{"cut", good[:len(good)-21], ErrCorrupt},
		{"flipped", flipped, ErrCorrupt},
		{"base missing", makePack(t, packed{typ: plumbing.REFDeltaObject, base: blobID("?"), content: delta(1, "x")}), ErrCorrupt},
		{"delta of another size", makePack(t, one, packed{typ: plumbing.OFSDeltaObject, back: 1, content: delta(4, "x")}), ErrCorrupt},
		{"unknown type", makePack(t, packed{typ: 5, content: []byte("x")}), ErrCorrupt},
		{"claims less than it has", makePack(t, packed{typ: plumbing.BlobObject, content: nil, claim: 5}), ErrCorrupt},
		{"huge object", makePack(t, packed{typ: plumbing.BlobObject, claim: 1 << 32}), ErrLimit},
		{"huge result of a delta", makePack(t, one, packed{typ: plumbing.OFSDeltaObject, back: 1, content: bomb}), ErrLimit},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := index(t, tc.pack, Limits{}); !errors.Is(err, tc.want) {
				t.Errorf("index: %v, want %v", err, tc.want)
			}
		})
	}
}

func TestIndexBoundsWhatAPackInflatesTo(t *testing.T) {
	zeros := bytes.Repeat([]byte{0}, 1<<20)
	var many []packed
	for i := range 70 {
		many = append(many, packed{typ: plumbing.BlobObject, content: append(bytes.Clone(zeros), byte(i))})
	}
	pack := makePack(t, many...)
	if _, err := index(t, pack, Limits{TotalBytes: 1 << 20}); !errors.Is(err, ErrLimit) {
		t.Errorf("small limit: %v", err)
	}
	if _, err := index(t, pack, Limits{}); err != nil {
		t.Errorf("default limit: %v", err)
	}
}

// fakeObjects holds one tree; every blob has one byte.
type fakeObjects struct{ tree []byte }

func (f fakeObjects) read(plumbing.ObjectType, plumbing.Hash) ([]byte, error) { return f.tree, nil }
func (fakeObjects) size(plumbing.Hash) (int64, error)                         { return 1, nil }

func TestTreesGitCannotSendAreRefused(t *testing.T) {
	id := strings.Repeat("i", 20)
	for _, raw := range []string{
		"100644 \x00" + id, "100644 a\x00short", "100644", "100644 a", " a\x00" + id, "x a\x00" + id,
		"40000 .\x00" + id, "40000 self\x00" + id,
	} {
		c := newChecker(fakeObjects{[]byte(raw)}, Limits{}.withDefaults(), func() error { return nil })
		if _, err := c.root(plumbing.NewHash(""), nil); !errors.Is(err, ErrTree) {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

func FuzzTree(f *testing.F) {
	f.Add([]byte("100644 a\x00" + strings.Repeat("i", 20)))
	f.Add([]byte("120000 a\x00" + strings.Repeat("i", 20) + "160000 b\x00" + strings.Repeat("i", 20)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := newChecker(fakeObjects{raw}, Limits{}.withDefaults(), func() error { return nil })
		d, err := c.root(plumbing.NewHash(""), nil)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, e := range d.entries {
			if e.name == "" || strings.ContainsAny(e.name, "/\x00") || filepath.Clean(e.name) != e.name || seen[fold(e.name)] {
				t.Errorf("accepted %q", e.name)
			}
			seen[fold(e.name)] = true
		}
	})
}

func FuzzPack(f *testing.F) {
	one := packed{typ: plumbing.BlobObject, content: []byte("one")}
	f.Add(makePack(f, one))
	f.Add(makePack(f, one, packed{typ: plumbing.OFSDeltaObject, back: 1, content: delta(3, "two")}))
	f.Add(makePack(f, packed{typ: plumbing.REFDeltaObject, base: blobID("one"), content: delta(3, "two")}, one))
	f.Fuzz(func(t *testing.T, pack []byte) {
		// The checksum is put right, or no change would ever get past it.
		if len(pack) > 20 {
			sum := sha1.Sum(pack[:len(pack)-20])
			copy(pack[len(pack)-20:], sum[:])
		}
		x, err := index(t, pack, Limits{TotalBytes: 1 << 20})
		if err == nil && x != nil && len(x.sizes) == 0 {
			t.Error("an index without objects")
		}
	})
}

func FuzzProtocol(f *testing.F) {
	f.Add([]byte("001e# service=git-upload-pack\n0000003f0123456789012345678901234567890123456789 HEAD\x00symref=HEAD:refs/heads/x\n0000"), "main")
	f.Add([]byte("0008NAK\n0009\x01PACK0000"), "")
	f.Fuzz(func(t *testing.T, raw []byte, branch string) {
		var s Source
		if adv, err := s.readAdvert(bytes.NewReader(raw), branch); err == nil && branch != "" && adv.branch != branch {
			t.Errorf("branch became %q", adv.branch)
		}
		for _, shallow := range []bool{false, true} {
			if pack, _, err := s.readAnswer(bytes.NewReader(raw), shallow); err == nil {
				_, _ = io.Copy(io.Discard, pack)
			}
		}
	})
}
