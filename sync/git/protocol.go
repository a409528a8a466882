package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
)

// maxAdvertBytes bounds the list of references a server sends before anything else. It
// is read as a stream, so it costs traffic and no memory.
const maxAdvertBytes = 64 << 20

// session is one conversation with git-upload-pack. Its methods are called in order, and
// close in any case.
type session interface {
	// advertise returns the server's list of references.
	advertise(ctx context.Context) (io.Reader, error)
	// request sends body and returns the answer. It is called at most once.
	request(ctx context.Context, body []byte) (io.Reader, error)
	close() error
}

// advert is what we keep of a server's list of references.
type advert struct {
	// head is the commit at the tip of branch; zero when there is no such branch.
	head   plumbing.Hash
	branch string
	empty  bool
	caps   map[string]bool // nil until the first reference was read
}

// readAdvert looks for branch in the list of references; an empty branch means the one
// that the server's HEAD names.
func (s *Source) readAdvert(r io.Reader, branch string) (advert, error) {
	lines := pktline.NewScanner(bufio.NewReader(io.LimitReader(r, maxAdvertBytes)))
	adv := advert{branch: branch}
	ended := false
	for lines.Scan() {
		line := lines.Bytes()
		// The service header of HTTP ends with a flush, and so does the list itself.
		ended = len(line) == 0
		if ended && adv.caps != nil {
			break
		}
		if ended {
			continue
		}
		if err := adv.take(strings.TrimSuffix(string(line), "\n")); err != nil {
			return advert{}, err
		}
	}
	if err := lines.Err(); err != nil {
		return advert{}, s.packetError("read the list of references", err)
	}
	if !ended {
		return advert{}, fmt.Errorf("read the list of references: %w", io.ErrUnexpectedEOF)
	}
	adv.empty = adv.empty || adv.caps == nil
	return adv, nil
}

// take reads one line. The first reference is followed by the server's capabilities.
func (a *advert) take(line string) error {
	if a.caps == nil {
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "version ") {
			return nil
		}
		reference, capabilities, _ := strings.Cut(line, "\x00")
		if err := a.readCapabilities(capabilities); err != nil {
			return err
		}
		line = reference
	}
	id, name, ok := strings.Cut(line, " ")
	switch {
	case ok && id == "shallow":
	case !ok || !plumbing.IsHash(id):
		return errors.New("read the list of references: malformed line")
	case name == "capabilities^{}":
		a.empty = true
	case a.branch != "" && name == "refs/heads/"+a.branch:
		a.head = plumbing.NewHash(id)
	}
	return nil
}

// readCapabilities keeps the capabilities, and what HEAD names if that is wanted.
func (a *advert) readCapabilities(list string) error {
	a.caps = map[string]bool{}
	for field := range strings.FieldsSeq(list) {
		name, value, _ := strings.Cut(field, "=")
		a.caps[name] = true
		switch name {
		case "symref":
			if branch, ok := strings.CutPrefix(value, "HEAD:refs/heads/"); ok && a.branch == "" {
				a.branch = branch
			}
		case "object-format":
			if value != "sha1" {
				return fmt.Errorf("%w: repository with object format %q", ErrUnsupported, clip(value, 20))
			}
		}
	}
	return nil
}

// fetchRequest asks for one commit.
type fetchRequest struct {
	want plumbing.Hash
	// have is a commit we hold; zero asks for a clone of depth one.
	have plumbing.Hash
	// whole asks for all that led to want.
	whole bool
}

func (q fetchRequest) shallow(adv advert) bool {
	return q.have.IsZero() && !q.whole && adv.caps["shallow"]
}

