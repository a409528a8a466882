package worker

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/docker/compose/v5/pkg/api"

	"github.com/varanhq/varan/agent/docker/job"
)

// progressEvery is how often the progress of one thing is told while its text stays the
// same: a pull would otherwise write thousands of lines.
const progressEvery = 250 * time.Millisecond

// output writes lines for the agent. When nobody reads any more it goes quiet.
// It is the SDK's event processor.
type output struct {
	mu   sync.Mutex
	w    io.Writer
	gone bool
	told map[string]told
}

// told is what was last said of one thing.
type told struct {
	text string
	at   time.Time
}

// Start implements api.EventProcessor.
func (*output) Start(context.Context, string) {}

// Done implements api.EventProcessor. Its flag says the opposite of what it should in
// the pinned SDK, so that only the error an operation returns counts.
func (*output) Done(string, bool) {}

// On implements api.EventProcessor.
func (o *output) On(events ...api.Resource) {
	for i := range events {
		o.event(&events[i])
	}
}

func (o *output) event(r *api.Resource) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told == nil {
		o.told = map[string]told{}
	}
	now, key := time.Now(), r.ParentID+"\x00"+r.ID
	if last, ok := o.told[key]; ok && r.Status == api.Working && last.text == r.Text && now.Sub(last.at) < progressEvery {
		return
	}
	o.told[key] = told{text: r.Text, at: now}
	percent := r.Percent
	if r.Total == 0 && percent == 0 {
		percent = -1
	}
	o.write(job.Line{Event: &job.Event{
		ID: r.ID, Parent: r.ParentID, Text: r.Text, Details: r.Details,
		Percent: percent, Failed: r.Status == api.Error,
	}})
}

func (o *output) question(q job.Question) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.write(job.Line{Question: &q})
}

func (o *output) result(r job.Result) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.write(job.Line{Result: &r})
}

// write needs the lock.
func (o *output) write(l job.Line) {
	if o.gone {
		return
	}
	b, err := json.Marshal(l)
	if err == nil {
		_, err = o.w.Write(append(b, '\n'))
	}
	o.gone = err != nil
}
