package docker

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/fleet"
)

// maxFilled bounds the files in which places of local secrets are looked for: core writes
// them into text of people, not into data.
const maxFilled = 4 << 20

// site is the run directory of a release on the host.
type site struct {
	// dir is its absolute path; base and rel are how it is opened.
	dir, base, rel string
	// host is set when it is not the agent's own: other people's files are in it, and even
	// a file of ours is theirs once it was changed.
	host bool
}

// siteOf finds where a release's files go.
func (e *Engine) siteOf(stack string, release *fleet.Release) (site, *failure) {
	if release == nil || release.Options.Dir == "" && len(release.Services) > 0 {
		dir := e.runDir(stack)
		return site{dir: dir, base: dir, rel: "."}, nil
	}
	dir := release.Options.Dir
	if dir == "" {
		dir = fileName(stack)
	}
	return e.hostSite(e.hostDir(dir))
}

func (e *Engine) hostSite(dir string) (site, *failure) {
	base, rel, resolved, f := e.allowed(dir)
	if f != nil {
		return site{}, f
	}
	return site{dir: resolved, base: base, rel: rel, host: true}, nil
}

// permitted refuses what the policy of the host does not allow, or the host cannot do.
// Nothing of that makes the release a bad one: the host is what has to change.
func (t *task) permitted(release *fleet.Release) *failure {
	options := &release.Options
	if _, f := t.e.siteOf(t.order.Stack, release); f != nil {
		return f
	}
	allowed := &t.e.cfg.Policy
	if allowed.Tier == fleet.TierUntrusted && t.order.Tier != fleet.TierUntrusted {
		return &failure{
			Reason: "the policy of this host says that it is untrusted, and the release is one for a trusted server",
			Hint:   "core learns that when the agent connects, and plans anew; nothing has to be done", Retryable: true,
		}
	}
	for i := range release.Services {
		if s := &release.Services[i]; !fleet.ImageAllowed(allowed.AllowedRegistries, s.Image) {
			return imageRefused(s.Name, s.Image)
		}
	}
	commands := options.PreDeploy.Script + options.FirstDeploy.Script + options.PostDeploy.Script
	if commands != "" && !t.e.cfg.Policy.HostCommands {
		return &failure{
			Reason: "the stack wants to run commands on the host, and the policy of this host does not let it",
			Hint:   "set host_commands = true in the policy file of the host, or take pre_deploy and post_deploy out",
		}
	}
	if options.Up.NoRecreate {
		return &failure{
			Reason: "--no-recreate is not carried out: what runs would never become what is declared",
			Hint:   "take --no-recreate out of extra_args",
		}
	}
	if len(release.Salted()) > 0 && t.e.blobs.ram.err != nil {
		return &failure{
			Reason: t.e.blobs.ram.err.Error(),
			Hint:   "mount a tmpfs there, or accept files on disk with secrets_on_disk = true in the policy file of the host",
		}
	}
	return nil
}

func imageRefused(service, image string) *failure {
	return &failure{
		Reason: fmt.Sprintf("the policy of this host lets no image in from where service %s has %s", service, image),
		Hint:   "add the registry to allowed_registries in the policy file of the host, or take the image from elsewhere",
	}
}

// modelPermitted is permitted for what the resolved model says: core's word for what is in it
// is not enough.
func (t *task) modelPermitted(release *fleet.Release, raw []byte) (f *failure) {
	allowed := &t.e.cfg.Policy
	defer func() {
		if f != nil {
			t.e.log.Warn("refused", slog.String("order", t.order.ID), slog.String("stack", release.Stack), slog.String("reason", f.Reason))
		}
	}()
	if allowed.Tier == fleet.TierUntrusted {
		if why := policy.RefuseUntrusted(raw); why != "" {
			return &failure{
				Reason: "the policy of this host says that it is untrusted, and " + why,
				Hint:   "run the stack on another server, or let a person of this host change tier in its policy file",
			}
		}
	}
	if len(allowed.AllowedRegistries) == 0 {
		return nil
	}
	var m model
	if err := yaml.Unmarshal(raw, &m); err != nil {
		return &failure{Reason: "the model of the stack cannot be read"}
	}
	for name, s := range m.Services {
		switch {
		case !s.Build.IsZero():
			return &failure{
				Reason: "the policy of this host says where images may come from, and service " + name + " is built here, from whatever its Dockerfile names",
				Hint:   "build the image elsewhere and push it to a registry that is allowed",
			}
		case !fleet.ImageAllowed(allowed.AllowedRegistries, s.Image):
			return imageRefused(name, s.Image)
		}
	}
	return nil
}

