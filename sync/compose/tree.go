package compose

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// refusal is why a path is not read.
type refusal struct{ rule, message, hint string }

const insideHint = "only files of the repository can be used"

// besideDir is the directory, below the run directory on the host, of the files of the
// repository that are not in its run directory. No path of the stack's data moves for them.
const besideDir = ".repo"

// inside makes a path, written in a file of base, one relative to the run directory: it
// leads anywhere in the tree. For a stack whose files are on the host, absolute paths may
// lead to the run directory, too, and nothing is known of what is beside it.
func (l *load) inside(base, written string) (string, *refusal) {
	if l.req.HostDir != "" && path.IsAbs(written) && within(path.Clean(written), l.req.HostDir) {
		return path.Clean("." + strings.TrimPrefix(path.Clean(written), l.req.HostDir)), nil
	}
	switch {
	case isRemote(written):
		return "", &refusal{
			"remote-reference", fmt.Sprintf("%q is fetched from elsewhere", written),
			"copy the file into the repository",
		}
	case written == "":
		return "", &refusal{"path-outside", "the path is empty", insideHint}
	case path.IsAbs(written), strings.HasPrefix(written, "~"), isWindowsPath(written):
		return "", &refusal{"path-outside", fmt.Sprintf("%q is a path of the host", written), insideHint}
	case strings.ContainsAny(written, "\x00\n\\"):
		return "", &refusal{"path-outside", fmt.Sprintf("%q is not a plain path", written), insideHint}
	}
	full := path.Join(l.dir, base, written)
	rel := l.relative(full)
	if !fs.ValidPath(full) || l.req.HostDir != "" && isBeside(rel) {
		return "", &refusal{"path-outside", fmt.Sprintf("%q leaves the repository", written), insideHint}
	}
	return rel, nil
}

// relative is a path of the tree from the run directory. What is beside that is reached
// by way of the root, so that each path has one spelling.
func (l *load) relative(full string) string {
	if l.dir == "." {
		return full
	}
	if full == l.dir {
		return "."
	}
	if after, ok := strings.CutPrefix(full, l.dir+"/"); ok {
		return after
	}
	return path.Join(l.root(), full)
}

// root is the root of the tree from the run directory.
func (l *load) root() string {
	return strings.TrimSuffix(strings.Repeat("../", strings.Count(l.dir, "/")+1), "/")
}

// isBeside reports whether a path is not in the run directory.
func isBeside(rel string) bool { return rel == ".." || strings.HasPrefix(rel, "../") }

// onHost is where a file of the tree is in the run directory of the host.
func (l *load) onHost(rel string) string {
	if isBeside(rel) {
		return path.Join(besideDir, strings.TrimPrefix(rel, l.root()))
	}
	return rel
}

// isRemote reports references that Compose would fetch.
func isRemote(ref string) bool {
	if strings.Contains(ref, "://") {
		return true
	}
	for _, prefix := range []string{"git@", "github.com/", "oci:"} {
		if strings.HasPrefix(ref, prefix) {
			return true
		}
	}
	return false
}

func isWindowsPath(p string) bool {
	if strings.HasPrefix(p, `\\`) {
		return true
	}
	return len(p) >= 3 && p[1] == ':' && (p[2] == '\\' || p[2] == '/')
}

// stat looks at a path of the run directory. A nil FileInfo with no refusal means that
// nothing is there.
func (l *load) stat(rel string) (fs.FileInfo, *refusal) {
	full := path.Join(l.dir, rel)
	l.deps[full] = true
	info, err := l.req.Tree.Stat(full)
	if err != nil {
		// A link on the way looks like an absent file to a tree that follows none.
		for dir := path.Dir(full); dir != "."; dir = path.Dir(dir) {
			if parent, parentErr := l.req.Tree.Stat(dir); parentErr == nil && !parent.IsDir() {
				return nil, refuseMode(dir, parent.Mode())
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil //nolint:nilnil // Absence is an answer here, not an error.
		}
		return nil, &refusal{"file-unreadable", fmt.Sprintf("%s cannot be read: %v", full, err), ""}
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return nil, refuseMode(full, info.Mode())
	}
	return info, nil
}

func refuseMode(name string, mode fs.FileMode) *refusal {
	switch {
	case mode&fs.ModeSymlink != 0:
		return &refusal{
			"symlink", fmt.Sprintf("%s is a symbolic link", name),
			"links are never followed; commit the file itself",
		}
	case mode.IsRegular():
		return &refusal{"not-a-directory", fmt.Sprintf("%s is a file, not a directory", name), ""}
	default:
		return &refusal{"not-regular", fmt.Sprintf("%s is not a regular file", name), ""}
	}
}