// encode writes the request as upload-pack expects it. It never mentions that what we
// hold is shallow: told so, a server sends the whole history of every branch that was
// merged from behind the boundary. What it then leaves out by mistake is found by the
// check of the tree and cured by a fresh clone.
func (q fetchRequest) encode(adv advert) ([]byte, error) {
	if !adv.caps["side-band-64k"] {
		return nil, fmt.Errorf("%w: server without side-band-64k", ErrUnsupported)
	}
	var body bytes.Buffer
	line := pktline.NewEncoder(&body)
	caps := []string{"side-band-64k"}
	for _, name := range []string{"ofs-delta", "no-progress", "multi_ack_detailed"} {
		if adv.caps[name] {
			caps = append(caps, name)
		}
	}
	// Encoding into memory cannot fail.
	_ = line.Encodef("want %s %s agent=varan\n", q.want, strings.Join(caps, " "))
	if q.shallow(adv) {
		_ = line.Encodef("deepen 1\n")
	}
	_ = line.Flush()
	if !q.have.IsZero() {
		_ = line.Encodef("have %s\n", q.have)
	}
	_ = line.Encodef("done\n")
	return body.Bytes(), nil
}

// readAnswer skips the negotiation and returns the pack, and the commits at which
// history is cut.
func (s *Source) readAnswer(r io.Reader, shallow bool) (pack io.Reader, cut []plumbing.Hash, err error) {
	lines := pktline.NewScanner(bufio.NewReaderSize(r, 32<<10))
	for lines.Scan() {
		line := lines.Bytes()
		switch {
		case len(line) == 0:
			if !shallow {
				return nil, nil, errors.New("read the answer: unexpected flush")
			}
			shallow = false
		case bytes.HasPrefix(line, []byte("shallow ")):
			cut = append(cut, plumbing.NewHash(strings.TrimSpace(string(line[len("shallow "):]))))
		case bytes.HasPrefix(line, []byte("NAK")), bytes.HasPrefix(line, []byte("ACK ")):
		case line[0] <= bandError:
			band := &sideband{source: s, lines: lines}
			if err := band.take(line); err != nil {
				return nil, nil, err
			}
			return band, cut, nil
		default:
			return nil, nil, fmt.Errorf("read the answer: unexpected line %s", s.remoteText(string(line)))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, nil, s.packetError("read the answer", err)
	}
	return nil, nil, fmt.Errorf("read the answer: %w", io.ErrUnexpectedEOF)
}

// packetError tells a server's own message from a broken stream.
func (s *Source) packetError(doing string, err error) error {
	remote, ok := errors.AsType[*pktline.ErrorLine](err)
	if !ok {
		return fmt.Errorf("%s: %w", doing, err)
	}
	text := s.remoteText(remote.Text)
	if looksMissing(remote.Text) {
		return fmt.Errorf("%w: server says %s", ErrNotFound, text)
	}
	return fmt.Errorf("%s: server says %s", doing, text)
}

// looksMissing knows how Git hosts say over SSH that there is no such repository.
func looksMissing(text string) bool {
	text = strings.ToLower(text)
	for _, phrase := range []string{
		"not found", "could not be found", "does not exist", "no such repository",
		"does not appear to be a git repository",
	} {
		if strings.Contains(text, phrase) {
			return true
		}
	}
	return false
}

// The channels of a sideband packet.
const (
	bandData     = 1
	bandProgress = 2
	bandError    = 3
)

// sideband is the pack inside sideband packets.
type sideband struct {
	source  *Source
	lines   *pktline.Scanner
	pending []byte
	ended   bool
}

// take accepts one packet.
func (b *sideband) take(packet []byte) error {
	switch {
	case len(packet) == 0:
		b.ended = true
	case packet[0] == bandData:
		b.pending = packet[1:]
	case packet[0] == bandProgress:
	case packet[0] == bandError:
		return fmt.Errorf("receive the pack: server says %s", b.source.remoteText(string(packet[1:])))
	default:
		return errors.New("receive the pack: unknown channel")
	}
	return nil
}

// Read returns the pack and io.EOF at its orderly end only.
func (b *sideband) Read(p []byte) (int, error) {
	for len(b.pending) == 0 {
		if b.ended {
			return 0, io.EOF
		}
		if !b.lines.Scan() {
			if err := b.lines.Err(); err != nil {
				return 0, b.source.packetError("receive the pack", err)
			}
			return 0, fmt.Errorf("receive the pack: %w", io.ErrUnexpectedEOF)
		}
		if err := b.take(b.lines.Bytes()); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.pending)
	b.pending = b.pending[n:]
	return n, nil
}
