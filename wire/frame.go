package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

// A message on the connection is one frame: a type, the id of the request it belongs
// to, and a payload. The side that initiated the connection numbers its requests with
// odd ids, the other with even ones, both ascending; 0 belongs to no request.
//
// Every request is answered by exactly one frameResponse or frameError, canceled or
// not: until then it counts against the limit of both sides.
type frameType uint8

// The frame types of version 1. Numbers are never reused.
const (
	// framePart carries a piece of a message that is too large for one frame. The piece
	// in the frame that names the message's type is the last.
	framePart frameType = 1
	// frameRequest asks for an answer. Payload: verb, body.
	frameRequest frameType = 2
	// frameOpen asks for a byte stream. Payload: the window as a uint32, verb, body.
	frameOpen frameType = 3
	// frameNotify asks for nothing; its id is 0. Payload: verb, body.
	frameNotify frameType = 4
	// frameResponse is the answer, or the end of a byte stream. Payload: body.
	frameResponse frameType = 5
	// frameError is the other answer. Payload: Error as JSON.
	frameError frameType = 6
	// frameData is a piece of a byte stream; never empty.
	frameData frameType = 7
	// frameCredit lets the stream's writer send so many bytes more. Payload: uint32.
	frameCredit frameType = 8
	// frameCancel says that nobody waits for the answer any more.
	frameCancel frameType = 9
	// framePing is answered by framePong; both have id 0 and no payload.
	framePing frameType = 10
	framePong frameType = 11
	// frameBye says why the connection is about to be closed. Payload: Error as JSON.
	frameBye frameType = 12
)

const (
	frameHeader = 5
	// maxPayload leaves room for the header and an authentication tag of 16 bytes.
	maxPayload = MaxMessage - 16 - frameHeader
	// maxBody bounds a message that is assembled from parts.
	maxBody = 16 << 20
	// maxBuffered bounds what one peer makes us hold: parts that wait for the rest and
	// requests that are being served.
	maxBuffered = maxBody + 8<<20
	// maxRequests bounds the requests, streams included, that one side has under way.
	maxRequests = 256
	// A stream starts with the large window while few are open, so that what all
	// streams of a connection can make us hold stays below 8 MiB.
	largeWindow, smallWindow, largeStreams = 256 << 10, 8 << 10, 24
	// maxCredit is far above any window; more is an attempt to overflow.
	maxCredit = 1 << 30
)

type frame struct {
	kind    frameType
	id      uint32
	payload []byte
}

var errShortFrame = errors.New("short frame")

// appendHeader appends a frame's header to b; the payload follows.
func appendHeader(b []byte, kind frameType, id uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, byte(kind)), id)
}

// parseFrame checks all that can be checked of a frame by itself. The payload is a
// part of b.
func parseFrame(b []byte) (frame, error) {
	if len(b) < frameHeader {
		return frame{}, errShortFrame
	}
	f := frame{kind: frameType(b[0]), id: binary.BigEndian.Uint32(b[1:]), payload: b[frameHeader:]}
	if len(f.payload) > maxPayload {
		return frame{}, fmt.Errorf("frame with a payload of %d bytes", len(f.payload))
	}
	var ok bool
	switch f.kind {
	case framePart, frameData:
		ok = f.id != 0 && len(f.payload) > 0
	case frameRequest, frameOpen, frameResponse, frameError:
		ok = f.id != 0
	case frameNotify, frameBye:
		ok = f.id == 0
	case frameCredit:
		ok = f.id != 0 && len(f.payload) == 4
	case frameCancel:
		ok = f.id != 0 && len(f.payload) == 0
	case framePing, framePong:
		ok = f.id == 0 && len(f.payload) == 0
	}
	if !ok {
		return frame{}, fmt.Errorf("malformed frame: type %d, id %d, %d bytes", f.kind, f.id, len(f.payload))
	}
	return f, nil
}

// maxVerb bounds a verb, which is written with its length in one byte.
const maxVerb = 64

func appendVerb(b []byte, verb Verb) ([]byte, error) {
	n := len(verb)
	if n == 0 || n > maxVerb {
		return nil, fmt.Errorf("a verb of %d bytes", n)
	}
	return append(append(b, byte(n)), verb...), nil
}

// cutVerb splits what appendVerb wrote from the body behind it.
func cutVerb(b []byte) (verb Verb, body []byte, err error) {
	if len(b) == 0 || b[0] == 0 || b[0] > maxVerb || len(b) < 1+int(b[0]) {
		return "", nil, errors.New("request without a verb")
	}
	end := 1 + int(b[0])
	return Verb(b[1:end]), b[end:], nil
}

// bufferPool holds buffers that any message fits in, for one read or write each.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) get() *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, MaxMessage)
	return &b
}

func (p *bufferPool) put(b *[]byte) { p.pool.Put(b) }
