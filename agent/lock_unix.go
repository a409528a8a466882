//go:build unix

package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// lockDir keeps two agents from sharing one state directory: they would share a key and
// push each other off core in turn. The kernel drops the lock with the process.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "agent.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &ConfigError{Err: fmt.Errorf("%w %s", errLocked, dir), Hint: "give each agent on this host its own --dir"}
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return sync.OnceFunc(func() { _ = f.Close() }), nil
}
