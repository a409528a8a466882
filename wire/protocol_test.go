package wire_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// Frame types as they are on the wire, written down once more so that a renumbering
// shows.
const (
	part, request, open, notify, response, failure = 1, 2, 3, 4, 5, 6
	data, credit, cancel, ping, pong, bye          = 7, 8, 9, 10, 11, 12
)

func rawFrame(kind byte, id uint32, payload string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, id), payload...)
}

const (
	hello     = "\x05hello{}"
	fullRoom  = "\x00\x04\x00\x00"
	openHello = fullRoom + hello
)

// TestFramesThatMakeNoSenseEndTheConnection plays an agent that talks nonsense to a
// core that has one call (id 2) and one stream (id 4) under way and serves one stalled
// request (id 1) and one stalled stream (id 3).
func TestFramesThatMakeNoSenseEndTheConnection(t *testing.T) {
	frames := func(fs ...[]byte) [][]byte { return fs }
	for name, nonsense := range map[string][][]byte{
		"an empty message":                  frames([]byte{}),
		"half a header":                     frames([]byte{request, 0, 0, 0}),
		"type 0":                            frames(rawFrame(0, 5, hello)),
		"type 255":                          frames(rawFrame(0xff, 5, hello)),
		"a request without an id":           frames(rawFrame(request, 0, hello)),
		"a request under the core's id":     frames(rawFrame(request, 6, hello)),
		"a request whose id was used":       frames(rawFrame(request, 1, hello)),
		"a request whose id goes back":      frames(rawFrame(request, 9, hello), rawFrame(request, 7, hello)),
		"a request without a verb":          frames(rawFrame(request, 5, "")),
		"a request with an empty verb":      frames(rawFrame(request, 5, "\x00{}")),
		"a verb longer than its payload":    frames(rawFrame(request, 5, "\x06hello")),
		"a verb of 65 bytes":                frames(rawFrame(request, 5, "\x41"+strings.Repeat("v", 65))),
		"a stream without a window":         frames(rawFrame(open, 5, "\x00\x00")),
		"a notification with an id":         frames(rawFrame(notify, 5, hello)),
		"a notification without a verb":     frames(rawFrame(notify, 0, "")),
		"an answer nobody asked for":        frames(rawFrame(response, 6, "")),
		"an answer to the own request":      frames(rawFrame(response, 1, "")),
		"a second answer":                   frames(rawFrame(response, 2, ""), rawFrame(response, 2, "")),
		"a failure nobody asked for":        frames(rawFrame(failure, 6, "")),
		"a part of an answer nobody wants":  frames(rawFrame(part, 6, "x")),
		"an empty part":                     frames(rawFrame(part, 5, "")),
		"stream bytes nobody asked for":     frames(rawFrame(data, 6, "x")),
		"stream bytes for a call":           frames(rawFrame(data, 2, "x")),
		"stream bytes after the end":        frames(rawFrame(response, 4, ""), rawFrame(data, 4, "x")),
		"empty stream bytes":                frames(rawFrame(data, 4, "")),
		"stream bytes beyond the window":    slices.Repeat(frames(rawFrame(data, 4, strings.Repeat("x", 60_000))), 5),
		"credit for a call":                 frames(rawFrame(credit, 1, "\x00\x00\x00\x01")),
		"credit of three bytes":             frames(rawFrame(credit, 3, "\x00\x00\x01")),
		"credit for no request":             frames(rawFrame(credit, 99, "\x00\x00\x00\x01")),
		"credit that overflows":             slices.Repeat(frames(rawFrame(credit, 3, "\x3f\xf0\x00\x00")), 2),
		"a cancel of no request":            frames(rawFrame(cancel, 99, "")),
		"a cancel with a payload":           frames(rawFrame(cancel, 1, "x")),
		"a cancel of the core's own call":   frames(rawFrame(cancel, 2, "")),
		"a ping with an id":                 frames(rawFrame(ping, 1, "")),
		"a ping with a payload":             frames(rawFrame(ping, 0, "x")),
		"a goodbye":                         frames(rawFrame(bye, 0, `{"code":"shutdown","message":"bye"}`)),
		"a goodbye that says nothing":       frames(rawFrame(bye, 0, "")),
		"a goodbye with an id":              frames(rawFrame(bye, 1, "{}")),
		"the 257th request":                 manyRequests(request, hello, 255),
		"the 257th stream":                  manyRequests(open, openHello, 255),
		"parts of far too many messages":    manyRequests(part, "x", 513),
		"a message of 16 MiB and one part":  slices.Repeat(frames(rawFrame(part, 5, strings.Repeat("x", 60_000))), 280),
		"messages of 16 MiB and of 8 MiB":   append(bigMessage(5, 279), bigMessage(7, 141)...),
		"a frame larger than any may be":    frames(rawFrame(part, 5, strings.Repeat("x", 65_515))),
		"a request and the whole lot again": frames(rawFrame(request, 5, hello), rawFrame(request, 5, hello)),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				agent, ended := besiegedCore(t)
				for i, message := range nonsense {
					if i == len(nonsense)-1 {
						synctest.Wait()
						select {
						case err := <-ended:
							t.Fatalf("the connection ended too early: %v", err)
						default:
						}
					}
					_ = agent.WriteMessage(message)
				}
				synctest.Wait()
				select {
				case err := <-ended:
					if err == nil {
						t.Error("the connection ended without an error")
					}
				default:
					t.Error("the connection is still open")
				}
			})
		})
	}
}