// filled checks that every local secret that a release asks for is here.
func (t *task) filled(release *fleet.Release) *failure {
	for _, d := range release.Blobs() {
		raw, err := t.e.blobs.get(d)
		if err != nil {
			return &failure{Reason: err.Error(), Retryable: true}
		}
		if _, unknown := t.e.secrets.fill(raw); unknown != "" {
			return &failure{
				Reason: "the secret " + unknown + " is not on this host",
				Hint:   "add it to [secrets] of the host's policy file or to its secrets file, and restart the agent",
			}
		}
	}
	return nil
}

// place puts a release's files where containers and Compose find them. What will be there
// is recorded first: a file that is not recorded is never removed.
func (t *task) place(release *fleet.Release) (site, *failure) {
	s, f := t.e.siteOf(t.order.Stack, release)
	if f != nil {
		return s, f
	}
	if err := t.placeAt(s, release); err != nil {
		return s, &failure{Reason: err.Error()}
	}
	return s, nil
}

func (t *task) placeAt(s site, release *fleet.Release) error {
	st := t.e.states.get(t.order.Stack)
	before := st.placedAt(s)
	if err := t.expect(s, release, st); err != nil {
		return err
	}
	if len(release.Files) == 0 && len(before) == 0 && s.host {
		return nil // nothing to do with other people's files
	}
	root, err := openDir(s.base, s.rel, true)
	if err != nil {
		return fmt.Errorf("open run directory: %w", err)
	}
	defer func() { _ = root.Close() }()
	gone := before
	if s.host {
		// A file that was changed there is not ours any more.
		gone = t.untouched(root, st.PlacedIn[s.dir])
	}
	p := &placer{root: root, content: t.e.contentOf, ram: func() (*os.Root, string, error) {
		dir, err := t.e.blobs.ram.ensure(ramStack(t.order.Stack))
		if err != nil {
			return nil, "", err
		}
		r, err := os.OpenRoot(dir)
		return r, dir, err
	}}
	if err := p.place(release, gone); err != nil {
		return err
	}
	return t.keepInRAM(p.inRAM)
}

// expect records what is about to be placed.
func (t *task) expect(s site, release *fleet.Release, st *state) error {
	if !s.host {
		all := union(st.Placed, paths(release))
		if slices.Equal(all, st.Placed) {
			return nil
		}
		return t.e.states.update(t.order.Stack, func(st *state) { st.named(t.order.Project).Placed = all })
	}
	if len(release.Files) == 0 {
		return nil
	}
	in := maps.Clone(st.PlacedIn)
	if in == nil {
		in = map[string]map[string]fleet.Digest{}
	}
	files := maps.Clone(in[s.dir])
	if files == nil {
		files = map[string]fleet.Digest{}
	}
	for _, f := range release.Files {
		files[f.Path] = f.Digest
	}
	in[s.dir] = files
	return t.e.states.update(t.order.Stack, func(st *state) { st.named(t.order.Project).PlacedIn = in })
}

// keepInRAM records which files are in memory, and drops those that no longer are.
func (t *task) keepInRAM(files []string) error {
	st := t.e.states.get(t.order.Stack)
	slices.Sort(files)
	for _, name := range st.InRAM {
		if !slices.Contains(files, name) {
			if err := t.e.blobs.ram.remove(filepath.Join(ramStack(t.order.Stack), filepath.FromSlash(name))); err != nil {
				return err
			}
		}
	}
	if slices.Equal(files, st.InRAM) {
		return nil
	}
	return t.e.states.update(t.order.Stack, func(st *state) { st.InRAM = files })
}

// untouched lists the files of ours in a directory of the host that are as we left them.
func (t *task) untouched(root *os.Root, files map[string]fleet.Digest) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if t.e.asPlaced(root, name, files[name]) {
			out = append(out, name)
			continue
		}
		if _, err := root.Lstat(name); err == nil {
			t.note(name + " was changed on the host and is left there")
		}
	}
	return out
}

