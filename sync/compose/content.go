package compose

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"unicode/utf8"

	"github.com/varanhq/varan/fleet"
)

// content is what a file of the run directory holds once everything in it is opened.
type content struct {
	data []byte
	// derived says that data is not what the tree has.
	derived bool
	// secret says that data must not be released like a file that anyone may read.
	secret bool
}

// open reads a regular file of the run directory. It is the one place that does.
func (l *load) open(rel string) (content, *refusal) {
	data, err := l.req.Tree.ReadFile(path.Join(l.dir, rel))
	if err != nil {
		return content{}, &refusal{"file-unreadable", fmt.Sprintf("%s cannot be read: %v", l.show(rel), err), ""}
	}
	if l.asIs {
		return content{data: data}, nil
	}
	if plain, ok := l.reveal(rel, data); ok {
		return content{data: plain.Data, derived: true, secret: !plain.Public}, nil
	}
	return content{data: data}, nil
}

// read returns a text file of the run directory that configures the stack. The stack's
// own environment file shadows one of the repository.
func (l *load) read(rel string) ([]byte, *refusal) {
	if l.envFile.path == rel {
		return l.envFile.data, nil
	}
	if known, ok := l.texts[rel]; ok {
		return known.data, nil
	}
	info, refused := l.stat(rel)
	switch {
	case refused != nil:
		return nil, refused
	case info == nil:
		return nil, &refusal{"file-not-found", fmt.Sprintf("%s does not exist", l.show(rel)), ""}
	case info.IsDir():
		return nil, &refusal{"not-regular", fmt.Sprintf("%s is a directory", l.show(rel)), ""}
	case info.Size() > maxFileSize:
		return nil, &refusal{
			"too-large",
			fmt.Sprintf("%s has %d bytes; at most %d are read", l.show(rel), info.Size(), maxFileSize), "",
		}
	}
	c, refused := l.open(rel)
	if refused != nil {
		return nil, refused
	}
	l.texts[rel] = c
	l.secretModel = l.secretModel || c.secret
	return c.data, nil
}

// interpolate replaces [[NAME]] in a text file, when the stack asks for that.
func (l *load) interpolate(rel string, c content) content {
	if l.req.InterpolateFiles == nil || !bytes.Contains(c.data, []byte("[[")) || !utf8.Valid(c.data) {
		return c
	}
	out := l.req.InterpolateFiles(l.show(rel), string(c.data))
	for _, secret := range out.Secrets {
		l.seal.addSecret(secret)
	}
	for _, name := range out.Variables {
		l.env.pool.asked[name] = true
	}
	for _, d := range out.Findings {
		l.add(d.Severity, d.Rule, d.Position, d.Message, d.Hint)
	}
	return content{data: []byte(out.Text), derived: true, secret: c.secret || len(out.Secrets) > 0}
}

// addFile opens a file once to name its content, and puts it into the release.
func (l *load) addFile(rel string, info fs.FileInfo, pos fleet.Position) (fleet.File, bool) {
	if known, ok := l.files[rel]; ok && (l.asIs || !l.kept[rel]) {
		return known, true
	}
	l.kept[rel] = l.asIs
	switch {
	case info.Size() > maxBlob:
		l.fail("too-large", pos, fmt.Sprintf("%s has %d bytes; at most %d are sent to a host", l.show(rel), info.Size(), maxBlob),
			"put large data in an image or a volume")
		return fleet.File{}, false
	case len(l.files) >= maxMountedFiles || l.mounted+info.Size() > maxMounted:
		l.fail("too-many-files", pos,
			fmt.Sprintf("the stack uses more than %d files or %d bytes of the repository", maxMountedFiles, maxMounted),
			"mount only the directories the service needs")
		return fleet.File{}, false
	}
	c, known := l.texts[rel]
	if !known || l.asIs {
		var refused *refusal
		if c, refused = l.open(rel); refused != nil {
			l.fail(refused.rule, pos, refused.message, refused.hint)
			return fleet.File{}, false
		}
	}
	if l.isConfig(rel) {
		c = l.interpolate(rel, c)
	}
	file := fleet.File{Path: l.onHost(rel), Mode: 0o644, Secret: c.secret, Salted: c.secret}
	if info.Mode()&0o111 != 0 {
		file.Mode = 0o755
	}
	blob := Blob{Path: path.Join(l.dir, rel)}
	if c.secret {
		// Its digest says nothing about it: a line that only holders of the key can compute
		// comes first.
		c.data, c.derived = l.seal.prefix(c.data), true
	}
	if c.derived {
		blob = Blob{data: c.data}
	}
	blob.Size = int64(len(c.data))
	file.Size, file.Digest = blob.Size, fleet.SumDigest(c.data)
	l.ship(rel, file, blob)
	return file, true
}

// ship puts a file into the release. Files that are on the host already only count in
// digests.
func (l *load) ship(rel string, file fleet.File, blob Blob) {
	l.files[rel] = file
	l.mounted += file.Size
	if l.req.HostDir == "" {
		l.content[file.Digest] = blob
	}
}