// TestFramesThatComeTooLateAreNoFault: both sides speak at once, so a frame may be on
// its way for a request that has just been answered.
func TestFramesThatComeTooLateAreNoFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent, ended := besiegedCore(t)
		for _, message := range [][]byte{
			rawFrame(request, 5, "\x04done"), rawFrame(cancel, 5, ""), rawFrame(credit, 5, "\x00\x00\x00\x01"),
			rawFrame(cancel, 1, ""), rawFrame(cancel, 1, ""), rawFrame(cancel, 3, ""), rawFrame(pong, 0, ""),
			rawFrame(ping, 0, ""), rawFrame(ping, 0, ""), rawFrame(response, 4, ""), rawFrame(failure, 2, "not JSON"),
		} {
			_ = agent.WriteMessage(message)
			synctest.Wait()
		}
		select {
		case err := <-ended:
			t.Errorf("the connection ended: %v", err)
		default:
		}
	})
}

func manyRequests(kind byte, payload string, n int) (messages [][]byte) {
	for i := range n {
		messages = append(messages, rawFrame(kind, uint32(5+2*i), payload))
	}
	return messages
}

func bigMessage(id uint32, parts int) [][]byte {
	return slices.Repeat([][]byte{rawFrame(part, id, strings.Repeat("x", 60_000))}, parts)
}