// asPlaced reports whether a file is what was placed: its content, or a link to where its
// content is kept in memory.
func (e *Engine) asPlaced(root *os.Root, name string, want fleet.Digest) bool {
	if target, err := root.Readlink(name); err == nil {
		rel, err := filepath.Rel(e.blobs.ram.dir, target)
		return !e.blobs.ram.none() && err == nil && filepath.IsLocal(rel)
	}
	f, err := openRegular(root, filepath.FromSlash(name))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	have, err := digestOf(f)
	return err == nil && have == want
}

// contentOf is what a file of a release holds on this host, and whether it may be in
// memory only: a decrypted file without its line of salt, or one with local secrets in
// their places.
func (e *Engine) contentOf(f fleet.File) ([]byte, bool, error) {
	raw, err := e.blobs.get(f.Digest)
	if err != nil {
		return nil, false, err
	}
	secret := f.Salted
	if f.Salted {
		if raw, err = unsalt(raw); err != nil {
			return nil, false, err
		}
	}
	if len(raw) > maxFilled || !e.secrets.has(raw) {
		return raw, secret, nil
	}
	filled, unknown := e.secrets.fill(raw)
	if unknown != "" {
		return nil, false, fmt.Errorf("the secret %s is not on this host", unknown)
	}
	return filled, true, nil
}

// unsalt drops the first line.
func unsalt(b []byte) ([]byte, error) {
	_, rest, found := bytes.Cut(b, []byte{'\n'})
	if !found {
		return nil, errors.New("a decrypted file has no line of salt")
	}
	return rest, nil
}

// leave removes what we placed outside of the sites that are kept.
func (t *task) leave(st *state, keep func(dir string) bool) error {
	left := maps.Clone(st.PlacedIn)
	for dir, files := range st.PlacedIn {
		if keep(dir) {
			continue
		}
		s, f := t.e.hostSite(dir)
		if f != nil {
			t.note(f.Reason + "; what was placed there stays")
			delete(left, dir)
			continue
		}
		root, err := openDir(s.base, s.rel, false)
		if errors.Is(err, fs.ErrNotExist) {
			delete(left, dir)
			continue
		}
		if err == nil {
			err = errors.Join(unplace(root, t.untouched(root, files)), root.Close())
		}
		if err != nil {
			return fmt.Errorf("leave %s: %w", dir, err)
		}
		_ = os.Remove(s.dir) // goes only when it is empty
		delete(left, dir)
	}
	if len(left) == len(st.PlacedIn) {
		return nil
	}
	return t.e.states.update(t.order.Stack, func(st *state) { st.PlacedIn = left })
}

// drift of a repo: its files that are not as they were placed.
func (e *Engine) fileDrift(st *state) []fleet.Drift {
	if st.Good == nil || len(st.Good.Services) > 0 || len(st.Good.Files) == 0 {
		return nil
	}
	s, f := e.siteOf(st.Stack, st.Good)
	if f != nil {
		return []fleet.Drift{{Field: "directory", Have: "no longer allowed by the host"}}
	}
	root, err := openDir(s.base, s.rel, false)
	if err != nil {
		return []fleet.Drift{{Field: "directory", Want: s.dir, Have: "missing"}}
	}
	defer func() { _ = root.Close() }()
	var out []fleet.Drift
	for _, f := range st.Good.Files {
		if e.asPlaced(root, f.Path, f.Digest) {
			continue
		}
		d := fleet.Drift{Field: "file " + f.Path, Want: "as placed", Have: "changed"}
		if _, err := root.Lstat(f.Path); err != nil {
			d.Have = "missing"
		}
		out = append(out, d)
	}
	return out
}

// secretsGone reports whether files that were in memory are not any more.
func (e *Engine) secretsGone(st *state) bool {
	return slices.ContainsFunc(st.InRAM, func(name string) bool {
		return !e.blobs.ram.has(filepath.Join(ramStack(st.Stack), filepath.FromSlash(name)))
	})
}

// digests are what each file of a release holds, by path.
func digests(r *fleet.Release) map[string]fleet.Digest {
	out := make(map[string]fleet.Digest, len(r.Files))
	for _, f := range r.Files {
		out[f.Path] = f.Digest
	}
	return out
}

// digestOf reads to the end.
func digestOf(r io.Reader) (fleet.Digest, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return fleet.Digest("sha256:" + hex.EncodeToString(h.Sum(nil))), nil
}
