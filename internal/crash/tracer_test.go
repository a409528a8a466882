//go:build linux

package crash_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// calls are the system calls after which something outside of the process is another, or is
// promised to be: files, directories, and what others are told over sockets. By their number;
// the value says which of their arguments is a path, or with -1 that the first is a descriptor.
// Left out are those that only read, wait, or change the process itself, among them open without
// O_CREAT, close, lseek and mmap: a death before one of these leaves the same as one before the
// next that is here.
var calls = map[uint64]call{
	unix.SYS_WRITE:           {"write", -1},
	unix.SYS_PWRITE64:        {"pwrite64", -1},
	unix.SYS_WRITEV:          {"writev", -1},
	unix.SYS_PWRITEV:         {"pwritev", -1},
	unix.SYS_SENDTO:          {"sendto", -1},
	unix.SYS_SENDMSG:         {"sendmsg", -1},
	unix.SYS_CONNECT:         {"connect", -1},
	unix.SYS_FSYNC:           {"fsync", -1},
	unix.SYS_FDATASYNC:       {"fdatasync", -1},
	unix.SYS_FTRUNCATE:       {"ftruncate", -1},
	unix.SYS_FALLOCATE:       {"fallocate", -1},
	unix.SYS_FCHMOD:          {"fchmod", -1},
	unix.SYS_OPENAT:          {"openat", 1},
	unix.SYS_MKDIRAT:         {"mkdirat", 1},
	unix.SYS_UNLINKAT:        {"unlinkat", 1},
	unix.SYS_RENAMEAT:        {"renameat", 3},
	unix.SYS_RENAMEAT2:       {"renameat2", 3},
	unix.SYS_LINKAT:          {"linkat", 3},
	unix.SYS_SYMLINKAT:       {"symlinkat", 2},
	unix.SYS_FCHMODAT:        {"fchmodat", 1},
	unix.SYS_TRUNCATE:        {"truncate", 0},
	unix.SYS_UTIMENSAT:       {"utimensat", 1},
	unix.SYS_COPY_FILE_RANGE: {"copy_file_range", -1},
	unix.SYS_SENDFILE:        {"sendfile", -1},
	unix.SYS_SPLICE:          {"splice", -1},
}

// call is a kind of system call.
type call struct {
	name string
	path int
}

// callInfo is struct ptrace_syscall_info at the entry of a system call.
type callInfo struct {
	op   uint8
	_    uint32 // the architecture
	_, _ uint64 // where the program is, and its stack
	nr   uint64
	args [6]uint64
}

// output is what a process has written so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String implements fmt.Stringer.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// traced is a process that may be killed before one of its calls. strace can do that too, but
// counts the calls of each thread for itself: of a Go program, whose threads are many, it never
// meets about every second call. This tracer counts them all in one row.
type traced struct {
	cmd  *exec.Cmd
	log  output
	dead chan struct{} // closed when it has ended; the rest is for afterwards
	// made is how many calls it was about to make, at before which of them it was to die.
	made, at int
	// last is the call that it died before, empty when it did not get there.
	last   string
	status unix.WaitStatus
}

// untraced is an at for a process that runs as it would without a test.
const untraced = -1

// start runs the program. It is killed before its call at; with 0 its calls are only counted.
func (l *lab) start(at int, args, env []string) *traced {
	l.t.Helper()
	p, err := launch(l.bin, at, args, env)
	must(l.t, err)
	return p
}

func launch(bin string, at int, args, env []string) (*traced, error) {
	p := &traced{cmd: exec.Command(bin, args...), dead: make(chan struct{}), at: at}
	p.cmd.Env = slices.Concat(os.Environ(), env)
	p.cmd.Stderr = &p.log
	if at == untraced {
		if err := p.cmd.Start(); err != nil {
			return nil, err
		}
		go func() {
			defer close(p.dead)
			_ = p.cmd.Wait()
			if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok {
				p.status = unix.WaitStatus(status)
			}
		}()
		return p, nil
	}
	started := make(chan error)
	go func() {
		// Only the thread that started a process may trace it. It ends with the goroutine.
		runtime.LockOSThread()
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		defer close(p.dead)
		p.trace(p.cmd.Process.Pid)
		_ = p.cmd.Wait() // for what it wrote: how it ended is known
	}()
	return p, <-started
}