// besiegedCore is a core in the middle of everything, and the raw other end.
func besiegedCore(t *testing.T) (agent wire.MessageConn, ended <-chan error) {
	t.Helper()
	agent, conn := wire.Pipe()
	core := wire.NewPeer(conn, wire.PeerConfig{Handler: wire.HandlerFunc(
		func(ctx context.Context, verb wire.Verb, _ []byte, _ io.Writer) (any, error) {
			if verb == "done" {
				return nil, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		})})
	ended = run(t, core)
	go func() { _ = core.Call(t.Context(), wire.VerbObserve, nil, nil) }()
	synctest.Wait()
	if _, err := core.OpenStream(t.Context(), wire.VerbLogs, nil); err != nil {
		t.Fatal(err)
	}
	_ = agent.WriteMessage(rawFrame(request, 1, hello))
	_ = agent.WriteMessage(rawFrame(open, 3, openHello))
	go func() { // somebody has to read what the core says
		for {
			if _, err := agent.ReadMessage(nil); err != nil {
				return
			}
		}
	}()
	synctest.Wait()
	return agent, ended
}

var update = flag.Bool("update", false, "rewrite golden files; those of a released version never change")

// TestGoldenFrames holds what both sides put on the wire, byte by byte, against what
// version 1 put there.
func TestGoldenFrames(t *testing.T) {
	var got bytes.Buffer
	ac, cc := wire.Pipe()
	agent := wire.NewPeer(recorder{ac, "agent", &got}, wire.PeerConfig{Initiator: true, PingEvery: time.Hour})
	core := wire.NewPeer(recorder{cc, "core", &got}, wire.PeerConfig{Handler: wire.HandlerFunc(
		func(_ context.Context, verb wire.Verb, _ []byte, stream io.Writer) (any, error) {
			switch verb {
			case wire.VerbHello:
				return wire.Welcome{Version: 1, Core: "main", Server: "alpha", Epoch: 7, Time: time.Unix(1790000000, 0).UTC()}, nil
			case wire.VerbBlobs:
				_, err := stream.Write([]byte("\x00\x00\x00\x00\x00\x00\x00\x03abc"))
				return nil, err
			case wire.VerbReport, wire.VerbProgress, wire.VerbResult, wire.VerbApply, wire.VerbCancel,
				wire.VerbObserve, wire.VerbLogs, wire.VerbHost, wire.VerbRegistry, wire.VerbFiles, wire.VerbProjects,
				wire.VerbRotate, wire.VerbRotatePropose, wire.VerbRotateConfirm, wire.VerbCoreKey, wire.VerbCommit, wire.VerbRest:
			}
			return nil, wire.UnknownVerb(verb)
		})})
	run(t, agent)
	run(t, core)
	ctx := t.Context()
	_ = agent.Call(ctx, wire.VerbHello, wire.Hello{Version: 1, Server: "alpha", Agent: fleet.AgentInfo{
		Version: "1.0.0", Hostname: "host", OS: "linux", Arch: "arm64",
	}, Running: []string{"o1"}}, nil)
	_ = agent.Call(ctx, "fly", nil, nil)
	stream, err := agent.OpenStream(ctx, wire.VerbBlobs, wire.BlobsRequest{Order: "o1", Digests: []fleet.Digest{fleet.SumDigest([]byte("abc"))}})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(stream)
	agent.Close(ctx, wire.Errorf(wire.CodeShutdown, "agent stops"))

	path := filepath.Join("testdata", "v1", "session.txt")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("session (-want +got):\n%s", diff)
	}
}

// recorder writes down what one side sends. In the golden session the sides take turns.
type recorder struct {
	wire.MessageConn
	side string
	w    io.Writer
}

func (r recorder) WriteMessage(p []byte) error {
	fmt.Fprintf(r.w, "%s\n%s", r.side, hex.Dump(p))
	return r.MessageConn.WriteMessage(p)
}

