package web

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// A body has bodyTimeout to arrive (rule L01), and a second more for every MiB of it that
// did.
const (
	bodyTimeout = 15 * time.Second
	bodyMiB     = 1 << 20
)

// boundBodies gives every request's body a deadline, whether or not anything reads it, and
// lifts it when the body is read to its end. It must be lifted: one that passes while the
// handler works looks to the server as if the client had left, and ends the request's
// context. After an error it must stay: the server itself reads on before it answers.
func boundBodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			body := &boundBody{ReadCloser: r.Body, control: http.NewResponseController(w), start: time.Now()}
			body.bound()
			r.Body = body
		}
		next.ServeHTTP(w, r)
	})
}

type boundBody struct {
	io.ReadCloser
	control *http.ResponseController
	start   time.Time
	read    int64
}

// bound sets the deadline. It fails only where there are none: in tests.
func (b *boundBody) bound() {
	_ = b.control.SetReadDeadline(b.start.Add(bodyTimeout + time.Duration(b.read/bodyMiB)*time.Second))
}

// Read implements io.Reader.
func (b *boundBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	before := b.read / bodyMiB
	b.read += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		_ = b.control.SetReadDeadline(time.Time{})
	case b.read/bodyMiB > before:
		b.bound()
	}
	return n, err
}
