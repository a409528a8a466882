// Package audit says how the records of core's history hang together: each carries a hash
// over itself and the one before, so that none can be changed, taken out or put in between
// without all that follow being wrong. It is pure. The store keeps the chain, and anybody
// who has an export can verify it without core.
//
// What is old is deleted in the end. Of a deleted record its number, its kind, when it was
// recorded and a digest of the rest stay as a Stub, until nothing before it is left; a
// checkpoint, itself a record of the chain, says which kinds were deleted up to when. So a
// record that was deleted before its time is found like one that was changed.
package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/varanhq/varan/core/api"
)

// KindCheckpoint is the kind of the records that tell of deletions. Their Data has, for each
// kind that was deleted, "before.KIND": the time, in nanoseconds since 1970, before which it
// was recorded; and "base" and "base_hash" when the chain begins later since.
const KindCheckpoint = "checkpoint"

const (
	beforePrefix = "before."
	baseKey      = "base"
	baseHashKey  = "base_hash"
)

// recordFormat and linkFormat begin what is hashed; they change with the fields.
const (
	recordFormat = "varan-record-1"
	linkFormat   = "varan-link-1"
)

// Hash is a SHA-256; it reads and writes as hexadecimal.
type Hash [sha256.Size]byte

// String is the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(h) {
		return fmt.Errorf("%q is no SHA-256 in hexadecimal", text)
	}
	copy(h[:], raw)
	return nil
}

// Mark is a place in the chain: the number of a record and its hash.
type Mark struct {
	ID   int64 `json:"id"`
	Hash Hash  `json:"hash"`
}

// Stub is what is left of a deleted record.
type Stub struct {
	ID       int64     `json:"id"`
	Kind     string    `json:"kind"`
	Recorded time.Time `json:"recorded"`
	Rest     Hash      `json:"rest"`
}

// Clean makes a record hash the same wherever it is read: text is valid UTF-8, and times
// are in UTC.
func Clean(e api.Event) api.Event {
	for _, field := range []*string{
		&e.Kind, &e.Sync, &e.Stack, &e.Server, &e.Actor, &e.Text, &e.Run, &e.Op, &e.Commit, &e.Status, &e.Remote, &e.Listener,
	} {
		*field = strings.ToValidUTF8(*field, "\uFFFD")
	}
	if len(e.Data) > 0 {
		data := make(map[string]string, len(e.Data))
		for key, value := range e.Data {
			data[strings.ToValidUTF8(key, "\uFFFD")] = strings.ToValidUTF8(value, "\uFFFD")
		}
		e.Data = data
	} else {
		e.Data = nil
	}
	e.At, e.Recorded = e.At.UTC(), e.Recorded.UTC()
	return e
}

// StubOf is what stays of a record when it is deleted.
func StubOf(e api.Event) Stub {
	h := sha256.New()
	put(h, recordFormat, nanos(e.At), e.Sync, e.Stack, e.Server, e.Actor, e.Text, strconv.FormatInt(e.Cause, 10),
		e.Run, e.Op, e.Commit, e.Status, strconv.FormatInt(e.DurationMS, 10), e.Remote, e.Listener)
	for _, key := range slices.Sorted(maps.Keys(e.Data)) {
		put(h, key, e.Data[key])
	}
	s := Stub{ID: e.ID, Kind: e.Kind, Recorded: e.Recorded}
	h.Sum(s.Rest[:0])
	return s
}

// Link is the hash of a record that comes after the one with hash previous.
func Link(previous Hash, s Stub) (link Hash) {
	h := sha256.New()
	put(h, linkFormat, string(previous[:]), strconv.FormatInt(s.ID, 10), s.Kind, nanos(s.Recorded), string(s.Rest[:]))
	h.Sum(link[:0])
	return link
}

// put writes fields so that none can run into the next: length, colon, content.
func put(h hash.Hash, fields ...string) {
	for _, field := range fields {
		h.Write([]byte(strconv.Itoa(len(field)) + ":" + field)) // a hash never fails
	}
}

func nanos(t time.Time) string {
	if t.IsZero() {
		return "0"
	}
	return strconv.FormatInt(t.UnixNano(), 10)
}

// Checkpoint is the record of a deletion: of the kinds named, everything that was recorded
// before those times goes.
func Checkpoint(before map[string]time.Time, records int64) api.Event {
	data := map[string]string{}
	for kind, at := range before {
		data[beforePrefix+kind] = nanos(at)
	}
	return api.Event{
		Kind: KindCheckpoint, Actor: "core", Data: data,
		Text: fmt.Sprintf("%d records deleted because of their age: %s", records,
			strings.Join(slices.Sorted(maps.Keys(before)), ", ")),
	}
}

// Rebase has a checkpoint also say that the chain begins after a record from now on.
func Rebase(e *api.Event, base Mark) {
	e.Data[baseKey], e.Data[baseHashKey] = strconv.FormatInt(base.ID, 10), base.Hash.String()
}

// Line is one line of an export: the first says what it is, each of the others is a record
// or what is left of one.
type Line struct {
	Header *Header    `json:"export,omitempty"`
	Event  *api.Event `json:"event,omitempty"`
	Stub   *Stub      `json:"deleted,omitempty"`
}

// Format is that of exports.
const Format = "varan-audit-1"

// Header begins an export.
type Header struct {
	Format string `json:"format"`
	// Base is the record before the first line, Head the last of the chain.
	Base Mark `json:"base"`
	Head Mark `json:"head"`
	// Part says that the export does not hold the whole chain.
	Part bool `json:"part,omitempty"`
}