// TestGoldenMessages decodes what version 1 sent. Fields may be added; one that is
// renamed, removed or retyped breaks every agent that is not upgraded yet.
func TestGoldenMessages(t *testing.T) {
	at := time.Unix(1790000000, 0).UTC()
	outcome := fleet.Outcome{Order: "o1", Stack: "web", Status: fleet.OutcomeRolledBack, Reason: "exited", EndedAt: at}
	for name, want := range map[string]any{
		"hello":    &wire.Hello{Version: 1, Server: "alpha", Agent: fleet.AgentInfo{Version: "1.0.0"}, Running: []string{"o1"}},
		"welcome":  &wire.Welcome{Version: 1, Core: "main", Server: "alpha", Epoch: 7, Time: at},
		"report":   &wire.Report{Full: true, Stacks: []fleet.StackReport{{Stack: "web", Project: "web"}}, Gone: []string{"db"}},
		"blobs":    &wire.BlobsRequest{Order: "o1", Digests: []fleet.Digest{"sha256:00"}},
		"progress": &fleet.Progress{Order: "o1", Stack: "web", Phase: fleet.PhasePull, Percent: -1, At: at},
		"result":   &outcome,
		"apply":    &wire.OrderRequest{Epoch: 7, Order: fleet.Order{ID: "o1", Kind: fleet.OrderApply, Stack: "web"}},
		"accepted": &wire.Accepted{Outcome: &outcome},
		"cancel":   &wire.CancelRequest{Order: "o1"},
		"logs":     &wire.LogsRequest{Stack: "web", Service: "app", Follow: true, Tail: -1},
		"logline":  &wire.LogLine{Service: "app", Container: "web-app-1", Stderr: true, Time: at, Text: "hi"},
		"registry": &wire.RegistryRequest{Order: "o1"},
		"logins":   &wire.Logins{Logins: []wire.Login{{Registry: "ghcr.io", Username: "ci", Password: "p"}}},
		"files":    &wire.FilesRequest{Dir: "/srv/web", Files: []string{"compose.yaml"}},
		"hostfile": &wire.HostFile{Path: "compose.yaml", Mode: 0o644, Content: []byte("services: {}")},
		"projects": &wire.Projects{Projects: []wire.Project{{
			Name: "web", Server: "alpha", Stack: "web", WorkingDir: "/srv/web",
			ConfigFiles: []string{"/srv/web/compose.yaml"}, EnvFiles: []string{"/srv/web/.env"},
			Containers: []wire.ProjectContainer{{
				ID: "c1", Name: "web-app-1", Service: "app", Image: "app:1", ImageID: "sha256:00", State: fleet.StateRunning, ConfigHash: "h",
			}},
		}}},
		"error": &wire.Error{Code: wire.CodeStale, Message: "epoch 3 is over", Retryable: true},
	} {
		path := filepath.Join("testdata", "v1", name+".json")
		if *update {
			text, err := json.MarshalIndent(want, "", "  ")
			if err == nil {
				err = os.WriteFile(path, append(text, '\n'), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		got := reflect.New(reflect.TypeOf(want).Elem()).Interface()
		decoder := json.NewDecoder(file)
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(got); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		_ = file.Close()
	}
}

// FuzzPeer feeds a core what the fuzzer makes up: a length byte and that many bytes
// per message. Whatever comes, the peer ends in order and leaves nothing behind.
func FuzzPeer(f *testing.F) {
	seed := func(messages ...[]byte) {
		var b []byte
		for _, m := range messages {
			b = append(append(b, byte(len(m))), m...)
		}
		f.Add(b)
	}
	seed(rawFrame(request, 1, hello), rawFrame(cancel, 1, ""), rawFrame(ping, 0, ""))
	seed(rawFrame(open, 1, openHello), rawFrame(credit, 1, "\x00\x00\x00\x09"), rawFrame(notify, 0, hello))
	seed(rawFrame(part, 1, "\x05he"), rawFrame(part, 3, "\x05hel"), rawFrame(request, 1, "llo"), rawFrame(request, 3, "lo{}"))
	seed(rawFrame(part, 2, "{"), rawFrame(response, 2, "}"), rawFrame(data, 4, "abc"), rawFrame(failure, 4, "{}"), rawFrame(bye, 0, "{}"))
	f.Fuzz(func(t *testing.T, input []byte) {
		synctest.Test(t, func(t *testing.T) {
			agent, ended := besiegedCore(t)
			for len(input) > 0 {
				n := min(int(input[0]), len(input)-1)
				if agent.WriteMessage(input[1:1+n]) != nil {
					break
				}
				input = input[1+n:]
			}
			_ = agent.Close()
			if err := <-ended; err == nil {
				t.Error("the connection ended without an error")
			}
		})
	})
}
