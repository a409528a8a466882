package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/wire"
)

// repoDir is where repos go whose path is relative.
func (e *Engine) repoDir() string {
	if dir := e.cfg.Policy.RepoDirectory; dir != "" {
		return dir
	}
	return filepath.Join(e.cfg.Dir, "repos")
}

// hostDir is the absolute path of a directory that a release or a request names.
func (e *Engine) hostDir(dir string) string {
	if filepath.IsAbs(dir) {
		return filepath.Clean(dir)
	}
	return filepath.Join(e.repoDir(), dir)
}

// allowed returns the directory of the policy that holds dir, dir's path below it, and
// dir itself. Symbolic links are followed before anything is compared, and what is then
// opened is opened below the directory of the policy: a link that is made in between
// leads nowhere.
func (e *Engine) allowed(dir string) (base, rel, resolved string, f *failure) {
	dir = e.hostDir(dir)
	resolved, err := resolve(dir)
	if err != nil {
		return "", "", "", &failure{Reason: fmt.Sprintf("look at %s: %v", dir, err)}
	}
	for _, prefix := range append([]string{e.repoDir()}, e.cfg.Policy.HostDirectories...) {
		prefix, err := resolve(prefix)
		if err != nil {
			continue
		}
		rel, err := filepath.Rel(prefix, resolved)
		if err == nil && filepath.IsLocal(rel) {
			return prefix, rel, resolved, nil
		}
	}
	named := dir
	if resolved != dir {
		named += " (which is " + resolved + ")"
	}
	return "", "", "", &failure{
		Reason: "the policy of this host does not let core use the directory " + named,
		Hint:   "add it, or one above it, to host_directories in " + policy.DefaultPath + " on the host and restart the agent",
	}
}

// resolve follows the symbolic links of a path as far as the path exists.
func resolve(name string) (string, error) {
	rest := ""
	for at := filepath.Clean(name); ; at = filepath.Dir(at) {
		resolved, err := filepath.EvalSymlinks(at)
		if err == nil {
			return filepath.Join(resolved, rest), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			return "", err
		}
		if _, err := os.Lstat(at); err == nil {
			return "", fmt.Errorf("%s is a symbolic link that leads nowhere", at)
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}

// openDir opens an allowed directory, making it if asked to.
func openDir(base, rel string, create bool) (*os.Root, error) {
	if create {
		if err := os.MkdirAll(base, 0o755); err != nil { //nolint:gosec // containers run as other users and may mount it
			return nil, err
		}
	}
	root, err := os.OpenRoot(base)
	if err != nil || rel == "." {
		return root, err
	}
	defer func() { _ = root.Close() }()
	if create {
		if err := root.MkdirAll(rel, 0o755); err != nil {
			return nil, err
		}
	}
	return root.OpenRoot(rel)
}

// Files implements agent.Engine.
func (e *Engine) Files(ctx context.Context, req wire.FilesRequest, w io.Writer) error {
	switch {
	case !filepath.IsAbs(req.Dir):
		return wire.Errorf(wire.CodeBadRequest, "%q is not an absolute directory", req.Dir)
	case len(req.Files) == 0 || len(req.Files) > wire.MaxHostFiles:
		return wire.Errorf(wire.CodeBadRequest, "between 1 and %d files can be asked for", wire.MaxHostFiles)
	}
	base, rel, _, f := e.allowed(req.Dir)
	if f != nil {
		return wire.Errorf(wire.CodeDenied, "%s; %s", f.Reason, f.Hint)
	}
	reader := &hostReader{ctx: ctx, out: json.NewEncoder(w)}
	root, err := openDir(base, rel, false)
	switch {
	case errors.Is(err, fs.ErrNotExist): // then nothing in it is there either
	case err != nil:
		return fmt.Errorf("open %s: %w", req.Dir, err)
	default:
		defer func() { _ = root.Close() }()
		reader.root = root
	}
	for _, name := range req.Files {
		if err := reader.read(name); err != nil {
			return err
		}
	}
	return nil
}

// hostReader writes the files of one directory, within the limits of the protocol.
type hostReader struct {
	ctx          context.Context //nolint:containedctx // it lives for one request
	root         *os.Root        // nil when the directory is not there
	out          *json.Encoder
	files, bytes int
}

// read writes a file, or every regular file of a directory.
func (r *hostReader) read(name string) error {
	name = path.Clean(name)
	if !fs.ValidPath(name) {
		return wire.Errorf(wire.CodeBadRequest, "%q does not stay inside the directory", name)
	}
	if r.root == nil {
		return r.missing(name)
	}
	info, err := r.root.Stat(filepath.FromSlash(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r.missing(name)
	case err != nil:
		return wire.Errorf(wire.CodeDenied, "%s cannot be read: %v", name, err)
	case info.Mode().IsRegular():
		return r.file(name)
	case !info.IsDir():
		return wire.Errorf(wire.CodeDenied, "%s is not a regular file", name)
	}
	return fs.WalkDir(r.root.FS(), name, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return wire.Errorf(wire.CodeDenied, "%s cannot be read: %v", name, err)
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		return r.file(name)
	})
}

func (r *hostReader) missing(name string) error {
	return r.out.Encode(wire.HostFile{Path: name, Missing: true})
}

func (r *hostReader) file(name string) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	f, err := openRegular(r.root, filepath.FromSlash(name))
	if err != nil {
		return wire.Errorf(wire.CodeDenied, "%s cannot be read: %v", name, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	content, err := io.ReadAll(io.LimitReader(f, wire.MaxHostFile+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	r.files++
	r.bytes += len(content)
	if len(content) > wire.MaxHostFile || r.files > wire.MaxHostFiles || r.bytes > wire.MaxHostFilesSize {
		return wire.Errorf(wire.CodeTooLarge, "%s is over the limit: %d bytes for a file, %d for all, %d files",
			name, wire.MaxHostFile, wire.MaxHostFilesSize, wire.MaxHostFiles)
	}
	return r.out.Encode(wire.HostFile{Path: name, Mode: uint32(info.Mode().Perm()), Content: content})
}

// openRegular opens a regular file and nothing else: a pipe would block for ever.
func openRegular(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|nonblocking, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
