package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// request is a command for one of the processes, answer what it says to it.
type request struct {
	Do    string        `json:"do"`
	Kind  string        `json:"kind,omitempty"`
	Addr  string        `json:"addr,omitempty"`
	Pin   []byte        `json:"pin,omitempty"`
	Keys  [][]byte      `json:"keys,omitempty"`
	N     int           `json:"n,omitempty"`
	Calls int           `json:"calls,omitempty"`
	Ping  time.Duration `json:"ping,omitempty"`
}

type answer struct {
	Err  string          `json:"err,omitempty"`
	Addr string          `json:"addr,omitempty"`
	Pin  []byte          `json:"pin,omitempty"`
	Keys [][]byte        `json:"keys,omitempty"`
	Use  usage           `json:"use,omitzero"`
	Took time.Duration   `json:"took,omitempty"`
	All  []time.Duration `json:"all,omitempty"`
}

// usage is what a process has used so far.
type usage struct {
	CPU        time.Duration `json:"cpu"`
	RSS        int           `json:"rss"`
	Goroutines int           `json:"goroutines"`
}

func usageNow() (usage, error) {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return usage{}, err
	}
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return usage{}, err
	}
	fields := strings.Fields(string(statm))
	if len(fields) < 2 {
		return usage{}, errors.New("short statm")
	}
	pages, err := strconv.Atoi(fields[1])
	if err != nil {
		return usage{}, err
	}
	return usage{
		CPU:        time.Duration(ru.Utime.Nano() + ru.Stime.Nano()),
		RSS:        pages * os.Getpagesize(),
		Goroutines: runtime.NumGoroutine(),
	}, nil
}

// settledUsage is the usage after everything that can be given back was.
func settledUsage() (usage, error) {
	for range 3 {
		runtime.GC()
		debug.FreeOSMemory()
	}
	return usageNow()
}

// process is one of the program's other processes.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder
}

func startProcess(ctx context.Context, role string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-role", role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &process{cmd: cmd, in: in, enc: json.NewEncoder(in), dec: json.NewDecoder(out)}, nil
}

// ask sends a command and waits for the answer.
func (p *process) ask(r request) (answer, error) {
	if err := p.enc.Encode(r); err != nil {
		return answer{}, err
	}
	var a answer
	if err := p.dec.Decode(&a); err != nil {
		return answer{}, fmt.Errorf("%s: the process is gone: %w", r.Do, err)
	}
	if a.Err != "" {
		return a, fmt.Errorf("%s: %s", r.Do, a.Err)
	}
	return a, nil
}

func (p *process) stop() {
	_ = p.in.Close()
	_ = p.cmd.Wait()
}

// serveCommands is the other end of ask. It ends with standard input.
func serveCommands(ctx context.Context, command func(context.Context, request) (answer, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dec, enc := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var r request
		err := dec.Decode(&r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		a, err := command(ctx, r)
		if err != nil {
			a.Err = err.Error()
		}
		if err := enc.Encode(a); err != nil {
			return err
		}
	}
}

// raiseFileLimit makes room for a connection per agent and kind.
func raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}