// stop asks it to end. It reports whether it died on its way, before the call it was to die at.
func (p *traced) stop() (killed bool) {
	select {
	case <-p.dead:
	default:
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	timer := time.AfterFunc(back, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.dead
	return p.last != ""
}

// trace follows the process and all its threads until it has ended.
func (p *traced) trace(pid int) {
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_EXITKILL
	known := map[int]bool{} // the threads whose first stop was seen
	for {
		var status unix.WaitStatus
		// By its group: the thread may have other children, of before it was this one's tracer.
		tid, err := unix.Wait4(-pid, &status, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return
		case !status.Stopped():
			if tid == pid {
				p.status = status
				return
			}
			continue
		}
		signal := status.StopSignal()
		switch {
		case signal == unix.SIGTRAP|0x80:
			if p.enters(pid, tid) {
				continue // it is dead, and what it stopped before never happens
			}
			signal = 0
		case !known[tid]: // the first stop of a thread is the tracer's doing
			known[tid] = true
			if tid == pid {
				_ = unix.PtraceSetOptions(pid, options)
			}
			if signal == unix.SIGSTOP || signal == unix.SIGTRAP {
				signal = 0
			}
		case signal == unix.SIGTRAP: // a thread was started
			signal = 0
		}
		_ = unix.PtraceSyscall(tid, int(signal)) // it may be dead by now
	}
}

// enters looks at a thread before or after a system call. It reports whether it killed the
// process for it.
func (p *traced) enters(pid, tid int) bool {
	var info callInfo
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 || info.op != unix.PTRACE_SYSCALL_INFO_ENTRY {
		return false
	}
	what, ok := matters(tid, &info)
	if !ok {
		return false
	}
	p.made++
	if p.made != p.at {
		return false
	}
	p.last = what
	_ = unix.Kill(pid, unix.SIGKILL)
	return true
}

// matters reports whether a call changes something, and says which call of what.
func matters(tid int, info *callInfo) (what string, ok bool) {
	c, ok := calls[info.nr]
	if !ok {
		c, ok = older[info.nr]
	}
	if !ok || c.name == "openat" && info.args[2]&unix.O_CREAT == 0 || c.name == "open" && info.args[1]&unix.O_CREAT == 0 {
		return "", false
	}
	var target string
	if c.path >= 0 {
		target = text(tid, info.args[c.path])
	} else {
		target, _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, info.args[0]))
		if info.args[0] <= 2 || strings.HasPrefix(target, "anon_inode:") || strings.HasPrefix(target, "pipe:") {
			return "", false // its own log, and what wakes its own threads
		}
	}
	return c.name + " " + target, true
}

// text reads a text out of a process.
func text(tid int, at uint64) string {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", tid))
	if err != nil {
		return ""
	}
	defer func() { _ = mem.Close() }()
	buf := make([]byte, 4096)
	n, _ := mem.ReadAt(buf, int64(at))
	if end := bytes.IndexByte(buf[:n], 0); end >= 0 {
		n = end
	}
	return string(buf[:n])
}

// needTracer skips where processes may not be traced.
func needTracer(t *testing.T, bin string) {
	t.Helper()
	p, err := launch(bin, 0, []string{"version"}, nil)
	if err != nil {
		t.Skipf("tracing is not permitted here: %v", err)
	}
	<-p.dead
	if !p.status.Exited() || p.status.ExitStatus() != 0 {
		t.Fatalf("the program does not run under a tracer: %v %s", p.status, p.log.String())
	}
}