// Report is what a verification found.
type Report struct {
	// First and Last are the numbers of the records that were looked at, Head the hash of
	// the last.
	First   int64 `json:"first"`
	Last    int64 `json:"last"`
	Records int64 `json:"records"`
	// Deleted are those of which only a stub is left.
	Deleted int64 `json:"deleted"`
	Head    Hash  `json:"head"`
	// Whole says that it was the whole chain, from its beginning to its head.
	Whole bool `json:"whole"`
	// Break is where the chain is broken; nil when it is not.
	Break *Break `json:"break,omitempty"`
	// Kept says whether the hash that was kept elsewhere is in the chain; nil without one.
	Kept *bool `json:"kept,omitempty"`
}

// Break is where a chain is broken.
type Break struct {
	ID     int64  `json:"id"`
	Reason string `json:"reason"`
}

// Verifier verifies a chain line by line.
type Verifier struct {
	header  *Header
	kept    *Hash
	at      Mark
	based   bool
	pending map[string]Stub
	report  Report
}

// NewVerifier makes a verifier. kept is a head that was noted elsewhere; optional.
func NewVerifier(kept *Hash) *Verifier {
	v := &Verifier{kept: kept, pending: map[string]Stub{}}
	if kept != nil {
		v.report.Kept = new(bool)
	}
	return v
}

// Read takes one line of JSON; more is false once the chain is known to be broken.
func (v *Verifier) Read(text []byte) (more bool) {
	var line Line
	if err := json.Unmarshal(text, &line); err != nil {
		return v.broken(v.at.ID+1, "a line cannot be read: "+err.Error())
	}
	return v.Take(line)
}

// Take takes one line; more is false once the chain is known to be broken.
func (v *Verifier) Take(line Line) (more bool) {
	switch {
	case v.report.Break != nil:
		return false
	case line.Header != nil && v.header == nil:
		if line.Header.Format != Format {
			return v.broken(0, fmt.Sprintf("it is no export of format %s", Format))
		}
		v.header, v.at = line.Header, line.Header.Base
		v.based = v.at == Mark{} // the beginning needs nobody's word
		v.report.First = v.at.ID + 1
		if v.at.ID != 0 {
			v.known(v.at.Hash)
		}
		return true
	case v.header == nil:
		return v.broken(0, "it is no export: its first line does not say so")
	case line.Event != nil && line.Stub == nil:
		return v.event(*line.Event)
	case line.Stub != nil && line.Event == nil:
		return v.stub(*line.Stub)
	}
	return v.broken(v.at.ID+1, "a line is neither a record nor what is left of one")
}

func (v *Verifier) event(e api.Event) bool {
	if !v.next(e.ID) {
		return false
	}
	link := Link(v.at.Hash, StubOf(Clean(e)))
	if link.String() != e.Hash {
		return v.broken(e.ID, "the record is not what was recorded, or the one before is not")
	}
	if e.Kind == KindCheckpoint {
		v.checkpoint(e)
	}
	v.report.Records++
	v.at = Mark{e.ID, link}
	v.known(link)
	return true
}

func (v *Verifier) stub(s Stub) bool {
	if !v.next(s.ID) {
		return false
	}
	if s.Kind == KindCheckpoint {
		return v.broken(s.ID, "a checkpoint was deleted")
	}
	if last, ok := v.pending[s.Kind]; !ok || !s.Recorded.Before(last.Recorded) {
		v.pending[s.Kind] = s
	}
	v.report.Records++
	v.report.Deleted++
	v.at = Mark{s.ID, Link(v.at.Hash, s)}
	v.known(v.at.Hash)
	return true
}

// next checks that no number is missing.
func (v *Verifier) next(id int64) bool {
	if id != v.at.ID+1 {
		return v.broken(v.at.ID+1, fmt.Sprintf("the record is missing: after %d comes %d", v.at.ID, id))
	}
	return true
}

// checkpoint answers for the deletions before it.
func (v *Verifier) checkpoint(e api.Event) {
	for key, value := range e.Data {
		kind, ok := strings.CutPrefix(key, beforePrefix)
		before, err := strconv.ParseInt(value, 10, 64)
		if last, pending := v.pending[kind]; ok && pending && err == nil && last.Recorded.UnixNano() < before {
			delete(v.pending, kind)
		}
	}
	if v.header.Base != (Mark{}) && e.Data[baseKey] == strconv.FormatInt(v.header.Base.ID, 10) &&
		e.Data[baseHashKey] == v.header.Base.Hash.String() {
		v.based = true
	}
}

func (v *Verifier) known(h Hash) {
	if v.kept != nil && h == *v.kept {
		*v.report.Kept = true
	}
}

func (v *Verifier) broken(id int64, reason string) bool {
	if v.report.Break == nil {
		v.report.Break = &Break{ID: id, Reason: reason}
	}
	return false
}

// End says what was found once all lines were taken.
func (v *Verifier) End() Report {
	switch {
	case v.report.Break != nil:
	case v.header == nil:
		v.broken(0, "it is empty")
	case v.header.Part:
	case v.at != v.header.Head:
		v.broken(v.at.ID+1, fmt.Sprintf("the record is missing: the chain ends with %d and hash %s, and has to end with %d and %s",
			v.at.ID, v.at.Hash, v.header.Head.ID, v.header.Head.Hash))
	case !v.based:
		v.broken(v.header.Base.ID, "records up to it were deleted, and no checkpoint says so")
	default:
		for _, kind := range slices.Sorted(maps.Keys(v.pending)) {
			v.broken(v.pending[kind].ID, "the record was deleted, and no checkpoint says that it was old enough")
		}
	}
	v.report.Last, v.report.Head = v.at.ID, v.at.Hash
	v.report.Whole = v.report.Break == nil && !v.header.Part
	return v.report
}
