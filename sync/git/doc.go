// Package git keeps a small mirror of one branch of a Git repository and serves each
// of its commits as an fs.FS, read straight from the object store.
//
// There is never a work tree: no symbolic link, hook, filter or submodule can act. A
// tree is walked and held against limits before one file of it is read, and a branch
// head is believed only once its commit, every tree and every blob are here. Whenever
// something looks wrong, a fresh clone is made beside the old one and swapped in.
//
// It is the only package that imports go-git, and takes from it what scans and indexes
// packs, applies deltas, decodes commits and reads repositories on this machine. The
// fetch protocol and the reading of mirrored packs are its own, so that a hostile or
// stalled server meets bounds on time, memory and disk, and so that certificates, proxies
// and host keys belong to one source and never to the process.
package git
